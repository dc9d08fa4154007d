"""Syntax to ir. In: a syntax.Spec; out: an ir.Rule in which every name has a role and
every expression a type, and the warnings; or OptdslError with every mistake.
"""

from .. import ir, syntax
from ..diagnostics import Diagnostic, OptdslError
from ..invariants import verify
from ..source import Source
from . import declarations, flow
from .functions import check_functions
from .scope import CAPTURABLE, FOREACH, LOOP, Mode, Report, Scope
from .statements import check_complex, check_hook, check_step


__all__ = ["CAPTURABLE", "FOREACH", "LOOP", "Mode", "check"]


def check(
    spec: syntax.Spec, source: Source, mode: Mode = LOOP
) -> tuple[ir.Rule, tuple[Diagnostic, ...]]:
    """The meaning of a spec for a way to run it, and what is doubtful about it.

    Raises:
        OptdslError: with one diagnostic a mistake, in the order of the file.
    """
    report = Report(source)
    name = declarations.check_outline(spec, report)
    scope = declarations.declare(spec, report, mode)
    requires = declarations.check_requires(spec, scope)
    pre_steps = tuple(
        check_hook(each, scope)
        for each in spec.of(syntax.Hook)
        if each.phase == "pre_step"
    )
    step = tuple(
        each for body in spec.of(syntax.Step)[:1] for each in check_step(body, scope)
    )
    post_steps = tuple(
        check_hook(each, scope)
        for each in spec.of(syntax.Hook)
        if each.phase == "post_step"
    )
    check_functions(spec, scope)
    rule = ir.Rule(
        name=name,
        doc=spec.doc,
        reference=next((each.path for each in spec.of(syntax.Reference)), ""),
        hypers=tuple(scope.hypers.values()),
        requires=requires,
        states=tuple(scope.states.values()),
        counted=_counted(spec, scope, (*pre_steps, *post_steps), step),
        functions=tuple(scope.instances.values()),
        pre_steps=pre_steps,
        step=step,
        post_steps=post_steps,
        source=source,
        positional=declarations.check_positional(spec, scope),
        sparse=declarations.check_sparse(spec, scope),
        complex=check_complex(spec, scope),
    )
    flow.check_flow(rule, spec, scope)
    if report.errors:
        raise OptdslError(report.sorted())
    verify(rule, "check")
    return rule, tuple(report.sorted())


def _counted(
    spec: syntax.Spec, scope: Scope, hooks: tuple[ir.Hook, ...], step: ir.Block
) -> str:
    """How the step count is kept: as the rule asks for, and where it reads `t`."""
    read = any(
        ref.role is ir.Role.COUNT
        for block in (*(hook.body for hook in hooks), step)
        for statement in block
        for ref in ir.reads(statement)
    )
    for counter in spec.of(syntax.Counter):
        return "int" if counter.kind else "tensor"
    return "tensor" if read or scope.counted else ""

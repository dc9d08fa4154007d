"""Syntax to ir. In: a syntax.Spec; out: an ir.Rule in which every name has a role and
every expression a type, and the warnings; or OptdslError with every mistake.
"""

from .. import ir, syntax
from ..diagnostics import Diagnostic, OptdslError
from ..invariants import verify
from ..source import Source
from . import declarations, flow
from .functions import check_functions
from .scope import Report
from .statements import check_hook, check_step


def check(spec: syntax.Spec, source: Source) -> tuple[ir.Rule, tuple[Diagnostic, ...]]:
    """The meaning of a spec, and what is doubtful about it.

    Raises:
        OptdslError: with one diagnostic a mistake, in the order of the file.
    """
    report = Report(source)
    name = declarations.check_outline(spec, report)
    scope = declarations.declare(spec, report)
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
        counted=bool(scope.counted) or _counted(spec, (*pre_steps, *post_steps), step),
        functions=tuple(scope.instances.values()),
        pre_steps=pre_steps,
        step=step,
        post_steps=post_steps,
        source=source,
    )
    flow.check_flow(rule, spec, scope)
    if report.errors:
        raise OptdslError(report.sorted())
    verify(rule, "check")
    return rule, tuple(report.sorted())


def _counted(spec: syntax.Spec, hooks: tuple[ir.Hook, ...], step: ir.Block) -> bool:
    """Whether the rule reads `t`, or asks for it to be kept."""
    read = any(
        ref.role is ir.Role.COUNT
        for block in (*(hook.body for hook in hooks), step)
        for statement in block
        for ref in ir.reads(statement)
    )
    return read or bool(spec.of(syntax.Counter))

"""Syntax to ir. In: a syntax.Spec; out: an ir.Rule in which every name has a role and
every expression a type, and the warnings; or OptdslError with every mistake.
"""

from .. import ir, syntax, vocabulary
from ..diagnostics import Diagnostic, OptdslError
from ..invariants import verify
from ..source import Source
from . import declarations, flow
from .functions import check_functions
from .linear import check_complex
from .modes import check_modes
from .phases import in_phases
from .questions import check_route
from .scope import (
    CAPTURABLE,
    DIFFERENTIABLE,
    FOREACH,
    LOOP,
    Mode,
    Report,
    Scope,
)
from .skips import check_skips
from .sparse import check_entries, check_sparse
from .statements import check_hook, check_step

__all__ = [
    "CAPTURABLE",
    "DIFFERENTIABLE",
    "FOREACH",
    "LOOP",
    "Mode",
    "check",
    "check_route",
]


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
    hooks = {
        phase: [each for each in spec.of(syntax.Hook) if each.phase == phase]
        for phase in ("pre_step", "post_step", "on_call", "mode")
    }
    pre_steps = tuple(check_hook(each, scope) for each in hooks["pre_step"])
    step = tuple(
        each for body in spec.of(syntax.Step)[:1] for each in check_step(body, scope)
    )
    post_steps = tuple(check_hook(each, scope) for each in hooks["post_step"])
    on_calls = tuple(check_hook(each, scope) for each in hooks["on_call"])
    modes = check_modes(hooks["mode"], scope)
    check_functions(spec, scope)
    rule = ir.Rule(
        name=name,
        doc=spec.doc,
        reference=next((each.path for each in spec.of(syntax.Reference)), ""),
        hypers=tuple(scope.hypers.values()),
        requires=requires,
        states=tuple(scope.states.values()),
        counted=_counted(spec, scope),
        functions=tuple(scope.instances.values()),
        pre_steps=pre_steps,
        step=step,
        post_steps=post_steps,
        source=source,
        arguments=declarations.check_arguments(spec, scope),
        sparse=check_sparse(spec, scope),
        complex=check_complex(spec, scope),
        remembered=tuple(scope.remembered.values()),
        on_calls=on_calls,
        modes=modes,
        random=bool(scope.draws),
        reads_loss=bool(declarations.losses(spec)),
        evaluates=bool(declarations.evaluations(spec)),
    )
    check_entries(rule, spec, scope)
    check_skips(rule, scope)
    flow.check_flow(rule, spec, scope)
    if not report.errors:
        rule = in_phases(rule, scope)
    if report.errors:
        if not scope.not_captured[0]:
            _add_other_branches(spec, source, mode, report)
        raise OptdslError(report.sorted(mode.note))
    verify(rule, "check")
    return rule, tuple(report.sorted())


def _add_other_branches(
    spec: syntax.Spec, source: Source, mode: Mode, report: Report
) -> None:
    """What is wrong with the branches of `if capturable:`, which no other target has."""
    names = {each.text for each in syntax.walk(spec) if isinstance(each, syntax.Name)}
    if mode is not LOOP or vocabulary.CAPTURABLE not in names:
        return
    try:
        check(spec, source, CAPTURABLE)
    except OptdslError as error:
        spans = [each.label.span for each in report.found if each.label]
        report.found += [
            each
            for each in error.diagnostics
            if each.label and each.label.span not in spans
        ]


def _counted(spec: syntax.Spec, scope: Scope) -> str:
    """How the step count is kept, on every target: as the rule asks for, and where it
    reads `t` on one of them.
    """
    for counter in spec.of(syntax.Counter):
        return "int" if counter.kind else "tensor"
    read = any(
        isinstance(each, syntax.Name) and each.text == vocabulary.COUNT
        for block in (*spec.of(syntax.Hook), *spec.of(syntax.Step))
        for each in syntax.walk(block)
    )
    return "tensor" if read or scope.counted or scope.draws else ""

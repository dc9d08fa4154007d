"""The declarations of a spec: outline, hypers, states, requirements.

Every name that is declared gets past `_claim` once.
"""

import builtins

from .. import ir, syntax, vocabulary
from ..diagnostics import Label, did_you_mean
from ..evaluate import evaluate
from ..source import Span
from .expressions import check_expression, is_host_flag
from .functions import instance
from .hypers import check_hyper
from .memories import calls_in, group_keys
from .randoms import draws
from .scope import Mode, Report, Scope
from .states import check_entries, check_state


def check_outline(spec: syntax.Spec, report: Report) -> str:
    """One `optimizer`, one `step`, at most one `reference`; the optimizer's name."""
    for kind, code, word in (
        (syntax.Counter, "", "state t"),
        (syntax.Header, "E0110", "optimizer NAME"),
        (syntax.Step, "E0111", "step:"),
        (syntax.Reference, "E0112", "reference"),
    ):
        found = spec.of(kind)
        if kind is syntax.Counter:
            found = [each for each in found if each.name.text == vocabulary.COUNT]
        for each in found[1:]:
            first = Label(found[0].span, "the first one")
            report("E0112", f"a second `{word}`", each.span, others=(first,))
        if not found and kind in (syntax.Header, syntax.Step):
            help = "a spec is one optimizer: `optimizer NAME`, hypers, states and a `step:`"
            report.about_file(code, f"the spec has no `{word}`", help)
    for header in spec.of(syntax.Header)[:1]:
        name = header.name
        reason = vocabulary.why_reserved(name.text)
        if hasattr(builtins, name.text):
            reason = "Python has something else under this name"
        if reason:
            report(
                "E0203", f"`{name.text}` cannot name an optimizer", name.span, reason
            )
        return name.text
    return ""


def losses(spec: syntax.Spec) -> tuple[Span, ...]:
    """Where a step asks what the closure returned, on any target."""
    return tuple(
        each.span
        for step in spec.of(syntax.Step)
        for each in syntax.walk(step)
        if isinstance(each, syntax.Name) and each.text == vocabulary.LOSS
    )


def evaluations(spec: syntax.Spec) -> tuple[Span, ...]:
    """Where a hook takes the gradient anew."""
    return tuple(
        each.span
        for hook in spec.of(syntax.Hook)
        for each in syntax.walk(hook)
        if isinstance(each, syntax.Call) and each.function.text == vocabulary.GRADIENT
    )


def _early(spec: syntax.Spec) -> frozenset[str]:
    """The names that hooks before the step read or write."""
    return frozenset(
        each.text
        for hook in spec.of(syntax.Hook)
        if hook.phase == "pre_step"
        for each in syntax.walk(hook)
        if isinstance(each, (syntax.Name, syntax.Identifier))
    )


def _not_captured(spec: syntax.Spec, scope: Scope) -> tuple[str, tuple[Span, ...]]:
    """Why no step can be captured, on no target, and where that is said; or "" """
    counts = tuple(each.span for each in spec.of(syntax.Counter) if each.kind)
    draws = tuple(Span(at, at + 1) for at in scope.draws)
    counting = tuple(at for hook in spec.of(syntax.Hook) for at in calls_in(hook))
    for what, places in (
        ("whose count is a plain number", counts),
        ("that draws random numbers", draws),
        ("that reads the loss", losses(spec)),
        ("that takes the gradient anew", evaluations(spec)),
        ("whose hooks count their runs", counting),
    ):
        if places:
            return f"a step {what} cannot be captured", places
    return "", ()


def _claim(name: syntax.Identifier, scope: Scope, what: str) -> bool:
    """Whether a declaration may have this name; says why not."""
    is_def = what == "def"
    reason = (
        vocabulary.why_no_def(name.text)
        if is_def
        else vocabulary.why_reserved(name.text)
    )
    if not is_def and name.text in scope.group_keys:
        reason = scope.group_keys[name.text]
    if what == "hook" and name.text in vocabulary.METHODS:
        reason = "torch.optim.Optimizer, or a trainer, has a method of this name"
    if reason:
        scope.report("E0203", f"`{name.text}` cannot name a {what}", name.span, reason)
        scope.refused.append(name.text)
        return False
    if name.text in scope.declared:
        first = Label(scope.declared[name.text], "declared here first")
        title = f"`{name.text}` is declared twice"
        scope.report("E0202", title, name.span, others=(first,))
        return False
    scope.declared[name.text] = name.span
    return True


def declare(spec: syntax.Spec, report: Report, mode: Mode) -> Scope:
    """The scope of a spec: its hypers, states and defs, checked in the order written."""
    scope = Scope(report, mode, instantiate=instance, draws=draws(spec))
    scope.group_keys = group_keys(spec, scope.draws)
    scope.early = _early(spec)
    scope.not_captured = _not_captured(spec, scope)
    for each in spec.declarations:
        match each:
            case syntax.Hyper():
                known = _claim(each.name, scope, "hyper")
                hyper = check_hyper(each, scope)
                if known:
                    scope.hypers[each.name.text] = hyper
            case syntax.Function():
                if each.name.text in vocabulary.FUNCTIONS:
                    title = f"`{each.name.text}` is a built-in function"
                    report("E0202", title, each.name.span, "choose another name")
                elif _claim(each.name, scope, "def"):
                    scope.functions[each.name.text] = each
            case syntax.Counter() if each.name.text != vocabulary.COUNT:
                label = f"expected `= VALUE`: `state {each.name.text} = 0`"
                report("E0108", "a state needs its first value", each.name.span, label)
                scope.refused.append(each.name.text)
            case syntax.Counter(kind=kind) if kind and kind.text != "int":
                title = f"the step count is no {kind.text}"
                report("E0504", title, kind.span, "expected `int`, or nothing")
            case syntax.Hook(phase="mode"):
                pass  # check_modes looks at their names.
            case syntax.Hook():
                _claim(each.name, scope, "hook")
    for each in spec.of(syntax.State):
        if _claim(each.name, scope, "state"):
            scope.states[each.name.text] = check_state(each, scope.at("state"))
    check_entries(scope)
    return scope


def check_arguments(spec: syntax.Spec, scope: Scope) -> ir.Arguments:
    """The arguments of the constructor: every hyper by place and every option by name,
    unless the spec says which.
    """
    written: dict[type, list[str]] = {}
    for kind, word in ((syntax.Positional, "positional"), (syntax.Named, "named")):
        found = spec.of(kind)
        for each in found[1:]:
            first = Label(found[0].span, "the first one")
            scope.report("E0112", f"a second `{word}`", each.span, others=(first,))
        listed = [name for each in found[:1] for name in each.names]
        taken = [name for names in written.values() for name in names]
        written[kind] = _listed(listed, taken, scope)
    positional, named = written.values()
    listed = (*positional, *named)
    rest = [name for name in scope.hypers if name not in listed]
    options = tuple(name for name in vocabulary.FLAGS if name not in listed)
    if not spec.of(syntax.Positional):
        positional, rest = rest, []
    elif named:
        rest = []
    apart = options if listed else ()
    return ir.Arguments(tuple(positional), (*named, *rest, *options), apart)


def _listed(
    names: list[syntax.Identifier], taken: list[str], scope: Scope
) -> list[str]:
    """The names of arguments, each of which there is once."""
    known, listed = (*scope.hypers, *vocabulary.FLAGS), [*taken]
    for each in names:
        if each.text not in known:
            near = did_you_mean(each.text, known)
            title = f"`{each.text}` is no argument of the constructor"
            scope.report("E0201", title, each.span, near)
        elif each.text in listed:
            scope.report("E0202", f"`{each.text}` is named twice", each.span)
        listed.append(each.text)
    return listed[len(taken) :]


def check_requires(spec: syntax.Spec, scope: Scope) -> tuple[ir.Require, ...]:
    """The conditions that span several hypers; the defaults must fulfil them."""
    requires = []
    for each in spec.of(syntax.Require):
        condition = check_expression(each.condition, scope.at("require"))
        if not is_host_flag(condition, scope, each.condition.span):
            continue
        requires.append(ir.Require(condition, each.message.value, each.span))
        if not _holds_for_defaults(condition, scope):
            title = "the defaults do not fulfil this requirement"
            scope.report("E0505", title, each.condition.span)
    return tuple(requires)


def _holds_for_defaults(condition: ir.Expr, scope: Scope) -> bool:
    def default(expr: ir.Expr):
        if isinstance(expr, ir.Call):
            return False  # No default is a tensor.
        return evaluate(scope.hypers[expr.name].default, lambda name: None)

    if any(each.type.unknown for each in ir.walk(condition)):
        return True
    if any(each.role is not ir.Role.HYPER for each in ir.reads(condition)):
        return True
    if any(
        scope.hypers[each.name].default.type.unknown for each in ir.reads(condition)
    ):
        return True
    try:
        return bool(evaluate(condition, default))
    except (ArithmeticError, TypeError, ValueError):
        return False

"""The declarations of a spec: outline, hypers, states, requirements.

Every name that is declared gets past `_claim` once.
"""

import builtins
import math
from dataclasses import replace

from .. import ir, syntax, vocabulary
from ..diagnostics import Label, did_you_mean
from ..evaluate import evaluate
from .expressions import check_expression, is_host_flag
from .functions import instance
from .kinds import unknown
from .memories import group_keys
from .randoms import draws
from .scope import INDEX, Mode, Report, Scope, holds
from .statements import check_index, index_ref
from .whole import check_whole

_PLACES = ("scalar", "group", "model")
_ANNOTATIONS = {"number": "float", "flag": "bool", "tuple": "tuple", "text": "str"}


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


def reads_loss(spec: syntax.Spec) -> bool:
    """Whether a step asks what the closure returned, on any target."""
    return any(
        isinstance(each, syntax.Name) and each.text == vocabulary.LOSS
        for step in spec.of(syntax.Step)
        for each in syntax.walk(step)
    )


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
    if scope.draws:
        scope.not_captured = "a step that draws random numbers cannot be captured"
    elif reads_loss(spec):
        scope.not_captured = "a step that reads the loss cannot be captured"
    for each in spec.declarations:
        match each:
            case syntax.Hyper():
                known = _claim(each.name, scope, "hyper")
                hyper = _hyper(each, scope)
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
            case syntax.Counter(kind=kind) if kind:
                scope.int_count = each.span
            case syntax.Hook():
                _claim(each.name, scope, "hook")
    for each in spec.of(syntax.State):
        if _claim(each.name, scope, "state"):
            scope.states[each.name.text] = _state(each, scope.at("state"))
    _check_entries(scope)
    return scope


# ---- hypers


def _hyper(each: syntax.Hyper, scope: Scope) -> ir.Hyper:
    default = check_expression(each.default, scope.at("default"))
    annotation, type_ = _hyper_type(each, default, scope)
    choices = tuple(choice.value for choice in each.type.choices) if each.type else ()
    limits = _range(each, type_, scope) if each.range else None
    hyper = ir.Hyper(
        each.name.text, annotation, default, type_, limits, choices,
        each.doc.value if each.doc else "", each.span,
    )  # fmt: skip
    _check_default(hyper, each, scope)
    return hyper


def _hyper_type(
    each: syntax.Hyper, default: ir.Expr, scope: Scope
) -> tuple[str, ir.Type]:
    report, written = scope.report, each.type
    given = default.type
    if written is None:
        if given.element == "nothing":
            help = f"say what it is otherwise: `hyper {each.name.text}: float? = none`"
            report("E0503", "`none` does not tell a type", each.default.span, help=help)
            return "float", ir.UNKNOWN
        if given.element == "text":
            help = f'`hyper {each.name.text}: "a" | "b" = "a"`'
            report("E0503", "a text needs its choices", each.default.span, help=help)
        return _ANNOTATIONS.get(given.element, "float"), given
    if written.name == "tuple":
        return "tuple", _any_length(each, given, scope)
    if written.choices:
        for at, choice in enumerate(written.choices):
            if choice in written.choices[:at]:
                report("E0202", f'"{choice.value}" is a choice already', choice.span)
        return "str", ir.Type(element="text", optional=written.optional)
    known = {"float": ir.NUMBER, "int": ir.NUMBER, "bool": ir.FLAG}
    if written.name not in known:
        label = "a hyper is a float, int, bool or tuple, or a choice of texts"
        report("E0503", f"`{written.name}` is no type", written.span, label)
        return "float", ir.UNKNOWN
    type_ = known[written.name]
    fits = given.element == type_.element or (
        given.element == "nothing" and written.optional
    )
    if not fits and not given.unknown:
        title = f"the default is no {written.name}{'?' if written.optional else ''}"
        report("E0503", title, each.default.span, f"this is a {given}")
    elif written.name == "int" and isinstance(_constant(default, scope), float):
        report("E0503", "the default is no int", each.default.span)
    if written.optional:
        type_ = ir.Type(element=type_.element, optional=True)
    return written.name, type_


def _any_length(each: syntax.Hyper, given: ir.Type, scope: Scope) -> ir.Type:
    """The type of a hyper of one number or more."""
    if each.type.optional:
        scope.report("E0503", "a tuple is never none", each.type.span)
    if not given.unknown and (given.element != "tuple" or given.nones):
        title = "the default is no tuple of numbers"
        scope.report("E0503", title, each.default.span, f"this is a {given}")
    return ir.Type(element="tuple")


def _range(each: syntax.Hyper, type_: ir.Type, scope: Scope) -> ir.Range | None:
    low, high = (
        check_expression(bound, scope.at("default"))
        for bound in (each.range.low, each.range.high)
    )
    if low.type.unknown or high.type.unknown:
        return None
    if type_.element not in ("number", "tuple", "unknown"):
        scope.report("E0502", f"a {type_} has no range", each.range.span)
        return None
    limits = ir.Range(low, high, each.range.closed_low, each.range.closed_high)
    if not all(bound.type == ir.NUMBER for bound in (low, high)):
        scope.report("E0502", "the ends of a range are numbers", each.range.span)
        return None
    ends = [_constant(bound, scope) for bound in (low, high)]
    if None in ends:
        return None
    bottom, top = ends
    closed = limits.closed_low and limits.closed_high
    if bottom > top or (bottom == top and not closed):
        scope.report(
            "E0502",
            f"nothing lies in `{scope.report.source.cut(each.range.span)}`",
            each.range.span,
        )
        return None
    limits = replace(limits, low=_folded(low, bottom), high=_folded(high, top))
    if bottom == -math.inf and limits.closed_low and top == math.inf:
        scope.report("W0701", "this range allows everything", each.range.span)
    return limits


def _folded(expr: ir.Expr, value: float) -> ir.Expr:
    """The end of a range as the number that it is, unless it is written as one."""
    simple = expr.operand if isinstance(expr, ir.Unary) else expr
    return (
        expr
        if isinstance(simple, ir.Const)
        else ir.Const(repr(value), ir.NUMBER, expr.span)
    )


def _constant(expr: ir.Expr, scope: Scope):
    """The value of a constant; None, and a diagnostic, where it has none."""
    try:
        return evaluate(expr, lambda name: None)
    except (ArithmeticError, ValueError, TypeError):
        scope.report(
            "E0506", "this is no number", expr.span, "its value cannot be computed"
        )
        return None


def _check_default(hyper: ir.Hyper, each: syntax.Hyper, scope: Scope) -> None:
    if hyper.default.type.unknown:
        return
    value = _constant(hyper.default, scope)
    if hyper.choices and value not in (*hyper.choices, *[None][: hyper.type.optional]):
        allowed = ", ".join(f'"{choice}"' for choice in hyper.choices)
        title = f"the default of `{hyper.name}` is none of its choices"
        scope.report("E0501", title, each.default.span, f"expected one of {allowed}")
    if hyper.range is None or value is None:
        return
    low, high = (_constant(each, scope) for each in (hyper.range.low, hyper.range.high))
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        if not isinstance(item, (int, float)) or isinstance(item, bool):
            return
        above = low <= item if hyper.range.closed_low else low < item
        below = item <= high if hyper.range.closed_high else item < high
        if not (above and below):
            title = f"the default of `{hyper.name}` is outside its range"
            other = Label(each.range.span, "the range")
            scope.report("E0501", title, each.default.span, others=(other,))
            return


# ---- states


def _state(each: syntax.State, scope: Scope) -> ir.State:
    report = scope.report
    when = count = None
    scope.place = "when"
    if each.index is not None:
        count = check_expression(each.count, scope)
        if not check_whole(count, scope):
            count = unknown(each.count.span)
        if check_index(each.index, scope):
            scope.locals = {each.index.text: INDEX}
    if each.when is not None:
        when = check_expression(each.when, scope)
        if not is_host_flag(when, scope, each.when.span):
            when = None
    scope.place = "state"
    with scope.knowing(holds(when) if when else ()):
        initial = check_expression(each.initial, scope)
    place = each.place.text if each.place else ""
    if place and place not in _PLACES:
        title = f"`{place}` is no place for a state"
        near = did_you_mean(place, _PLACES)
        expected = "expected `scalar`, `group` or `model`, or nothing"
        report("E0504", title, each.place.span, near or expected)
    elif place and each.index is not None:
        title = "a list of states is made of tensors"
        report("E0504", title, each.place.span, "expected nothing")
    shared = place in ("group", "model")
    if shared and when is not None:
        title = f"a state of the {place} has no condition"
        help = "it is one number; leave `when` out"
        report("E0504", title, each.when.span, help=help)
        when = None
    type_ = initial.type if not place or place in _PLACES else ir.UNKNOWN
    on_device = scope.mode.counts_on_device or shared
    if place in _PLACES and type_ == ir.NUMBER and on_device:
        type_ = ir.SCALAR
    if initial.type.element not in ("number", "unknown"):
        title = f"a state cannot keep a {initial.type}"
        report("E0404", title, each.initial.span, "a state is made of numbers")
        type_ = ir.UNKNOWN
    elif place in _PLACES and not initial.type.on_host:
        help = f"leave `{place}` out: `state {each.name.text} = ...` takes its value's shape"
        title = f"a {place} state starts as a number"
        report("E0407", title, each.initial.span, help=help)
        type_ = ir.UNKNOWN
    elif shared and any(each.role is not ir.Role.HYPER for each in ir.reads(initial)):
        help = "its first value is made of hypers"
        title = f"a state of the {place} cannot start from this"
        report("E0407", title, each.initial.span, help=help)
        type_ = ir.UNKNOWN
    elif initial.type.on_host and not place and not initial.type.unknown:
        type_ = ir.TENSOR
    doc = each.doc.value if each.doc else ""
    return ir.State(
        each.name.text, initial, when, type_, place, doc, each.name.span,
        index_ref(each.index), count,
    )  # fmt: skip


def _check_entries(scope: Scope) -> None:
    """Each of a list of states is kept under the list's name and its number."""
    listed = [each.name for each in scope.states.values() if each.index is not None]
    for name, state in scope.states.items():
        stem, _, number = name.rpartition("_")
        if stem in listed and number.isdigit():
            other = Label(scope.states[stem].span, "a list of states")
            title = f"`{name}` is one of the list `{stem}`"
            scope.report("E0202", title, state.span, others=(other,))


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

"""Hypers: what type, range and choices they have, and whether their defaults fit."""

import math
from dataclasses import replace

from .. import ir, syntax
from ..diagnostics import Label
from ..evaluate import evaluate
from .expressions import check_expression
from .scope import Scope

_ANNOTATIONS = {"number": "float", "flag": "bool", "tuple": "tuple", "text": "str"}


def check_hyper(each: syntax.Hyper, scope: Scope) -> ir.Hyper:
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

"""Calls that change the layout of a tensor, make one of a given size, or take matrices
apart.

In: a call and its checked arguments. Out: its meaning; the shape is known where no size
decides it.
"""

from .. import ir, syntax, vocabulary
from .kinds import unknown
from .scope import Scope
from .whole import check_whole

SEVERAL = "several"
ORDER = "order"


def check_layout(
    call: syntax.Call, function: vocabulary.Function, arguments: tuple, scope: Scope
) -> ir.Expr:
    """A call that gives one tensor."""
    wanted = zip(function.takes, arguments, strict=False)
    if not all([_fits(what, each, function, scope) for what, each in wanted]):
        return unknown(call.span)
    if function.group == "made" and scope.place == "def" and not scope.has_tensor:
        title = f"nothing here says how precise the numbers of `{function.name}` are"
        help = "give the def a tensor of numbers"
        scope.report("E0404", title, call.span, help=help)
        return unknown(call.span)
    element, shape = "number", ir.ANY_SHAPE
    if function.name == "reshape_as":
        shape = arguments[1].type.shape
    if function.name == "argsort":
        element = ORDER
        descending = _descending(call, scope)
        if descending is None:
            return unknown(call.span)
        arguments = (*arguments, descending)
    type_ = ir.Type(ir.Kind.TENSOR, element, shape)
    return ir.Call(function.name, arguments, type_, call.span)


def check_parts(
    call: syntax.Call, function: vocabulary.Function, arguments: tuple, scope: Scope
) -> ir.Expr:
    """A call that gives several tensors, which an assignment takes apart."""
    wanted = zip(function.takes, arguments, strict=True)
    if not all([_fits(what, each, function, scope) for what, each in wanted]):
        return unknown(call.span)
    type_ = ir.Type(ir.Kind.TENSOR, SEVERAL, ir.ANY_SHAPE, len(function.results))
    return ir.Call(function.name, arguments, type_, call.span)


def refuse_parts(
    call: syntax.Call, function: vocabulary.Function, scope: Scope
) -> ir.Expr:
    """Several tensors where one is needed."""
    title = f"`{function.name}` gives {len(function.results)} tensors"
    spelled = f"{function.name}({', '.join(function.arguments)})"
    help = f"take them apart: `{', '.join(function.results)} = {spelled}`"
    scope.report("E0406", title, call.span, help=help)
    return unknown(call.span)


def one_part(value: ir.Expr) -> ir.Expr:
    """One of several tensors, as far as its type goes."""
    type_ = ir.Type(ir.Kind.TENSOR, "number", ir.ANY_SHAPE)
    return ir.Call(value.function, value.arguments, type_, value.span)


def _fits(
    what: str, argument: ir.Expr, function: vocabulary.Function, scope: Scope
) -> bool:
    """Whether an argument is what a function takes in its place."""
    type_ = argument.type
    match what:
        case "axis" | "size":
            return check_whole(argument, scope, what)
        case "sizes":
            return _are_sizes(argument, function, scope)
        case "number":
            good, hint = type_ == ir.NUMBER, "expected a number"
        case "order":
            good, hint = type_.element == ORDER, "expected what `argsort` gives"
        case _:
            good = type_.kind is ir.Kind.TENSOR and type_.element == "number"
            hint = "expected a tensor with axes"
    if not good:
        title = f"`{function.name}` cannot take a {type_}"
        scope.report("E0404", title, argument.span, hint)
    return good


def _are_sizes(argument: ir.Expr, function: vocabulary.Function, scope: Scope) -> bool:
    if not isinstance(argument, ir.Pack):
        title = f"`{function.name}` takes sizes in brackets"
        hint = "for example `(2, 3)`, or `(6,)`"
        scope.report("E0404", title, argument.span, hint)
        return False
    return all([check_whole(each, scope, "size") for each in argument.items])


def _descending(call: syntax.Call, scope: Scope) -> ir.Expr | None:
    """Whether the largest comes first, which is known when the spec is read."""
    value = False
    for each in call.keywords:
        if not isinstance(each.value, syntax.Constant) or each.value.word == "none":
            scope.report("E0404", "`descending` is true or false", each.value.span)
            return None
        value = each.value.word == "true"
    return ir.Const(str(value), ir.FLAG, call.span)

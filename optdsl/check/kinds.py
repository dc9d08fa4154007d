"""Rules of kinds and shapes that operators and functions share."""

from .. import ir
from ..source import Span
from .scope import Scope


def unknown(span: Span) -> ir.Expr:
    return ir.Const("None", ir.UNKNOWN, span)


def wrong_operand(operator: str, operand: ir.Expr, scope: Scope) -> None:
    title = f"`{operator}` cannot take a {operand.type}"
    hint = ""
    if operand.type.optional:
        hint = "it may be none; ask `!= none` first"
    elif operand.type.element == "tuple":
        hint = "take the tuple apart first: `a, b = ...`"
    elif operand.type.element == "flag":
        chosen = "1 if flag else 0" if operand.type.on_host else "where(flags, 1, 0)"
        hint = f"a flag is no number; choose one: `{chosen}`"
    elif operator in ("and", "or", "not"):
        hint = "expected a flag or a comparison"
    scope.report("E0404", title, operand.span, hint)


def broadcast(
    operands: list[ir.Expr], span: Span, scope: Scope, element: str = "number"
) -> ir.Type | None:
    """The type of an elementwise result; None, and a diagnostic, where shapes differ."""
    tensors = [each for each in operands if each.type.kind is ir.Kind.TENSOR]
    if not tensors:
        scalar = any(each.type.kind is ir.Kind.SCALAR for each in operands)
        return ir.Type(ir.Kind.SCALAR if scalar else ir.Kind.HOST, element)
    shape = tensors[0].type.shape
    for each in tensors[1:]:
        both = shape.with_(each.type.shape)
        if both is None:
            help = "keep the reduced axes with `keepdim=true`, counted from one end"
            title = f"shapes do not fit: {shape} and {each.type.shape}"
            scope.report("E0403", title, span, help=help)
            return None
        shape = both
    return ir.Type(ir.Kind.TENSOR, element, shape)


def select(
    condition: ir.Expr, then: ir.Expr, otherwise: ir.Expr, span: Span, scope: Scope
) -> ir.Expr:
    """`where(condition, then, otherwise)`: a choice element by element."""
    for operand in (then, otherwise):
        if operand.type.element != "number" or operand.type.optional:
            wrong_operand("where", operand, scope)
            return unknown(span)
    if scope.place == "def" and then.type.on_host and otherwise.type.on_host:
        tensors = [each.type for each in scope.locals.values() if not each.type.on_host]
        if all(each.element == "flag" for each in tensors):
            title = "nothing here says how precise these numbers are"
            help = "give the def a tensor of numbers, or call `where` outside of it"
            scope.report("E0404", title, span, help=help)
            return unknown(span)
    type_ = broadcast([condition, then, otherwise], span, scope)
    if type_ is None:
        return unknown(span)
    return ir.Call("where", (condition, then, otherwise), type_, span)

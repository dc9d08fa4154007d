"""Terms of a sum: host coefficient and tensor, apart."""

import dataclasses

from .. import ir


def interpolation(
    call: ir.Call, start: ir.Expr, end: ir.Expr, weight: ir.Expr
) -> ir.Expr:
    """`start + weight*(end - start)`, for a number at one end."""
    way = ir.Binary("-", end, start, joined_type(start, end), call.span)
    part = ir.Binary("*", weight, way, joined_type(weight, way), call.span)
    return ir.Binary("+", start, part, call.type, call.span)


def split(term: ir.Expr) -> tuple[ir.Expr | None, ir.Expr | None]:
    """A term as host coefficient times tensor; None for a coefficient of one, and for
    no tensor.
    """
    match term:
        case _ if term.type.on_host:
            return term, None
        case ir.Unary(operator="-"):
            coefficient, rest = split(term.operand)
            return with_sign(coefficient, True, term), rest
        case ir.Binary(operator="*"):
            left, first = split(term.left)
            right, second = split(term.right)
            return _times(left, right, term), _times(first, second, term)
        case ir.Binary(operator="@"):
            left, first = split(term.left)
            right, second = split(term.right)
            product = ir.Binary("@", first, second, term.type, term.span)
            return _times(left, right, term), product
        case ir.Binary(operator="/") if term.right.type.on_host:
            coefficient, rest = split(term.left)
            if coefficient is None:
                # Not 1/c times the rest: that rounds twice, and c may be zero.
                return None, ir.Binary("/", rest, term.right, rest.type, term.span)
            scale = ir.Binary("/", coefficient, term.right, ir.NUMBER, term.span)
            return scale, rest
        case ir.Binary(operator="/") if not term.left.type.on_host:
            coefficient, rest = split(term.left)
            type_ = joined_type(rest, term.right)
            return coefficient, ir.Binary("/", rest, term.right, type_, term.span)
        case ir.Binary("**", ir.Ref() as base, ir.Const(text="2")) | ir.Call(
            "square", (ir.Ref() as base,)
        ):
            return None, ir.Binary("*", base, base, term.type, term.span)
    return None, term


def _times(
    left: ir.Expr | None, right: ir.Expr | None, term: ir.Expr
) -> ir.Expr | None:
    if left is None or right is None:
        return left or right
    return ir.Binary("*", left, right, joined_type(left, right), term.span)


def joined_type(*operands: ir.Expr) -> ir.Type:
    shapes = [each.type.shape for each in operands if each.type.kind is ir.Kind.TENSOR]
    if not shapes:
        host = all(each.type.on_host for each in operands)
        return ir.NUMBER if host else ir.SCALAR
    shape = shapes[0]
    for each in shapes[1:]:
        shape = shape.with_(each)
    return ir.Type(ir.Kind.TENSOR, "number", shape)


def with_sign(
    coefficient: ir.Expr | None, minus: bool, term: ir.Expr
) -> ir.Expr | None:
    if not minus:
        return coefficient
    match coefficient:
        case None:
            coefficient = ir.Const("1", ir.NUMBER, term.span)
        case ir.Unary(operator="-"):
            return coefficient.operand
        case ir.Binary(operator="*" | "/"):
            left = with_sign(coefficient.left, True, term)
            return dataclasses.replace(coefficient, left=left)
    return ir.Unary("-", coefficient, ir.NUMBER, term.span)

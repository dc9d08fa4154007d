"""Numbers in the middle of arithmetic on elements become numbers with a name, where they
take more than a sum or a product: they are worked out once a tensor. So does what there
is once a line, once a column or once a matrix, in the middle of what there is more of.
"""

from dataclasses import replace

from .. import ir
from ..ir.kernels import Level, gathers, level
from .names import free

_CHEAP = frozenset("+-*")
_NOUNS = {"+": "sum", "-": "difference", "*": "product", "/": "quotient", "**": "power"}


def apart(block: ir.Block, taken: set[str]) -> ir.Block:
    result: list[ir.Statement] = []
    for statement in block:
        match statement:
            case ir.If(then=then, otherwise=otherwise):
                then, otherwise = apart(then, taken), apart(otherwise, taken)
                result.append(replace(statement, then=then, otherwise=otherwise))
            case ir.Repeat(body=body):
                result.append(replace(statement, body=apart(body, taken)))
            case ir.Assign(target, value) if _finest(target, value) is not Level.NUMBER:
                of = _finest(target, value)
                if gathers(statement):
                    of = _finest(value)
                changed = _expr(value, of, taken, result)
                result.append(replace(statement, value=changed))
            case _:
                result.append(statement)
    return tuple(result)


def _finest(*exprs: ir.Expr) -> Level:
    """The level of which there is most, of all that is worked out in expressions."""
    found = Level.NUMBER
    for expr in exprs:
        if isinstance(expr, ir.Call) and expr.over:
            continue
        for each in ir.walk(expr):
            if level(each.type) is not found:
                found = _with(found, level(each.type))
    return found


_AXES = {
    Level.NUMBER: {0, -1, -2}, Level.MATRIX: {-1, -2}, Level.LINE: {-1},
    Level.COLUMN: {-2}, Level.ELEMENT: set(),
}  # fmt: skip


def _with(one: Level, other: Level) -> Level:
    """What there is of each value that is made of two."""
    axes = _AXES[one] & _AXES[other]
    return next(each for each, lacks in _AXES.items() if lacks == axes)


def _expr(
    expr: ir.Expr, of: Level, taken: set[str], before: list[ir.Statement]
) -> ir.Expr:
    own = _finest(expr)
    if own is of:
        return ir.mapped(expr, lambda each: _expr(each, of, taken, before))
    if _is_cheap(expr) or expr.type.element != "number":
        return expr
    if own is not Level.NUMBER:
        expr = ir.mapped(expr, lambda each: _expr(each, own, taken, before))
    match expr:
        case ir.Binary(operator):
            noun = _NOUNS[operator]
        case ir.Call(function):
            noun = {"sqrt": "root", "max": "larger", "min": "smaller"}.get(
                function, function
            )
        case _:
            noun = "number"
    target = ir.Ref(free(noun, taken), ir.Role.LOCAL, expr.type, expr.span)
    before.append(ir.Assign(target, expr, expr.span))
    return target


def _is_cheap(expr: ir.Expr) -> bool:
    match expr:
        case ir.Const() | ir.Ref() | ir.Index():
            return True
        case ir.Unary(operand=operand):
            return _is_cheap(operand)
        case ir.Binary(operator, left, right):
            return operator in _CHEAP and _is_cheap(left) and _is_cheap(right)
    return False

"""Numbers in the middle of arithmetic on elements become numbers with a name, where they
take more than a sum or a product: they are worked out once a tensor.
"""

from dataclasses import replace

from .. import ir
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
            case ir.Assign(target, value) if _has_elements(value) or (
                target.type.kind is ir.Kind.TENSOR
            ):
                changed = _expr(value, taken, result)
                result.append(replace(statement, value=changed))
            case _:
                result.append(statement)
    return tuple(result)


def _has_elements(expr: ir.Expr) -> bool:
    over = isinstance(expr, ir.Call) and expr.over
    return not over and any(each.type.kind is ir.Kind.TENSOR for each in ir.walk(expr))


def _expr(expr: ir.Expr, taken: set[str], before: list[ir.Statement]) -> ir.Expr:
    if _has_elements(expr):
        return ir.mapped(expr, lambda each: _expr(each, taken, before))
    if _is_cheap(expr) or expr.type.element != "number":
        return expr
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

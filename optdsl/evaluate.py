"""The value of a host expression, with Python's own numbers.

In: an ir expression of kind host scalar and the values of the names it reads. Out: a
number, a flag, a text, a tuple or None. The checker asks it about constants; the
interpreter runs all host work with it.
"""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from . import ir, vocabulary


def _power(base: Any, exponent: Any) -> Any:
    """`base**exponent`, where it is a number that a float can be near to."""
    if isinstance(base, int) and isinstance(exponent, int):
        if base.bit_length() * abs(exponent) > 1100:
            base = float(base)
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError("the root of a negative number")
    return value


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {
    "True": True,
    "False": False,
    "None": None,
    "math.inf": math.inf,
    "math.pi": math.pi,
}


def evaluate(expr: ir.Expr, value_of: Callable[[ir.Expr], Any]) -> Any:
    """The value of `expr`; `value_of` answers for names, shapes and calls of a def."""
    match expr:
        case ir.Const():
            return literal(expr)
        case ir.Unary(operator="not"):
            return not evaluate(expr.operand, value_of)
        case ir.Unary():
            return -evaluate(expr.operand, value_of)
        case ir.Binary(operator="and"):
            return evaluate(expr.left, value_of) and evaluate(expr.right, value_of)
        case ir.Binary(operator="or"):
            return evaluate(expr.left, value_of) or evaluate(expr.right, value_of)
        case ir.Binary():
            left = evaluate(expr.left, value_of)
            return BINARY[expr.operator](left, evaluate(expr.right, value_of))
        case ir.Choose():
            chosen = evaluate(expr.condition, value_of)
            return evaluate(expr.then if chosen else expr.otherwise, value_of)
        case ir.Pack():
            return tuple(evaluate(each, value_of) for each in expr.items)
        case ir.Index():
            at = expr.index
            at = at if isinstance(at, int) else int(evaluate(at, value_of))
            return evaluate(expr.value, value_of)[at]
        case ir.Call() if vocabulary.FUNCTIONS[expr.function].host and not expr.over:
            host = vocabulary.FUNCTIONS[expr.function].host.removeprefix("math.")
            function = (
                getattr(math, host, None)
                or {"abs": abs, "round": round, "max": max, "min": min, "len": len}[
                    host
                ]
            )
            return function(*(evaluate(each, value_of) for each in expr.arguments))
        case _:
            return value_of(expr)


def literal(const: ir.Const) -> Any:
    if const.type.element == "text":
        return const.text[1:-1]
    if const.text in _WORDS:
        return _WORDS[const.text]
    return ast.literal_eval(const.text)

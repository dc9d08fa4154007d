"""How many axes a tensor may have at a place of the step, and which axes of a matrix the
axes of a reduction are then.

In: conditions of the spec, and axes as it names them. Out: numbers of axes, and axes.
"""

import operator
from collections.abc import Callable, Sequence

from .. import ir
from ..ir.kernels import View

Dims = frozenset[int]
MOST = 64
"""Torch has no tensor of more axes."""
ANY: Dims = frozenset(range(MOST + 1))
_COMPARED: dict[str, Callable] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def holding(condition: ir.Expr, dims: Dims, value: bool = True) -> Dims:
    """The numbers of axes with which a condition may have a value."""
    return frozenset(
        ndim for ndim in dims if _decided(condition, ndim) is not (not value)
    )


def _decided(expr: ir.Expr, ndim: int) -> bool | None:
    """The value of a flag; None where the number of axes does not decide it."""
    match expr:
        case ir.Const("True" | "False" as text):
            return text == "True"
        case ir.Unary("not", operand):
            inner = _decided(operand, ndim)
            return None if inner is None else not inner
        case ir.Binary("and" | "or" as word, left, right):
            decisive = word == "or"
            sides = [_decided(each, ndim) for each in (left, right)]
            if decisive in sides:
                return decisive
            return None if None in sides else not decisive
        case ir.Binary(sign, left, right) if sign in _COMPARED:
            sides = [_number(each, ndim) for each in (left, right)]
            return None if None in sides else _COMPARED[sign](*sides)
    return None


def _number(expr: ir.Expr, ndim: int) -> float | None:
    match expr:
        case ir.Call("ndim"):
            return ndim
        case ir.Const(text) if expr.type == ir.NUMBER:
            try:
                return float(text)
            except ValueError:
                return None
    return None


def seen(view: View, axes: Sequence[int], dims: Dims) -> frozenset[int] | None:
    """The axes of a matrix that axes of a tensor are; None where that depends on how many
    it has, or where they are none.
    """
    found = {_seen(view, axes, ndim) for ndim in dims}
    return found.pop() if len(found) == 1 else None


def _seen(view: View, axes: Sequence[int], ndim: int) -> frozenset[int] | None:
    if any(not -max(ndim, 1) <= axis < max(ndim, 1) for axis in axes):
        return None
    named = {axis % ndim if ndim else 0 for axis in axes}
    if view is View.LAST:
        named = {axis - max(ndim, 1) for axis in named}
        return frozenset(named) if named <= {-1, -2} else None
    rest = {*range(1, ndim)}
    if not named <= {0} and not named >= rest:
        return None
    lines = {-2} if 0 in named else set()
    return frozenset(lines | ({-1} if named & rest else set()))


def exchanged(axes: Sequence[int], dims: Dims) -> tuple[int, ...] | None:
    """The axes of a tensor that these are of it with its last two axes exchanged, counted
    from its end; None where that depends on how many axes it has.
    """
    if min(dims) < 2:
        return None
    found = {
        tuple(
            {-1: -2, -2: -1}.get(from_end, from_end)
            for from_end in (axis - ndim if axis >= 0 else axis for axis in axes)
        )
        for ndim in dims
    }
    return found.pop() if len(found) == 1 else None

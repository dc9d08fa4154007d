"""What tensors look like: their types, dtypes, layouts, devices, sizes and strides.

In: a column of tensors, some of which may be missing. Out: whether others look like them,
and where those begin.
"""

from array import array
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import by_cpp
from .by_cpp import NUMBERS, empty, start
from .carried import lacks
from .objects import addresses


class Looks:
    """What the tensors of a column look like: plain ones, or parameters."""

    def __init__(self, column: Sequence[Tensor | None]) -> None:
        listed = [*column]
        self._count = len(listed)
        self._numbers = _numbers(listed)
        self._seen = None if self._numbers else [*map(_look, listed)]

    def begin(self, tensors: list[Tensor | None]) -> array | None:
        """Where other tensors begin, or None where they look otherwise or have no memory.

        Raises:
            RuntimeError: one of them begins nowhere.
        """
        asked = by_cpp.asked()
        if self._numbers and asked:
            where = empty(self._count)
            found = asked.look_so(
                len(tensors), tensors, start(self._numbers), start(where)
            )
            return where if found else None
        where = addresses(tensors)
        if [*map(_look, tensors)] != self._seen:
            return None
        return None if 0 in where and lacks(tensors, where) else where


def _numbers(column: list[Tensor | None]) -> array | None:
    """What C++ sees of the tensors."""
    if (asked := by_cpp.asked()) is None:
        return None
    axes = sum(x.dim() for x in column if x is not None)
    found = empty(NUMBERS * len(column) + 2 * axes)
    count = asked.looks(len(column), column, start(found), len(found))
    return None if count < 0 else found


def _look(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    kinds = type(tensor), tensor.dtype, tensor.layout, tensor.device
    return *kinds, tensor.shape, tensor.stride()

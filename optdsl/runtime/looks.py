"""The tensors of a step once more: whether they look alike, and where they begin.

In: the columns of a batch, and its tables of where they begin. Out: whether all but the
gradients are where they were; of gradients, which are others in each step, the table is
filled anew.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import by_cpp
from .by_cpp import TOUCHED, Columns, empty, start
from .carried import lacks
from .objects import addresses
from .shards import are_alike, layouts

if TYPE_CHECKING:
    from .launch import Batch

Column = list[Tensor | None]


class Look:
    """What the tensors of a batch look like: of parameters and gradients the types, dtypes,
    layouts, devices, sizes and strides; of states, which are the same objects, no more than
    where they begin. Of DTensors it is what is here of them that looks so, and how they are
    cut.

    Args:
        batch: as it was launched. Its gradients are not kept alive for the next step.
        grad: which column has them; None where kernels do not read them.
    """

    def __init__(self, batch: "Batch", grad: int | None) -> None:
        self.columns: list[Column] = [*map(list, batch.columns)]
        self.tables, self.grad = batch.tables, grad
        self.here = batch.here
        params = self.columns[0]
        # Numbers that may be the negative, or the conjugate, of those in memory.
        ours = zip(params, self.here(params), strict=True)
        self.odd = [p for p, x in ours if x.numel() == 1 or x.is_complex()]
        asked = by_cpp.asked()
        if batch.sharded:
            self.is_unchanged = self._in_python(asked)
        else:
            self.is_unchanged = (asked and self._in_cpp(asked)) or self._in_python()
        if grad is not None:
            batch.columns[grad] = self.columns[grad] = []

    def is_same(self) -> bool:
        """Whether all tensors look alike and are where they were; finds where gradients
        begin.
        """
        try:
            if self.grad is None and any(p.grad is None for p in self.columns[0]):
                return False
            if not self.is_unchanged():
                return False
        except RuntimeError:  # a tensor that begins nowhere
            return False
        odd = [x for p in self.odd for x in (p, p.grad)]
        return not any(x.is_neg() or x.is_conj() for x in self.here(odd))

    def _in_cpp(self, asked: by_cpp.Asked) -> Callable[[], bool] | None:
        """What asks in one call; None where that call does not know a tensor."""
        looks = [
            by_cpp.looks(asked, column) if at in (0, self.grad) else array("q")
            for at, column in enumerate(self.columns)
        ]
        if None in looks:
            return None
        objects = [array("q", map(id, column)) for column in self.columns]
        rows, count = len(self.columns[0]), len(self.columns)
        heads = [*map(_heads, (objects, looks, self.tables))]
        kept = [objects, *heads, touched := empty(TOUCHED * rows * count)]
        grad = -1 if self.grad is None else self.grad
        handed = Columns(rows, count, grad, *map(start, heads), start(touched))

        def ask(kept: object = (kept, looks)) -> bool:
            return asked.unchanged(ctypes.byref(handed)) == 1

        return ask

    def _in_python(self, asked: by_cpp.Asked | None = None) -> Callable[[], bool]:
        """What asks column by column: of DTensors, or where C++ does not know a tensor."""
        columns, tables, grad, here = self.columns, self.tables, self.grad, self.here
        known = {at: columns[at] for at in {0, grad} - {None}}
        looks = {at: _looks(here(x), asked) for at, x in known.items()}
        cut = {at: layouts(x) for at, x in known.items()}

        def ask() -> bool:
            for at, column in enumerate(columns):
                if at == grad:
                    column = [p.grad for p in columns[0]]
                ours = here(column)
                where = addresses(ours)
                if at != grad and where != tables[at]:
                    return False
                if 0 in where and lacks(ours, where):
                    return False
                if at in looks and _looks(ours, asked) != looks[at]:
                    return False
                if at in cut:
                    # A gradient often shares the layout of the one before.
                    new, old = layouts(column), cut[at]
                    if not are_alike(new, old):
                        return False
                    cut[at] = new
                tables[at] = where
            return True

        return ask


def _looks(column: Sequence[Tensor | None], asked: by_cpp.Asked | None) -> Any:
    """What the tensors of a column look like."""
    numbers = by_cpp.looks(asked, [*column]) if asked else None
    return [*map(_look, column)] if numbers is None else numbers


def _heads(arrays: Sequence[array]) -> array:
    """Where arrays lie, 0 for one without anything."""
    return array("q", [start(each) if each else 0 for each in arrays])


def _look(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    kinds = type(tensor), tensor.dtype, tensor.layout, tensor.device
    return *kinds, tensor.shape, tensor.stride()

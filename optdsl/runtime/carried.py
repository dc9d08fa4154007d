"""What kernels may be handed: tensors whose memory is what it seems.

In: columns of tensors. Out: their dtypes, or NotCarried. Nothing is
handed over whose device, dtype, layout and size has not been looked at.
"""

from array import array
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .matrices import count, matrices

if TYPE_CHECKING:
    from .kernel import Kernel
    from .launch import Entry

TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.complex64: "float",
    torch.complex128: "double",
}
"""What kernels call the types of numbers in memory; complex ones are pairs."""

PLAIN = {Tensor, torch.nn.Parameter}
_NONE = type(None)
# Called for each of a thousand tensors: no lookup of a name in between.
_dtype = Tensor.dtype.__get__
_is_cpu = Tensor.is_cpu.__get__


class NotCarried(Exception):
    """A tensor that no kernel takes."""


def dtypes(
    entry: "Entry", kernel: "Kernel", is_here: Callable[[Tensor], bool] = _is_cpu
) -> list[set[torch.dtype | None]]:
    """The dtypes of each column; None stands for tensors that are missing.

    Raises:
        NotCarried: one of them is none that a kernel takes.
    """
    try:
        sizes = [*map(Tensor.numel, entry.elements[0])]
        of = zip(entry.elements, _sizes(entry, kernel, sizes), strict=True)
        found = [_of_column(column, own, is_here) for column, own in of]
        if kernel.view and any(x is not None and x.is_complex for x in found[0]):
            # As a pair it has one more axis.
            raise NotCarried
        # Sparse tensors raise: they do not know whether they are contiguous.
        if not all(map(_is_straight, entry.elements)):
            if kernel.view:
                raise NotCarried
            _check_rows(entry.elements)
        single = [1] * len(sizes)
        return found + [_of_column(x, single, is_here) for x in entry.numbers]
    except RuntimeError as error:
        # A tensor without memory, or without a layout.
        raise NotCarried from error


def _sizes(entry: "Entry", kernel: "Kernel", sizes: list[int]) -> list[list[int]]:
    """How many numbers each tensor of each column has."""
    if not kernel.view:
        return [sizes] * len(entry.elements)
    shapes = [matrices(kernel.view, kernel.least, p.shape) for p in entry.elements[0]]
    levels = [kernel.reduced.get(name) for name in kernel.elements]
    return [
        sizes if level is None else [count(level, each) for each in shapes]
        for level in levels
    ]


def _is_straight(column: Sequence[Any]) -> bool:
    """Whether elements lie in memory in the order of their places."""
    try:
        return all(map(Tensor.is_contiguous, column))
    except TypeError:
        return all(x is None or x.is_contiguous() for x in column)


def _check_rows(columns: Sequence[Sequence[Any]]) -> None:
    """Elements in another order are those of the same places where all tensors of a row
    have the same one, as parameters in `channels_last` and what is made like them.

    Raises:
        NotCarried: some tensors of a row have another order, or gaps.
    """
    for row in zip(*columns, strict=True):
        present = [x for x in row if x is not None]
        if all(map(Tensor.is_contiguous, present)):
            continue
        first, *others = map(_layout, present)
        if any(each != first for each in others) or not _fills(first):
            raise NotCarried


def _layout(x: Tensor) -> list[tuple[int, int]]:
    """The size and the stride of each axis that has any."""
    pairs = zip(x.shape, x.stride(), strict=True)
    return [(size, stride) for size, stride in pairs if size != 1]


def _fills(layout: list[tuple[int, int]]) -> bool:
    """Whether memory is filled from the first element on, each place once."""
    filled = 1
    for size, stride in sorted(layout, key=itemgetter(1)):
        if stride != filled:
            return False
        filled *= size
    return True


def check_together(types: Sequence[torch.dtype | None]) -> None:
    """Pairs and single numbers are not of one size in memory.

    Raises:
        NotCarried: some tensors of a row are complex and some are real.
    """
    if len({each.is_complex for each in types if each is not None}) > 1:
        raise NotCarried


def _of_column(
    column: Sequence[Any],
    sizes: list[int],
    is_here: Callable[[Tensor], bool] = _is_cpu,
) -> set[torch.dtype | None]:
    types = {*map(type, column)}
    present: Sequence[Tensor] = column
    if _NONE in types:
        pairs = [x for x in zip(column, sizes, strict=True) if x[0] is not None]
        present, sizes = [x for x, _ in pairs], [size for _, size in pairs]
    if not types <= PLAIN | {_NONE} or not all(map(is_here, present)):
        raise NotCarried
    if [*map(Tensor.numel, present)] != sizes:
        raise NotCarried
    kinds = {*map(_dtype, present)}
    if not kinds <= TYPES.keys() or _are_views(present, sizes, kinds):
        raise NotCarried
    return kinds if _NONE not in types else {*kinds, None}


def _are_views(
    column: Sequence[Tensor], sizes: list[int], kinds: set[torch.dtype]
) -> bool:
    """Whether numbers are the negative, or the conjugate, of those in memory. A real
    negative view fills memory where it has one number.
    """
    if 1 in sizes and any(map(Tensor.is_neg, column)):
        return True
    return any(each.is_complex for each in kinds) and any(map(Tensor.is_conj, column))


def lacks(column: Sequence[Any], where: array) -> bool:
    """Whether a tensor of some size begins nowhere, since its storage was given up."""
    pairs = zip(column, where, strict=True)
    return any(x is not None and not at and x.numel() for x, at in pairs)

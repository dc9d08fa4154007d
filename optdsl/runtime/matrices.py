"""Tensors as the matrices that a rule sees which reduces along axes.

In: a view, as kernels are told it, and sizes. Out: how many matrices, of how many lines
and columns; how many numbers there are at a level.
"""

from collections.abc import Sequence
from math import prod


def matrices(view: str, least: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """A tensor as (matrices, height, width): its `last` two axes, those before being a
    batch; or its `first` axis and all others. Axes that it lacks are of size 1. Of fewer
    than the `least` axes it is no matrix, but one line.
    """
    if len(shape) < least:
        return 0, 1, prod(shape)
    if view == "first":
        return 1, prod(shape[:1]), prod(shape[1:])
    return prod(shape[:-2]), prod(shape[-2:-1]), prod(shape[-1:])


def count(level: str, shape: tuple[int, int, int]) -> int:
    """How many numbers there are once a line, once a column or once a matrix."""
    many, height, width = shape
    return many * {"line": height, "column": width, "matrix": 1}[level]

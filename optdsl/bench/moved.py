"""The bytes that a step has to move, whoever does it: each tensor that the rule reads is
read once, each that it changes is written once.

In: a rule, the hypers that are set, shapes. Out: the parameters in parts, and the arrays
of each part. Rows, columns and single numbers do not count, nor do further passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from .. import ir
from ..explain.memory import BFLOAT16, width
from ..explain.traffic import MOST_AXES, traffic
from .shapes import Shapes


@dataclass(frozen=True, slots=True)
class Array:
    """One tensor of a parameter: its bytes a number, and what happens to it."""

    width: int
    read: bool
    written: bool


@dataclass(frozen=True, slots=True)
class Part:
    """So many numbers, each of them in all of the arrays."""

    numbers: int
    arrays: tuple[Array, ...]

    @property
    def bytes(self) -> int:
        return self.numbers * sum(
            each.width * (each.read + each.written) for each in self.arrays
        )


def moved(
    rule: ir.Rule, hypers: Mapping[str, Any], shapes: Shapes, dtype: torch.dtype | None
) -> tuple[Part, ...]:
    """What a step moves; `dtype` in the place of those of the shapes.

    Raises:
        ValueError: the rule does not take one of the shapes.
    """
    counted = traffic(rule, hypers)
    halves = {each.name for each in rule.states if width(each) == BFLOAT16}
    numbers: dict[tuple[Array, ...], int] = {}
    for size, own in zip(shapes.sizes, shapes.dtypes_or(dtype), strict=True):
        axes = min(max(len(size), 1), MOST_AXES)
        fitting = (each for each in counted if not each.axes or axes in each.axes)
        found = next(fitting, None)
        if found is None:
            raise ValueError(f"{rule.name} takes no parameter of the shape {size}")
        arrays = tuple(
            Array(
                BFLOAT16 if each.name.partition("[")[0] in halves else own.itemsize,
                each.read > 0,
                each.written > 0,
            )
            for each in found.moved
        )
        numbers[arrays] = numbers.get(arrays, 0) + prod(size)
    return tuple(Part(count, arrays) for arrays, count in numbers.items())

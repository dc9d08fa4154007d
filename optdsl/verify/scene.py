"""What an optimizer is given: parameters of several shapes, and a gradient for each step.

Every value depends on the name of the parameter and the number of the step alone, so any
two optimizers see the same ones, whatever else stands in their groups.
"""

import zlib
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import Parameter

SHAPES: dict[str, tuple[int, ...]] = {
    "vector": (3,),
    "matrix": (4, 3),
    "scalar": (),
    "kernel": (2, 3, 2, 2),
    "empty": (0, 3),
}
LATE = 3  # the step, from 0, in which a late gradient comes
NOISE = {
    torch.bfloat16: 2.0**-6,
    torch.float16: 2.0**-8,
    torch.float32: 2.0**-20,
    torch.complex64: 2.0**-20,
}


def noise_of(dtype: torch.dtype) -> float:
    """An error that covers the few roundings that another order of the same calculations
    makes: 4096 units in the last place of float64, eight of float32, two of bfloat16.
    """
    return NOISE.get(dtype, 2.0**-40)


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter; `has` says when it has a gradient: always, late, never or sometimes.

    Where `strided`, its memory is that of its transpose; where `zero`, it starts at zero.
    """

    name: str
    shape: tuple[int, ...]
    has: str = "always"
    strided: bool = False
    zero: bool = False

    def has_gradient(self, step: int) -> bool:
        if self.has == "late":
            return step >= LATE
        return self.has == "always" or (self.has == "sometimes" and step % 3 != 1)

    def __str__(self) -> str:
        return f"{self.name} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Parameters over the steps `first`, `first + 1`, ..., counted from 0.

    `layout` of the gradients is dense, sparse (some rows, one of them in two parts) or
    whole (sparse, with every row). `held` is a precision that all values have passed
    through; with `noise`, all are wrong by this share of themselves, drawn by `seed`.
    Where `steady`, gradients keep their direction but for a third; where `falling`, a
    scheduler lowers the learning rate before each step.
    """

    parts: tuple[Part, ...]
    steps: int
    dtype: torch.dtype = torch.float64
    layout: str = "dense"
    first: int = 0
    held: torch.dtype | None = None
    noise: float = 0.0
    seed: int = 0
    steady: bool = False
    falling: bool = False

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.steps)

    def parameter(self, part: Part) -> Parameter:
        value = (
            torch.zeros_like(self._values(part, -1))
            if part.zero
            else self._values(part, -1)
        )
        return Parameter(_laid_out(value, part.strided))

    def gradient(self, part: Part, step: int) -> Tensor | None:
        """A new tensor, or None where the parameter has no gradient in this step."""
        if not part.has_gradient(step):
            return None
        value = self._values(part, step)
        if self.layout == "dense" or value.ndim == 0:
            return _laid_out(value, part.strided)
        return _sparse(value, step, whole=self.layout == "whole")

    def way(self, part: Part, step: int, start: Tensor, place: Tensor) -> Tensor:
        """How far a place is from where a parameter starts. With noise, the parameter does
        not get to the place itself: that is off by as large a share of where it is.
        """
        if not self.noise:
            return place - start
        error = _drawn(f"{part.name}, place, {self.seed}", step, part.shape).real
        return place * (1 + self.noise * error.to(place.dtype)) - start

    def gradient_at(self, part: Part, step: int, way: Tensor) -> Tensor:
        """The gradient of a step some way from where its parameter is, for a loss whose
        second derivatives are numbers of the part.
        """
        curvature = _drawn(part.name, -2, part.shape).real.to(way.dtype)
        return self.gradient(part, step) + curvature * way

    def _values(self, part: Part, number: int) -> Tensor:
        value = _drawn(part.name, number, part.shape)
        if self.steady and number >= 0:
            value = _drawn(part.name, 0, part.shape) + 0.3 * value
        if not self.dtype.is_complex:
            value = value.real
        if self.noise:
            error = _drawn(f"{part.name}, {self.seed}", number, part.shape).real
            value = value * (1 + self.noise * error)
        if self.held is not None:
            value = value.to(self.held)
        return value.to(self.dtype)

    def with_(self, **changes) -> "Scene":
        return replace(self, **changes)

    def __str__(self) -> str:
        parts = " and ".join(map(str, self.parts))
        if len(self.parts) > 2:
            parts = f"{len(self.parts)} parameters"
        layout = "" if self.layout == "dense" else ", sparse gradients"
        steps = f"{self.steps} step{'s' * (self.steps != 1)}"
        return f"{str(self.dtype).removeprefix('torch.')}, {parts}, {steps}{layout}"


@cache
def _drawn(name: str, number: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, complex so that real scenes see their real parts."""
    seed = zlib.crc32(f"{name}, {number}, {shape}".encode())
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randn((*shape, 2), generator=generator, dtype=torch.float64)
    return torch.view_as_complex(pairs)


def _laid_out(value: Tensor, strided: bool) -> Tensor:
    new = value.detach().clone(memory_format=torch.contiguous_format)
    return new.mT.contiguous().mT if strided and new.ndim > 1 else new


def _sparse(value: Tensor, step: int, whole: bool) -> Tensor:
    """Rows of the gradient; where not all, the first of them comes in two parts."""
    count = value.shape[0]
    rows = [*range(count)]
    if count > 1 and not whole:
        rows = [(step + at) % count for at in rows[1:]]
    values = value[rows]
    if count and not whole:
        rows, values = [*rows, rows[0]], torch.cat([values, values[:1]])
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), values, value.shape, check_invariants=False
    )

"""Two optimizers of one rule, with kernels and without, on parameters of their own: whatever
is done to both leaves the same behind.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from optdsl import load_optimizer

# What torch's own fused and for-loop classes differ by after some steps, relative to 1.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def parameters(
    *shapes: Any, dtype: torch.dtype = torch.float32, device: Any = "cpu"
) -> list[Parameter]:
    random = torch.Generator().manual_seed(3)
    made = (torch.randn(x, generator=random) for x in shapes)
    return [Parameter(each.to(device, dtype)) for each in made]


def give(params: list[Parameter], step: int, scale: float = 1) -> None:
    """Gradients of a step, the same for each list of the same shapes."""
    random = torch.Generator().manual_seed(100 + step)
    for p in params:
        grad = torch.randn(p.shape, generator=random)
        p.grad = torch.empty_like(p).copy_(grad) * scale


class Twins:
    """An optimizer with kernels, and one that updates parameter after parameter."""

    def __init__(
        self, name: str, make: Callable[[], list[Parameter]], **options: Any
    ) -> None:
        cls = load_optimizer(name)
        self.params, self.others = make(), make()
        self.fused = cls(self.params, fused=True, **options)
        self.plain = cls(self.others, foreach=False, **options)

    @property
    def sides(self) -> list[tuple[Optimizer, list[Parameter]]]:
        return [(self.fused, self.params), (self.plain, self.others)]

    def step(self, number: int) -> None:
        for optimizer, params in self.sides:
            give(params, number)
            optimizer.step()

    def assert_close(self, **tolerance: float) -> None:
        tolerance = tolerance or CLOSE
        for mine, other in zip(self.params, self.others, strict=True):
            torch.testing.assert_close(mine.data, other.data, **tolerance)
            here, there = self.fused.state[mine], self.plain.state[other]
            assert here.keys() == there.keys()
            for name in here:
                left, right = (x[name].cpu() for x in (here, there))
                torch.testing.assert_close(left, right, **tolerance)

"""Kernels of rules that reduce along axes: every kind of shape, however many threads, and
what they leave to another target. Each is held against the same optimizer without kernels.
"""

from typing import Any

import pytest
import torch
from test_fused import kernels_alone
from test_fused_steps import Twins, give, parameters
from torch import Tensor
from torch.nn import Parameter

from optdsl import from_string, load_optimizer

RULES = ("adafactor", "came", "amos", "adamp", "sgdp")
SHAPES = (
    (3,), (), (0,), (1, 1), (5, 1), (1, 7), (17, 33), (4, 3, 5), (2, 3, 4, 5), (0, 4),
    (4, 0), (2, 0, 3), (0, 2, 3), (1000, 3), (3, 20000), (1, 70000), (300, 1100),
    (70000,), (2, 65, 1030), (70, 3, 3), (9000, 3, 3),
)  # fmt: skip
EXACT = {"rtol": 1e-9, "atol": 1e-11}
"""What another order of the same sums in float64 differs by, after three steps."""


def options(name: str) -> list[dict[str, Any]]:
    """The options of a rule, and those under which most of it is at work."""
    return {
        "adafactor": [{}, {"weight_decay": 0.1, "maximize": True, "eps": (1e-3, 1e-2)}],
        "came": [{}, {"weight_decay": 0.1}],
        "amos": [{}, {"momentum": 0.9, "eta": 0.3}],
        "adamp": [{}, {"weight_decay": 0.1, "delta": 100.0, "nesterov": True}],
        "sgdp": [{"momentum": 0.9}, {"weight_decay": 0.1, "delta": 100.0}],
    }[name]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_each_shape_by_itself(name: str, shape: tuple[int, ...]) -> None:
    for chosen in options(name):
        make = lambda: parameters(shape, dtype=torch.float64)  # noqa: E731
        twins = Twins(name, make, **chosen)
        with kernels_alone():
            for step in range(3):
                twins.step(step)
        twins.assert_close(**EXACT, equal_nan=True)

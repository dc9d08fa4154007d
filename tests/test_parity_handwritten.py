"""Compiled specs against the classes that a person wrote, bit by bit."""

from typing import Any

import pytest
import torch

from optdsl import load_optimizer
from tests import handwritten
from tests.parity import SCENARIOS, Scenario, run, side

STEPS = 200

# Each spec: its class by hand, hypers that show every term, overrides by group, and the
# names that its states have by hand.
RULES: dict[
    str, tuple[type, dict[str, Any], tuple[dict[str, Any], ...], dict[str, str]]
] = {
    "gradient_descent": (
        handwritten.GradientDescent,
        {"lr": 0.05},
        ({}, {"lr": 0.3}, {"lr": 0.0}),
        {},
    ),
    "momentum": (
        handwritten.Momentum,
        {"lr": 0.05, "momentum": 0.8},
        ({}, {"lr": 0.3}, {"momentum": 0.0}, {"lr": 1e-3, "momentum": 0.99}),
        {"buf": "momentum_buffer"},
    ),
    "l2decay": (
        handwritten.L2Decay,
        {"lr": 0.05, "weight_decay": 0.1},
        ({}, {"lr": 0.3}, {"weight_decay": 0.0}, {"lr": 1e-3, "weight_decay": 0.5}),
        {},
    ),
    "lion": (
        handwritten.Lion,
        {"lr": 0.05, "weight_decay": 0.1},
        ({}, {"lr": 0.3}, {"weight_decay": 0.0}, {"betas": (0.5, 0.6)}),
        {},
    ),
}


def decay(optimizer: torch.optim.Optimizer) -> None:
    if isinstance(optimizer, handwritten.L2Decay):
        optimizer.apply_weight_decay()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("spec", RULES)
def test_same_bits_as_by_hand(
    spec: str, scenario: Scenario, dtype: torch.dtype
) -> None:
    by_hand, hypers, overrides, renamed = RULES[spec]
    groups = overrides if scenario.split else ({},)
    ours = side(load_optimizer(spec), dtype, groups, **hypers)
    theirs = side(by_hand, dtype, groups, **hypers)
    run(ours, theirs, scenario, STEPS, renamed, before_step=decay)


@pytest.mark.parametrize("spec", RULES)
def test_same_bits_with_defaults(spec: str) -> None:
    by_hand, _, _, renamed = RULES[spec]
    run(side(load_optimizer(spec)), side(by_hand), SCENARIOS[0], STEPS, renamed, decay)


@pytest.mark.parametrize("spec", RULES)
def test_runs_move_the_parameters(spec: str) -> None:
    """A comparison of two optimizers that do nothing would show nothing."""
    _, hypers, _, _ = RULES[spec]
    before, after = side(load_optimizer(spec)), side(load_optimizer(spec), **hypers)
    after.steps(0, 1, 2, 3)
    for name, p in after.parameters.items():
        moved = not torch.equal(p, before.parameters[name])
        assert moved == (name not in ("empty", "never")), name

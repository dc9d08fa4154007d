"""Compiled specs against torch.optim, bit by bit, parameters and state.

Complex parameters are pairs of reals to us. torch takes some terms of some rules (weight
decay, all of SGD) as complex products, which round otherwise in the last bit; so the bits
are those of torch on pairs of reals, and torch on complex numbers is met closely.
"""

import inspect
from typing import Any

import pytest
import torch

from optdsl import load_optimizer, vocabulary
from tests.parity import SCENARIOS, TORCH, Scenario, plain, run, side

STEPS = 20
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]

_ADAM: list[dict[str, Any]] = [
    {},
    {"lr": 0.1},
    {"lr": 0},
    {"betas": (0.5, 0.9)},
    {"betas": (0.0, 0.0)},
    {"eps": 1e-2},
    {"eps": 0},
    {"weight_decay": 0.1},
    {"maximize": True},
]
_AMSGRAD: list[dict[str, Any]] = [
    {"weight_decay": 0},
    {"amsgrad": True},
    {"amsgrad": True, "betas": (0.8, 0.5), "weight_decay": 0.1, "maximize": True},
]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {},
        {"lr": 0.1},
        {"lr": 0},
        {"momentum": 0.9},
        {"dampening": 0.5},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "dampening": -0.3},
        {"momentum": 1.5, "lr": 1e-4},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True},
    ],
    "adam": [*_ADAM, *_AMSGRAD],
    "adamw": [*_ADAM, *_AMSGRAD],
    "adagrad": [
        {},
        {"lr": 0.1},
        {"lr_decay": 0.2},
        {"weight_decay": 0.1},
        {"initial_accumulator_value": 0.5},
        {"eps": 1e-2},
        {"maximize": True},
        {
            "lr_decay": 0.2,
            "weight_decay": 0.1,
            "initial_accumulator_value": 1,
            "maximize": True,
        },
    ],
    "rmsprop": [
        {},
        {"lr": 0.1},
        {"alpha": 0.5},
        {"eps": 1e-2},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"centered": True},
        {"maximize": True},
        {"centered": True, "momentum": 0.9, "alpha": 0.9},
        {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "maximize": True},
    ],
    "adadelta": [
        {},
        {"lr": 0.1},
        {"rho": 0.5},
        {"rho": 1},
        {"eps": 1e-2},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True},
    ],
    "adamax": [*_ADAM, {"betas": (0.8, 0.5), "weight_decay": 0.1, "maximize": True}],
}

# What other groups of the same optimizer have. (torch's Adagrad makes its state in the
# constructor, and reads no group's initial_accumulator_value.)
OVERRIDES: dict[str, tuple[dict[str, Any], ...]] = {
    "sgd": ({"weight_decay": 0.3}, {"momentum": 0.5}),
    "adam": ({"weight_decay": 0.3}, {"amsgrad": True, "betas": (0.6, 0.7)}),
    "adamw": ({"weight_decay": 0}, {"amsgrad": True, "betas": (0.6, 0.7)}),
    "adagrad": ({"weight_decay": 0.3}, {"lr_decay": 0.1, "eps": 1e-3}),
    "rmsprop": ({"weight_decay": 0.3}, {"centered": True, "momentum": 0.5}),
    "adadelta": ({"weight_decay": 0.3}, {"rho": 0.3}),
    "adamax": ({"weight_decay": 0.3}, {"betas": (0.6, 0.7)}),
}

REFUSED: dict[str, list[dict[str, Any]]] = {
    "sgd": [
        {"momentum": -0.1},
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
    ],
    "adam": [
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"eps": -1},
    ],
    "adamw": [
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"eps": -1},
    ],
    "adagrad": [{"lr_decay": -1}, {"initial_accumulator_value": -1}, {"eps": -1}],
    "rmsprop": [{"eps": -1}, {"momentum": -1}, {"alpha": -1}],
    "adadelta": [{"rho": -0.1}, {"rho": 1.1}, {"eps": -1}],
    "adamax": [{"betas": (1.0, 0.9)}, {"betas": (0.9, -1)}, {"eps": -1}],
}
for refused in REFUSED.values():
    refused += [
        {"lr": -0.1},
        {"lr": torch.tensor([0.1, 0.2])},
        {"weight_decay": -0.1},
    ]


def cases(table: dict[str, list[dict[str, Any]]]) -> list[Any]:
    def said(given: dict[str, Any]) -> str:
        return ", ".join(f"{key}={value}" for key, value in given.items())

    return [
        pytest.param(spec, given, id=f"{spec}({said(given)})")
        for spec, options in table.items()
        for given in options
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("spec", "hypers"), cases(OPTIONS))
def test_same_bits_as_torch(
    spec: str, hypers: dict[str, Any], dtype: torch.dtype
) -> None:
    ours = side(load_optimizer(spec), dtype, **hypers)
    theirs = side(plain(spec), dtype, pairs=dtype.is_complex, **hypers)
    run(ours, theirs, SCENARIOS[0], STEPS)


@pytest.mark.parametrize(("spec", "hypers"), cases(OPTIONS))
def test_close_to_torch_on_complex_numbers(spec: str, hypers: dict[str, Any]) -> None:
    ours, theirs = (
        side(cls, torch.complex64, **hypers).steps(*range(STEPS))
        for cls in (load_optimizer(spec), plain(spec))
    )
    for name, p in ours.parameters.items():
        torch.testing.assert_close(p, theirs.parameters[name])
        mine, its = ours.memory(name), theirs.memory(name)
        torch.testing.assert_close(mine, its if mine else {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", TORCH)
def test_same_bits_in_groups(spec: str, dtype: torch.dtype) -> None:
    groups = ({"lr": 0.05}, {}, *OVERRIDES[spec])
    ours = side(load_optimizer(spec), dtype, groups, maximize=True)
    theirs = side(plain(spec), dtype, groups, dtype.is_complex, maximize=True)
    run(ours, theirs, SCENARIOS[1], STEPS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("spec", TORCH)
def test_same_bits_in_a_scenario(spec: str, scenario: Scenario) -> None:
    groups = ({}, *OVERRIDES[spec]) if scenario.split else ({},)
    ours = side(load_optimizer(spec), groups=groups)
    run(ours, side(plain(spec), groups=groups), scenario, STEPS)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("spec", TORCH)
def test_same_bits_with_the_learning_rate_in_a_tensor(
    spec: str, dtype: torch.dtype
) -> None:
    ours, theirs = (
        side(cls, dtype, lr=torch.tensor(0.1), weight_decay=0.1)
        for cls in (load_optimizer(spec), plain(spec))
    )
    run(ours, theirs, SCENARIOS[0], STEPS)


@pytest.mark.parametrize(("spec", "hypers"), cases(REFUSED))
def test_refuses_what_torch_refuses(spec: str, hypers: dict[str, Any]) -> None:
    for cls in (TORCH[spec], load_optimizer(spec)):
        with pytest.raises(ValueError):
            side(cls, **hypers)


@pytest.mark.parametrize("spec", TORCH)
def test_hypers_have_the_names_defaults_and_places_of_torch(spec: str) -> None:
    def positional(cls: type) -> list[tuple[str, Any]]:
        parameters = [*inspect.signature(cls).parameters.values()][1:]
        return [
            (each.name, each.default)
            for each in parameters
            if each.kind is each.POSITIONAL_OR_KEYWORD
            and each.name not in vocabulary.FLAGS
        ]

    assert positional(load_optimizer(spec)) == positional(TORCH[spec])

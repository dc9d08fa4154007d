"""The loop of each class against torch's: the same bits, parameters and state.

Each value of each option by itself, all options at once and a sample of their product,
each in float32 and one other type; the whole product, in every type that torch takes, under
OPTDSL_EXAMPLES.
"""

import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from optdsl import load_optimizer
from tests.oracle import LONG
from tests.parity import (
    SCENARIOS,
    TORCH,
    Scenario,
    options,
    plain,
    run,
    same_bits,
    side,
)
from tests.torch_inputs import (
    CAPTURABLE,
    NO_COMPLEX,
    captures_on_the_cpu,
    each_typed,
    every_class,
    typed,
)

STEPS = 12

_ADAM: dict[str, list[Any]] = {
    "lr": [0.1, 0],
    "betas": [(0.5, 0.9), (0.0, 0.0)],
    "eps": [1e-2, 0],
    "weight_decay": [0.1],
}
_MAXIMIZE: dict[str, list[Any]] = {"maximize": [True]}
_AMSGRAD: dict[str, list[Any]] = {"amsgrad": [True]}
_DECOUPLED: dict[str, list[Any]] = {"decoupled_weight_decay": [True]}
# The values of each option that are tried beside its default.
VALUES: dict[str, dict[str, list[Any]]] = {
    "adadelta": {
        "lr": [0.1],
        "rho": [0.5, 0, 1],
        "eps": [1e-2],
        "weight_decay": [0.1],
        **_MAXIMIZE,
    },
    "adafactor": {
        "lr": [0.5],
        "beta2_decay": [-0.5, 0.0],
        "eps": [(1e-3, 0.1), (None, 0.5)],
        "d": [2.0],
        "weight_decay": [0.1],
        **_MAXIMIZE,
    },
    "adagrad": {
        "lr": [0.1],
        "lr_decay": [0.2],
        "weight_decay": [0.1],
        "initial_accumulator_value": [0.5, 1],
        "eps": [1e-2],
        **_MAXIMIZE,
    },
    "adam": {**_ADAM, **_AMSGRAD, **_DECOUPLED, **_MAXIMIZE},
    "adamax": {**_ADAM, **_MAXIMIZE},
    "adamw": {**_ADAM, "weight_decay": [0.1, 0], **_AMSGRAD, **_MAXIMIZE},
    "asgd": {
        "lr": [0.1],
        "lambd": [0.1],
        "alpha": [0.5],
        "t0": [3],
        "weight_decay": [0.1],
        **_MAXIMIZE,
    },
    "muon": {
        "lr": [0.1],
        "weight_decay": [0],
        "momentum": [0.5, 0],
        "nesterov": [False],
        "ns_coefficients": [(3.0, -3.2, 1.2)],
        "eps": [1e-2],
        "ns_steps": [2, 0],
        "adjust_lr_fn": ["original", "match_rms_adamw"],
    },
    "nadam": {**_ADAM, "momentum_decay": [0.1], **_DECOUPLED, **_MAXIMIZE},
    "radam": {**_ADAM, "betas": [(0.5, 0.9), (0.9, 0.5)], **_DECOUPLED, **_MAXIMIZE},
    "rmsprop": {
        "lr": [0.1],
        "alpha": [0.5],
        "eps": [1e-2],
        "weight_decay": [0.1],
        "momentum": [0.9],
        "centered": [True],
        **_MAXIMIZE,
    },
    "rprop": {
        "lr": [0.1],
        "etas": [(0.3, 2.0)],
        "step_sizes": [(1e-2, 0.1)],
        **_MAXIMIZE,
    },
    "sgd": {
        "lr": [0.1, 0],
        "momentum": [0.9, 1.5],
        "dampening": [0.3, -0.3],
        "weight_decay": [0.1],
        "nesterov": [True],
        **_MAXIMIZE,
    },
    "sparse_adam": {
        "lr": [0.1],
        "betas": [(0.5, 0.9), (0.0, 0.0)],
        "eps": [1e-2],
        **_MAXIMIZE,
    },
}


def allowed(spec: str, hypers: dict[str, Any]) -> bool:
    if spec == "sgd" and hypers.get("nesterov"):
        return hypers.get("momentum", 0) > 0 and not hypers.get("dampening")
    return True


def combinations(spec: str) -> list[dict[str, Any]]:
    """One option at a time, all at once, and some of the product or all of it."""
    table = VALUES[spec]
    alone = [{name: value} for name, values in table.items() for value in values]
    together = {name: values[0] for name, values in table.items()}
    product = [
        {name: value for name, value in zip(table, chosen, strict=True) if value != ()}
        for chosen in itertools.product(*([(), *values] for values in table.values()))
    ]
    if not LONG:
        product = random.Random(spec).sample(product, 8)
    given = [{}, *alone, together, *product]
    return [hypers for hypers in given if allowed(spec, hypers)]


def said(hypers: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in hypers.items())


OPTIONS = [
    pytest.param(spec, hypers, id=f"{spec}({said(hypers)})")
    for spec in TORCH
    for hypers in combinations(spec)
]


def refused(spec: str, dtype: torch.dtype) -> bool:
    return dtype.is_complex and spec in NO_COMPLEX


def differs_on_purpose(spec: str, hypers: dict[str, Any], dtype: torch.dtype) -> bool:
    """torch's Muon scales its momentum by an alias, see below."""
    bfloat16 = spec == "muon" and dtype is torch.bfloat16
    return bfloat16 and not hypers.get("nesterov", True)


@pytest.mark.parametrize(("spec", "hypers", "dtype"), typed(OPTIONS))
def test_same_bits_as_torch(
    spec: str, hypers: dict[str, Any], dtype: torch.dtype
) -> None:
    if refused(spec, dtype) or differs_on_purpose(spec, hypers, dtype):
        pytest.skip("refused, or another rule")
    ours = side(load_optimizer(spec), dtype, **hypers)
    run(ours, side(plain(spec), dtype, **hypers), SCENARIOS[0], STEPS)


def test_every_option_of_torch_is_tried() -> None:
    flags = {"foreach", "capturable", "differentiable", "fused"}
    for spec, cls in TORCH.items():
        assert {*options(cls)} - flags == {*VALUES[spec]}, spec


def groups_of(spec: str) -> tuple[dict[str, Any], ...]:
    """Groups that override one option each. (torch's Adagrad makes its state in the
    constructor, and reads no group's initial_accumulator_value.)
    """
    alone = [
        {name: values[0]}
        for name, values in VALUES[spec].items()
        if name not in ("maximize", "initial_accumulator_value")
    ]
    return ({}, *(each for each in alone if allowed(spec, each)))


@pytest.mark.parametrize(("spec", "dtype"), each_typed())
def test_same_bits_in_groups(spec: str, dtype: torch.dtype) -> None:
    if refused(spec, dtype):
        pytest.skip("refused, as in torch")
    groups = tuple(
        each for each in groups_of(spec) if not differs_on_purpose(spec, each, dtype)
    )
    flags = {"maximize": True} if "maximize" in options(TORCH[spec]) else {}
    ours = side(load_optimizer(spec), dtype, groups, **flags)
    run(ours, side(plain(spec), dtype, groups, **flags), SCENARIOS[1], STEPS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@every_class
def test_same_bits_in_a_scenario(spec: str, scenario: Scenario) -> None:
    groups = groups_of(spec) if scenario.split else ({},)
    ours = side(load_optimizer(spec), groups=groups)
    run(ours, side(plain(spec), groups=groups), scenario, STEPS)


RATES = {
    "0-d": torch.tensor(0.1),
    "1-d": torch.tensor([0.1]),
    "float64": torch.tensor(0.1, dtype=torch.float64),
}


def rates_of(specs: Iterable[str]) -> list[Any]:
    return [
        pytest.param(spec, rate, id=f"{spec}-{name}")
        for spec in specs
        for name, rate in RATES.items()
    ]


@pytest.mark.parametrize(("spec", "rate", "dtype"), typed(rates_of(TORCH)))
def test_same_bits_with_the_learning_rate_in_a_tensor(
    spec: str, rate: torch.Tensor, dtype: torch.dtype
) -> None:
    if refused(spec, dtype):
        pytest.skip("refused, as in torch")
    if spec == "sparse_adam" and dtype is torch.bfloat16:
        pytest.skip("torch rounds the rate to bfloat16 before it scales the update")
    hypers = {"lr": rate}
    if "weight_decay" in options(TORCH[spec]):
        hypers["weight_decay"] = 0.1
    assert_same_or_both_fail(spec, dtype, hypers)


@pytest.mark.parametrize(("spec", "rate", "dtype"), typed(rates_of(CAPTURABLE)))
def test_same_bits_when_captured_with_the_learning_rate_in_a_tensor(
    spec: str, rate: torch.Tensor, dtype: torch.dtype
) -> None:
    if spec == "adamax" and rate.dtype is torch.float64:
        pytest.skip("torch divides by the rate in place, in the precision of the count")
    hypers = {"lr": rate, "capturable": True}
    with captures_on_the_cpu():
        assert_same_or_both_fail(spec, dtype, hypers)


def assert_same_or_both_fail(
    spec: str, dtype: torch.dtype, hypers: dict[str, Any]
) -> None:
    """torch cannot make numbers of every tensor that its constructors take. Where the
    rate is the more precise, a parameter without axes takes its type from the rate in
    some calls of torch and not in others; it is left out.
    """
    theirs = side(plain(spec), dtype, **hypers)
    try:
        theirs.steps(*range(STEPS))
    except (TypeError, RuntimeError, IndexError) as error:
        pytest.skip(f"torch cannot: {error}")
    ours = side(load_optimizer(spec), dtype, **hypers)
    theirs = side(plain(spec), dtype, **hypers)
    if torch.promote_types(hypers["lr"].dtype, dtype) != dtype:
        names = [name for name, p in ours.parameters.items() if p.ndim > 0]
        ours, theirs = ours.only(names), theirs.only(names)
    run(ours, theirs, SCENARIOS[0], STEPS)


def test_muon_leaves_its_momentum_alone_where_torch_scales_it() -> None:
    """In bfloat16 without nesterov, torch's orthogonalization divides the buffer itself by
    its norm: `bfloat16()` makes no copy of what is bfloat16 already.
    """
    kept = []
    for make in (load_optimizer("muon"), plain("muon")):
        p = Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
        p.grad = torch.full((2, 2), 8.0, dtype=torch.bfloat16)
        optimizer = make([p], nesterov=False, momentum=0.5)
        optimizer.step()
        kept.append(optimizer.state[p]["momentum_buffer"].float())
    assert torch.equal(kept[0], torch.full((2, 2), 4.0))
    assert torch.equal(kept[1], torch.full((2, 2), 0.5))


def test_muon_in_bfloat16_follows_its_float32_self() -> None:
    """Without nesterov, where torch's does not: to 2%, as far as bfloat16 rounds."""
    ends = []
    for dtype in (torch.bfloat16, torch.float32):
        p = Parameter(torch.zeros(3, 2, dtype=dtype))
        optimizer = load_optimizer("muon")([p], lr=0.1, nesterov=False)
        for step in range(4):
            torch.manual_seed(step)
            p.grad = torch.randn(3, 2).bfloat16().to(dtype)
            optimizer.step()
        ends.append(optimizer.state[p]["momentum_buffer"].float())
    torch.testing.assert_close(*ends, rtol=0.02, atol=0.02)


def test_a_parameter_without_axes_takes_sparse_gradients_as_in_torch() -> None:
    ends = []
    for make in (load_optimizer("sparse_adam"), plain("sparse_adam")):
        p = Parameter(torch.tensor(1.0))
        optimizer = make([p], lr=0.1)
        for _ in range(2):
            p.grad = torch.tensor(2.0).to_sparse()
            optimizer.step()
        ends.append(p.detach())
    assert same_bits(*ends)


def test_adafactor_takes_the_empty_parameter_that_torch_s_divides_by() -> None:
    p = Parameter(torch.zeros(0, 3))
    p.grad = torch.zeros(0, 3)
    with pytest.raises(ZeroDivisionError):
        plain("adafactor")([p]).step()
    load_optimizer("adafactor")([p]).step()

"""Every scheduler of torch drives our classes as it drives torch's."""

import copy
import inspect
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.swa_utils import SWALR

from tests.oracle import every
from tests.parity import Side, assert_same, options, plain, side
from tests.torch_inputs import INFO, OURS, TORCH, every_class

STEPS = 12
Make = Callable[[Optimizer], Any]


def momentum_cycles(optimizer: Optimizer) -> bool:
    return bool({"momentum", "betas"} & optimizer.defaults.keys())


SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda it: lr_scheduler.LambdaLR(it, lambda epoch: 1 / (1 + epoch)),
    "MultiplicativeLR": lambda it: lr_scheduler.MultiplicativeLR(it, lambda _: 0.9),
    "StepLR": lambda it: lr_scheduler.StepLR(it, 3, gamma=0.5),
    "MultiStepLR": lambda it: lr_scheduler.MultiStepLR(it, [2, 5], gamma=0.5),
    "ConstantLR": lambda it: lr_scheduler.ConstantLR(it, factor=0.5, total_iters=4),
    "LinearLR": lambda it: lr_scheduler.LinearLR(it, total_iters=6),
    "ExponentialLR": lambda it: lr_scheduler.ExponentialLR(it, gamma=0.9),
    "PolynomialLR": lambda it: lr_scheduler.PolynomialLR(it, total_iters=8, power=2.0),
    "CosineAnnealingLR": lambda it: lr_scheduler.CosineAnnealingLR(it, T_max=5),
    "CosineAnnealingWarmRestarts": lambda it: lr_scheduler.CosineAnnealingWarmRestarts(
        it, T_0=3
    ),
    "ReduceLROnPlateau": lambda it: lr_scheduler.ReduceLROnPlateau(it, patience=1),
    "CyclicLR": lambda it: lr_scheduler.CyclicLR(
        it, 1e-3, 0.1, step_size_up=3, cycle_momentum=momentum_cycles(it)
    ),
    "OneCycleLR": lambda it: lr_scheduler.OneCycleLR(
        it, 0.1, total_steps=STEPS + 1, cycle_momentum=momentum_cycles(it)
    ),
    "SequentialLR": lambda it: lr_scheduler.SequentialLR(
        it,
        [
            lr_scheduler.LinearLR(it, total_iters=3),
            lr_scheduler.ExponentialLR(it, gamma=0.9),
        ],
        milestones=[3],
    ),
    "ChainedScheduler": lambda it: lr_scheduler.ChainedScheduler(
        [
            lr_scheduler.ConstantLR(it, factor=0.5, total_iters=4),
            lr_scheduler.ExponentialLR(it, gamma=0.9),
        ]
    ),
    "SWALR": lambda it: SWALR(it, swa_lr=0.05, anneal_epochs=4),
}


def test_no_scheduler_of_torch_is_left_out() -> None:
    abstract = {"LRScheduler", "_LRScheduler"}
    found = {
        name
        for name, each in vars(lr_scheduler).items()
        if inspect.isclass(each)
        and issubclass(each, lr_scheduler.LRScheduler)
        and each.__module__ == lr_scheduler.__name__
    }
    assert found - abstract - {"LRScheduler"} <= SCHEDULERS.keys()
    assert {"OneCycleLR", "CyclicLR", "ReduceLROnPlateau"} <= found


def groups_of(spec: str) -> tuple[dict[str, Any], ...]:
    """Two groups, of which one has its own learning rate."""
    return ({}, {"lr": 0.05})


def scheduled(one: Side, makers: list[Make], steps: int = STEPS) -> list[Any]:
    """What the groups held in each step; the loss of a step is made up."""
    schedulers, seen = [make(one.optimizer) for make in makers], []
    for step in range(steps):
        one.step(step)
        for each in schedulers:
            if isinstance(each, lr_scheduler.ReduceLROnPlateau):
                each.step(1.0 if step < 3 else 1.0 + step)
            else:
                each.step()
        seen.append(
            [
                {name: group.get(name) for name in ("lr", "momentum", "betas")}
                for group in one.optimizer.param_groups
            ]
        )
    return seen


def assert_scheduled_alike(spec: str, makers: list[Make], **hypers: Any) -> None:
    ours = side(OURS[spec], groups=groups_of(spec), **hypers)
    theirs = side(plain(spec), groups=groups_of(spec), **hypers)
    held = scheduled(ours, makers)
    assert held == scheduled(theirs, makers)
    assert len({str(each) for each in held}) > 1, "the schedule changes something"
    assert_same(ours, theirs)


@pytest.mark.parametrize(("spec", "name"), every(3, product(TORCH, SCHEDULERS)))
def test_same_bits_under_each_scheduler(spec: str, name: str) -> None:
    assert_scheduled_alike(spec, [SCHEDULERS[name]])


@pytest.mark.parametrize(
    ("spec", "name"),
    every(5, product("sgd adam adamw rmsprop muon nadam".split(), SCHEDULERS)),
)
def test_a_learning_rate_in_a_tensor_stays_the_same_tensor(
    spec: str, name: str
) -> None:
    """Schedulers fill it in place; a compiled step and a captured graph rely on this."""
    results = []
    for make in (OURS[spec], plain(spec)):
        lr = torch.tensor(0.02)
        one = side(make, lr=lr)
        held = one.optimizer.param_groups[0]["lr"]
        values = [float(each[0]["lr"]) for each in scheduled_values(one, name)]
        results.append((one, values, one.optimizer.param_groups[0]["lr"] is held))
    (ours, values, kept), (theirs, their_values, theirs_kept) = results
    assert values == their_values
    assert kept == theirs_kept
    assert_same(ours, theirs)


def scheduled_values(one: Side, name: str) -> list[Any]:
    scheduler, seen = SCHEDULERS[name](one.optimizer), []
    for step in range(6):
        one.step(step)
        plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        scheduler.step(*([1.0 + step] if plateau else []))
        seen.append([{"lr": float(g["lr"])} for g in one.optimizer.param_groups])
    return seen


@pytest.mark.parametrize(
    ("spec", "at"),
    [(spec, at) for spec in TORCH for at in range(len(INFO[spec].scheduler_inputs))],
)
def test_same_bits_under_the_schedulers_that_torch_tries(spec: str, at: int) -> None:
    one, two = (
        scheduled(side(make), [*INFO[spec].scheduler_inputs[at]])
        for make in (OURS[spec], plain(spec))
    )
    assert one == two


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
@every_class
def test_momentum_cycles_where_it_does_in_torch(spec: str, name: str) -> None:
    """With a rule that has none, both say so."""
    makes: dict[str, Make] = {
        "OneCycleLR": lambda it: lr_scheduler.OneCycleLR(it, 0.1, total_steps=20),
        "CyclicLR": lambda it: lr_scheduler.CyclicLR(it, 1e-3, 0.1, step_size_up=3),
    }
    hypers = {"momentum": 0.5} if "momentum" in options(TORCH[spec]) else {}
    try:
        theirs = side(plain(spec), **hypers)
        held = scheduled(theirs, [makes[name]])
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)[:20]):
            scheduled(side(OURS[spec], **hypers), [makes[name]])
        return
    ours = side(OURS[spec], **hypers)
    assert scheduled(ours, [makes[name]]) == held
    key = "momentum" if hypers else "betas"
    assert len({str(step[0][key]) for step in held}) > 3, "momentum moves"
    assert_same(ours, theirs)


@every_class
def test_a_scheduler_that_steps_first_is_told_so(spec: str) -> None:
    """torch finds out by a counter that it wraps around the step of the instance."""
    for make in (OURS[spec], plain(spec)):
        one = side(make)
        scheduler = lr_scheduler.StepLR(one.optimizer, 2)
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            scheduler.step()
        one = side(make)
        scheduler = lr_scheduler.StepLR(one.optimizer, 2)
        one.step(0)
        scheduler.step()
        assert one.optimizer._opt_called


@every_class
def test_a_schedule_goes_on_from_a_checkpoint(spec: str) -> None:
    def started(make: Any) -> tuple[Side, Any]:
        one = side(make, groups=groups_of(spec))
        return one, lr_scheduler.CosineAnnealingLR(one.optimizer, T_max=8)

    whole, scheduler = started(OURS[spec])
    other, other_scheduler = started(plain(spec))
    for step in range(4):
        whole.step(step)
        scheduler.step()
    with torch.no_grad():
        for name, p in other.parameters.items():
            p.copy_(whole.parameters[name])
    # A copy, because torch loads `step` without making one.
    other.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    other_scheduler.load_state_dict(scheduler.state_dict())
    for step in range(4, 8):
        for one, its in ((whole, scheduler), (other, other_scheduler)):
            one.step(step)
            its.step()
    assert_same(whole, other)

"""What holds for every optimizer of the library, from its first step to its last."""

from functools import cache
from typing import Any

import pytest
import torch
from built import of_library
from oracle import allows
from torch.nn import Parameter

from optdsl import ir, load_optimizer
from tests.library import (
    ALONE,
    HYPERS,
    LIBRARY,
    NEEDS,
    SIZED,
    bad,
    both,
    every_spec,
    every_spec_alone,
    has_lists,
    hypers_of,
    other,
    others,
    rule_of,
    skip_random,
)
from tests.parity import (
    LATE,
    SHAPES,
    Side,
    assert_same,
    difference,
    same_bits,
    side,
)

REFUSED = [
    pytest.param(spec, name, *found, id=f"{spec}({name}={found[0]})")
    for spec, name in HYPERS
    if (found := bad(spec, hypers_of(spec)[name])) is not None
]

# ---- state


@every_spec
@both
def test_state_is_made_by_the_first_step_with_a_gradient(
    spec: str, changed: bool
) -> None:
    one = side(load_optimizer(spec), **others(spec) if changed else {})
    one.optimizer.zero_grad()
    assert one.optimizer.state_dict()["state"] == {}
    assert len(one.optimizer.state) == 0
    for step in range(LATE + 2):
        one.step(step)
        late, never = one.parameters["late"], one.parameters["never"]
        assert (late in one.optimizer.state) <= (step >= LATE), (
            "state of a skipped parameter"
        )
        assert never not in one.optimizer.state
    moved = [name for name, p in one.parameters.items() if p.grad is not None]
    assert {"matrix", "late", "scalar", "sometimes"} <= {*moved}
    together = ([0, 1], [2, 3, 4]) if not has_lists(spec) else ([0], [1], [2], [4])
    for ranks in [] if changed and spec in SIZED else together:
        alike = [name for name in moved if one.parameters[name].ndim in ranks]
        keys = {frozenset(one.memory(name)) for name in alike}
        assert len(keys) <= 1, "parameters of these ranks have the same states"
    if "step" in one.memory("late"):
        counts = {name: float(one.memory(name)["step"]) for name in ("matrix", "late")}
        assert counts == {"matrix": LATE + 2, "late": 2}


# ---- groups and hypers


def stepped(spec: str, **given: Any) -> Side:
    """After twenty steps in which the learning rate falls, and what is called by hand is
    called.
    """
    one = side(load_optimizer(spec), torch.float64, **given)
    for step in range(20):
        one.step(step)
        for hook in rule_of(spec).on_calls:
            getattr(one.optimizer, hook.name)()
        for group in one.optimizer.param_groups:
            group["lr"] *= 0.95
    return one


@cache
def plainly_stepped(spec: str) -> Side:
    return stepped(spec)


@pytest.mark.parametrize(
    ("spec", "name"), [each for each in HYPERS if each[0] in ALONE]
)
def test_a_group_has_its_own_hyper(spec: str, name: str) -> None:
    """It equals an optimizer with this value, and the value makes a difference: to some
    parameter, or to what its state keeps for others to read.
    """
    skip_random(spec)
    needed, names = NEEDS.get((spec, name), {}), [*SHAPES]
    changed = {**needed, name: other(spec, hypers_of(spec)[name])}
    ours, apart = stepped(spec, groups=({}, changed)), stepped(spec, **changed)
    plain = plainly_stepped(spec)
    assert_same(ours.only(names[::2]), plain.only(names[::2]))
    assert_same(ours.only(names[1::2]), apart.only(names[1::2]))
    assert difference(apart, stepped(spec, **needed) if needed else plain)


@every_spec_alone
def test_a_group_can_be_added_later(spec: str) -> None:
    skip_random(spec)
    cls, names = load_optimizer(spec), [*SHAPES]
    ours, whole, later = side(cls), side(cls), side(cls, lr=0.05)
    first, second = ours.only(names[::2]), ours.only(names[1::2])
    optimizer = cls(first.parameters.values())
    ours = Side(ours.parameters, optimizer, ours.dtype).steps(0, 1)
    optimizer.add_param_group({"params": [*second.parameters.values()], "lr": 0.05})
    ours.steps(2, 3, 4)
    assert_same(ours.only(names[::2]), whole.steps(0, 1, 2, 3, 4).only(names[::2]))
    assert_same(ours.only(names[1::2]), later.steps(2, 3, 4).only(names[1::2]))


@every_spec_alone
@both
def test_two_equal_groups_are_one(spec: str, changed: bool) -> None:
    skip_random(spec)
    cls, hypers = load_optimizer(spec), others(spec) if changed else {}
    one, two = side(cls, **hypers), side(cls, groups=({}, {}), **hypers)
    assert_same(one.steps(*range(8)), two.steps(*range(8)))


@pytest.mark.parametrize(("spec", "name", "value", "allowed"), REFUSED)
def test_a_bad_value_is_refused_everywhere(
    spec: str, name: str, value: Any, allowed: str
) -> None:
    cls, p = load_optimizer(spec), Parameter(torch.ones(2, 2))
    optimizer = cls([p])
    more = {"params": [Parameter(torch.ones(2, 2))], name: value}
    for refused in (
        lambda: cls([p], **{name: value}),
        lambda: cls([{"params": [p], name: value}]),
        lambda: optimizer.add_param_group(more),
    ):
        with pytest.raises(ValueError) as error:
            refused()
        for said in (name, repr(value), allowed):
            assert said in str(error.value)
    assert len(optimizer.param_groups) == 1


@every_spec
@pytest.mark.parametrize("value", [float("nan"), None, "0.1"])
def test_a_learning_rate_that_is_no_number_is_refused(spec: str, value: Any) -> None:
    kind = ValueError if isinstance(value, float) else TypeError
    with pytest.raises(kind, match=f"lr.*{value}"):
        load_optimizer(spec)([Parameter(torch.ones(2, 2))], lr=value)


@every_spec
def test_an_unknown_option_is_refused(spec: str) -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        load_optimizer(spec)([Parameter(torch.ones(2, 2))], learning_rate=0.1)


# ---- steps


@every_spec
@both
def test_minimizing_the_negative_is_maximizing(spec: str, changed: bool) -> None:
    cls, hypers = load_optimizer(spec), others(spec) if changed else {}
    up, down = side(cls, maximize=True, **hypers), side(cls, **hypers)
    for step in range(8):
        up.step(step)
        down.step(step, torch.neg)
        assert_same(up, down, f"step {step}")


@every_spec
@both
def test_the_gradient_stays_as_it_was(spec: str, changed: bool) -> None:
    for maximize in (False, True):
        one = side(
            load_optimizer(spec), maximize=maximize, **others(spec) if changed else {}
        ).steps(0, 1)
        one.give(2)
        given = {name: p.grad for name, p in one.parameters.items()}
        given = {name: grad for name, grad in given.items() if grad is not None}
        assert {"matrix", "scalar", "transposed", "kernel"} <= {*given}
        bits = {name: grad.clone() for name, grad in given.items()}
        one.optimizer.step()
        for name, grad in given.items():
            assert one.parameters[name].grad is grad
            assert same_bits(grad, bits[name]), name


def scales_by_rate(spec: str) -> bool:
    """Whether the step reads lr; a state that starts as lr may move on by itself."""
    targets = of_library(spec).lowered
    return any(
        ref.name == "lr"
        for statement in (*targets.loop.prologue, *targets.loop.step)
        for ref in ir.reads(statement)
    )


def test_nearly_every_rule_scales_its_step_by_the_rate() -> None:
    assert sum(map(scales_by_rate, LIBRARY)) >= len(LIBRARY) - 1


@pytest.mark.parametrize(
    "spec",
    [
        each
        for each in LIBRARY
        if allows(hypers_of(each)["lr"], 0.0) and scales_by_rate(each)
    ],
)
def test_no_learning_rate_no_step(spec: str) -> None:
    still = side(load_optimizer(spec), lr=0.0)
    before = {name: p.detach().clone() for name, p in still.parameters.items()}
    still.steps(*range(5))
    assert all(
        same_bits(p.detach(), before[name]) for name, p in still.parameters.items()
    )


@every_spec
@both
def test_no_gradient_keeps_everything_finite(spec: str, changed: bool) -> None:
    one = side(load_optimizer(spec), **others(spec) if changed else {})
    for step in range(4):
        one.step(step, torch.zeros_like)
    for name, p in one.parameters.items():
        tensors = {"p": p, **one.memory(name)}
        for each in tensors.values():
            assert torch.as_tensor(each).isfinite().all(), name


@every_spec
def test_a_parameter_without_entries_takes_part(spec: str) -> None:
    one, p = side(load_optimizer(spec)), Parameter(torch.zeros(0, 3))
    one.step(0)
    grad = torch.zeros(0, 3, layout=one.parameters["matrix"].grad.layout)
    optimizer = load_optimizer(spec)([p])
    for _ in range(3):
        p.grad = grad.clone()
        optimizer.step()
    assert {*optimizer.state.get(p, {})} == {*one.memory("matrix")}


@every_spec
def test_a_step_runs_hooks_and_returns_the_loss(spec: str) -> None:
    one, calls = side(load_optimizer(spec)), []
    one.optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    one.optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    loss = torch.tensor(2.0)
    assert one.optimizer.step(lambda: calls.append("closure") or loss) is loss
    assert calls == ["before", "closure", "after"]
    assert one.optimizer.step() is None

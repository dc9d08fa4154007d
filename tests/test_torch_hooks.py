"""Hooks of an instance and of all optimizers: the calls that torch makes, in its order."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tests.parity import same_bits
from tests.torch_inputs import (
    TORCH,
    a_parameter,
    both_classes,
    every_class,
    on_each_side,
)

Calls = list[Any]
Classes = dict[str, type[Optimizer]]


@contextmanager
def global_hooks(calls: Calls) -> Iterator[None]:
    with ExitStack() as stack:
        for register, name in (
            (register_optimizer_step_pre_hook, "global pre"),
            (register_optimizer_step_post_hook, "global post"),
        ):
            handle = register(lambda *_, name=name: calls.append(name))
            stack.callback(handle.remove)
        yield


def recorded(cls: type[Optimizer], spec: str) -> tuple[Calls, Calls, Optimizer]:
    """An optimizer whose every kind of hook records itself, with what it was given."""
    calls: Calls = []
    given: Calls = []
    optimizer = cls([a_parameter(spec)])

    def hook(name: str) -> Any:
        def called(its: Optimizer, *args: Any) -> None:
            assert its is optimizer
            calls.append(name)
            given.append((name, [type(each) for each in args]))

        return called

    for kind in (
        "step_pre",
        "step_post",
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
    ):
        register = getattr(optimizer, f"register_{kind}_hook")
        register(hook(f"{kind} 1"))
        register(hook(f"{kind} 2"))
        if not kind.startswith("step"):
            register(hook(f"{kind} first"), prepend=True)
    return calls, given, optimizer


def life(cls: type[Optimizer], spec: str) -> tuple[Calls, Calls]:
    calls, given, optimizer = recorded(cls, spec)
    with global_hooks(calls):
        optimizer.step(lambda: calls.append("closure") or 1.0)
        optimizer.step(closure=lambda: calls.append("closure") or 1.0)
        optimizer.step()
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    optimizer.zero_grad()
    optimizer.step()
    return calls, given


@every_class
def test_every_hook_is_called_as_torch_calls_it(spec: str) -> None:
    (their_calls, their_given), (calls, given) = (
        life(cls, spec) for cls in both_classes(spec)
    )
    assert their_calls[:9] == [
        *("global pre", "step_pre 1", "step_pre 2", "closure"),
        *("step_post 1", "step_post 2", "global post", "global pre", "step_pre 1"),
    ]
    assert calls == their_calls
    assert given == their_given


@every_class
@on_each_side
def test_a_hook_that_is_removed_is_called_no_more(spec: str, classes: Classes) -> None:
    calls: Calls = []
    optimizer = classes[spec]([a_parameter(spec)])
    handles = [
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre")),
        optimizer.register_step_post_hook(lambda *_: calls.append("post")),
        optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved")),
    ]
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    optimizer.state_dict()
    assert calls == ["pre", "post"]


@every_class
@on_each_side
def test_a_hook_before_a_step_may_change_its_arguments(
    spec: str, classes: Classes
) -> None:
    optimizer = classes[spec]([a_parameter(spec)])
    optimizer.register_step_pre_hook(
        lambda its, args, kwargs: ((its, lambda: 7.0), kwargs)
    )
    assert optimizer.step() == 7.0
    assert optimizer.step(lambda: 1.0) == 7.0
    optimizer = classes[spec]([a_parameter(spec)])
    optimizer.register_step_pre_hook(lambda *_: "neither None nor a pair")
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


@every_class
@on_each_side
def test_a_hook_may_give_another_state_dict(spec: str, classes: Classes) -> None:
    def saved(its: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        return {**state_dict, "more": 1}

    def loaded(its: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        assert state_dict.pop("more") == 1
        changed = copy.deepcopy(state_dict)
        changed["param_groups"][0]["lr"] = 0.25
        return changed

    optimizer = classes[spec]([a_parameter(spec)])
    optimizer.step()
    optimizer.register_state_dict_post_hook(saved)
    optimizer.register_load_state_dict_pre_hook(loaded)
    given = optimizer.state_dict()
    assert given["more"] == 1
    optimizer.load_state_dict(given)
    assert given["more"] == 1, "the hook had a copy"
    assert optimizer.param_groups[0]["lr"] == 0.25


@every_class
@on_each_side
def test_hooks_see_the_parameters_before_and_after(spec: str, classes: Classes) -> None:
    p, seen = a_parameter(spec), []
    optimizer = classes[spec]([p], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append(p.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: seen.append(p.detach().clone()))
    before = p.detach().clone()
    optimizer.step()
    assert same_bits(seen[0], before)
    assert same_bits(seen[1], p.detach())
    assert not torch.equal(seen[0], seen[1])


@every_class
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_has_the_hooks_that_torch_leaves_it(spec: str, copied: Any) -> None:
    """None of an instance, those of all optimizers; and each step counts once."""
    counts = []
    for cls in both_classes(spec):
        calls: Calls = []
        optimizer = cls([a_parameter(spec)])
        optimizer.register_step_pre_hook(print)
        other = copied(optimizer)
        for p in other.param_groups[0]["params"]:
            p.grad = a_parameter(spec).grad
        with global_hooks(calls):
            other.step()
        counts.append((calls, len(other._optimizer_step_pre_hooks)))
    assert counts[0] == counts[1]


@every_class
@on_each_side
def test_the_profiler_sees_a_step_by_the_name_of_the_class(
    spec: str, classes: Classes
) -> None:
    optimizer = classes[spec]([a_parameter(spec)])
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
        optimizer.zero_grad()
    names = {event.name for event in profile.function_events}
    assert f"Optimizer.step#{TORCH[spec].__name__}.step" in names
    assert f"Optimizer.zero_grad#{TORCH[spec].__name__}.zero_grad" in names

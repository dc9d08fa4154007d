"""A step that takes the tables of the step before over: whatever happens to an optimizer
between two steps, kernels see it.

Each is held against the same optimizer without kernels, to which the same is done.
"""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors
from twins import CLOSE, Twins, give, parameters

from optdsl import from_string
from optdsl.runtime import by_cpp, objects
from optdsl.runtime.kernel import Kernel

SHAPES = ((5,), (3, 4), (2, 2), ())


@contextmanager
def repeated(of: Optimizer) -> Iterator[list[bool]]:
    """Of each step of an optimizer, whether it took all over from the one before."""
    found: list[bool] = []
    repeat = Kernel.repeat

    def watched(self: Kernel, optimizer: Any) -> list:
        left = repeat(self, optimizer)
        if optimizer is of:
            found.append(not left)
        return left

    with patch.object(Kernel, "repeat", watched):
        yield found


def nothing(optimizer: Optimizer, params: list[Parameter]) -> None:
    pass


def another_rate(optimizer: Optimizer, params: list[Parameter]) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.5


def another_beta_in_place(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0]["betas"][0] = 0.5


def another_rate_in_place(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0]["lr"].mul_(0.5)


def another_rate_tensor(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0]["lr"] = torch.tensor(0.5)


def a_rate_that_becomes_a_tensor(optimizer: Optimizer, params: list[Parameter]) -> None:
    """Of the other group, whose numbers were plain; it goes on changing in place."""
    group = optimizer.param_groups[1]
    group["lr"] = rate = torch.tensor(group["lr"])
    optimizer.register_step_post_hook(lambda *_: rate.mul_(0.5) and None)


def another_option(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0]["maximize"] = True


def another_state_is_wanted(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0]["amsgrad"] = True


def the_loop_is_asked_for(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups[0].update(fused=False, foreach=False)


def another_memory(optimizer: Optimizer, params: list[Parameter]) -> None:
    params[1].data = params[1].data.clone() * 2


def another_type(optimizer: Optimizer, params: list[Parameter]) -> None:
    for each in (params[1], *optimizer.state[params[1]].values()):
        each.data = each.data.double()


def across_its_memory(optimizer: Optimizer, params: list[Parameter]) -> None:
    params[2].data = params[2].data.t()


def another_state(optimizer: Optimizer, params: list[Parameter]) -> None:
    state = optimizer.state[params[1]]
    state["exp_avg"] = torch.full_like(state["exp_avg"], 0.25)


def a_state_elsewhere(optimizer: Optimizer, params: list[Parameter]) -> None:
    state = optimizer.state[params[1]]["exp_avg"]
    state.data = torch.full_like(state, 0.25)


def a_state_in_place(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.state[params[1]]["exp_avg"].fill_(0.25)


def states_begun_anew(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.state[params[1]].clear()
    del optimizer.state[params[0]]


def exchanged_states(optimizer: Optimizer, params: list[Parameter]) -> None:
    first, last = (optimizer.state[each] for each in (params[0], params[-1]))
    first["step"], last["step"] = torch.tensor(9.0), torch.tensor(2.0)


def loaded(optimizer: Optimizer, params: list[Parameter]) -> None:
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = torch.full_like(params[0], 0.25)
    optimizer.load_state_dict(saved)


def one_more_group(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.add_param_group({"params": [Parameter(torch.ones(3))], "lr": 0.5})


def a_parameter_that_left(optimizer: Optimizer, params: list[Parameter]) -> None:
    del optimizer.param_groups[0]["params"][1]


def a_parameter_of_the_other_group(
    optimizer: Optimizer, params: list[Parameter]
) -> None:
    here, there = (group["params"] for group in optimizer.param_groups)
    there.insert(0, here.pop())


def groups_in_another_order(optimizer: Optimizer, params: list[Parameter]) -> None:
    optimizer.param_groups.reverse()


HAPPENINGS: dict[Callable, bool] = {
    nothing: True,
    another_rate: True,
    another_beta_in_place: True,
    another_rate_in_place: True,
    a_state_in_place: True,
    a_rate_that_becomes_a_tensor: True,
    another_rate_tensor: False,
    another_option: False,
    another_state_is_wanted: False,
    the_loop_is_asked_for: False,
    another_memory: False,
    another_type: False,
    across_its_memory: False,
    another_state: False,
    a_state_elsewhere: False,
    states_begun_anew: False,
    exchanged_states: False,
    loaded: False,
    one_more_group: False,
    a_parameter_that_left: False,
    a_parameter_of_the_other_group: False,
    groups_in_another_order: False,
}
"""What happens, and whether the step behind it is still one of the same tables."""


def in_groups(twins: Twins) -> Twins:
    """The last parameter in a group of its own, with another decay: another launch."""
    for optimizer, params in twins.sides:
        optimizer.param_groups[0]["params"].pop()
        more = {"weight_decay": 0.0, "lr": 0.05}
        optimizer.add_param_group({"params": params[-1:], **more})
        optimizer.param_groups[0]["betas"] = [0.9, 0.99]
        optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
    return twins


@pytest.fixture(params=["C++", "Python"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks where tensors are and what is in dicts."""
    if request.param == "Python":
        monkeypatch.setattr(by_cpp, "asked", lambda: None)
    else:
        by_cpp.asked.cache_clear()  # another test may have had no compiler
        assert by_cpp.asked() is not None


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("happens", HAPPENINGS, ids=lambda each: each.__name__)
def test_whatever_happens_between_two_steps_is_seen(happens: Callable) -> None:
    twins = in_groups(Twins("adamw", lambda: parameters(*SHAPES), lr=0.1))
    with repeated(twins.fused) as found:
        for number in range(3):
            twins.step(number)
        assert found == [False, True, True]
        for optimizer, params in twins.sides:
            happens(optimizer, params)
        for number in range(3, 6):
            twins.step(number)
        assert found[3] == HAPPENINGS[happens]
    twins.assert_close()


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_gradient_that_is_missing_or_comes_late(number: int) -> None:
    twins = in_groups(Twins("adamw", lambda: parameters(*SHAPES), lr=0.1))
    with repeated(twins.fused) as found:
        for step in range(8):
            for optimizer, params in twins.sides:
                give(params, step)
                if step not in (3, 4):
                    params[number].grad = None
                optimizer.step()
    assert found == [False, True, True, False, True, False, True, True]
    twins.assert_close()


class Kind(Tensor):
    """Of whoever else has a kind of tensor of their own."""


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    "change",
    [
        lambda grad: grad.t().contiguous().t(),
        lambda grad: grad.to_sparse().to_dense(),
        lambda grad: grad.clone().set_(torch.empty(4, 3).normal_().t().contiguous()),
        lambda grad: torch.nn.Parameter(grad),
        lambda grad: grad.as_subclass(Kind),
    ],
)
def test_gradients_are_looked_at_in_each_step(
    change: Callable[[Tensor], Tensor],
) -> None:
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    for step in range(6):
        for optimizer, params in twins.sides:
            give(params, step)
            if step == 4:
                torch.manual_seed(0)
                params[1].grad = change(params[1].grad).detach()
            optimizer.step()
    twins.assert_close()


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_gradients_that_are_the_negative_of_what_is_in_memory(
    dtype: torch.dtype,
) -> None:
    twins = Twins("adamw", lambda: parameters((1,), dtype=dtype), lr=0.1)
    with repeated(twins.fused) as found:
        for step in range(5):
            for optimizer, params in twins.sides:
                give(params, step)
                if step == 3:
                    params[0].grad = torch._neg_view(params[0].grad)
                optimizer.step()
    assert found == [False, True, True, False, False]
    twins.assert_close()


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("of", ["param", "grad", "state"])
def test_memory_that_was_given_up(of: str) -> None:
    """By the gradients of a step, or by what it had of the one before."""
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    for step in range(3):
        twins.step(step)
    p, kernel = twins.params[1], sys.modules[type(twins.fused).__module__]._KERNELS
    plan = kernel.plans[twins.fused]
    assert plan.is_same(twins.fused, kernel)
    tensors = {"param": p, "grad": p.grad, "state": twins.fused.state[p]["exp_avg"]}
    tensors[of].untyped_storage().resize_(0)
    assert not plan.is_same(twins.fused, kernel)


class Fails(TorchFunctionMode):
    """Fails where a gradient is asked for."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func == Tensor.grad.__get__:
            raise KeyError("no gradient today")
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("asked")
def test_what_python_raises_for_a_gradient_is_raised() -> None:
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    for step in range(3):
        twins.step(step)
    with Fails(), pytest.raises(KeyError, match="no gradient today"):
        twins.fused.step()


@pytest.mark.parametrize("name", ["_known", "_are_right", "_has_handle"])
def test_where_torch_is_not_what_it_was_python_asks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_cpp, name, lambda *_: None)
    assert by_cpp.asked.__wrapped__() is None


@pytest.mark.parametrize(
    "name",
    ["adafactor", "came", "sgd", "prodigy", "adopt", "lars", "tiger", "asgd"],
)
def test_every_kind_of_rule_takes_its_tables_over(name: str) -> None:
    """The first step of some is another one, and what the host looks up is known."""
    twins = Twins(name, lambda: parameters(*SHAPES[:-1]))
    with repeated(twins.fused) as found:
        for number in range(5):
            twins.step(number)
    assert found[2:] == [True] * 3
    twins.assert_close()


PARTLY = """
optimizer Partly
hyper lr = 0.1
state m = 0
step:
    huge = 1e307*t  # infinite from t = 18 on, where kernels leave it to Python
    m = lerp(m, grad, 0.5)
    p -= lr*m*(1 + 1/huge)
"""


def test_a_part_of_a_group_that_is_left_is_updated_once() -> None:
    cls = from_string(PARTLY, "partly.opt")
    params, others = (
        [*parameters(3), *parameters(4, dtype=torch.float64)] for _ in range(2)
    )
    fused, plain = cls(params, fused=True), cls(others, foreach=False)
    sides = (fused, params), (plain, others)
    with repeated(fused) as found:
        for number in range(6):
            for optimizer, each in sides:
                if number == 3:
                    optimizer.state[each[1]]["step"].fill_(19)
                give(each, number)
                optimizer.step()
    assert found == [False, True, True, False, False, False]
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)
        assert fused.state[mine]["step"] == plain.state[other]["step"]


def test_kernels_are_turned_off_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTDSL_FUSED", "1")
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    twins.fused.param_groups[0]["fused"] = None
    with repeated(twins.fused) as found:
        for number in range(8):
            monkeypatch.setenv("OPTDSL_FUSED", "0" if number in (3, 4) else "1")
            twins.step(number)
    assert found == [False, True, True, False, False, False, True, True]
    twins.assert_close()


def test_a_step_that_is_taken_over_keeps_no_gradient_alive() -> None:
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    for number in range(3):
        twins.step(number)
    grads = [weakref.ref(p.grad) for p in twins.params]
    twins.fused.zero_grad(set_to_none=True)
    gc.collect()
    assert not any(each() is not None for each in grads)


@pytest.mark.usefixtures("asked")
def test_where_tensors_begin() -> None:
    column = [torch.ones(3), None, torch.ones(2, 2)[1]]
    where = [each if each is None else each.data_ptr() for each in column]
    assert [*objects.addresses(column)] == [where[0], 0, where[2]]
    assert [*objects.addresses((*column, torch.empty(0)))][3] == 0
    with pytest.raises(RuntimeError):
        objects.addresses([torch.ones(3), torch.ones(2).to_sparse()])


@pytest.mark.usefixtures("asked")
def test_what_was_replaced_in_dicts() -> None:
    first, second = object(), object()
    dicts = [{"a": first}, {}, {"b": second, "c": None}]
    known = objects.Dicts(dicts)
    assert known.replaced() == []
    dicts[0]["a"], dicts[2]["c"] = second, first
    assert known.replaced() == [(0, "a", first, second), (2, "c", None, first)]
    assert known.replaced() == []
    dicts[1]["d"] = first
    assert known.replaced() is None
    del dicts[1]["d"]
    assert known.replaced() == []
    dicts[2]["b"] = dicts[2].pop("b")
    assert known.replaced() is None
    del dicts[2]["b"]
    assert known.replaced() is None


def test_a_sparse_state_is_left_to_others() -> None:
    """It begins nowhere, which only torch's own function says, by an exception."""
    cls = from_string(PARTLY, "partly.opt")
    params = parameters(3, 4)
    optimizer = cls(params, fused=True)
    for number in range(3):
        give(params, number)
        optimizer.step()
    swap_tensors(optimizer.state[params[0]]["m"], torch.zeros(3).to_sparse())
    with repeated(optimizer) as found, pytest.raises(NotImplementedError):
        optimizer.step()
    assert found == [False]


def test_a_state_that_is_no_dict() -> None:
    """Of whoever else keeps something there."""
    twins = Twins("adamw", lambda: parameters(*SHAPES), lr=0.1)
    for optimizer, _ in twins.sides:
        optimizer.state["steps"] = [0]
    for number in range(3):
        twins.step(number)
    twins.assert_close()

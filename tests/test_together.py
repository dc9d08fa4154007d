"""Rules whose parameters step together: reductions over a group and over the model, and
states of both.
"""

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import Parameter

from optdsl import from_string, load_optimizer
from tests.library import TOGETHER, rule_of
from tests.parity import pair, side, spec
from tests.small_model import in_halves, small_model, train
from tests.test_torch_checkpoint import free_port

every_rule = pytest.mark.parametrize("name", TOGETHER)
both_ways = pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])


def made(body: str, *declarations: str) -> type[torch.optim.Optimizer]:
    return from_string(spec(body, *declarations))


def values(*params: Parameter) -> list[Tensor]:
    return [each.detach().clone() for each in params]


# ---- reductions

NUMBERS = {
    "sum(grad, over=model)": 7.7,
    "mean(grad, over=model)": 7.7 / 4,
    "norm(grad, over=model)": (25 + 0.25) ** 0.5,
    "max(grad, over=model)": 4.0,
    "min(abs(grad), over=model)": 0.3,
    "dot(grad, p, over=model)": 3 + 8 + 0.9 - 0.4,
    "sum(norm(grad), over=model)": 5.5,
    "sum(numel(p), over=model)": 4,
    "max(lr, over=model)": 0.5,
    "sum(grad, over=group)": None,
    "where(any(grad > 3.5, over=model), 3, 0)": 3,
    "where(all(grad < 3.5, over=model), 3, 1)": 1,
}


@both_ways
@pytest.mark.parametrize("written", NUMBERS)
def test_a_reduction_is_over_all_parameters(written: str, foreach: bool) -> None:
    """Two groups of one parameter each; over the group, each has its own."""
    one, two = pair()
    before = values(one, two)
    cls = made(f"step: found = {written}; p -= lr*found")
    cls([{"params": [one]}, {"params": [two]}], foreach=foreach).step()
    found = [NUMBERS[written]] * 2 if NUMBERS[written] is not None else [7.0, 0.7]
    for p, start, number in zip((one, two), before, found, strict=True):
        torch.testing.assert_close(p.detach(), start - 0.5 * number)


@both_ways
def test_what_comes_before_has_run_for_all(foreach: bool) -> None:
    """The second parameter has its momentum when the first reads the sum of both."""
    one, two = pair()
    body = "step:\n    m += grad\n    total = sum(m, over=model)\n    p -= lr*total*m"
    optimizer = made(body, "state m = 0")([one, two], foreach=foreach)
    start = values(one)[0]
    optimizer.step()
    optimizer.step()
    expected = start - 0.5 * (7.7 + 2 * 2 * 7.7) * one.grad
    torch.testing.assert_close(one.detach(), expected)


@both_ways
def test_a_hook_clips_as_torch_does(foreach: bool) -> None:
    body = "pre_step clip:\n    total = norm(grad, over=model)\n"
    body += "    grad *= min(1, 1.5/(total + 1e-6))\nstep: p -= lr*grad"
    (ours, mine), (theirs, its) = pair(), pair()
    given = values(ours.grad, mine.grad)
    made(body)([ours, mine], foreach=foreach).step()
    torch.nn.utils.clip_grad_norm_([theirs, its], 1.5)
    torch.optim.SGD([theirs, its], lr=0.5).step()
    for one, other in ((ours, theirs), (mine, its)):
        torch.testing.assert_close(one, other)
    assert torch.equal(ours.grad, given[0]) and torch.equal(mine.grad, given[1])


def test_a_hook_without_gradients_does_nothing() -> None:
    body = "pre_step clip:\n    grad /= norm(grad, over=model)\nstep: p -= lr*grad"
    p = Parameter(torch.ones(2))
    optimizer = made(body)([p])
    optimizer.clip()
    optimizer.step()
    assert torch.equal(p, torch.ones(2)) and not optimizer.state


def test_parts_of_several_precisions_are_put_together() -> None:
    half = Parameter(torch.ones(4, dtype=torch.bfloat16))
    double = Parameter(torch.ones(4, dtype=torch.float64))
    half.grad, double.grad = torch.ones_like(half), 1e-9 * torch.ones_like(double)
    made("step: p -= lr*norm(grad, over=model)")([half, double]).step()
    torch.testing.assert_close(half.float(), torch.zeros(4))
    assert torch.allclose(double, torch.zeros(4, dtype=torch.float64), atol=1e-12)


# ---- states

GROWING = made(
    "step:\n    seen += 1\n    total += sum(abs(grad), over=group)\n"
    "    p -= lr*seen*grad/total",
    "state seen: model = 0",
    "state total: group = 1",
)


@both_ways
def test_groups_and_the_model_have_numbers_of_their_own(foreach: bool) -> None:
    one, two = pair()
    optimizer = GROWING([{"params": [one]}, {"params": [two]}], foreach=foreach)
    for _ in range(3):
        optimizer.step()
    first, second = optimizer.param_groups
    assert first["seen"] is second["seen"] and float(first["seen"]) == 3
    assert float(first["total"]) == 1 + 3 * 7
    assert float(second["total"]) == pytest.approx(1 + 3 * 0.7)


def test_a_group_without_gradient_does_not_step() -> None:
    one, two = pair()
    two.grad = None
    optimizer = GROWING([{"params": [one]}, {"params": [two]}])
    optimizer.step()
    assert float(optimizer.param_groups[1]["total"]) == 1


def test_a_group_that_is_added_shares_what_the_model_has() -> None:
    one, two = pair()
    optimizer = GROWING([one])
    optimizer.step()
    optimizer.add_param_group({"params": [two]})
    optimizer.step()
    first, second = optimizer.param_groups
    assert first["seen"] is second["seen"] and float(first["seen"]) == 2
    assert float(second["total"]) == pytest.approx(1.7)


@pytest.mark.parametrize(
    "name", [name for name in TOGETHER if any(s.shared for s in rule_of(name).states)]
)
def test_what_was_loaded_is_one_number_again(name: str) -> None:
    cls, groups = load_optimizer(name), ({}, {"lr": 0.05})
    ours = side(cls, groups=groups).steps(0, 1)
    theirs = side(cls, groups=groups)
    theirs.optimizer.load_state_dict(copy.deepcopy(ours.optimizer.state_dict()))
    theirs.steps(2)
    first, second = theirs.optimizer.param_groups
    kept = [key for key, value in first.items() if isinstance(value, Tensor)]
    assert kept and all(first[key] is second[key] for key in kept)


@every_rule
def test_two_equal_groups_are_one_but_for_the_order_of_sums(name: str) -> None:
    cls = load_optimizer(name)
    one = side(cls, torch.float64).steps(*range(8))
    two = side(cls, torch.float64, groups=({}, {})).steps(*range(8))
    for key, p in one.parameters.items():
        torch.testing.assert_close(p, two.parameters[key], rtol=1e-12, atol=1e-12)


@every_rule
def test_a_new_optimizer_gives_its_state_and_forgets_the_step(name: str) -> None:
    """torch.distributed.checkpoint steps a new optimizer to see its state."""
    model = torch.nn.Linear(3, 2)
    plain = copy.deepcopy(model)
    optimizers = [load_optimizer(name)(each.parameters()) for each in (model, plain)]
    saved = get_optimizer_state_dict(model, optimizers[0])
    assert all(key in saved["param_groups"][0] for key in ("lr", "params"))
    for each, optimizer in zip((model, plain), optimizers, strict=True):
        each(torch.ones(3)).sum().backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@every_rule
def test_a_distributed_checkpoint_goes_on(name: str) -> None:
    cls, inputs = load_optimizer(name), torch.linspace(0, 1, 3)

    def stepped(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()

    model = torch.nn.Linear(3, 2)
    optimizer = cls(model.parameters())
    stepped(model, optimizer)
    other = copy.deepcopy(model)
    resumed = cls(other.parameters())
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    set_optimizer_state_dict(other, resumed, saved)
    for _ in range(3):
        stepped(model, optimizer)
        stepped(other, resumed)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Each has half of every parameter, saves, loads and goes on; to round-off, since the
    halves of a sum are added in another order.
    """
    mp.spawn(in_halves, (free_port(), dict.fromkeys(TOGETHER, {}), str(tmp_path)), 2)
    for name in TOGETHER:
        model = small_model()
        train((model, load_optimizer(name)(model.parameters())), *range(5))
        saved = torch.load(tmp_path / f"{name}.pt")
        for key, p in model.named_parameters():
            torch.testing.assert_close(saved[key].detach(), p.detach())


# ---- hypers of the model


def test_a_hyper_of_the_model_is_the_same_in_all_groups() -> None:
    one, two = pair()
    cls = load_optimizer("prodigy")
    with pytest.raises(ValueError, match="d_coef.*same in all groups"):
        cls([{"params": [one]}, {"params": [two], "d_coef": 2.0}])
    optimizer = cls([one], d_coef=1.0)
    optimizer.param_groups[0]["d_coef"] = 2.0
    optimizer.add_param_group({"params": [two], "lr": 0.5})
    assert [group["d_coef"] for group in optimizer.param_groups] == [2.0, 2.0]
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5]


def test_a_hyper_that_a_state_of_the_model_starts_from_is_the_same_too() -> None:
    one, two = pair()
    groups = [{"params": [one]}, {"params": [two], "b0": 0.5}]
    with pytest.raises(ValueError, match="b0.*same in all groups"):
        load_optimizer("adagrad_norm")(groups)


def test_a_hyper_that_decides_what_the_model_reduces_is_the_same_too() -> None:
    one, two = pair()
    body = "step:\n    if heavy: grad /= norm(grad, over=model)\n    p -= lr*grad"
    groups = [{"params": [one]}, {"params": [two], "heavy": True}]
    with pytest.raises(ValueError, match="heavy.*same in all groups"):
        made(body, "hyper heavy = false")(groups)


# ---- options


@every_rule
def test_autograd_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(RuntimeError, match="its parameters step together"):
        load_optimizer(name)([Parameter(torch.ones(2))], differentiable=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@every_rule
def test_a_step_compiles_and_computes_the_same(name: str) -> None:
    torch._dynamo.reset()
    ours, theirs = pair(), pair()
    eager, compiled = (load_optimizer(name)(each) for each in (ours, theirs))
    step = torch.compile(lambda: compiled.step(), backend="eager")
    for _ in range(4):
        eager.step()
        step()
    torch._dynamo.reset()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("clips", [False, True])
def test_a_hook_goes_on_behind_a_reduction_that_its_hypers_leave_out(
    clips: bool,
) -> None:
    text = """optimizer Guarded
hyper lr = 0.1
hyper clips = true
pre_step scale:
    if clips: size = norm(grad, over=model)
    else: size = as_tensor(2)
    grad /= size
step: p -= lr*grad
"""
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    from_string(text)([p], clips=clips).step()
    size = 5.0 if clips else 2.0
    torch.testing.assert_close(p.detach(), 1 - 0.1 * p.grad / size)

"""What hooks before the step keep and decide: their states, `calls`, and `skip`; and the
modifiers that are made of these, gradient accumulation and LookSAM.
"""

import copy
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optdsl import from_string, load_optimizer
from tests.library import LIBRARY

TARGETS = ({"foreach": False}, {"foreach": True}, {"fused": True})
on_targets = pytest.mark.parametrize("options", TARGETS, ids=str)
SHAPES = ((4, 3), (3,), (), (2, 3, 2))


def drawn(step: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step + 7)
    shapes = SHAPES
    return [torch.randn(each, generator=generator, dtype=dtype) for each in shapes]


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(each) for each in drawn(-1, dtype)]


def give(params: list[nn.Parameter], grads: list[Tensor]) -> None:
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad.clone()


def states(optimizer: Optimizer) -> Iterator[tuple[int, str, Tensor]]:
    for key, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if name != "gathered":
                yield key, name, torch.as_tensor(value)


def same(ours: Optimizer, theirs: Optimizer) -> None:
    """All parameters and all states of the rule have the same bits."""
    pairs = zip(ours.param_groups, theirs.param_groups, strict=True)
    for group, other in pairs:
        for p, q in zip(group["params"], other["params"], strict=True):
            assert torch.equal(p, q)
    expected = {(key, name): value for key, name, value in states(theirs)}
    found = {(key, name): value for key, name, value in states(ours)}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


def accepted(name: str) -> bool:
    """Whether a rule takes a step on all of the shapes, with dense gradients."""
    params = parameters()
    give(params, drawn(0))
    try:
        load_optimizer(name)(params, foreach=False).step()
    except (RuntimeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", LIBRARY)
def test_accumulating_is_a_step_with_the_mean(name: str) -> None:
    """Over every rule of the library: the same bits as the rule has with the mean of three
    gradients, in a step of its own.
    """
    if not accepted(name):
        pytest.skip("it takes other parameters or gradients")
    ours, theirs = parameters(), parameters()
    rule = load_optimizer(name, use=["accumulate(accumulate_steps=3)"])
    optimizer = rule(ours, foreach=False)
    beside = load_optimizer(name)(theirs, foreach=False)
    for each in (optimizer, beside):
        if "seed" in each.param_groups[0]:
            each.param_groups[0]["seed"] = 5
    for step in range(4):
        grads = [drawn(3 * step + at) for at in range(3)]
        for each in grads:
            give(ours, each)
            optimizer.step()
        give(theirs, [sum(each) / 3 for each in zip(*grads, strict=True)])
        beside.step()
        same(optimizer, beside)
        model = [p.grad for p in ours]
        assert all(map(torch.equal, model, grads[-1])), "the model's own are kept"


@on_targets
@pytest.mark.parametrize("name", ["adamw", "sgd", "prodigy", "nadam"])
def test_on_every_target_nothing_happens_in_between(name: str, options: dict) -> None:
    """A step that is skipped leaves parameters and states as they are, the count too; where
    the rule has made none yet, it makes none.
    """
    params = parameters(torch.float32)
    rule = load_optimizer(name, use=["accumulate(accumulate_steps=2)", "ema"])
    optimizer = rule(params, **options)
    for step in range(6):
        before = [p.detach().clone() for p in params]
        kept = {(key, what): each.clone() for key, what, each in states(optimizer)}
        give(params, drawn(step, torch.float32))
        optimizer.step()
        if step % 2:
            assert not any(map(torch.equal, params, before))
            continue
        assert all(map(torch.equal, params, before))
        after = {(key, what): each for key, what, each in states(optimizer)}
        assert after.keys() == kept.keys()
        assert all(torch.equal(each, kept[key]) for key, each in after.items())
    assert all(
        state["step"] == 3 for state in optimizer.state.values() if "step" in state
    )


def saved(optimizer: Optimizer, rule: type, params: list[nn.Parameter]) -> Optimizer:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded = rule([nn.Parameter(p.detach().clone()) for p in params])
    loaded.load_state_dict(torch.load(buffer))
    return loaded


@pytest.mark.parametrize("name", ["adamw", "sgd", "prodigy"])
@pytest.mark.parametrize("stop", range(1, 5))
def test_a_checkpoint_between_updates_goes_on(name: str, stop: int) -> None:
    """The sum, the count of its parts, and that the rule has not begun, are all saved; so
    are they by a copy.
    """
    params = parameters(torch.float32)
    rule = load_optimizer(name, use=["accumulate(accumulate_steps=3)"])
    optimizer = rule(params)
    for step in range(stop):
        give(params, drawn(step, torch.float32))
        optimizer.step()
    others = [saved(optimizer, rule, params), copy.deepcopy(optimizer)]
    for step in range(stop, stop + 4):
        for each in (optimizer, *others):
            give(each.param_groups[0]["params"], drawn(step, torch.float32))
            each.step()
        for each in others:
            same(each, optimizer)


def test_a_closure_is_run_and_its_loss_returned_in_a_skipped_step() -> None:
    (p,) = [nn.Parameter(torch.ones(3))]
    optimizer = load_optimizer("adamw", use=["accumulate"])([p])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert [optimizer.step(closure).item() for _ in range(4)] == [3.0] * 4
    assert not torch.equal(p, torch.ones(3))


def test_how_many_differs_from_group_to_group_and_is_refused() -> None:
    one, two = parameters()[:2]
    rule = load_optimizer("adamw", use=["accumulate"])
    with pytest.raises(ValueError, match="the same in all groups"):
        rule([{"params": [one]}, {"params": [two], "accumulate_steps": 2}])


def test_a_group_that_is_added_keeps_time_with_the_others() -> None:
    one, two = parameters()[:2]
    rule = load_optimizer("sgd", use=["accumulate(accumulate_steps=2)"])
    optimizer = rule([one], lr=1.0)
    one.grad = torch.ones_like(one)
    optimizer.step()
    optimizer.add_param_group({"params": [two]})
    before = two.detach().clone()
    two.grad = torch.ones_like(two)
    optimizer.step()
    torch.testing.assert_close(two, before - 0.5)
    assert {group["accumulate_calls"] for group in optimizer.param_groups} == {2}


def test_what_has_no_gradient_in_the_last_step_keeps_its_sum() -> None:
    one, two = parameters()[:2]
    optimizer = load_optimizer("sgd", use=["accumulate(accumulate_steps=2)"])(
        [one, two], lr=1.0
    )
    before = two.detach().clone()
    for has in (True, False, False, True):
        one.grad = torch.ones_like(one)
        two.grad = torch.ones_like(two) if has else None
        optimizer.step()
    torch.testing.assert_close(two, before - 1.0)


def test_sparse_gradients_are_refused_at_once() -> None:
    layer = nn.Embedding(5, 2, sparse=True)
    optimizer = load_optimizer("adamw", use=["accumulate"])(layer.parameters())
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="AdamW does not support sparse gradients"):
        optimizer.step()
    assert not optimizer.state[layer.weight]


def test_complex_parameters_are_pairs() -> None:
    p = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    q = nn.Parameter(p.detach().clone())
    ours = load_optimizer("adamw", use=["accumulate(accumulate_steps=2)"])([p])
    theirs = load_optimizer("adamw")([q])
    for step in range(4):
        p.grad = torch.full_like(p, complex(step + 1, -2.0))
        ours.step()
        if step % 2:
            q.grad = torch.full_like(q, complex(step + 0.5, -2.0))
            theirs.step()
    assert torch.equal(p, q)


# ---- LookSAM


class Task:
    """A network, what it is to learn, and a closure for it."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
        self.inputs = torch.randn(16, 4, dtype=dtype)
        self.targets = torch.randn(16, 2, dtype=dtype)
        self.calls = 0

    @property
    def params(self) -> list[nn.Parameter]:
        return [*self.net.parameters()]

    def backward(self) -> Tensor:
        self.calls += 1
        self.net.zero_grad()
        loss = (self.net(self.inputs) - self.targets).square().mean()
        loss.backward()
        return loss


def looksam_by_hand(
    task: Task, optimizer: Optimizer, step: int, kept: dict[int, Tensor], rho: float
) -> None:
    """Algorithm 1 of the paper: the second gradient in every third step, and the part of
    it that stands on the first one, as long as 0.7 of the gradient, in the others. That
    part is some per cent of what it is taken out of, so that digits are lost here.
    """
    task.backward()
    plain = [p.grad.clone() for p in task.params]
    if step % 3:
        for at, p in enumerate(task.params):
            p.grad += 0.7 * p.grad.norm() / (kept[at].norm() + 1e-12) * kept[at]
    else:
        total = torch.stack([each.norm() for each in plain]).norm()
        values = [p.detach().clone() for p in task.params]
        with torch.no_grad():
            for p, grad in zip(task.params, plain, strict=True):
                p += rho / (total + 1e-12) * grad
        task.backward()
        with torch.no_grad():
            for at, (p, value) in enumerate(zip(task.params, values, strict=True)):
                p.copy_(value)
                unit = plain[at] / (plain[at].norm() + 1e-12)
                cosine = (p.grad * unit).sum() / p.grad.norm()
                kept[at] = p.grad - p.grad.norm() * cosine * unit
    optimizer.step()


@on_targets
@pytest.mark.parametrize(
    ("spec", "theirs", "hypers"),
    [
        ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        ("adamw", torch.optim.AdamW, {"lr": 0.05}),
    ],
)
def test_looksam_steps_as_a_loop_by_hand(spec, theirs, hypers, options) -> None:
    ours, other = Task(), Task()
    rule = load_optimizer(spec, use=["looksam(looksam_steps=3, rho=0.1)"])
    optimizer = rule(ours.params, **hypers, **options)
    beside, kept = theirs(other.params, **hypers), {}
    for step in range(10):
        optimizer.step(ours.backward)
        looksam_by_hand(other, beside, step, kept, 0.1)
        for p, q in zip(ours.params, other.params, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
    assert ours.calls == other.calls == 14, "four steps of ten take two gradients"


def test_looksam_goes_on_from_a_checkpoint() -> None:
    task = Task(torch.float32)
    rule = load_optimizer("adamw", use=["looksam(looksam_steps=3)"])
    optimizer = rule(task.params)
    for _ in range(4):
        optimizer.step(task.backward)
    other = Task(torch.float32)
    other.net.load_state_dict(task.net.state_dict())
    loaded = rule(other.params)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(4):
        optimizer.step(task.backward)
        loaded.step(other.backward)
    assert all(map(torch.equal, task.params, other.params))


# ---- the language


def test_a_hook_counts_its_runs_by_hand_too() -> None:
    rule = from_string(
        "optimizer A\nhyper lr = 1.0\n"
        "pre_step warm_up: grad *= min(1, calls/4)\n"
        "step: p -= lr*grad\n"
    )
    p = nn.Parameter(torch.zeros(1))
    optimizer = rule([p])
    moved = []
    for _ in range(5):
        before = p.item()
        p.grad = torch.ones(1)
        optimizer.step()
        moved.append(before - p.item())
    assert moved == [0.25, 0.5, 0.75, 1.0, 1.0]
    p.grad = torch.full((1,), 2.0)
    optimizer.warm_up()
    assert optimizer.param_groups[0]["warm_up_calls"] == 6


def test_a_state_of_a_hook_and_of_the_step() -> None:
    """Nesterov's momentum as it was first written: the gradient is asked for ahead."""
    rule = from_string(
        "optimizer Ahead\nhyper lr = 0.5\nstate buf = 0\n"
        "pre_step look_ahead: p -= lr*0.5*buf\n"
        "step:\n    buf = 0.5*buf + grad\n    p -= lr*grad\n"
    )
    p = nn.Parameter(torch.zeros(1))
    optimizer = rule([p])
    expected, buf = 0.0, 0.0
    for step in range(3):
        p.grad = torch.full((1,), float(step + 1))
        optimizer.step()
        expected -= 0.25 * buf + 0.5 * (step + 1)
        buf = 0.5 * buf + step + 1
    assert p.item() == expected


def test_a_branch_that_skips_does_the_rest_of_it_first() -> None:
    rule = from_string(
        "optimizer Sometimes\nhyper lr = 1.0\n"
        "pre_step every_other:\n"
        "    if calls % 2 == 0:\n        p *= 0.5\n        skip\n"
        "    else:\n        grad *= 2\n"
        "step: p -= lr*grad\n"
    )
    p = nn.Parameter(torch.zeros(1))
    optimizer = rule([p])
    seen = []
    for _ in range(4):
        p.grad = torch.ones(1)
        optimizer.step()
        seen.append(p.item())
    assert seen == [-2.0, -1.0, -3.0, -1.5]


def test_hooks_behind_a_skip_do_not_run() -> None:
    rule = from_string(
        "optimizer Behind\nhyper lr = 1.0\n"
        "pre_step one:\n    if calls % 2 == 1: skip\n"
        "pre_step two: grad *= calls\n"
        "step: p -= lr*grad\n"
        "post_step three: p -= 1\n"
    )
    p = nn.Parameter(torch.zeros(1))
    optimizer = rule([p])
    for _ in range(4):
        p.grad = torch.ones(1)
        optimizer.step()
    assert p.item() == -(1 + 1) - (2 + 1)
    assert optimizer.one() is False and optimizer.one() is True


def test_a_rule_of_a_route_skips_for_itself(tmp_path: Path) -> None:
    gathering = (
        "optimizer Gathering\nhyper lr = 0.1\nuse accumulate(accumulate_steps=2)\n"
    )
    (tmp_path / "gathering.opt").write_text(gathering + "step: p -= lr*grad\n")
    route = "optimizer Both\nroute:\n    ndim(p) > 1 -> gathering\n    else -> adamw\n"
    (tmp_path / "both.opt").write_text(route)
    ours, theirs = parameters(), parameters()
    optimizer = load_optimizer(tmp_path / "both.opt")(ours)
    beside = [
        load_optimizer(tmp_path / "gathering.opt")([p for p in theirs if p.ndim > 1]),
        load_optimizer("adamw")([p for p in theirs if p.ndim <= 1]),
    ]
    for step in range(5):
        give(ours, drawn(step))
        give(theirs, drawn(step))
        optimizer.step()
        for each in beside:
            each.step()
        assert all(map(torch.equal, ours, theirs))

"""What works with an optimizer works with one that has several rules: schedulers, closures,
scalers, hooks and modes of its rules, autograd; and a step has one launch a rule.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from routed_block import (
    SPLIT,
    WAYS,
    alone,
    block,
    give,
    others,
    run,
    same,
)
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

from optdsl import from_string, load_optimizer
from optdsl.optim import MuonAdamW
from optdsl.runtime.launch import Launch


def test_a_scheduler_scales_the_rate_of_each_rule() -> None:
    one, two = block(), block()
    optimizer, both = MuonAdamW(one.named_parameters()), alone(two)
    factor = lambda step: 1 / (1 + step)  # noqa: E731
    schedulers = [LambdaLR(each, factor) for each in (optimizer, *both)]
    for step in range(5):
        give(one, step), give(two, step)
        for each in (optimizer, *both):
            each.step()
        for each in schedulers:
            each.step()
    assert same(one, two)
    assert [each["lr"] for each in optimizer.param_groups] == [
        0.02 * (1 / 6),
        3e-4 * (1 / 6),
    ]


def test_one_cycle_has_a_highest_rate_for_each_group() -> None:
    model = block()
    optimizer = MuonAdamW(model.named_parameters())
    scheduler = OneCycleLR(
        optimizer,
        max_lr=[0.1, 0.01],
        total_steps=5,
        pct_start=0.4,
        cycle_momentum=False,
    )
    seen = []
    for step in range(5):
        run(model, optimizer, steps=range(step, step + 1))
        seen.append([each["lr"] for each in optimizer.param_groups])
        if step < 4:
            scheduler.step()
    highest = [max(column) for column in zip(*seen, strict=True)]
    assert highest == pytest.approx([0.1, 0.01])


def test_a_closure_is_run_once_and_hooks_see_one_step() -> None:
    model = block()
    optimizer = MuonAdamW(model.named_parameters())
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    every = register_optimizer_step_pre_hook(lambda *_: seen.append("any"))

    def closure() -> Tensor:
        seen.append("closure")
        assert torch.is_grad_enabled()
        return give(model, 0)

    try:
        loss = optimizer.step(closure)
    finally:
        every.remove()
    assert torch.equal(loss, give(block(), 0))
    assert sorted(seen[:2]) == ["any", "before"] and seen[2:] == ["closure", "after"]


@pytest.mark.filterwarnings("ignore:no fused kernels")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("overflows", [False, True])
def test_a_scaler_takes_its_scale_out_of_all_gradients(
    way: str, overflows: bool
) -> None:
    one, two = block(), block()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6)
    optimizer = MuonAdamW(one.named_parameters(), **WAYS[way])
    for step in range(3):
        give(one, step)
        scaler.scale(torch.ones(()))
        for p in one.parameters():
            p.grad *= 2.0**6
        if overflows:
            one.norm.bias.grad[0] = torch.inf
        scaler.step(optimizer)
        scaler.update(2.0**6)
    if overflows:
        assert same(one, two)
        return
    run(two, MuonAdamW(two.named_parameters(), **WAYS[way]), steps=range(3))
    assert same(one, two)


def test_maximizing_is_minimizing_the_negative() -> None:
    one, two = block(), block()
    up = MuonAdamW(one.named_parameters(), maximize=True)
    down = MuonAdamW(two.named_parameters())
    for step in range(4):
        give(one, step), give(two, step)
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            q.grad = -p.grad
        up.step(), down.step()
    assert same(one, two)


def test_a_trial_step_makes_the_state_and_nothing_else() -> None:
    """torch.distributed.checkpoint steps so before it loads."""
    one, two = block(), block()
    optimizer = MuonAdamW(one.named_parameters())
    rates = [each["lr"] for each in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for p in one.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(optimizer.state[p] for p in one.parameters())
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    run(one, optimizer)
    run(two, MuonAdamW(two.named_parameters()))
    assert same(one, two)
    assert {int(optimizer.state[p]["step"]) for p in others(one)} == {5}


def test_a_distributed_checkpoint_is_loaded_by_names() -> None:
    one = block()
    optimizer = MuonAdamW(one.named_parameters(), muon={"lr": 0.1})
    run(one, optimizer)
    two = copy.deepcopy(one)
    saved = copy.deepcopy(get_optimizer_state_dict(one, optimizer))
    fresh = MuonAdamW([*two.named_parameters()][::-1])
    set_optimizer_state_dict(two, fresh, saved)
    assert fresh.param_groups[0]["param_names"] == ["down.weight", "up.weight"]
    assert [each["lr"] for each in fresh.param_groups] == [0.1, 3e-4]
    run(one, optimizer, steps=range(5, 8))
    run(two, fresh, steps=range(5, 8))
    assert same(one, two)


# ---- launches


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The functions of the kernels that are run."""
    seen: list[str] = []
    step = Launch.step

    def counted(self: Launch, batch: object) -> bool:
        seen.append(self.kernel.function)
        return step(self, batch)

    monkeypatch.setattr(Launch, "step", counted)
    yield seen


@pytest.mark.parametrize("groups", [1, 4])
def test_a_step_has_one_launch_for_each_rule(launches: list[str], groups: int) -> None:
    cls = from_string(SPLIT.format("lion(lr=0.01)", "adamw"))
    one, two = block(), block()
    dealt = [{"params": [*one.parameters()][at::groups]} for at in range(groups)]
    optimizer = cls(dealt, fused=True)
    run(one, optimizer)
    assert sorted(launches) == sorted(["step_lion", "step_adamw"] * 5)
    run(two, cls(two.parameters(), foreach=False))
    assert all(
        torch.allclose(p, q, rtol=1e-5, atol=1e-6)  # sums in another order
        for p, q in zip(one.parameters(), two.parameters(), strict=True)
    )


def test_two_lines_of_one_rule_share_a_launch(launches: list[str]) -> None:
    text = SPLIT.format("adamw(weight_decay=0.1)", "adamw(weight_decay=0.2)")
    model = block()
    optimizer = from_string(text)(model.parameters(), fused=True, adamw={"lr": 0.01})
    assert [each["weight_decay"] for each in optimizer.param_groups] == [0.1, 0.2]
    assert [each["lr"] for each in optimizer.param_groups] == [0.01, 0.01]
    run(model, optimizer)
    assert launches == ["step_adamw"] * 5


# ---- rules that have more than a step


def test_hooks_of_a_rule_are_methods_and_see_its_parameters() -> None:
    cls = from_string(SPLIT.format("l2decay(weight_decay=0.5, lr=0.5)", "sgd"))
    one = block()
    optimizer = cls(one.parameters())
    give(one, 0)
    optimizer.apply_weight_decay()
    for p, q in zip(one.parameters(), block().parameters(), strict=True):
        assert torch.equal(p, q * 0.75 if p.ndim == 2 else q)
    one, two = block(), block()
    run(one, cls(one.parameters()))
    decay = load_optimizer("l2decay")
    matrices = [p for p in two.parameters() if p.ndim == 2]
    vectors = [p for p in two.parameters() if p.ndim < 2]
    both = decay(matrices, lr=0.5, weight_decay=0.5), load_optimizer("sgd")(vectors)
    run(two, *both)
    assert same(one, two)


def test_modes_are_those_of_the_rules_that_have_them() -> None:
    cls = from_string(SPLIT.format("schedule_free_sgd", "sgd"))
    model = block()
    optimizer = cls(model.parameters())
    run(model, optimizer)
    trained = copy.deepcopy(model)
    optimizer.eval()
    with pytest.raises(RuntimeError, match="train mode"):
        optimizer.step()
    moved = [
        not torch.equal(p, q)
        for p, q in zip(model.parameters(), trained.parameters(), strict=True)
    ]
    assert moved == [p.ndim == 2 for p in model.parameters()]
    optimizer.train()
    run(model, optimizer, steps=range(5, 6))


def test_autograd_sees_through_a_step() -> None:
    cls = from_string(SPLIT.format("momentum(lr=0.1)", "gradient_descent(lr=0.2)"))
    rows = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    row = torch.ones(2, dtype=torch.float64, requires_grad=True)
    params = [rows.clone(), row.clone()]
    optimizer = cls(params, differentiable=True)
    for p in params:
        p.grad = 3 * p.detach()
        p.grad = torch.autograd.grad((1.5 * p * p).sum(), p, create_graph=True)[0]
    optimizer.step()
    sum(p.sum() for p in params).backward()
    assert torch.allclose(rows.grad, torch.full_like(rows, 1 - 0.1 * 3))
    assert torch.allclose(row.grad, torch.full_like(row, 1 - 0.2 * 3))

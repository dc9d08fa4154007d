"""Several rules in one optimizer: each parameter steps as with its rule alone, and what
one optimizer has, the whole has.
"""

import copy
import io
import json
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

from optdsl import OptdslError, compile_source, from_string, load, load_optimizer
from optdsl.cli import main
from optdsl.explain.routes import explain_route
from optdsl.find import find
from optdsl.optim import AdamW, Muon, MuonAdamW
from optdsl.pipeline import Routed, build
from optdsl.resources import routes
from optdsl.runtime.launch import Launch
from optdsl.source import Source
from optdsl.verify import verify
from optdsl.verify.outcome import FAIL

WAYS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
SPLIT = """
optimizer Split
route:
    ndim(p) >= 2 -> {}
    else -> {}
"""


class Block(nn.Module):
    """An embedding, a normalized layer with a nonlinearity, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 8)
        self.down = nn.Linear(8, 6)
        self.head = nn.Linear(6, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.down(torch.tanh(self.up(self.norm(x))))
        return self.head(x)


def block() -> Block:
    torch.manual_seed(3)
    return Block()


def give(model: nn.Module, step: int) -> Tensor:
    """Set the gradients of a step; the loss."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(11, (4, 5), generator=generator)
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    return loss.detach()


def run(model: nn.Module, *optimizers: Optimizer, steps: range = range(5)) -> None:
    for step in steps:
        give(model, step)
        for each in optimizers:
            each.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def hidden(model: nn.Module) -> list[Tensor]:
    return [model.up.weight, model.down.weight]


def others(model: nn.Module) -> list[Tensor]:
    return [
        p for p in model.parameters() if all(p is not each for each in hidden(model))
    ]


def alone(model: nn.Module, **options: object) -> tuple[Optimizer, Optimizer]:
    """What MuonAdamW is, by two optimizers."""
    muon = Muon(hidden(model), lr=0.02, weight_decay=0.01, **options)
    rest = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.01}
    return muon, AdamW(others(model), **rest, **options)


@pytest.mark.filterwarnings("ignore:no fused kernels")
@pytest.mark.parametrize("way", WAYS)
def test_each_parameter_steps_as_with_its_rule_alone(way: str) -> None:
    one, two = block(), block()
    run(one, MuonAdamW(one.named_parameters(), **WAYS[way]))
    run(two, *alone(two, **WAYS[way]))
    assert same(one, two) and not same(one, block())


def test_a_param_group_says_its_rule_and_the_hypers_of_it() -> None:
    model = block()
    optimizer = MuonAdamW(model.named_parameters(), muon={"lr": 0.1})
    muon, rest = optimizer.param_groups
    assert (muon["rule"], muon["lr"], muon["weight_decay"]) == ("muon", 0.1, 0.01)
    assert (rest["rule"], rest["lr"], rest["betas"]) == ("adamw", 3e-4, (0.9, 0.95))
    assert muon["param_names"] == ["up.weight", "down.weight"]
    assert all(p is q for p, q in zip(muon["params"], hidden(model), strict=True))
    assert "momentum" in muon and "momentum" not in rest
    assert not {"muon", "adamw"} & {*muon, *rest}


def test_what_a_group_says_goes_before_what_the_whole_says() -> None:
    model = block()
    given = {"lr": 0.5, "muon": {"momentum": 0.7}, "params": model.named_parameters()}
    optimizer = MuonAdamW([given], muon={"lr": 0.1, "momentum": 0.8})
    muon, rest = optimizer.param_groups
    assert (muon["lr"], muon["momentum"], rest["lr"]) == (0.5, 0.7, 0.5)


def test_a_group_that_says_its_rule_is_taken_as_it_is() -> None:
    model = block()
    every = [*model.parameters()]
    optimizer = MuonAdamW([{"params": every, "rule": "adamw"}])
    (group,) = optimizer.param_groups
    assert group["rule"] == "adamw" and len(group["params"]) == len(every)
    with pytest.raises(ValueError, match="Invalid rule: 'sgd'"):
        MuonAdamW([{"params": every, "rule": "sgd"}])


def test_without_names_it_says_so() -> None:
    with pytest.raises(ValueError, match="named_parameters"):
        MuonAdamW(block().parameters())


def test_a_route_that_asks_for_no_name_needs_none() -> None:
    one, two = block(), block()
    cls = from_string(SPLIT.format("sgd(lr=0.1)", "lion"))
    run(one, cls(one.parameters()))
    sgd, lion = load_optimizer("sgd"), load_optimizer("lion")
    matrices = [p for p in two.parameters() if p.ndim == 2]
    vectors = [p for p in two.parameters() if p.ndim < 2]
    run(two, sgd(matrices, lr=0.1), lion(vectors))
    assert same(one, two)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"muon": {"lr": -1.0}}, ValueError, "Invalid lr"),
        ({"adamw": {"betas": (0.9, 2.0)}}, ValueError, "Invalid betas"),
        ({"muon": {"rate": 1.0}}, TypeError, "muon has no hyperparameter 'rate'"),
        ({"sgd": {"lr": 1.0}}, TypeError, "sgd"),
        ({"fused": True, "foreach": True}, RuntimeError, "cannot be `True` together"),
    ],
)
def test_what_is_no_value_is_refused(given: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        MuonAdamW(block().named_parameters(), **given)


def test_a_group_that_is_refused_leaves_nothing_behind() -> None:
    model, more = block(), block()
    optimizer = MuonAdamW(model.named_parameters())
    named = [*more.named_parameters()]
    for wrong in ({"lr": -1.0}, {"muon": {"lr": -1.0}}, {"adamw": {"rate": 0.1}}):
        with pytest.raises((ValueError, TypeError)):
            optimizer.add_param_group({"params": named, **wrong})
        assert len(optimizer.param_groups) == 2
    with pytest.raises(ValueError, match="2D"):
        optimizer.add_param_group({"params": named, "rule": "muon"})
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": model.named_parameters()})
    with pytest.raises(ValueError, match="names"):
        optimizer.add_param_group({"params": [named[0], named[1][1]]})
    with pytest.raises(TypeError):
        optimizer.add_param_group({"params": {*model.parameters()}})
    with pytest.raises(TypeError):
        optimizer.add_param_group({"params": ["weights"]})
    assert len(optimizer.param_groups) == 2


def test_a_group_can_be_added_later() -> None:
    one, two, more, also = block(), block(), block(), block()
    optimizer = MuonAdamW(one.named_parameters())
    both = alone(two)
    run(one, optimizer)
    run(two, *both)
    given = {"params": more.named_parameters(), "lr": 0.01}
    optimizer.add_param_group(given)
    assert [each["rule"] for each in optimizer.param_groups] == ["muon", "adamw"] * 2
    assert given.keys() == {"params", "lr"}
    both[0].add_param_group({"params": hidden(also), "lr": 0.01})
    both[1].add_param_group({"params": others(also), "lr": 0.01})
    for step in range(5, 9):
        give(one, step), give(two, step), give(more, step + 9), give(also, step + 9)
        for each in (optimizer, *both):
            each.step()
    assert same(one, two) and same(more, also)


def test_a_group_without_parameters_is_one() -> None:
    optimizer = MuonAdamW(block().named_parameters())
    optimizer.add_param_group({"params": [], "param_names": []})
    assert [each["rule"] for each in optimizer.param_groups] == [
        "muon",
        "adamw",
        "adamw",
    ]


def test_a_name_is_asked_for_as_by_search() -> None:
    text = SPLIT.replace("ndim(p) >= 2", 'matches(name, "{0}")')
    asked = {
        r"^up\.": ["up.weight", "up.bias"],
        "[.]bias$": ["norm.bias", "up.bias", "down.bias", "head.bias"],
        "(?i)HEAD|é": ["head.weight", "head.bias"],
        "e{2}": [],
    }
    for pattern, names in asked.items():
        spec = (
            text.replace("{0}", pattern).replace("{}", "lion", 1).replace("{}", "sgd")
        )
        optimizer = from_string(spec)(block().named_parameters())
        found = [each for each in optimizer.param_groups if each["rule"] == "lion"]
        assert [name for each in found for name in each["param_names"]] == names


def test_embeddings_and_heads_are_for_adamw_and_what_sounds_like_them_is_not() -> None:
    hidden = (
        "encoder.layer.0.attention.output.dense.weight",
        "decoder.multihead_attn.out_proj.weight",
        "module.layers.3.mlp.up_proj.weight",
    )
    others = (
        "model.embed_tokens.weight",
        "_orig_mod.transformer.wte.weight",
        "module.lm_head.weight",
        "head.weight",
        "output.weight",
    )
    named = [(name, nn.Parameter(torch.ones(2, 2))) for name in (*others, *hidden)]
    muon, rest = MuonAdamW(named).param_groups
    assert (muon["rule"], muon["param_names"]) == ("muon", [*hidden])
    assert (rest["rule"], rest["param_names"]) == ("adamw", [*others])


# ---- what is kept


def roundtrip(optimizer: Optimizer) -> dict:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_saved_and_loaded_it_goes_on_with_the_same_bits() -> None:
    one = block()
    optimizer = MuonAdamW(one.named_parameters(), muon={"lr": 0.1})
    run(one, optimizer)
    two = copy.deepcopy(one)
    fresh = MuonAdamW(two.named_parameters())
    fresh.load_state_dict(roundtrip(optimizer))
    assert [each["lr"] for each in fresh.param_groups] == [0.1, 3e-4]
    run(one, optimizer, steps=range(5, 8))
    run(two, fresh, steps=range(5, 8))
    assert same(one, two)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_state_is_found_by_name_in_whatever_order(groups: int) -> None:
    one = block()
    optimizer = MuonAdamW(one.named_parameters(), adamw={"lr": 0.01})
    run(one, optimizer)
    two = copy.deepcopy(one)
    named = [*two.named_parameters()][::-1]
    dealt = [{"params": named[at::groups]} for at in range(groups)]
    fresh = MuonAdamW(dealt)
    fresh.load_state_dict(roundtrip(optimizer))
    pairs = dict(zip(two.parameters(), one.parameters(), strict=True))
    for group in fresh.param_groups:
        names = {id(p): name for name, p in two.named_parameters()}
        assert group["param_names"] == [names[id(p)] for p in group["params"]]
        assert group["lr"] == {"muon": 0.02, "adamw": 0.01}[group["rule"]]
    for p in two.parameters():
        kept = optimizer.state[pairs[p]]
        assert fresh.state[p].keys() == kept.keys() and kept
        assert all(torch.equal(fresh.state[p][key], kept[key]) for key in kept)
    run(one, optimizer, steps=range(5, 8))
    run(two, fresh, steps=range(5, 8))
    assert same(one, two)


def test_a_state_dict_of_other_parameters_is_refused() -> None:
    model = block()
    optimizer = MuonAdamW(model.named_parameters())
    saved = optimizer.state_dict()
    some = [(name, p) for name, p in model.named_parameters() if name != "head.bias"]
    with pytest.raises(ValueError, match=r"other parameters: head\.bias"):
        MuonAdamW(some).load_state_dict(saved)
    renamed = [(f"my.{name}", p) for name, p in model.named_parameters()]
    with pytest.raises(ValueError, match="other parameters"):
        MuonAdamW(renamed).load_state_dict(saved)


def test_a_state_dict_of_another_rule_is_refused() -> None:
    model = block()
    every = [*model.named_parameters()]
    saved = MuonAdamW([{"params": every, "rule": "adamw"}]).state_dict()
    with pytest.raises(ValueError, match="'adamw', and here 'muon'"):
        MuonAdamW(every).load_state_dict(saved)
    cls = from_string(SPLIT.format("sgd", "lion"))
    switched = from_string(SPLIT.format("lion", "sgd"))
    saved = cls(model.parameters()).state_dict()
    with pytest.raises(ValueError, match="has rule 'sgd', and here 'lion'"):
        switched(model.parameters()).load_state_dict(saved)


def test_parameters_of_one_name_are_told_by_their_places() -> None:
    one = block()
    optimizer = MuonAdamW([("w", p) for p in one.parameters()])
    run(one, optimizer)
    two = copy.deepcopy(one)
    fresh = MuonAdamW([("w", p) for p in two.parameters()])
    fresh.load_state_dict(roundtrip(optimizer))
    run(one, optimizer, steps=range(5, 7))
    run(two, fresh, steps=range(5, 7))
    assert same(one, two)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_goes_on_with_the_same_bits(copied: Callable) -> None:
    one = block()
    optimizer = MuonAdamW(one.named_parameters(), muon={"momentum": 0.8})
    run(one, optimizer)
    two, other = copied((one, optimizer))
    assert all(other.state[p] for p in two.parameters())
    run(one, optimizer, steps=range(5, 8))
    run(two, other, steps=range(5, 8))
    assert same(one, two)
    other.add_param_group({"params": block().named_parameters()})
    assert other.param_groups[2]["momentum"] == 0.8


def test_it_is_freed_without_the_garbage_collector() -> None:
    import gc
    import weakref

    model = block()
    optimizer = MuonAdamW(model.named_parameters())
    run(model, optimizer)
    gone = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert gone() is None
    finally:
        gc.enable()


# ---- what drives it


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


PAIRS = [
    ("nadam", "adamw"),  # a number for each parameter
    ("prodigy", "dadapt_sgd"),  # numbers of the model
    ("sophia", "sgdp"),  # a hook that is called
    ("sgld", "lion"),  # random numbers
    ("adafactor", "adafactor(lr=0.1)"),  # twice the same
    ("sgd_sai", "rprop"),
    ("soap", "adopt"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_rules_of_every_kind_go_on_after_a_checkpoint(pair: tuple[str, str]) -> None:
    cls = from_string(SPLIT.format(*pair))
    one = block().double()
    optimizer = cls(one.named_parameters())
    run(one, optimizer)
    two = copy.deepcopy(one)
    fresh = cls([*two.named_parameters()])
    fresh.load_state_dict(roundtrip(optimizer))
    third, other = copy.deepcopy((one, optimizer))
    for model, each in ((one, optimizer), (two, fresh), (third, other)):
        torch.manual_seed(0)
        run(model, each, steps=range(5, 8))
    assert same(one, two) and same(one, third)
    assert all(torch.isfinite(p).all() for p in one.parameters())


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_no_line_is_longer_than_88_columns(pair: tuple[str, str]) -> None:
    text = compile_source(SPLIT.format(*pair))
    assert [line for line in text.splitlines() if len(line) > 88] == []


def test_a_number_of_a_parameter_keeps_its_precision_on_load() -> None:
    cls = from_string(SPLIT.format("nadam", "sgd"))
    model = block().bfloat16()
    optimizer = cls(model.named_parameters())
    run(model, optimizer)
    fresh = cls(model.named_parameters())
    fresh.load_state_dict(roundtrip(optimizer))
    for p in model.parameters():
        if p.ndim == 2:
            assert fresh.state[p]["mu_product"] == optimizer.state[p]["mu_product"]
            assert fresh.state[p]["mu_product"].dtype == torch.float32


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


# ---- files


def test_a_rule_may_be_a_file_beside_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "build", build)  # and not what was built before
    own = "optimizer Own\nhyper lr = 0.5\nuse clip_value(max_value=0.1)\nstep: p -= lr*grad\n"
    (tmp_path / "own.opt").write_text(own)
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own(lr=0.25)", "sgd"))
    cls = load_optimizer(spec)
    one = block()
    optimizer = cls(one.parameters())
    assert optimizer.param_groups[0]["lr"] == 0.25
    run(one, optimizer)
    carried = pickle.dumps((one, optimizer))
    assert cls is type(pickle.loads(carried)[1])
    (tmp_path / "carried").write_bytes(carried)
    (tmp_path / "own.opt").write_text(own.replace("0.1", "0.2"))
    assert load_optimizer(spec) is not cls
    (tmp_path / "own.opt").unlink()
    code = (
        "import pickle, torch, test_route; "
        f"_, o = pickle.loads(open({str(tmp_path / 'carried')!r}, 'rb').read()); "
        "o.step(); print(type(o).__name__, o.param_groups[0]['lr'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "Split 0.25\n"


def test_what_the_rules_have_alike_stands_there_once() -> None:
    text = build(find("muon_adamw")).python
    for name in ("_check_number", "_alike", "_check_capturable"):
        assert text.count(f"def {name}(") == 1
    for name in ("_check_hypers_muon", "_check_hypers_adamw", "_single_tensor_muon"):
        assert text.count(f"def {name}(") == 1
    assert "import optdsl" not in text


def test_names_of_two_rules_that_clash_are_told_apart(tmp_path: Path) -> None:
    """One class name, one def with two meanings, and a def called as a function here."""
    for name, factor in ("a", 2), ("b", 3):
        (tmp_path / f"{name}.opt").write_text(
            f"optimizer Same\nhyper lr = 0.1\ndef Same(x) = {factor}*x\n"
            "def line(x) = x\nstep: p -= lr*line(Same(grad))\n"
        )
    spec = tmp_path / "both.opt"
    spec.write_text(SPLIT.format("a", "b"))
    one, two = block(), block()
    run(one, load_optimizer(spec)(one.parameters()), steps=range(1))
    give(two, 0)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        moved = q - 0.1 * (2 if q.ndim == 2 else 3) * q.grad
        assert torch.allclose(p, moved, rtol=1e-6, atol=1e-7)


def test_the_library_s_routes_are_right() -> None:
    assert [*routes()] == ["muon_adamw"]
    for name in routes():
        report = verify(name)
        assert [row for row in report.rows if row.outcome == FAIL] == []
    assert load_optimizer("MuonAdamW") is MuonAdamW


def test_the_command_line_knows_routes(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "muon_adamw" in said("list") and "MuonAdamW" in said("list")
    said("check", "muon_adamw")
    said("compile", "muon_adamw", "-o", str(tmp_path / "it.py"))
    said("compile", "--check", "muon_adamw", "-o", str(tmp_path / "it.py"))
    assert "class MuonAdamW(Optimizer)" in said("show", "muon_adamw")
    assert "route:" in said("show", "muon_adamw", "--stage", "spec")
    assert "Case\n" in said("show", "muon_adamw", "--stage", "tree")
    foreach = said("show", "muon_adamw", "--stage", "foreach")
    assert "_multi_tensor_muon" in foreach and "_multi_tensor_adamw" in foreach
    page = said("explain", "muon_adamw")
    assert "else -> adamw(lr=3e-4" in page
    assert "- muon -" in page and "- adamw -" in page and "second moment" in page
    made = json.loads(said("explain", "muon_adamw", "--json"))
    assert [*made["rules"]] == ["muon", "adamw"] and len(made["route"]) == 2
    assert said("explain", "muon_adamw", "--latex").count(r"\begin{align") == 2
    refused = CliRunner().invoke(main, ["compile", "muon_adamw", "--use", "cautious"])
    assert refused.exit_code == 1 and "E0114" in refused.output


def test_what_is_explained_is_what_is_built() -> None:
    routed = build(find("muon_adamw"))
    assert isinstance(routed, Routed)
    explained = explain_route(routed)
    assert explained.rules.keys() == routed.rules.keys()
    assert [each.split("->")[1].split("(")[0].strip() for each in explained.lines] == [
        each.rule for each in routed.route.lines
    ]


# ---- mistakes


def codes(text: str) -> list[str]:
    with pytest.raises(OptdslError) as caught:
        build(Source("route.opt", text))
    return [each.code for each in caught.value.diagnostics]


LINES = {
    "ndim(p) >= 2 -> muon": ["E0115"],
    "else -> adamw\nndim(p) >= 2 -> muon": ["E0116"],
    "else -> adamw\nelse -> muon": ["E0116"],
    "ndim(p) > 1 -> sgd\nndim(p) > 1 -> muon\nelse -> adamw": ["E0116"],
    "1 < 2 -> muon\nelse -> adamw": ["E0116"],
    "true -> muon\nelse -> adamw": ["E0116"],
    "else -> moun": ["E0214"],
    "else -> cautious": ["E0113"],
    "else -> muon_adamw": ["E0215"],
    "else -> adamw(lrr=1)": ["E0507"],
    "else -> adamw(lr=1, lr=2)": ["E0202"],
    "else -> adamw(lr=-1)": ["E0501"],
    "else -> adamw(lr=grad)": ["E0306"],
    "else -> adamw(lr=foo)": ["E0201"],
    "else -> adamw(lr=1/0)": ["E0506"],
    "ndim(p) -> muon\nelse -> adamw": ["E0404"],
    "ndim(grad) > 1 -> muon\nelse -> adamw": ["E0306"],
    "foreach -> muon\nelse -> adamw": ["E0306"],
    "lr > 1 -> muon\nelse -> adamw": ["E0201"],
    "name -> muon\nelse -> adamw": ["E0404"],
    'matches(name, "(") -> muon\nelse -> adamw': ["E0508"],
    'matches(name, "a{99999999999}") -> muon\nelse -> adamw': ["E0508"],
    'matches(p, "a") -> muon\nelse -> adamw': ["E0402"],
    "matches(name) -> muon\nelse -> adamw": ["E0402"],
    "norm(p) > 1 -> muon\nelse -> adamw": ["E0401"],
    "else -> params": ["E0203"],
    "else -> rule": ["E0203"],
    "else -> _hidden": ["E0203"],
    "p -= lr*grad": ["E0108"],
    "else -> adamw(": ["E0105"],
    "else ->": ["E0108"],
    "-> adamw": ["E0108"],
}


@pytest.mark.parametrize("lines", LINES)
def test_a_wrong_line_is_answered(lines: str) -> None:
    inside = "\n".join(f"    {each}" for each in lines.split("\n"))
    assert codes(f"optimizer Wrong\nroute:\n{inside}\n") == LINES[lines]


WHOLE = {
    "route: else -> adamw": ["E0110"],
    "optimizer A\nroute: else -> adamw\nroute: else -> sgd": ["E0112"],
    "optimizer A\noptimizer B\nroute: else -> adamw": ["E0112"],
    "optimizer A\nroute: else -> adamw\nstep: p -= grad": ["E0114"],
    "optimizer A\nhyper lr = 1\nroute: else -> adamw": ["E0114"],
    "optimizer A\nuse decay\nroute: else -> adamw": ["E0114"],
    "optimizer A\nmode eval: p = p\nroute: else -> adamw": ["E0114"],
    "modifier a\nroute: else -> adamw": ["E0110", "E0114"],
    "optimizer int\nroute: else -> adamw": ["E0203"],
    "optimizer A\nroute:": ["E0108"],
}


@pytest.mark.parametrize("text", WHOLE)
def test_a_wrong_spec_is_answered(text: str) -> None:
    assert codes(text + "\n") == WHOLE[text]


def test_a_mistake_in_a_rule_is_shown_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.opt").write_text(
        "optimizer Own\nhyper lr = 1\nstep: p -= lrr*grad\n"
    )
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own", "sgd(lr=-2)"))
    with pytest.raises(OptdslError) as caught:
        load_optimizer(spec)
    found = [
        (Path(each.file).name, each.code, each.line)
        for each in caught.value.diagnostics
    ]
    assert ("own.opt", "E0201", 3) in found and ("mine.opt", "E0501", 5) in found


def test_a_setting_over_several_lines_is_one() -> None:
    text = SPLIT.format("sgd(\n        lr=0.1\n        * 2,  # twice\n    )", "lion")
    optimizer = from_string(text)(block().parameters())
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_a_hyper_that_a_group_has_no_room_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.opt").write_text(
        "optimizer Own\nhyper rule = 0.5\nstep: p -= rule*grad\n"
    )
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own", "sgd"))
    with pytest.raises(OptdslError, match="has a hyper `rule`"):
        load_optimizer(spec)


def test_a_rule_s_name_is_a_name_and_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (tmp_path / "own.opt").write_text("optimizer Own\nstep: p -= grad\n")
    spec = folder / "mine.opt"
    spec.write_text("optimizer A\nroute: else -> ../own\n")
    with pytest.raises(OptdslError, match="E0108"):
        load_optimizer(spec)


WORDS = """ndim(p) numel(p) size(p,-1) size(p,9) is_complex(p) is_sparse(p) finfo_eps(p) p name
matches(name,"a") matches(name,"(") matches(name,a) matches "a{2}" >= < == + - * / ** // % @
not and or if else -> ( ) , 1 -2 1e999 0 true none inf t grad lr sgd lion sgd(lr=1) :
lion(betas=(0.5,0.5)) sgd(lr=grad) ; = # [ ] route step""".split()


@pytest.mark.parametrize("seed", range(120))
def test_any_words_are_a_route_or_a_mistake(seed: int) -> None:
    """What compiles routes a parameter of any shape, or says what it cannot look up."""
    chosen = random.Random(seed)
    lines = [
        " ".join(chosen.choices(WORDS, k=chosen.randint(0, 7)))
        + chosen.choice([" -> sgd", " -> lion(lr=0.1)", " -> nobody", ""])
        for _ in range(chosen.randint(0, 3))
    ]
    inside = "\n".join(f"    {each}" for each in [*lines, "else -> sgd"])
    try:
        cls = from_string(f"optimizer Any\nroute:\n{inside}\n")
    except OptdslError as error:
        assert all(each.line <= len(lines) + 3 for each in error.diagnostics)
        return
    for shape in ((), (3,), (2, 3)):
        try:
            cls([("a", nn.Parameter(torch.ones(shape)))])
        except (IndexError, ArithmeticError):
            assert re.search(r"size|/|%|\*\*", inside)


def test_a_rule_that_takes_the_gradient_anew_is_not_for_a_route(tmp_path: Path) -> None:
    """The closure is of the whole model."""
    (tmp_path / "sharp.opt").write_text(
        "optimizer Sharp\nhyper lr = 0.1\nuse sam\nstep: p -= lr*grad\n"
    )
    routed = tmp_path / "routed.opt"
    routed.write_text(
        "optimizer Routed\nroute:\n    ndim(p) > 1 -> sharp\n    else -> sgd\n"
    )
    with pytest.raises(OptdslError) as caught:
        load_optimizer(str(routed))
    assert [each.code for each in caught.value.diagnostics] == ["E0215"]

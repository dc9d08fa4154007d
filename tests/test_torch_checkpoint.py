"""torch.distributed.checkpoint, and FSDP2 over two processes.

On an optimizer without state torch takes a step with zero gradients and a learning rate of
zero, to have the state made. It leaves its own classes with a step counted; ours with none.
"""

import copy
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from tests.oracle import LONG
from tests.parity import TORCH, options, same_bits
from tests.small_model import Training, in_halves, small_model, train
from tests.torch_inputs import DENSE, OURS

every_dense_class = pytest.mark.parametrize("spec", DENSE)
flattened = pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
# Each element by itself: what a process holds of a parameter is all that it needs.
ELEMENTWISE = [spec for spec in DENSE if spec not in ("adafactor", "muon")]


def hypers_of(spec: str) -> dict[str, Any]:
    """What makes each rule keep all that it can, and move at once."""
    more: dict[str, dict[str, Any]] = {
        "sgd": {"momentum": 0.9, "dampening": 0.1},
        "adam": {"amsgrad": True},
        "rmsprop": {"momentum": 0.9, "centered": True},
        "asgd": {"t0": 1},
    }
    return {"lr": 0.05, **more.get(spec, {})}


def training(cls: type[Optimizer], seed: int = 0, **hypers: Any) -> Training:
    if cls in TORCH.values() and "foreach" in options(cls):
        hypers = {"foreach": False, **hypers}
    model = small_model(seed)
    return model, cls(model.parameters(), **hypers)


def assert_same(ours: Training, theirs: Training) -> None:
    for (name, mine), its in zip(
        ours[0].named_parameters(), theirs[0].parameters(), strict=True
    ):
        assert same_bits(mine.detach(), its.detach()), name
        here, there = ours[1].state[mine], theirs[1].state[its]
        assert here.keys() == there.keys()
        for key, value in here.items():
            assert same_bits(value, there[key]), f"{key} of {name}"


@every_dense_class
@pytest.mark.parametrize("rate", ["number", "tensor"])
def test_asking_a_new_optimizer_for_its_state_leaves_no_trace(
    spec: str, rate: str
) -> None:
    hypers = hypers_of(spec)
    if rate == "tensor":
        hypers["lr"] = torch.tensor(hypers["lr"])
    asked, whole = (training(OURS[spec], **copy.deepcopy(hypers)) for _ in range(2))
    given = get_optimizer_state_dict(*asked)
    assert given["state"].keys() == {name for name, _ in asked[0].named_parameters()}
    assert all(
        value["step"] == 0 for value in given["state"].values() if "step" in value
    )
    assert asked[1].param_groups[0]["lr"] == hypers["lr"]
    for p, its in zip(asked[0].parameters(), whole[0].parameters(), strict=True):
        assert same_bits(p.detach(), its.detach())
        assert p.grad is None
    assert_same(train(asked, 0, 1, 2), train(whole, 0, 1, 2))


@every_dense_class
def test_what_is_asked_for_has_the_keys_of_torch_s(spec: str) -> None:
    ours, theirs = (
        get_optimizer_state_dict(*training(cls, **hypers_of(spec)))
        for cls in (OURS[spec], TORCH[spec])
    )
    assert ours["state"].keys() == theirs["state"].keys()
    for name, kept in theirs["state"].items():
        assert ours["state"][name].keys() == kept.keys()
        for key, value in kept.items():
            assert ours["state"][name][key].shape == value.shape
            assert ours["state"][name][key].dtype == value.dtype


@every_dense_class
@flattened
@pytest.mark.parametrize("saving", ["ours", "torch"])
@pytest.mark.parametrize("loading", ["ours", "torch"])
def test_each_goes_on_from_what_the_other_saved(
    spec: str, flat: bool, saving: str, loading: str
) -> None:
    classes = {"ours": OURS[spec], "torch": TORCH[spec]}
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    whole = train(training(classes[saving], **hypers_of(spec)), 0, 1, 2)
    whole[1].param_groups[0]["lr"] = 0.03
    saved = copy.deepcopy(get_state_dict(*whole, options=options))
    new = training(classes[loading], seed=1, **hypers_of(spec))
    set_state_dict(
        *new,
        model_state_dict=saved[0],
        optim_state_dict=saved[1],
        options=options,
    )
    assert new[1].param_groups[0]["lr"] == 0.03
    assert_same(train(new, 3, 4, 5), train(whole, 3, 4, 5))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@every_dense_class
@pytest.mark.parametrize("saving", ["ours", "torch"])
def test_a_checkpoint_in_files_is_loaded_in_place(
    spec: str, saving: str, tmp_path: Path
) -> None:
    cls = {"ours": OURS[spec], "torch": TORCH[spec]}[saving]
    whole = train(training(cls, **hypers_of(spec)), 0, 1, 2)
    model_state, optim_state = get_state_dict(*whole)
    saved = {"model": model_state, "optim": optim_state}
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    new = training(OURS[spec], seed=1, **hypers_of(spec))
    model_state, optim_state = get_state_dict(*new)
    read = {"model": model_state, "optim": optim_state}
    dcp.load(read, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(*new, model_state_dict=read["model"], optim_state_dict=read["optim"])
    assert_same(train(new, 3, 4), train(whole, 3, 4))


@every_dense_class
def test_setting_a_state_again_overwrites_what_came_between(spec: str) -> None:
    one = train(training(OURS[spec], **hypers_of(spec)), 0, 1)
    saved = copy.deepcopy(get_state_dict(*one))
    whole = train(copy.deepcopy(one), 2, 3)
    train(one, 4, 5, 6)
    set_state_dict(*one, model_state_dict=saved[0], optim_state_dict=saved[1])
    assert_same(train(one, 2, 3), whole)


@every_dense_class
def test_a_step_that_is_meant_counts_even_if_it_moves_nothing(spec: str) -> None:
    """A user's own step with a rate of zero, which gradients do come with."""
    one, whole = (training(OURS[spec], **hypers_of(spec)) for _ in range(2))
    for each in (one, whole):
        each[1].param_groups[0]["lr"] = 0.0
        train(each, 0)
        each[1].param_groups[0]["lr"] = 0.05
    set_optimizer_state_dict(*one, get_optimizer_state_dict(*one))
    assert_same(train(one, 1, 2), train(whole, 1, 2))


# ---- two processes


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """With bits where the gradients have the same ones: each process sees the same data,
    so that their mean is what one process has.
    """
    specs = ELEMENTWISE if LONG else ["adamw", "sgd", "asgd", "nadam"]
    hypers = {spec: hypers_of(spec) for spec in specs}
    mp.spawn(in_halves, (free_port(), hypers, str(tmp_path)), nprocs=2)
    for spec in specs:
        model, _ = train(training(OURS[spec], **hypers[spec]), 0, 1, 2, 3, 4)
        saved: dict[str, Tensor] = torch.load(tmp_path / f"{spec}.pt")
        for name, p in model.named_parameters():
            assert same_bits(saved[name].detach(), p.detach()), f"{spec}: {name}"

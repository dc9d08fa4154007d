"""What several rules in one optimizer keep: a state that is found by names, in a state
dict, a copy and a pickle, for rules of every kind.
"""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from routed_block import (
    PAIRS,
    SPLIT,
    block,
    roundtrip,
    run,
    same,
)

from optdsl import from_string
from optdsl.optim import MuonAdamW


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

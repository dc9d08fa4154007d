"""Several rules in one optimizer: each parameter steps as with its rule alone, by the
route, its group and its name.
"""

import pytest
import torch
from routed_block import SPLIT, WAYS, alone, block, give, hidden, others, run, same
from torch import nn

from optdsl import from_string, load_optimizer
from optdsl.optim import MuonAdamW


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

"""State and its checkpoints: torch's keys, shapes and types, and either side goes on from
what the other saved, with the same bits.
"""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from tests.parity import TORCH, Side, assert_same, options, plain, side
from tests.torch_inputs import (
    CAPTURABLE,
    DENSE,
    INFO,
    NO_COMPLEX,
    OURS,
    a_parameter,
    both_classes,
    captures_on_the_cpu,
    each_typed,
    every_class,
    inputs,
    on_each_side,
)

Classes = dict[str, type[Optimizer]]
# Single numbers of a state, which torch casts to the parameter's type when it loads them.
CASTS = {"asgd": ("mu", "eta"), "nadam": ("mu_product",)}
FLAGS = ("foreach", "maximize", "capturable", "differentiable", "fused")


def all_states(spec: str) -> dict[str, Any]:
    """Hypers with which a parameter has every state that the rule knows."""
    return {
        "sgd": {"momentum": 0.9},
        "adam": {"amsgrad": True},
        "adamw": {"amsgrad": True},
        "rmsprop": {"momentum": 0.9, "centered": True},
        "asgd": {"t0": 2, "lr": 0.1},
        "adagrad": {"initial_accumulator_value": 0.5, "lr_decay": 0.1},
    }.get(spec, {})


def started(spec: str, make: Any, dtype: torch.dtype = torch.float32) -> Side:
    """Two groups, five steps of which one parameter missed the first three."""
    groups = ({}, {"lr": 0.05})
    return side(make, dtype, groups, **all_states(spec)).steps(*range(5))


def fresh(make: Any, like: Side, saved: Any) -> Side:
    """A new optimizer of plain hypers, with another's parameters and what it saved."""
    new = side(make, like.dtype, ({}, {}))
    with torch.no_grad():
        for name, p in new.parameters.items():
            p.copy_(like.parameters[name])
    new.optimizer.load_state_dict(saved)
    return new


def through_a_file(saved: Any) -> Any:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_goes_on(ours: Side, theirs: Side) -> None:
    assert_same(ours, theirs, "before")
    for step in range(5, 10):
        assert_same(ours.steps(step), theirs.steps(step), f"step {step}")


@pytest.mark.parametrize(("spec", "dtype"), each_typed())
def test_either_goes_on_from_what_the_other_saved(
    spec: str, dtype: torch.dtype
) -> None:
    if dtype.is_complex and spec in NO_COMPLEX:
        pytest.skip("refused, as in torch")
    ours, theirs = (started(spec, make, dtype) for make in (OURS[spec], plain(spec)))
    saved = [through_a_file(each.optimizer.state_dict()) for each in (ours, theirs)]
    assert_goes_on(fresh(OURS[spec], theirs, saved[1]), theirs)
    loaded = fresh(plain(spec), ours, saved[0])
    if dtype is torch.float32 or dtype.is_complex or spec not in CASTS:
        assert_goes_on(ours, loaded)


@pytest.mark.parametrize(("spec", "names"), CASTS.items())
def test_numbers_keep_their_precision_where_torch_s_lose_it(
    spec: str, names: tuple[str, ...]
) -> None:
    """And so ours go on with the same bits in bfloat16 too, from our own checkpoints and
    from torch's.
    """
    ours, theirs = (
        started(spec, make, torch.bfloat16) for make in (OURS[spec], plain(spec))
    )
    for whole in (ours, theirs):
        saved = through_a_file(whole.optimizer.state_dict())
        again = fresh(OURS[spec], whole, saved)
        lost = fresh(plain(spec), whole, saved)
        for name in names:
            assert again.memory("matrix")[name].dtype == torch.float32
            assert lost.memory("matrix")[name].dtype == torch.bfloat16
        assert_goes_on(again, whole)


@pytest.mark.parametrize(("spec", "hypers"), inputs())
def test_a_state_has_the_keys_shapes_and_types_of_torch(
    spec: str, hypers: dict[str, Any]
) -> None:
    with captures_on_the_cpu():
        (theirs, its), (ours, mine) = (
            stepped(cls, spec, **copy.deepcopy(hypers)) for cls in both_classes(spec)
        )
    assert [*mine] == [*its], "the same keys in the same order"
    for name, value in its.items():
        assert kind(mine[name]) == kind(value), name


def stepped(cls: Any, spec: str, **hypers: Any) -> tuple[Optimizer, dict[str, Any]]:
    p = a_parameter(spec)
    optimizer = cls([p], **hypers)
    optimizer.step()
    return optimizer, optimizer.state[p]


def kind(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.stride(), value.device.type
    return type(value)


@every_class
def test_a_state_dict_looks_like_torch_s(spec: str) -> None:
    theirs, ours = (
        stepped(cls, spec, **all_states(spec))[0].state_dict()
        for cls in both_classes(spec)
    )
    assert ours.keys() == theirs.keys()
    assert ours["state"].keys() == theirs["state"].keys()
    assert ours["state"][0].keys() == theirs["state"][0].keys()
    missing = theirs["param_groups"][0].keys() - ours["param_groups"][0].keys()
    assert not missing


@every_class
@on_each_side
def test_half_precision_parameters_keep_their_count_at_full(
    spec: str, classes: Classes
) -> None:
    """load_state_dict casts every state to the parameter's type but `step`."""
    p = a_parameter(spec, torch.bfloat16)
    optimizer = classes[spec]([p])
    optimizer.step()
    kinds = {name: kind(value) for name, value in optimizer.state[p].items()}
    other = classes[spec]([p])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    loaded = {name: kind(value) for name, value in other.state[p].items()}
    own = {"mu_product", "mu", "eta"} if classes is TORCH else set()
    for name in loaded.keys() - own:
        assert loaded[name] == kinds[name], name


@every_class
def test_a_group_of_an_old_pickle_gets_the_flags_it_has_not(spec: str) -> None:
    """As torch tests it: a state_dict from before a flag was there."""
    p = a_parameter(spec)
    optimizer = OURS[spec]([p], **all_states(spec))
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    kept = {*FLAGS} & {*optimizer.param_groups[0]}
    for flag in {*FLAGS, *INFO[spec].not_og_supported_flags}:
        saved["param_groups"][0].pop(flag, None)
    optimizer.load_state_dict(saved)
    assert kept <= optimizer.param_groups[0].keys()
    optimizer.step()


@pytest.mark.parametrize("spec", [s for s in DENSE if s not in ("sgd", "muon")])
@on_each_side
def test_a_count_that_is_a_plain_number_becomes_a_tensor(
    spec: str, classes: Classes
) -> None:
    """As old versions of torch saved it; ASGD and NAdam have more such numbers."""
    p = a_parameter(spec)
    optimizer = classes[spec]([p])
    optimizer.step()
    whole = copy.deepcopy(optimizer)
    saved = optimizer.state_dict()
    for name, value in saved["state"][0].items():
        if isinstance(value, Tensor) and value.ndim == 0:
            saved["state"][0][name] = value.item()
    optimizer.load_state_dict(saved)
    for name, value in whole.state_dict()["state"][0].items():
        assert kind(optimizer.state[p][name]) == kind(value), name
    (copied,) = whole.param_groups[0]["params"]
    copied.grad = p.grad
    optimizer.step()
    whole.step()
    assert torch.equal(p, copied)


@pytest.mark.parametrize("spec", CAPTURABLE)
@on_each_side
def test_a_count_comes_back_as_it_was_when_capturable(
    spec: str, classes: Classes
) -> None:
    with captures_on_the_cpu():
        p = a_parameter(spec, torch.float64)
        optimizer = classes[spec]([p], capturable=True)
        optimizer.step()
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer.load_state_dict(saved)
        for name, value in saved["state"][0].items():
            if name == "step":
                assert kind(optimizer.state[p][name]) == kind(value)
        optimizer.step()


@every_class
@on_each_side
@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
def test_a_count_has_the_precision_of_the_default_type(
    spec: str, classes: Classes, default: torch.dtype
) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        _, state = stepped(classes[spec], spec)
    finally:
        torch.set_default_dtype(before)
    if isinstance(state.get("step"), Tensor):
        assert state["step"].dtype == default


@every_class
def test_named_parameters_are_kept_and_saved(spec: str) -> None:
    """Names change nothing, and go where torch lets them go."""
    results = []
    for cls in both_classes(spec):
        p, bare = a_parameter(spec), a_parameter(spec)
        named, plainly = cls([("weight", p)]), cls([bare])
        for each in (named, plainly):
            each.step()
        assert torch.equal(p, bare)
        assert named.param_groups[0]["param_names"] == ["weight"]
        saved = copy.deepcopy(named.state_dict())
        unnamed = copy.deepcopy(plainly.state_dict())
        plainly.load_state_dict(saved)
        named.load_state_dict(unnamed)
        results.append(
            [each.param_groups[0].get("param_names") for each in (named, plainly)]
        )
        for each in (named, plainly):
            each.step()
        assert torch.equal(p, bare)
    assert results[0] == results[1] == [["weight"], ["weight"]]


@every_class
@on_each_side
def test_a_state_dict_that_does_not_fit_is_refused(spec: str, classes: Classes) -> None:
    optimizer = classes[spec]([a_parameter(spec)])
    for groups in ([[0], [1]], [[0, 1]]):
        params = [[a_parameter(spec) for _ in group] for group in groups]
        other = classes[spec]([{"params": each} for each in params])
        with pytest.raises(ValueError, match="loaded state dict"):
            optimizer.load_state_dict(other.state_dict())


@every_class
@pytest.mark.parametrize("copied", ["deepcopy", "pickle"])
def test_a_copy_has_what_a_copy_of_torch_s_has(spec: str, copied: str) -> None:
    """The public attributes, as torch tests it, and everything in them."""
    for make in (OURS[spec], plain(spec)):
        one = started(spec, make)
        one.optimizer.register_step_post_hook(print)
        other = (
            copy.deepcopy(one.optimizer)
            if copied == "deepcopy"
            else pickle.loads(pickle.dumps(one.optimizer))
        )
        public = {name for name in vars(one.optimizer) if not name.startswith("_")}
        assert public == {name for name in vars(other) if not name.startswith("_")}
        assert repr(other) == repr(one.optimizer)
        assert one.optimizer.defaults.items() <= other.defaults.items()
        again = Side(
            dict(zip(one.parameters, flat(other, one), strict=True)), other, one.dtype
        )
        assert_same(again, one)


def flat(other: Optimizer, like: Side) -> list[Parameter]:
    """The copied parameters in the order of the names."""
    here = [p for group in like.optimizer.param_groups for p in group["params"]]
    there = [p for group in other.param_groups for p in group["params"]]
    index = {id(p): at for at, p in enumerate(here)}
    return [there[index[id(p)]] for p in like.parameters.values()]


@every_class
def test_is_printed_as_torch_s_is(spec: str) -> None:
    for cls in both_classes(spec):
        optimizer = cls([a_parameter(spec)], lr=0.125)
        assert repr(optimizer).startswith(
            f"{TORCH[spec].__name__} (\nParameter Group 0\n"
        )
        assert "    lr: 0.125\n" in repr(optimizer)


@every_class
def test_options_changed_in_a_group_take_effect_as_in_torch(spec: str) -> None:
    """Between steps, without a new optimizer."""
    results = []
    for make in (OURS[spec], plain(spec)):
        one = side(make).steps(0, 1)
        for group in one.optimizer.param_groups:
            group["lr"] = 0.03
            if "weight_decay" in options(TORCH[spec]):
                group["weight_decay"] = 0.2
            if "maximize" in options(TORCH[spec]):
                group["maximize"] = True
        results.append(one.steps(2, 3, 4))
    assert_same(*results)

"""Any call that torch's constructors take, ours take; what they refuse, ours refuse."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerErrorEnum,
)

from optdsl import vocabulary
from tests.parity import TORCH, options, same_bits
from tests.torch_inputs import (
    FUSED,
    OURS,
    a_parameter,
    both_classes,
    error_inputs,
    every_class,
)

NUMBERS = [-1, -1e-9, 0, 0.5, 1, 1.5, 100, math.inf, math.nan, True]
NO_NUMBERS = [None, "0.1"]
TENSORS = [
    torch.tensor(0.5),
    torch.tensor([0.5]),
    torch.tensor([[0.5]]),
    torch.tensor(-0.5),
    torch.tensor([0.5, 0.5]),
]
TEXTS = ["original", "match_rms_adamw", "neither", 1]

# What we know better: torch's `lr < 0` lets NaN pass where others refuse it, counts to a
# negative number as to zero, and takes a beta of 0.0 but not of 0.
QUIRKS = {
    *[("sgd", name, "nan") for name in ("lr", "momentum", "weight_decay")],
    ("muon", "ns_steps", "-1"),
    *[
        (spec, "betas", betas)
        for spec in ("adam", "adamw")
        for betas in ("(0,0.999)", "(0.9,0)")
    ],
}


def candidates(default: Any) -> list[Any]:
    """Numbers to try in place of a default, good and bad; in a tuple one at a time."""
    if isinstance(default, bool):
        return [True, False]
    if isinstance(default, tuple):
        changed = [
            (*default[:at], value, *default[at + 1 :])
            for at in range(len(default))
            for value in (*NUMBERS, torch.tensor(0.5))
        ]
        both = [(torch.tensor(0.5),) * len(default), (torch.ones(1),) * len(default)]
        return [*changed, *both, list(default)]
    if default is None:
        return [*TEXTS, None]
    return [*NUMBERS, *TENSORS] if isinstance(default, float) else NUMBERS


def no_numbers(default: Any) -> list[Any]:
    if isinstance(default, tuple):
        changed = [
            (*default[:at], value, *default[at + 1 :])
            for at, item in enumerate(default)
            for value in NO_NUMBERS
            if item is not None
        ]
        return [*changed, default[:1], 0.5, None]
    return [] if isinstance(default, (bool, type(None))) else NO_NUMBERS


def said(value: Any) -> str:
    return repr(value).replace("tensor", "").replace(" ", "")


def tried(values: Callable[[Any], list[Any]]) -> list[Any]:
    return [
        pytest.param(spec, each.name, value, id=f"{spec}({each.name}={said(value)})")
        for spec, cls in TORCH.items()
        for each in [*inspect.signature(cls).parameters.values()][1:]
        if each.name not in vocabulary.FLAGS
        for value in values(each.default)
        if (spec, each.name, said(value)) not in QUIRKS
    ]


def outcome(spec: str, cls: type[Optimizer], **given: Any) -> Any:
    """The parameter after three steps, or where an exception came from and what kind."""
    p = a_parameter(spec)
    try:
        optimizer = cls([p], **given)
    except Exception as error:
        return "construction", error
    try:
        for _ in range(3):
            optimizer.step()
    except Exception as error:
        return "step", error
    return "ran", p.detach()


@pytest.mark.parametrize(("spec", "name", "value"), tried(candidates))
def test_takes_and_refuses_the_numbers_that_torch_does(
    spec: str, name: str, value: Any
) -> None:
    """What torch accepts and cannot use afterwards is left open, as is the kind of an
    exception that a check of torch meets by accident.
    """
    (when, theirs), (when_ours, ours) = (
        outcome(spec, cls, **{name: value}) for cls in both_classes(spec)
    )
    if when == "construction":
        assert when_ours == "construction", f"torch: {theirs!r}"
        if isinstance(theirs, (ValueError, TypeError)):
            assert isinstance(ours, type(theirs)), f"{ours!r}, torch: {theirs!r}"
    if when == "ran":
        assert when_ours == "ran", f"refused: {ours!r}"
        assert same_bits(ours, theirs), f"{ours} is not {theirs}"


@pytest.mark.parametrize(("spec", "name", "value"), tried(no_numbers))
def test_what_is_no_number_is_refused_as_in_torch(
    spec: str, name: str, value: Any
) -> None:
    (when, theirs), (when_ours, ours) = (
        outcome(spec, cls, **{name: value}) for cls in both_classes(spec)
    )
    if when == "construction" and isinstance(theirs, (ValueError, TypeError)):
        assert when_ours == "construction"
        assert isinstance(ours, type(theirs)), f"{ours!r}, torch: {theirs!r}"


@every_class
def test_options_have_the_names_defaults_and_places_of_torch(spec: str) -> None:
    theirs, ours = (
        [*inspect.signature(cls).parameters.values()] for cls in both_classes(spec)
    )
    placed = [each for each in theirs if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert [(each.name, each.default, each.kind) for each in placed] == [
        (each.name, each.default, each.kind) for each in ours[: len(placed)]
    ]
    assert all(each.kind is each.KEYWORD_ONLY for each in ours[len(placed) :])
    named = {each.name: each.default for each in ours}
    for each in theirs[len(placed) :]:
        assert each.name in named and named[each.name] == each.default, each.name


@every_class
def test_what_ours_take_beyond_torch_is_a_flag(spec: str) -> None:
    more = {*options(OURS[spec])} - {*options(TORCH[spec])}
    assert more <= {*vocabulary.FLAGS}


@every_class
def test_an_unknown_option_is_a_type_error(spec: str) -> None:
    for cls in both_classes(spec):
        with pytest.raises(TypeError, match="learning_rate"):
            cls([a_parameter(spec)], learning_rate=0.1)
        with pytest.raises(TypeError):
            cls([a_parameter(spec)], *range(20))


@every_class
def test_a_group_may_hold_what_the_class_does_not_know(spec: str) -> None:
    """torch keeps such entries, and users keep their notes in them."""
    for cls in both_classes(spec):
        group = {"params": [a_parameter(spec)], "layer": "first", "depth": 3}
        optimizer = cls([group])
        optimizer.step()
        assert optimizer.param_groups[0]["layer"] == "first"
        assert optimizer.state_dict()["param_groups"][0]["depth"] == 3


@every_class
def test_groups_and_defaults_hold_what_torch_holds(spec: str) -> None:
    theirs, ours = (cls([a_parameter(spec)]) for cls in both_classes(spec))
    for of in (lambda it: it.defaults, lambda it: it.param_groups[0]):
        for name, value in of(theirs).items():
            if name != "params":
                assert name in of(ours), name
                assert of(ours)[name] == value, name


@every_class
def test_has_the_methods_of_torch(spec: str) -> None:
    """All but Adagrad's `share_memory`: before the first step there is no state to share."""
    theirs, ours = both_classes(spec)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    assert public - {"share_memory"} <= {*dir(ours)}


def refused(spec: str) -> list[ErrorOptimizerInput]:
    given = error_inputs(spec)
    assert len(given) >= 6
    return given


REFUSED = [
    pytest.param(spec, at, id=f"{spec}, {each.optimizer_error_input.desc}, {at}")
    for spec in TORCH
    for at, each in enumerate(refused(spec))
]


@pytest.mark.parametrize(("spec", "at"), REFUSED)
def test_refuses_what_torch_says_is_to_be_refused(spec: str, at: int) -> None:
    given = error_inputs(spec)[at]
    params, hypers = (
        given.optimizer_error_input.params,
        given.optimizer_error_input.kwargs,
    )
    params = [a_parameter(spec)] if params is None else params
    raised = pytest.warns if issubclass(given.error_type, Warning) else pytest.raises
    if given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR:
        with raised(given.error_type):
            OURS[spec](params, **hypers)
    else:
        optimizer = OURS[spec](params, **hypers)
        with raised(given.error_type):
            optimizer.step()


@pytest.mark.parametrize("spec", FUSED)
@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_fused_goes_with_no_other_way_to_step(spec: str, other: str) -> None:
    """The inputs that torch tests on an accelerator, where its tensors are made."""
    for cls in both_classes(spec):
        with pytest.raises(RuntimeError, match=f"fused.*{other}"):
            cls([a_parameter(spec)], fused=True, **{other: True})


@every_class
def test_parameters_that_are_no_list_of_tensors_are_refused(spec: str) -> None:
    p = a_parameter(spec)
    for bad, kind in [
        ([], ValueError),
        (p, TypeError),
        ([{"params": {p}}], TypeError),
        ([p, "p"], TypeError),
        ([p * 1], ValueError),
        ([{}], KeyError),
        ([{"params": [p]}, 3], TypeError),
    ]:
        for cls in both_classes(spec):
            with pytest.raises(kind):
                cls(bad)

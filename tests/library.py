"""The rules of the library with their hypers: what tests of every rule are made from."""

import inspect
from functools import cache
from typing import Any

import pytest
from oracle import allows

from optdsl import ir, load_optimizer, resources
from optdsl.find import read
from optdsl.pipeline import build

LIBRARY = [*resources.library()]

# What else a group needs for a hyper to be allowed, or to matter.
NEEDS = {
    ("sgd", "dampening"): {"momentum": 0.9},
    ("sgd", "nesterov"): {"momentum": 0.9},
    ("adam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("nadam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("radam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("rprop", "step_sizes"): {"lr": 60.0},
}
# Hypers that no group may have at once.
APART = {"sgd": "dampening"}
LARGE = 50.0  # where a tiny number, or none, bounds something that is seldom so small
LATE = 5.0  # in place of a count that no test would reach


@cache
def hypers_of(spec: str) -> dict[str, ir.Hyper]:
    """The hypers that the constructor takes."""
    checked = rule_of(spec)
    taken = {*checked.arguments.positional, *checked.arguments.named}
    return {each.name: each for each in checked.hypers if each.name in taken}


@cache
def rule_of(spec: str) -> ir.Rule:
    return build(read(resources.library()[spec])).checked


def skip_random(spec: str) -> None:
    """For what does not hold where numbers depend on the group and the place in it."""
    if rule_of(spec).random:
        pytest.skip("its random numbers depend on the groups and the places in them")


def other(spec: str, hyper: ir.Hyper) -> Any:
    """A value that is allowed and not the default."""
    default = inspect.signature(load_optimizer(spec)).parameters[hyper.name].default
    if hyper.choices:
        return next(each for each in reversed(hyper.choices) if each != default)
    if hyper.annotation == "bool":
        return not default
    if hyper.annotation == "int":
        return (default or 0) + 1
    if hyper.annotation == "tuple":
        return tuple(LARGE if each is None else 0.9 * each for each in default)
    return _other_number(hyper, default)


def _other_number(hyper: ir.Hyper, default: float | None) -> float:
    if default is None or 0 < default < 1e-4:
        tried = [LARGE, 0.25]
    else:
        tried = [min(default / 2, LATE) if default else 0.25, 2 * default]
    return next(each for each in tried if allows(hyper, each))


def others(spec: str) -> dict[str, Any]:
    """Every hyper away from its default."""
    hypers = {name: other(spec, each) for name, each in hypers_of(spec).items()}
    hypers.pop(APART.get(spec, ""), None)
    return hypers


def bad(spec: str, hyper: ir.Hyper) -> tuple[Any, str] | None:
    """A value that is not allowed, with what the message says is."""
    if hyper.choices:
        return "neither", hyper.choices[0]
    if hyper.annotation == "bool":
        return "yes", "True or False"
    tried = (-1, 0, 1, 2)
    value = next((each for each in tried if not allows(hyper, each)), None)
    if value is None:
        return None
    if hyper.annotation == "tuple":
        value = (*[other(spec, hyper)[0]] * (hyper.type.length - 1), value)
    return value, str(hyper.range)


HYPERS = [(spec, name) for spec in LIBRARY for name in hypers_of(spec)]
every_spec = pytest.mark.parametrize("spec", LIBRARY)
both = pytest.mark.parametrize("changed", [False, True], ids=["defaults", "others"])

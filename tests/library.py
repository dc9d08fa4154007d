"""The rules of the library with their hypers: what tests of every rule are made from."""

import inspect
from functools import cache
from typing import Any

import pytest

from optdsl import ir, load_optimizer, resources
from optdsl.evaluate import evaluate
from optdsl.find import read
from optdsl.pipeline import build

LIBRARY = [*resources.library()]

# What else a group needs for a hyper to be allowed, or to matter.
NEEDS = {
    ("sgd", "dampening"): {"momentum": 0.9},
    ("sgd", "nesterov"): {"momentum": 0.9},
}
# Hypers that no group may have at once.
APART = {"sgd": "dampening"}


@cache
def hypers_of(spec: str) -> dict[str, ir.Hyper]:
    checked = build(read(resources.library()[spec])).checked
    return {each.name: each for each in checked.hypers}


def other(spec: str, hyper: ir.Hyper) -> Any:
    """A value that is allowed and not the default."""
    default = inspect.signature(load_optimizer(spec)).parameters[hyper.name].default
    if hyper.choices:
        return next(each for each in hyper.choices if each != default)
    if hyper.annotation == "bool":
        return not default
    if hyper.annotation == "int":
        return (default or 0) + 1
    if hyper.annotation == "tuple":
        return tuple(0.9 * each for each in default)
    return default / 2 if default else 0.25


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
    if hyper.range is None:
        return None
    low, high = (
        evaluate(each, lambda _: None) for each in (hyper.range.low, hyper.range.high)
    )
    value = low - 1 if low > -float("inf") else high + 1
    if hyper.annotation == "tuple":
        value = (*[other(spec, hyper)[0]] * (hyper.type.length - 1), value)
    return value, str(hyper.range)


HYPERS = [(spec, name) for spec in LIBRARY for name in hypers_of(spec)]
every_spec = pytest.mark.parametrize("spec", LIBRARY)
both = pytest.mark.parametrize("changed", [False, True], ids=["defaults", "others"])

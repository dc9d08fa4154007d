"""The rules of the library with their hypers: what tests of every rule are made from."""

import inspect
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from built import of_library
from oracle import allows

from optdsl import ir, load_optimizer, resources, syntax, vocabulary

LIBRARY = [*resources.library()]

# What else a group needs for a hyper to be allowed, or to matter.
NEEDS = {
    ("sgd", "dampening"): {"momentum": 0.9},
    ("sgd", "nesterov"): {"momentum": 0.9},
    ("adabelief", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("adai", "decoupled"): {"weight_decay": 0.1},
    ("adam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("adan", "no_prox"): {"weight_decay": 0.1},
    ("adopt", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("madgrad", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("nadam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("qhadam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("qhm", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("radam", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("rprop", "step_sizes"): {"lr": 60.0},
    ("sgdw", "dampening"): {"momentum": 0.9},
    ("sgdw", "nesterov"): {"momentum": 0.9},
    ("signsgd", "decoupled_weight_decay"): {"weight_decay": 0.1},
    ("pnm", "decoupled"): {"weight_decay": 0.1},
    ("sgdp", "nesterov"): {"momentum": 0.9},
    ("sgdp", "wd_ratio"): {"weight_decay": 0.1, "delta": 1.0},
    ("adamp", "wd_ratio"): {"weight_decay": 0.1, "delta": 1.0},
}
NEEDS |= {("galore", name): {"rank": 2} for name in ("every", "scale")}
# Values that matter to parameters as small as those of the tests.
SMALL = {
    ("galore", "rank"): 2,
    ("galore", "every"): 2,
    ("shampoo", "max_size"): 2,
    ("soap", "max_precond_dim"): 2,
}
# A warm-up of one step is none.
LONGER = {(f"schedule_free_{name}", "warmup_steps"): 3 for name in ("sgd", "adamw")}
# Rules whose states depend on sizes, where these are the values.
SIZED = {spec for spec, _ in SMALL}
# Hypers that no group may have at once.
APART = {"sgd": "dampening", "sgdw": "dampening"}
LARGE = 50.0  # where a tiny number, or none, bounds something that is seldom so small
LATE = 5.0  # in place of a count that no test would reach


@cache
def hypers_of(spec: str) -> dict[str, ir.Hyper]:
    """The hypers that the constructor takes."""
    checked = rule_of(spec)
    taken = {*checked.arguments.positional, *checked.arguments.named}
    return {each.name: each for each in checked.hypers if each.name in taken}


@cache
def has_lists(spec: str) -> bool:
    """Whether the states of a parameter depend on how many axes it has."""
    return any(each.index is not None for each in rule_of(spec).states)


def rule_of(spec: str) -> ir.Rule:
    return of_library(spec).checked


def skip_random(spec: str) -> None:
    """For what does not hold where numbers depend on the group and the place in it."""
    if rule_of(spec).random:
        pytest.skip("its random numbers depend on the groups and the places in them")


def other(spec: str, hyper: ir.Hyper) -> Any:
    """A value that is allowed and not the default."""
    default = inspect.signature(load_optimizer(spec)).parameters[hyper.name].default
    for chosen in (SMALL, LONGER):
        if (spec, hyper.name) in chosen:
            return chosen[spec, hyper.name]
    if hyper.choices:
        return next(each for each in reversed(hyper.choices) if each != default)
    if hyper.annotation == "bool":
        return not default
    if hyper.annotation == "int":
        return int(LARGE) if default is None else default + 1
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


def is_together(spec: str) -> bool:
    """Whether the parameters of a rule depend on each other."""
    return rule_of(spec).in_phases


@cache
def words(spec: str) -> frozenset[str]:
    """What a rule says in the language: constructs with the parts that they have here,
    and groups of functions.
    """
    said = set()
    for node in syntax.walk(of_library(spec).tree):
        for part in fields(node):
            if getattr(node, part.name) not in (None, False, ()):
                said.add(f"{type(node).__name__}.{part.name}")
        if isinstance(node, syntax.Call) and node.function.text in vocabulary.FUNCTIONS:
            said.add(vocabulary.FUNCTIONS[node.function.text].group)
    return frozenset(said)


def eloquent() -> list[str]:
    """A few rules that say between them all that the library says: again and again the
    one that says most of what is left.
    """
    left, chosen = set().union(*map(words, LIBRARY)), []
    while left:
        chosen.append(max(LIBRARY, key=lambda spec: len(words(spec) & left)))
        left -= words(chosen[-1])
    return sorted(chosen)


TOGETHER = [spec for spec in LIBRARY if is_together(spec)]
ALONE = [spec for spec in LIBRARY if spec not in TOGETHER]
HYPERS = [(spec, name) for spec in LIBRARY for name in hypers_of(spec)]
every_spec_alone = pytest.mark.parametrize("spec", ALONE)
every_spec = pytest.mark.parametrize("spec", LIBRARY)
both = pytest.mark.parametrize("changed", [False, True], ids=["defaults", "others"])

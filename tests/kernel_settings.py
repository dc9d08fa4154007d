"""Settings of a rule that ask for each of its kernels, and for each value of each hyper.

In: a rule of the library. Out: hypers that it allows, its defaults first.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from math import isfinite
from typing import Any

import torch
from built import of_library
from oracle import allows
from torch import Tensor

from optdsl import interpret, ir
from optdsl.evaluate import evaluate
from optdsl.verify.hyper import Hyper, of_rule

Setting = dict[str, Any]


def defaults(name: str) -> Setting:
    return {each.name: each.default for each in of_rule(of_library(name).checked)}


@cache
def of_each_kernel(name: str) -> tuple[Setting, ...]:
    """One for each combination of the conditions that kernels are built for."""
    rule, values = of_library(name).checked, _values_of(name)
    switches = _read_by_conditions(name)
    start = defaults(name)
    several = (dict.fromkeys([start[each], *values[each]]) for each in switches)
    found: dict[tuple[bool, ...], Setting] = {}
    for chosen in product(*several):
        setting = start | dict(zip(switches, chosen, strict=True))
        if is_allowed(rule, setting):
            found.setdefault(conditions(name, setting), setting)
    return tuple(found.values())


@cache
def of_each_value(name: str) -> tuple[Setting, ...]:
    """Those of each kernel, with their other numbers as they are and moved; and each value
    of each hyper by itself.
    """
    rule, values = of_library(name).checked, _values_of(name)
    start = defaults(name)
    kernels = of_each_kernel(name)
    alone = [start | {each: value} for each in values for value in values[each]]
    found = [
        *kernels,
        *(_moved(name, each, values) for each in kernels),
        *(each for each in alone if is_allowed(rule, each)),
    ]
    return tuple({repr(each): each for each in found}.values())


def conditions(name: str, setting: Setting) -> tuple[bool, ...]:
    """What the kernels of a rule are built for."""
    artifacts = of_library(name)
    run = _run(artifacts.checked, setting)
    options = artifacts.lowered.kernels.options
    return tuple(bool(run.value(each.condition)) for each in options)


def _read_by_conditions(name: str) -> list[str]:
    artifacts = of_library(name)
    options = artifacts.lowered.kernels.options
    read = {ref.name for each in options for ref in ir.mentions(each.condition)}
    return [each.name for each in artifacts.checked.hypers if each.name in read]


def _values_of(name: str) -> dict[str, list[Any]]:
    rule = of_library(name).checked
    pairs = zip(of_rule(rule), rule.hypers, strict=True)
    return {each.name: [*_values(each, declared)] for each, declared in pairs}


def _moved(name: str, setting: Setting, values: dict[str, list[Any]]) -> Setting:
    """The same kernel with its numbers elsewhere, where they may be."""
    rule, wanted = of_library(name).checked, conditions(name, setting)
    for each in rule.hypers:
        for value in reversed(values[each.name]):
            other = setting | {each.name: value}
            if is_allowed(rule, other) and conditions(name, other) == wanted:
                setting = other
                break
    return setting


def _values(hyper: Hyper, declared: ir.Hyper) -> Iterator[Any]:
    """Beside the default: each choice; of numbers the finite ends of their range that they
    may be, and the first that is tried elsewhere. Of a tuple one item is another.
    """
    if hyper.is_mode:
        yield from (value for _, value in hyper.others)
        return
    default = hyper.default
    for end in _ends(declared):
        if not isinstance(default, tuple):
            yield end
            continue
        for at in range(len(default)):
            yield (*default[:at], end, *default[at + 1 :])
    found: set[str] = set()
    for item, value in hyper.others:
        several = value if isinstance(value, tuple) else (value,)
        numbers = [each for each in several if each is not None]
        if item not in found and all(allows(declared, each) for each in numbers):
            found.add(item)
            yield value


def _ends(hyper: ir.Hyper) -> Iterator[float]:
    if hyper.range is None:
        return
    low, high = (
        evaluate(each, lambda _: None) for each in (hyper.range.low, hyper.range.high)
    )
    if hyper.range.closed_low and isfinite(low):
        yield low
    if hyper.range.closed_high and isfinite(high):
        yield high


def _run(rule: ir.Rule, setting: Setting, p: Tensor | None = None) -> interpret.Run:
    p = torch.zeros(2, 2) if p is None else p
    memory = interpret.Memory(p.double(), setting, dtype=p.dtype)
    return interpret.Run(rule, memory, None)


def is_allowed(rule: ir.Rule, setting: Setting, p: Tensor | None = None) -> bool:
    """Whether a rule takes these hypers, for a parameter."""
    run = _run(rule, setting, p)
    return all(run.value(each.condition) for each in rule.requires)

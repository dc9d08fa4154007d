"""The step before, once more: whether only gradients and hypers are new.

In: an optimizer whose last step kernels took as a whole. Out: whether its tables are those
of this step. Whatever a step reads of groups and states has to be the very objects of the
step before, and every tensor where it was; of gradients, which are others in each step, all
is looked at that kernels rely on.
"""

import os
from array import array
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .carried import Guard, addresses, guard, lacks

if TYPE_CHECKING:
    from .launch import Batch, Entry

_PLAIN = {bool, int, float, str, type(None)}
_WAYS = {"fused", "foreach", "capturable", "differentiable"}


def by_default() -> bool:
    """Whether kernels are for groups that say neither `fused` nor `foreach`."""
    return os.environ.get("OPTDSL_FUSED", "1") != "0"


class Stepper(Protocol):
    """A step of one optimizer."""

    def step(self, batch: "Batch") -> bool: ...


class Runner(Protocol):
    """The kernels of a rule for one kind of device."""

    grads: int | None
    plans: MutableMapping[Any, "Plan"]

    def launch(self, optimizer: Any, device: torch.device) -> Stepper: ...

    def numbers_of(self, group: dict[str, Any]) -> tuple[tuple, tuple[int, ...]]: ...


def repeat(runner: Runner, optimizer: Any) -> list[dict[str, Any]]:
    """Update by the tables of the step before where they are those of this step; the param
    groups that are still to be updated, or parts of them.
    """
    plan = runner.plans[optimizer]
    if not plan.is_same(optimizer, runner):
        del runner.plans[optimizer]
        return optimizer.param_groups
    launch = runner.launch(optimizer, plan.params[0].device)
    left = [batch for batch in plan.batches if not launch.step(batch)]
    return [
        {**each.group, "params": each.params}
        for each in plan.groups
        if any(each.batch is x for x in left)
    ]


@dataclass(slots=True)
class Group:
    """A param group, its values in the step before, those of its parameters that are in a
    batch, and the place there of its numbers. They are known from the values where these
    are `plain`, and have to be asked for again where one can change without being another
    object.
    """

    group: dict[str, Any]
    values: tuple[Any, ...]
    params: Sequence[Tensor]
    batch: "Batch"
    place: int
    plain: bool

    @classmethod
    def of(cls, entry: "Entry", batch: "Batch", place: int) -> "Group":
        group, params = entry.group, entry.elements[0]
        plain = all(_is_plain(value) for key, value in group.items() if key != "params")
        return cls(group, (*group.values(),), params, batch, place, plain)

    def is_same(self, runner: Runner) -> bool:
        """Whether the group is what it was, but for numbers, which its batch gets."""
        values = (*self.group.values(),)
        if self.plain and _are(values, self.values):
            return True
        if len(values) != len(self.values):
            return False
        for key, new, old in zip(self.group, values, self.values, strict=True):
            if new is not old and (key in _WAYS or isinstance(old, Tensor)):
                return False
        numbers, options = runner.numbers_of(self.group)
        if options != self.batch.options:
            return False
        at = self.place * len(numbers)
        self.batch.hypers[at : at + len(numbers)] = numbers
        self.values = values
        return True


def _is_plain(value: Any) -> bool:
    if type(value) is tuple:
        return {*map(type, value)} <= _PLAIN
    return type(value) in _PLAIN


@dataclass(slots=True)
class Look:
    """What the parameters and the gradients of a batch look like."""

    batch: "Batch"
    params: Guard
    grads: Guard | None

    @classmethod
    def of(cls, batch: "Batch", at: int | None) -> "Look":
        grads = None if at is None else guard(batch.columns[at])
        if at is not None:
            batch.columns[at] = ()  # no gradient is kept alive for the next step
        return cls(batch, guard(batch.columns[0]), grads)

    def is_same(self, at: int | None) -> bool:
        """Whether all tensors look alike and are where they were, but for the gradients,
        whose addresses its batch gets.
        """
        columns = self.batch.columns
        if not self.params(columns[0]):
            return False
        known = enumerate(zip(columns, self.batch.addresses, strict=True))
        if not all(k == at or addresses(new) == old for k, (new, old) in known):
            return False
        grads = [p.grad for p in columns[0]]
        if at is None:
            return all(each is not None for each in grads)
        if not self.grads(grads):
            return False
        where = addresses(grads)
        if 0 in where and lacks(grads, where):
            return False
        self.batch.tables[at] = array("q", where)
        return True


@dataclass(slots=True)
class Plan:
    """The batches of a step, with their tables, and what these were made of: parameters
    and which of them had no gradient, groups, states and what is in them.
    """

    batches: list["Batch"]
    by_default: bool
    lists: list[list[Tensor]]
    lengths: list[int]
    params: list[Tensor]
    idle: list[Tensor]
    groups: list[Group]
    owners: list[Any]
    states: list[dict[str, Any]]
    kept: list[Any]
    looks: list[Look]

    @classmethod
    def of(
        cls, optimizer: Any, batches: list["Batch"], runner: Runner
    ) -> "Plan | None":
        """The plan, where the batches are all of the step."""
        lists, params = _parameters(optimizer)
        idle = [p for p in params if p.grad is None]
        groups = [
            Group.of(entry, batch, place)
            for batch in batches
            for place, entry in enumerate(batch.entries)
        ]
        rows = sum(len(batch.sizes) for batch in batches)
        if rows + len(idle) != len(params):
            return None
        looks = [Look.of(batch, runner.grads) for batch in batches]
        states = [*optimizer.state.values()]
        owners, kept = [*optimizer.state], [*_contents(states)]
        lengths = [*map(len, lists)]
        parts = lists, lengths, params, idle, groups, owners, states, kept, looks
        return cls(batches, by_default(), *parts)

    def is_same(self, optimizer: Any, runner: Runner) -> bool:
        """Whether this step is the one before, but for what the batches get."""
        lists, params = _parameters(optimizer)
        if not _are(lists, self.lists) or [*map(len, lists)] != self.lengths:
            return False
        if not _are(params, self.params) or by_default() != self.by_default:
            return False
        if any(p.grad is not None for p in self.idle):
            return False
        state = optimizer.state
        if not _are([*state], self.owners) or not _are([*state.values()], self.states):
            return False
        if not _are([*_contents(self.states)], self.kept):
            return False
        return all(each.is_same(runner) for each in self.groups) and all(
            each.is_same(runner.grads) for each in self.looks
        )


def _parameters(optimizer: Any) -> tuple[list[list[Tensor]], list[Tensor]]:
    lists = [group["params"] for group in optimizer.param_groups]
    return lists, [*chain.from_iterable(lists)]


def _contents(states: list[dict[str, Any]]) -> Iterable[Any]:
    return chain.from_iterable(map(dict.values, states))


def _are(new: Sequence[Any], old: Sequence[Any]) -> bool:
    return len(new) == len(old) and all(map(is_, new, old))

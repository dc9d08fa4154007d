"""The step before, once more: whether only gradients and hypers are new.

In: an optimizer whose last step kernels took as a whole. Out: whether its tables are those
of this step. Whatever a step reads of groups and states has to be the very objects of the
step before, and every tensor where it was; of gradients, which are others in each step, all
is looked at that kernels rely on.
"""

import os
from collections import defaultdict
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .looks import Look
from .objects import Dicts, Replaced, are

if TYPE_CHECKING:
    from .launch import Batch, Entry

_PLAIN = {bool, int, float, str, type(None)}
_DICTS = {dict, defaultdict}
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
    """A param group, those of its parameters that are in a batch, and the place there of
    its numbers. They are known from the values where these are `plain`, and have to be
    asked for again where one can change without being another object.
    """

    group: dict[str, Any]
    params: Sequence[Tensor]
    batch: "Batch"
    place: int
    plain: bool

    @classmethod
    def of(cls, entry: "Entry", batch: "Batch", place: int) -> "Group":
        group, params = entry.group, entry.elements[0]
        plain = all(_is_plain(value) for key, value in group.items() if key != "params")
        return cls(group, params, batch, place, plain)

    def is_same(self, runner: Runner, replaced: Sequence[Replaced]) -> bool:
        """Whether the group is what it was, but for numbers, which its batch gets."""
        for _, key, old, new in replaced:
            if key in _WAYS or isinstance(old, Tensor):
                return False
            self.plain = self.plain and _is_plain(new)
        numbers, options = runner.numbers_of(self.group)
        if options != self.batch.options:
            return False
        at = self.place * len(numbers)
        self.batch.hypers[at : at + len(numbers)] = numbers
        return True


def _is_plain(value: Any) -> bool:
    if type(value) is tuple:
        return {*map(type, value)} <= _PLAIN
    return type(value) in _PLAIN


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
    of_groups: Dicts
    states: Dicts
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
        states = [optimizer.state, *optimizer.state.values()]
        if rows + len(idle) != len(params) or not {*map(type, states)} <= _DICTS:
            return None
        of_groups = Dicts([each.group for each in groups])
        looks = [Look(batch, runner.grads) for batch in batches]
        lengths = [*map(len, lists)]
        parts = lists, lengths, params, idle, groups, of_groups, Dicts(states), looks
        return cls(batches, by_default(), *parts)

    def is_same(self, optimizer: Any, runner: Runner) -> bool:
        """Whether this step is the one before, but for what the batches get."""
        lists, params = _parameters(optimizer)
        if not are(lists, self.lists) or [*map(len, lists)] != self.lengths:
            return False
        if not are(params, self.params) or by_default() != self.by_default:
            return False
        if any(p.grad is not None for p in self.idle):
            return False
        if optimizer.state is not self.states.dicts[0] or self.states.replaced() != []:
            return False
        return self._has_same_groups(runner) and all(
            each.is_same() for each in self.looks
        )

    def _has_same_groups(self, runner: Runner) -> bool:
        replaced = self.of_groups.replaced()
        if replaced is None:
            return False
        of: dict[int, list[Replaced]] = {}
        for each in replaced:
            of.setdefault(each[0], []).append(each)
        return all(
            (group.plain and at not in of) or group.is_same(runner, of.get(at, ()))
            for at, group in enumerate(self.groups)
        )


def _parameters(optimizer: Any) -> tuple[list[list[Tensor]], list[Tensor]]:
    lists = [group["params"] for group in optimizer.param_groups]
    return lists, [*chain.from_iterable(lists)]

"""How many bytes a step moves for each element of a parameter of float32.

In: a checked rule. Out: for the numbers of axes that it tells apart, the traffic of the
best implementation that keeps only numbers, rows and columns between its passes: each
pass reads what it needs of p, grad and the states like p once and writes what it is done
with once. A reduction has to have seen all of its argument before an element of what
depends on it is known, so that takes another pass. Where the defaults decide, branches
are those of the default hypers, in a later step than the first; elsewhere both count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from .. import ir, vocabulary
from .flow import Flow, Value, reached
from .known import Known, decided, defaults
from .memory import BFLOAT16, FLOAT32, width

MOST_AXES = 4
_SEARCHED = 500_000  # values of all passes of all plans


@dataclass(frozen=True, slots=True)
class Moved:
    """The bytes of one name in all passes together."""

    name: str
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass is done with, and the reductions that have to be known before it."""

    needs: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """`axes` are the numbers of axes it holds for, () for all. With `matrices` it is what
    any implementation moves, without the work on whole matrices, and without that of the
    closure where the step `evaluates` it again.
    """

    axes: tuple[int, ...]
    moved: tuple[Moved, ...]
    passes: tuple[Pass, ...]
    matrices: bool
    evaluates: bool = False

    @property
    def bytes(self) -> int:
        return sum(each.read + each.written for each in self.moved)


def traffic(rule: ir.Rule, hypers: Mapping[str, Any]) -> tuple[Traffic, ...]:
    """The traffic of a step, once where shapes do not matter; hypers that are not set
    have their defaults.
    """
    found: dict[Any, list[int]] = {}
    for axes in range(1, MOST_AXES + 1) if _asks_axes(rule) else (None,):
        known = defaults(rule, hypers, axes)
        if any(known.decides(each.condition) is False for each in rule.requires):
            continue
        counted = _counted(decided(rule, known.with_({vocabulary.FIRST: False})), known)
        found.setdefault(counted, []).extend([] if axes is None else [axes])
    return tuple(
        Traffic(tuple(axes), *parts, rule.evaluates) for parts, axes in found.items()
    )


def _asks_axes(rule: ir.Rule) -> bool:
    blocks = [*ir.blocks(rule), tuple(each.condition for each in rule.requires)]
    blocks.append(tuple(each.when for each in rule.states if each.when is not None))
    return any(
        isinstance(node, ir.Call) and node.function == "ndim"
        for block in blocks
        for statement in block
        for node in ir.walk(statement)
    )


def _counted(
    rule: ir.Rule, known: Known
) -> tuple[tuple[Moved, ...], tuple[Pass, ...], bool]:
    flow = Flow(rule, known)
    after = flow.run()
    values = reached(list(after.values()))
    stored = {name: value for name, value in after.items() if flow.kept[name].full}
    widths = {name: FLOAT32 for name, value in flow.kept.items() if value.full}
    halves = [each.name for each in rule.states if width(each) != FLOAT32]
    widths |= {name: BFLOAT16 for name in widths if name.partition("[")[0] in halves}
    if any(each.matrices for each in values):
        read = {each.before for each in values if each.full}
        return _moved(widths, [read], stored), (), True
    plan = _cheapest(_Plan(stored, values, {}))
    reads = [plan.reads(at) or set() for at in range(plan.count)]
    passes = tuple(map(plan.described, range(plan.count)))
    return _moved(widths, reads, stored), passes, False


def _moved(
    widths: Mapping[str, int], reads: list[set[str]], stored: Mapping[str, Value]
) -> tuple[Moved, ...]:
    """The bytes of every name that is read or written."""
    moved = (
        Moved(
            name, width * sum(name in each for each in reads), width * (name in stored)
        )
        for name, width in widths.items()
    )
    return tuple(each for each in moved if each.read or each.written)


def _cheapest(plan: "_Plan") -> "_Plan":
    """The plan that reads least, of all that write each name in one pass or another."""
    choices = [range(each.level, plan.count) for each in plan.stored.values()]
    tried: Iterable[tuple[int, ...]] = product(*choices)
    if prod(map(len, choices)) * plan.count * len(plan.values) > _SEARCHED:
        tried = [
            tuple(each[0] for each in choices),
            tuple(each[-1] for each in choices),
        ]
    best, least = plan, None
    for passes in tried:
        when = dict(zip(plan.stored, passes, strict=True))
        made = _Plan(plan.stored, plan.values, when)
        reads = [made.reads(at) for at in range(made.count)]
        if None in reads:
            continue
        cost = sum(map(len, reads))
        if least is None or cost < least:
            best, least = made, cost
    return best


@dataclass(frozen=True)
class _Plan:
    """`when` says in which pass each stored name is written."""

    stored: Mapping[str, Value]
    values: list[Value]
    when: Mapping[str, int]

    @property
    def count(self) -> int:
        """A reduction is known behind the pass that its level counts."""
        levels = [each.level for each in self.stored.values()]
        levels += [each.level - 1 for each in self.values if each.reduces]
        return max(levels, default=0) + 1

    def reads(self, at: int) -> set[str] | None:
        """The names that a pass reads; None where it would need what is overwritten."""
        open_ = [self.stored[name] for name, when in self.when.items() if when == at]
        for each in self.values:
            if each.reduces and each.level == at + 1:
                open_ += each.needs
        found, seen = set(), set()
        while open_:
            value = open_.pop()
            if id(value) in seen or not value.full:
                continue
            seen.add(id(value))
            written = (
                name
                for name, new in self.stored.items()
                if new is value and self.when[name] < at
            )
            if value.before:
                if self.when.get(value.before, at) < at:
                    return None
                found.add(value.before)
            elif name := next(written, ""):
                found.add(name)
            else:
                open_ += value.needs
        return found

    def described(self, at: int) -> Pass:
        known = (
            each.reduction for each in self.values if each.reduces and each.level == at
        )
        needs = tuple(dict.fromkeys(each for each in known if each))[::-1]
        writes = tuple(name for name, when in self.when.items() if when == at)
        return Pass(needs, writes)

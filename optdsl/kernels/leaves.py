"""Whose turn each statement of a step is, and when.

In: a step whose statements are each for torch or for kernels. Out: its leaves in order,
those that hold no others, or that torch runs as a whole, each with the turn that it is a
part of. Kernels have the even turns and torch the odd ones. A leaf never moves before what
it reads was written, nor before a reader of the value that it replaces.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from .. import ir
from .carve import LOOKS, Carving
from .slots import Conditions


class Who(Enum):
    """Who runs a leaf; what the `HOST` works out is a part of each turn that reads it."""

    KERNELS = 0
    TORCH = 1
    HOST = 2

    @classmethod
    def of(cls, slot: int) -> "Who":
        return cls(slot % 2)


@dataclass(frozen=True)
class Leaf:
    """A statement under its conditions, each with the side of it that is taken."""

    statement: ir.Statement
    conditions: Conditions
    who: Who
    slot: int = 0

    @cached_property
    def targets(self) -> tuple[ir.Ref, ...]:
        return tuple(ir.targets((self.statement,)))

    @cached_property
    def assigned(self) -> frozenset[str]:
        return frozenset(ref.name for ref in self.targets)

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names whose values it needs: of a list of which it writes an entry, too."""
        asked = (self.statement, *(branch.condition for branch, _ in self.conditions))
        found = {name for each in asked for name in _values(each)}
        found |= {ref.name for ref in self.targets if ref.index is not None}
        if isinstance(self.statement, ir.Repeat):
            found -= {self.statement.target and self.statement.target.name}
        return frozenset(found)

    @property
    def is_other_name(self) -> bool:
        """Whether it only calls something by another name."""
        nodes = ir.walk(getattr(self.statement, "value", self.statement))
        return isinstance(self.statement, ir.Assign) and not any(
            isinstance(each, (ir.Call, ir.Invoke, ir.Binary, ir.Unary))
            for each in nodes
            if not getattr(each, "type", ir.NUMBER).on_host
        )


def _values(node: ir.Node) -> Iterator[str]:
    """The names whose values a node reads; not those whose shape it asks for alone."""
    match node:
        case ir.Ref(name):
            yield name
            below = ir.children(node)
        case ir.Call(function, (ir.Ref(role=ir.Role.PARAM), *others)) if (
            function in LOOKS
        ):
            below = others
        case _:
            below = ir.children(node)
    for each in below:
        yield from _values(each)


def leaves(block: ir.Block, carving: Carving) -> list[Leaf]:
    return _late(_placed(leaf for one in block for leaf in _leaves(one, (), carving)))


def _leaves(
    statement: ir.Statement, around: Conditions, carving: Carving
) -> Iterator[Leaf]:
    if not isinstance(statement, ir.If):
        yield Leaf(statement, around, _who(statement, carving))
        return
    for block, side in ((statement.then, True), (statement.otherwise, False)):
        for each in block:
            yield from _leaves(each, (*around, (statement, side)), carving)


def _who(statement: ir.Statement, carving: Carving) -> Who:
    if carving.is_for_torch(statement):
        return Who.TORCH
    on_host = all(ref.type.on_host for ref in ir.targets((statement,)))
    return Who.HOST if on_host else Who.KERNELS


def _placed(given: Iterator[Leaf]) -> list[Leaf]:
    """Each as early as can be."""
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    result = []
    for leaf in given:
        before = [written.get(name, 0) for name in leaf.reads | leaf.assigned]
        slot = max([0, *before, *(read.get(name, 0) for name in leaf.assigned)])
        while leaf.who not in (Who.HOST, Who.of(slot)):
            slot += 1
        result.append(replace(leaf, slot=slot))
        written |= dict.fromkeys(leaf.assigned, slot)
        read |= {name: max(read.get(name, 0), slot) for name in leaf.reads}
    return result


def _late(placed: list[Leaf]) -> list[Leaf]:
    """The same, where kernels change a parameter or a state that no one asks for until a
    later turn of theirs in that one: it is moved from memory and to it once less.
    """
    result = [*placed]
    for at in reversed(range(len(result))):
        leaf = result[at]
        lasting = all(x.role in (ir.Role.PARAM, ir.Role.STATE) for x in leaf.targets)
        if leaf.who is not Who.KERNELS or not lasting:
            continue
        after = result[at + 1 :]
        asking = [x.slot for x in after if leaf.assigned & (x.reads | x.assigned)]
        slot = min(asking, default=leaf.slot)
        changed = {name for x in after if x.slot < slot for name in x.assigned}
        if Who.of(slot) is Who.KERNELS and not changed & leaf.reads:
            result[at] = replace(leaf, slot=slot)
    return result

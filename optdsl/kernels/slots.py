"""When each assignment of a plain step runs.

In: a plain block. Out: a slot for each of its assignments, in order. Slots run one after
the other; in turn they work out numbers, put numbers of several tensors together, work out
what there is once a matrix, once a line and once a column, and pass over the elements. An
assignment never moves before what it reads was written, nor before a reader of the value
that it replaces; what a pass gathers is known behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .. import ir
from ..ir.kernels import Level, gathers, runs_at

ACROSS = "across"
KINDS = (
    Level.NUMBER,
    ACROSS,
    Level.MATRIX,
    Level.LINE,
    Level.COLUMN,
    Level.ELEMENT,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An assignment under its conditions, each with the side of it that is taken."""

    statement: ir.Assign
    conditions: tuple[tuple[ir.If, bool], ...]
    slot: int

    def reads(self) -> Iterator[ir.Ref]:
        yield from ir.reads(self.statement.value)
        for branch, _ in self.conditions:
            yield from ir.reads(branch.condition)

    def mentions(self) -> set[str]:
        return {self.statement.target.name, *(ref.name for ref in self.reads())}


def kind(statement: ir.Assign) -> Level | str:
    value = statement.value
    if isinstance(value, ir.Call) and value.over:
        return ACROSS
    return runs_at(statement)


def kind_of(slot: int) -> Level | str:
    return KINDS[slot % len(KINDS)]


@dataclass
class Slots:
    """The slot in which each name was written and, where it is known only behind it, one
    more; and the last in which it was read.
    """

    placed: list[Placed] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)

    def block(
        self, block: ir.Block, conditions: tuple[tuple[ir.If, bool], ...] = ()
    ) -> None:
        for statement in block:
            if isinstance(statement, ir.If):
                self.block(statement.then, (*conditions, (statement, True)))
                self.block(statement.otherwise, (*conditions, (statement, False)))
            else:
                self._place(statement, conditions)

    def _place(
        self, statement: ir.Assign, conditions: tuple[tuple[ir.If, bool], ...]
    ) -> None:
        names = [ref.name for ref in Placed(statement, conditions, 0).reads()]
        target = statement.target.name
        slot = max(
            self.written.get(target, 0),
            self.read.get(target, 0),
            *(self.known.get(name, 0) for name in names),
            0,
        )
        while kind_of(slot) != kind(statement):
            slot += 1
        self.placed.append(Placed(statement, conditions, slot))
        for name in names:
            self.read[name] = max(self.read.get(name, 0), slot)
        self.written[target] = slot
        known = slot + 1 if gathers(statement) else slot
        self.known[target] = max(self.known.get(target, 0), known)


def slots(block: ir.Block) -> list[Placed]:
    found = Slots()
    found.block(block)
    return found.placed


def late_slots(block: ir.Block) -> list[Placed]:
    """The same, where a parameter or a state that no one asks for until a later pass is
    changed in that one: it is moved from memory and to it once less.
    """
    result = slots(block)
    for at in reversed(range(len(result))):
        each = result[at]
        stays = each.statement.target.role not in (ir.Role.PARAM, ir.Role.STATE)
        if stays or kind_of(each.slot) is not Level.ELEMENT:
            continue
        name, after = each.statement.target.name, result[at + 1 :]
        later = [other.slot for other in after if name in other.mentions()]
        slot = min(later, default=each.slot)
        names = {ref.name for ref in each.reads()}
        changed = {x.statement.target.name for x in after if x.slot < slot}
        if kind_of(slot) is Level.ELEMENT and not names & changed:
            result[at] = replace(each, slot=slot)
    return result


def as_block(placed: list[Placed]) -> ir.Block:
    """Assignments as a block, each branch once as long as nothing stands between."""
    result: list[ir.Statement] = []
    at = 0
    while at < len(placed):
        one = placed[at]
        if not one.conditions:
            result.append(one.statement)
            at += 1
            continue
        branch = one.conditions[0][0]
        inside = at
        while inside < len(placed) and (
            placed[inside].conditions and placed[inside].conditions[0][0] is branch
        ):
            inside += 1
        sides = [
            as_block(
                [
                    Placed(each.statement, each.conditions[1:], each.slot)
                    for each in placed[at:inside]
                    if each.conditions[0][1] is side
                ]
            )
            for side in (True, False)
        ]
        result.append(ir.If(branch.condition, *sides, branch.span))
        at = inside
    return tuple(result)

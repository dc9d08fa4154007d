"""When each assignment of a plain step runs.

In: a plain block. Out: a slot for each of its assignments, in order. Slots run one after
the other; in turn they work out numbers, put numbers of several tensors together, work out
what there is once a matrix, once a line and once a column, and pass over the elements. An
assignment never moves before what it reads was written, nor before a reader of the value
that it replaces; what a pass gathers is known behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

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


Conditions = tuple[tuple[ir.If | ir.Repeat, bool], ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """An assignment under its conditions, each with the side of it that is taken; a loop
    that it stands in has one side.
    """

    statement: ir.Assign
    conditions: Conditions
    slot: int

    def reads(self) -> Iterator[ir.Ref]:
        yield from ir.reads(self.statement.value)
        for around, _ in self.conditions:
            if isinstance(around, ir.If):
                yield from ir.reads(around.condition)

    @property
    def loop(self) -> ir.Repeat | None:
        """The loop that it stands in."""
        loops = (each for each, _ in self.conditions if isinstance(each, ir.Repeat))
        return next(loops, None)

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

    def block(self, block: ir.Block) -> None:
        """Place all of a block; what a loop does once a tensor, or once an element, stays
        together, since one round may read what the one before it wrote.
        """
        parts = (each for statement in block for each in _parts(statement, ()))
        for loop, run in groupby(parts, attrgetter("loop")):
            of_loop = [*run]
            if loop is None:
                for each in of_loop:
                    self._place([each])
            else:
                for level in KINDS:
                    self._place([x for x in of_loop if kind(x.statement) == level])

    def _place(self, together: list[Placed]) -> None:
        if not together:
            return
        slot = max(map(self._earliest, together))
        while kind_of(slot) != kind(together[0].statement):
            slot += 1
        for each in together:
            self.placed.append(replace(each, slot=slot))
            for ref in each.reads():
                self.read[ref.name] = max(self.read.get(ref.name, 0), slot)
            target = each.statement.target.name
            self.written[target] = slot
            known = slot + 1 if gathers(each.statement) else slot
            self.known[target] = max(self.known.get(target, 0), known)

    def _earliest(self, each: Placed) -> int:
        target = each.statement.target.name
        return max(
            self.written.get(target, 0),
            self.read.get(target, 0),
            *(self.known.get(ref.name, 0) for ref in each.reads()),
            0,
        )


def _parts(statement: ir.Statement, around: Conditions) -> Iterator[Placed]:
    """The assignments of a statement, under their conditions."""
    match statement:
        case ir.If(then=then, otherwise=otherwise):
            sides = (then, True), (otherwise, False)
        case ir.Repeat(body=body):
            sides = ((body, True),)
        case _:
            yield Placed(statement, around, 0)
            return
    for block, side in sides:
        for each in block:
            yield from _parts(each, (*around, (statement, side)))


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
        if isinstance(branch, ir.Repeat):
            result.append(replace(branch, body=sides[0]))
        else:
            result.append(_branch(branch, *sides))
        at = inside
    return tuple(result)


def _branch(around: ir.If, then: ir.Block, otherwise: ir.Block) -> ir.If:
    """The branches of a statement that are left of it."""
    condition = around.condition
    opposite = {"==": "!=", "!=": "=="}.get(getattr(condition, "operator", ""))
    if not then and opposite and condition.left.type.on_host:
        condition = replace(condition, operator=opposite)
        then, otherwise = otherwise, ()
    return ir.If(condition, then, otherwise, around.span)

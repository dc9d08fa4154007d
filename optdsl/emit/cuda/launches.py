"""What is launched for a program, one after the other, and the numbers that one launch
hands to another by way of a table.

In: a program and its columns. Out: launches. Whatever the rows need of each other, of all
blocks of a row or of all rows of a group, is known when a launch begins: within one, no
program waits for another.
"""

from dataclasses import dataclass, field

from ... import ir
from ...ir.kernels import Across, Along, Elements, Level, Numbers, Program, level
from ...stages import read_first, surely
from ..cpu.table import Columns
from .block import gathered, is_number


@dataclass(slots=True)
class Rows:
    """Once a row: it joins what others gathered, works out numbers and keeps states."""

    body: ir.Block = ()
    joins: "tuple[Pass | Single, ...]" = ()
    keeps: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()

    @property
    def joined(self) -> list[ir.Assign]:
        return [x for each in self.joins if each.step for x in gathered(each.step.body)]

    def writes(self) -> set[str]:
        names = {each.target.name for each in self.joined}
        return names | ir.assigned(self.body) | {*self.begins}

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        """The numbers that it needs of what is known `before`; what it assigns on some
        ways only, and others read `after`, keeps its value on the others.
        """
        known = {each.target.name for each in self.joined} | {*self.begins}
        names = {*read_first(self.body, {*known}), *_asked_for(self.body)}
        names |= (ir.assigned(self.body) - surely(self.body)) & (after | {*self.keeps})
        return (names | {*self.keeps} - surely(self.body)) & before - known


@dataclass(slots=True)
class Pass:
    """Once a block of elements."""

    step: Elements
    number: int

    def writes(self) -> set[str]:
        return set()

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        return _numbers(self.step.body) & before


@dataclass(slots=True)
class Single:
    """Once a line, once a column or once a matrix: it joins what others gathered, each
    with what that is, and works out what there is one of.
    """

    level: Level
    number: int
    step: Along | None
    joins: "tuple[tuple[ir.Assign, Pass | Single], ...]"

    def writes(self) -> set[str]:
        return set()

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        return _numbers(self.step.body) & before if self.step else set()


def _asked_for(body: ir.Block) -> set[str]:
    """What decides which way a body takes."""
    branches = (each for each in ir.statements(body) if isinstance(each, ir.If))
    return {ref.name for each in branches for ref in ir.reads(each.condition)}


def _numbers(body: ir.Block) -> set[str]:
    """The numbers that a pass reads."""
    refs = (ref for each in body for ref in ir.reads(each))
    own = {each.target.name for each in gathered(body)}
    return {ref.name for ref in refs if is_number(ref)} - own


@dataclass(slots=True)
class Joint:
    """Once a group, or once for all of them."""

    step: Across
    number: int

    def writes(self) -> set[str]:
        return {self.step.target.name}

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        return {self.step.part.name}


Launch = Rows | Pass | Single | Joint


@dataclass
class Launches:
    """The launches of a program, and the `table` of numbers that go from one to another."""

    program: Program
    columns: Columns
    all: list[Launch] = field(default_factory=list)
    table: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._place()
        self._keep()
        found = dict.fromkeys(
            name for at in range(len(self.all)) for name in sorted(self.loads(at))
        )
        self.table = [*found]

    @property
    def states(self) -> tuple[str, ...]:
        """The numbers that lie in memory when a step begins; the count is one more."""
        return tuple("t" if x == "step" else x for x in self.columns.numbers)

    def _place(self) -> None:
        begins = self.states
        gathers: list[Pass | Single] = []
        waiting: dict[str, tuple[ir.Assign, Pass | Single]] = {}
        passes = joints = singles = 0

        def rows(body: ir.Block) -> None:
            nonlocal begins
            self.all.append(Rows(body, (*gathers,), begins=begins))
            begins = ()
            gathers.clear()

        def single(of: Level, step: Along | None) -> None:
            """Once a line, ...: it joins all that is waiting for this."""
            nonlocal singles
            singles += 1
            joins = [x for x in waiting.values() if level(x[0].target.type) is of]
            for each, _ in joins:
                del waiting[each.target.name]
            self.all.append(Single(of, singles, step, (*joins,)))

        for step in self.program.steps:
            if isinstance(step, Numbers):
                rows(step.body)
                continue
            if begins or gathers:
                rows(())
            if isinstance(step, Across):
                joints += 1
                self.all.append(Joint(step, joints))
                continue
            own = step.level if isinstance(step, Along) else None
            needed = [
                level(waiting[x][0].target.type) for x in step.loads if x in waiting
            ]
            for of in dict.fromkeys(needed):
                if of is not own:
                    single(of, None)
            if isinstance(step, Along):
                single(step.level, step)
            else:
                passes += 1
                self.all.append(Pass(step, passes))
            if gathered(step.body):
                gathers.append(self.all[-1])
            for each in gathered(step.body, Level.LINE, Level.COLUMN, Level.MATRIX):
                waiting[each.target.name] = each, self.all[-1]
        if begins or gathers:
            rows(())

    def _keep(self) -> None:
        """Let the last launch of rows store the states. Rows that share one are all to
        have read it by then.
        """
        changed = set().union(*(each.writes() for each in self.all))
        began = {name for each in self.all for name in getattr(each, "begins", ())}
        assigned = {each.name for each in self.program.numbers}
        kept = tuple(
            x for x in self.states if x == "t" or (x in assigned and x in changed)
        )
        if not kept:
            return
        places = [at for at, each in enumerate(self.all) if isinstance(each, Rows)]
        last = places[-1]
        later = {name for each in self.all[last + 1 :] for name in each.writes()}
        shared = {each.name for each in self.program.rule.shared} & {*kept}
        if later & {*kept} or (shared and self.all[last].begins):
            self.all.append(Rows())
            last = len(self.all) - 1
        assert began >= {*kept}
        self.all[last].keeps = kept

    def known(self, at: int) -> set[str]:
        """The numbers that were worked out before a launch."""
        return set().union(*(each.writes() for each in self.all[:at]))

    def loads(self, at: int) -> set[str]:
        """The numbers that a launch takes from the table."""
        return self.all[at].reads(self.known(at), self.later(at))

    def later(self, at: int) -> set[str]:
        """The numbers that launches behind this one need; those that it assigns or not
        among them.
        """
        names: set[str] = set()
        for place in range(len(self.all) - 1, at, -1):
            names |= self.all[place].reads(self.known(place), names)
        return names

    def stores(self, at: int) -> set[str]:
        """The numbers that a launch puts into the table."""
        return self.all[at].writes() & self.later(at)

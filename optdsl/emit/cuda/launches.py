"""What is launched for a program, one after the other, and the numbers that one launch
hands to another by way of a table.

In: a program and its columns. Out: launches. Whatever the rows need of each other, of all
blocks of a row or of all rows of a group, is known when a launch begins: within one, no
program waits for another.
"""

from dataclasses import dataclass, field

from ... import ir
from ...ir.kernels import Across, Elements, Numbers, Program
from ...stages import read_first, surely
from ..cpu.table import Columns
from .block import gathered, is_number


@dataclass(slots=True)
class Rows:
    """Once a row: it joins what a pass gathered, works out numbers and keeps states."""

    body: ir.Block = ()
    joins: "Pass | None" = None
    keeps: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()

    @property
    def joined(self) -> list[ir.Assign]:
        return gathered(self.joins.step.body) if self.joins else []

    def writes(self) -> set[str]:
        names = {each.target.name for each in self.joined}
        return names | ir.assigned(self.body) | {*self.begins}

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        """The numbers that it needs of what is known `before`; what it assigns on some
        ways only, and others read `after`, keeps its value on the others.
        """
        known = {each.target.name for each in self.joined} | {*self.begins}
        names = {*read_first(self.body, {*known})}
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
        refs = (ref for each in self.step.body for ref in ir.reads(each))
        own = {each.target.name for each in gathered(self.step.body)}
        return {ref.name for ref in refs if is_number(ref)} & before - own


@dataclass(slots=True)
class Joint:
    """Once a group, or once for all of them."""

    step: Across
    number: int

    def writes(self) -> set[str]:
        return {self.step.target.name}

    def reads(self, before: set[str], after: set[str]) -> set[str]:
        return {self.step.part.name}


Launch = Rows | Pass | Joint


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
        gathers: Pass | None = None
        passes = joints = 0

        def rows(body: ir.Block) -> None:
            nonlocal begins, gathers
            self.all.append(Rows(body, gathers, begins=begins))
            begins, gathers = (), None

        for step in self.program.steps:
            if isinstance(step, Numbers):
                rows(step.body)
                continue
            if begins or gathers:
                rows(())
            if isinstance(step, Across):
                joints += 1
                self.all.append(Joint(step, joints))
            else:
                passes += 1
                self.all.append(Pass(step, passes))
                if gathered(step.body):
                    gathers = self.all[-1]
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

"""A step as passes over memory, for those who write kernels: what is worked out once a
tensor, and what once an element, in turn.

A rule that reduces along axes sees each tensor as matrices, and works out values once a
matrix, once a line or once a column, too. The shapes of its types say which: a line lacks
axis -1 of a matrix, a column axis -2. A line is a row of a matrix.
"""

from dataclasses import dataclass
from enum import Enum

from ..types import Kind, Shape, Type
from .nodes import Assign, Block, Call, Expr, Ref
from .rules import Rule
from .walks import statements

REDUCTIONS = frozenset("sum mean norm dot max min any all".split())


class Level(Enum):
    """How often a value is worked out, in the order in which a step goes on from one to
    the next; a value of one level can be read at those behind it, but a line's at no
    column.
    """

    NUMBER = "tensor"
    MATRIX = "matrix"
    LINE = "line"
    COLUMN = "column"
    ELEMENT = "element"


_LEVELS = {
    (): Level.ELEMENT,
    (-1,): Level.LINE,
    (-2,): Level.COLUMN,
    (-2, -1): Level.MATRIX,
}


def shape_of(axes: frozenset[int], keepdim: bool = True) -> Shape:
    """The shape without some axes of a matrix."""
    return Shape(((tuple(sorted(axes)), keepdim),)) if axes else Shape()


def level(type_: Type) -> Level:
    """The level of a value of a program."""
    if type_.kind is not Kind.TENSOR:
        return Level.NUMBER
    axes = type_.shape.reductions[0][0] if type_.shape.reductions else ()
    return _LEVELS[axes]


def gathers(statement: Assign) -> bool:
    """Whether it is a reduction: of elements to a number, or along the axes that its call
    names, to what has one of each line, of each column or of each matrix.
    """
    value = statement.value
    return (
        isinstance(value, Call)
        and (value.dim is not None or statement.target.type.kind is not Kind.TENSOR)
        and value.function in REDUCTIONS
        and not value.over
        and value.arguments[0].type.kind is Kind.TENSOR
    )


def runs_at(statement: Assign) -> Level:
    """The level of an assignment: that of what it gathers, or else of its target."""
    if gathers(statement):
        return level(statement.value.arguments[0].type)
    return level(statement.target.type)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is worked out once a tensor: host numbers and 0-d tensors, in float64."""

    body: Block


@dataclass(frozen=True, slots=True)
class Across:
    """One number of each tensor put together over its group or the model; every tensor of
    these has the result.
    """

    target: Ref
    call: Call

    @property
    def part(self) -> Expr:
        return self.call.arguments[0]


@dataclass(frozen=True, slots=True)
class Elements:
    """One pass over memory: what is worked out once an element. It loads the tensors that
    it reads and stores those that it changes. An assignment of a reduction to a number
    gathers it over the tensor; whoever reads it stands in a later step.
    """

    body: Block
    loads: tuple[str, ...]
    stores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Along:
    """What is worked out once a line, once a column or once a matrix of a tensor, in
    float64. It loads and stores as a pass over elements does, and may gather its values
    along the axis that is left, or over the tensor.
    """

    level: Level
    body: Block
    loads: tuple[str, ...]
    stores: tuple[str, ...]


Step = Numbers | Across | Elements | Along


class View(Enum):
    """Which matrices a tensor is seen as: its last two axes, where those before are a
    batch; or one matrix, of its first axis and all others. Axes that it lacks are of
    size 1.
    """

    LAST = "last"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Option:
    """A condition that is the same for all of a group, for which a kernel is built."""

    name: str
    condition: Expr


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number that is the same for all of a group, for which a kernel is built: how
    often a loop runs, how long a list is.
    """

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Program:
    """The step of a rule. `numbers` are all that are worked out once a tensor; `scratch`
    are the tensors that one pass hands on to another; `asked` are numbers of a tensor that
    the host looks up.

    `lists` are the states, the tuples of hypers and the numbers that are as many as a count
    says, or a literal, each with how many that is. Where not all `fits` hold, an entry of
    a list is asked for that there is not.

    Where it has a `view`, it reduces along axes: there are steps Along, and passes gather
    along axes. `reduced` are then the names of all tensors with one number of each line,
    column or matrix that a step hands on to another, with their levels: states, and locals,
    which are kept in float64 as long as the step takes. Tensors of fewer than the `least`
    axes come to nothing that is reduced: they may be seen as any shape of their size.

    A program may be one `turn` of a step, a number from 1 on. No one looks whether Python
    would raise for a number of it, since another turn has changed something by then.
    """

    rule: Rule
    steps: tuple[Step, ...]
    options: tuple[Option, ...]
    numbers: tuple[Ref, ...]
    scratch: tuple[Ref, ...]
    asked: tuple[tuple[str, Expr], ...]
    counts: tuple[Count, ...] = ()
    lists: tuple[tuple[str, Expr], ...] = ()
    fits: tuple[Expr, ...] = ()
    view: View | None = None
    reduced: tuple[tuple[str, Level], ...] = ()
    least: int = 0
    turn: int = 0

    @property
    def passes(self) -> int:
        """How often it passes over memory."""
        return sum(isinstance(each, Elements) for each in self.steps)

    @property
    def title(self) -> str:
        turn = f", turn {self.turn}," if self.turn else ""
        count = f"{self.passes} passes" if self.passes > 1 else "one pass"
        return f"{self.rule.name}{turn} in {count} over memory."

    @property
    def elementwise(self) -> bool:
        """Whether neither another element of a tensor nor the size of it decides how one is
        updated, so that a part of it can be updated without the rest.
        """
        if self.turn or self.view is not None or self.asked:
            return False
        if any(isinstance(each, Across) for each in self.steps):
            return False
        passes = [each for each in self.steps if isinstance(each, Elements)]
        inside = [x for step in passes for x in statements(step.body)]
        return not any(isinstance(x, Assign) and gathers(x) for x in inside)

    def handed_on(self, step: Elements | Along) -> set[str]:
        """What a pass stores in memory that outlives the step, and a later pass loads: both
        are to see the same number, as it is stored.
        """
        later = self.steps[self.steps.index(step) + 1 :]
        passes = (each for each in later if isinstance(each, (Elements, Along)))
        loads = {x for each in passes for x in each.loads}
        outlive = {"p", *(each.name for each in self.rule.own)}
        return loads & {*step.stores} & outlive


@dataclass(frozen=True, slots=True)
class Turns:
    """A step that kernels and torch take turns in: programs, and rules that torch runs on
    lists. `handed` are the names of what one turn hands on to another: in each a state, a
    tensor like the parameter that lives as long as the step takes. For each turn of torch,
    `returned` are the names of what it returns.
    """

    parts: tuple[Program | Rule, ...]
    handed: tuple[str, ...]
    returned: tuple[tuple[str, ...], ...]

    @property
    def programs(self) -> list[Program]:
        return [each for each in self.parts if isinstance(each, Program)]

    @property
    def options(self) -> tuple[Option, ...]:
        return tuple(x for each in self.programs for x in each.options)

    @property
    def passes(self) -> int:
        return sum(each.passes for each in self.programs)

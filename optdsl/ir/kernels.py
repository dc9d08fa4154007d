"""A step as passes over memory, for those who write kernels: what is worked out once a
tensor, and what once an element, in turn.
"""

from dataclasses import dataclass

from ..types import Kind
from .nodes import Assign, Block, Call, Expr, Ref
from .rules import Rule

REDUCTIONS = frozenset("sum mean norm dot max min any all".split())


def gathers(statement: Assign) -> bool:
    """Whether it is a reduction of elements to a number."""
    value = statement.value
    return (
        statement.target.type.kind is not Kind.TENSOR
        and isinstance(value, Call)
        and value.function in REDUCTIONS
        and not value.over
        and value.arguments[0].type.kind is Kind.TENSOR
    )


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


Step = Numbers | Across | Elements


@dataclass(frozen=True, slots=True)
class Option:
    """A condition that is the same for all of a group, for which a kernel is built."""

    name: str
    condition: Expr


@dataclass(frozen=True, slots=True)
class Program:
    """The step of a rule. `numbers` are all that are worked out once a tensor; `scratch`
    are the tensors that one pass hands on to another; `asked` are numbers of a tensor that
    the host looks up.
    """

    rule: Rule
    steps: tuple[Step, ...]
    options: tuple[Option, ...]
    numbers: tuple[Ref, ...]
    scratch: tuple[Ref, ...]
    asked: tuple[tuple[str, Expr], ...]

    def handed_on(self, step: Elements) -> set[str]:
        """What a pass stores in memory that outlives the step, and a later pass loads: both
        are to see the same number, as it is stored.
        """
        later = self.steps[self.steps.index(step) + 1 :]
        loads = {x for each in later if isinstance(each, Elements) for x in each.loads}
        return loads & {*step.stores} - {each.name for each in self.scratch}

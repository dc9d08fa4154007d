"""What a spec says: the untyped tree, one frozen node a construct, a span on each.

Spans do not take part in equality. A number keeps the text it was written with, so
that `1`, `1.0` and `1e0` stay three different things.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from .source import Span


def _span() -> Span:
    return field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Identifier:
    text: str
    span: Span = _span()


# ---- expressions


@dataclass(frozen=True, slots=True)
class Number:
    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Constant:
    """`true`, `false` or `none`."""

    word: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Name:
    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: "Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: "Expression"
    right: "Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Compare:
    """`a < b <= c`: one operand more than operators."""

    operators: tuple[str, ...]
    operands: tuple["Expression", ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Choose:
    condition: "Expression"
    then: "Expression"
    otherwise: "Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Keyword:
    name: Identifier
    value: "Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    function: Identifier
    arguments: tuple["Expression", ...]
    keywords: tuple[Keyword, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Index:
    value: "Expression"
    index: "Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Tuple:
    items: tuple["Expression", ...]
    span: Span = _span()


Expression = (
    Number
    | Text
    | Constant
    | Name
    | Unary
    | Binary
    | Compare
    | Choose
    | Call
    | Index
    | Tuple
)

# ---- statements


@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value`, or `target += value` where `operator` is `+`; with an `index`,
    `target[index] = value`.
    """

    target: Identifier
    operator: str
    value: Expression
    span: Span = _span()
    index: Expression | None = None


@dataclass(frozen=True, slots=True)
class Unpack:
    targets: tuple[Identifier, ...]
    value: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Return:
    value: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Skip:
    """The end of a step that updates nothing."""

    span: Span = _span()


@dataclass(frozen=True, slots=True)
class If:
    """One condition; an `elif` is an If alone in `otherwise`."""

    condition: Expression
    then: tuple["Statement", ...]
    otherwise: tuple["Statement", ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop of a number of rounds that the host knows; `for index in range(count)`, where
    the rounds have numbers.
    """

    count: Expression
    body: tuple["Statement", ...]
    span: Span = _span()
    index: Identifier | None = None


@dataclass(frozen=True, slots=True)
class Complex:
    """Statements in which complex parameters are complex numbers, not pairs of reals."""

    body: tuple["Statement", ...]
    span: Span = _span()


Statement = Assign | Unpack | Return | Skip | If | Repeat | Complex

# ---- declarations


@dataclass(frozen=True, slots=True)
class Range:
    low: Expression
    high: Expression
    closed_low: bool
    closed_high: bool
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Type:
    """`float`, `int?`, or a choice of texts, perhaps with none."""

    name: str
    optional: bool
    choices: tuple[Text, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Hyper:
    name: Identifier
    type: Type | None
    default: Expression
    range: Range | None
    doc: Text | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class State:
    """A state; where it has an `index`, a list of `count` states, one for each number."""

    name: Identifier
    place: Identifier | None
    initial: Expression
    when: Expression | None
    doc: Text | None
    span: Span = _span()
    index: Identifier | None = None
    count: Expression | None = None


@dataclass(frozen=True, slots=True)
class Counter:
    """`state t`: keep the step count although the rule does not read it; `state t: int`:
    keep it as a plain number.
    """

    name: Identifier
    kind: Identifier | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Positional:
    """The arguments that may be given without their names, in this order."""

    names: tuple[Identifier, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Named:
    """The arguments that have to be given by their names."""

    names: tuple[Identifier, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Sparse:
    """Which sparse gradients are taken: all, those under a condition, or no others."""

    only: bool
    when: Expression | None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Require:
    condition: Expression
    message: Text
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Function:
    name: Identifier
    parameters: tuple[Identifier, ...]
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Hook:
    phase: str
    name: Identifier
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Step:
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Case:
    """A line of a route: for which parameters a rule is, all that are left where there is
    no condition; with new defaults for some of its hypers.
    """

    condition: Expression | None
    rule: Identifier
    settings: tuple[Keyword, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Route:
    """Which rule is for which parameters: the first case whose condition holds."""

    cases: tuple[Case, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Point:
    """What a modifier does `before` the rule, to its `update`, or `after` it."""

    name: Identifier
    body: tuple[Statement, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Header:
    name: Identifier
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Modifier:
    """The header of a file that is used by optimizers and is none."""

    name: Identifier
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class About:
    """What the file is about: no two that are about the same go together."""

    subject: Text
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Needs:
    """The hypers of the rule that a modifier reads."""

    names: tuple[Identifier, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Use:
    """A modifier, with new defaults for some of its hypers."""

    name: Identifier
    settings: tuple[Keyword, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Reference:
    path: str
    span: Span = _span()


Declaration = (
    Header
    | Modifier
    | About
    | Needs
    | Use
    | Reference
    | Hyper
    | Positional
    | Named
    | State
    | Counter
    | Sparse
    | Require
    | Function
    | Hook
    | Point
    | Step
    | Route
)


@dataclass(frozen=True, slots=True)
class Spec:
    doc: str
    declarations: tuple[Declaration, ...]
    span: Span = _span()

    def of(self, kind: type) -> list:
        """The declarations of one kind, in the order of the file."""
        return [each for each in self.declarations if isinstance(each, kind)]


def children(node) -> Iterator:
    """The nodes directly below a node, in the order of the text."""
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        for child in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(child) and not isinstance(child, Span):
                yield child


def walk(node) -> Iterator:
    """A node and every node below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)

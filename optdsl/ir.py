"""What a spec means: the checked tree. Every name points to a role, every expression
has a type.

The passes lower the tree within the same types: arithmetic on tensors becomes `Op`
(one torch call), and a statement that only writes into a tensor becomes `Effect`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from .source import Source, Span
from .types import (
    ANY_SHAPE,
    FLAG,
    LIKE_PARAM,
    NOTHING,
    NUMBER,
    SCALAR,
    TENSOR,
    TEXT,
    UNKNOWN,
    Kind,
    Shape,
    Type,
)

__all__ = [
    "ANY_SHAPE",
    "FLAG",
    "LIKE_PARAM",
    "NOTHING",
    "NUMBER",
    "SCALAR",
    "TENSOR",
    "TEXT",
    "UNKNOWN",
    "Kind",
    "Shape",
    "Type",
]


class Role(Enum):
    HYPER = "hyper"
    STATE = "state"
    PARAM = "param"
    GRAD = "grad"
    COUNT = "count"
    FIRST = "first"
    FLAG = "flag"
    SEED = "seed"
    LOSS = "loss"
    LOCAL = "local"
    SHARED = "local of all parameters"
    INDEX = "index"


def _span() -> Span:
    return field(compare=False, repr=False)


# ---- expressions


@dataclass(frozen=True, slots=True)
class Const:
    """A literal as Python spells it; its text tells `1` from `1.0` and `True`."""

    text: str
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Ref:
    """A name; with an `index`, one of a list of states."""

    name: str
    role: Role
    type: Type
    span: Span = _span()
    index: "Expr | None" = None


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: "Expr"
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, comparison, `and`, `or`."""

    operator: str
    left: "Expr"
    right: "Expr"
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Choose:
    """One of two values by a host condition; the other is not computed."""

    condition: "Expr"
    then: "Expr"
    otherwise: "Expr"
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Pack:
    """A tuple of host scalars."""

    items: tuple["Expr", ...]
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Index:
    """An item of a tuple; the index is a number that the spec says, or that the host
    knows.
    """

    value: "Expr"
    index: "int | Expr"
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """A built-in function; `dim` and `keepdim` are known when the spec is read. A
    reduction `over` the group or the model is over all their parameters.
    """

    function: str
    arguments: tuple["Expr", ...]
    type: Type
    span: Span = _span()
    dim: tuple[int, ...] | None = None
    keepdim: bool = False
    over: str = ""


@dataclass(frozen=True, slots=True)
class Invoke:
    """A call of a `def`, by the name of the instance made for these argument types."""

    function: str
    arguments: tuple["Expr", ...]
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Op:
    """One call of torch, by the name of the method; in place: on its first argument.
    Where it is `listed`, all its tensors have names, and one call computes it for the
    tensors of many parameters. It `may_consume` a gradient that no one else reads: where
    that is a copy, not the model's own, the call can be in place.
    """

    name: str
    arguments: tuple["Expr", ...]
    keywords: tuple[tuple[str, "Expr"], ...]
    type: Type
    span: Span = _span()
    in_place: bool = False
    listed: bool = False
    may_consume: bool = False


Expr = Const | Ref | Unary | Binary | Choose | Pack | Index | Call | Invoke | Op

# ---- statements


@dataclass(frozen=True, slots=True)
class Assign:
    """Where it is `batched`, one call computes it for all tensors of one shape."""

    target: Ref
    value: Expr
    span: Span = _span()
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Unpack:
    """A tuple, or several tensors, taken apart; `batched` as for Assign."""

    targets: tuple[Ref, ...]
    value: Expr
    span: Span = _span()
    batched: bool = False


@dataclass(frozen=True, slots=True)
class If:
    condition: Expr
    then: tuple["Statement", ...]
    otherwise: tuple["Statement", ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Return:
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Effect:
    """A torch call for what it writes."""

    value: Op
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Repeat:
    """Rounds, numbered from 0 where there is a `target` for their numbers."""

    count: Expr
    body: tuple["Statement", ...]
    span: Span = _span()
    target: Ref | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """Statements that run for `each` group, or for each parameter of a group. What stands
    around them has run for all before they begin, and runs again when all are done.
    """

    level: str
    body: tuple["Statement", ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Forget:
    """Names that no one reads again, whose memory others need."""

    names: tuple[str, ...]
    span: Span = _span()


Statement = Assign | Unpack | If | Repeat | Each | Return | Effect | Forget
Block = tuple[Statement, ...]

# ---- declarations


@dataclass(frozen=True, slots=True)
class Range:
    low: Expr
    high: Expr
    closed_low: bool
    closed_high: bool

    def __str__(self) -> str:
        left, right = "[("[not self.closed_low], "])"[not self.closed_high]
        return f"{left}{_number(self.low)}, {_number(self.high)}{right}"


def _number(expr: Expr) -> str:
    sign = "-" if isinstance(expr, Unary) else ""
    text = expr.operand.text if isinstance(expr, Unary) else expr.text
    return sign + text.removeprefix("math.")


@dataclass(frozen=True, slots=True)
class Hyper:
    """`annotation` is float, int, bool, str or tuple."""

    name: str
    annotation: str
    default: Expr
    type: Type
    range: Range | None
    choices: tuple[str, ...]
    doc: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Remembered:
    """The number that a hyper was when its group was added; read as a hyper of its own."""

    name: str
    hyper: Hyper

    @property
    def kept(self) -> Hyper:
        return dataclasses.replace(self.hyper, name=self.name)


@dataclass(frozen=True, slots=True)
class State:
    """A state of the `place` "" is made of tensors; "scalar" is one number a parameter, 0-d
    and of its own precision; where its type is a host scalar, it is read as a Python
    number. "group" and "model" is one number, 0-d, for a group or for the whole model.
    Where there is an `index`, it is a list of `count` states, whose first values and
    conditions may read the index.
    """

    name: str
    initial: Expr
    when: Expr | None
    type: Type
    place: str
    doc: str
    span: Span = _span()
    index: Ref | None = None
    count: Expr | None = None

    @property
    def scalar(self) -> bool:
        return self.place == "scalar"

    @property
    def shared(self) -> bool:
        """Whether several parameters have it together."""
        return self.place in ("group", "model")

    @property
    def host(self) -> bool:
        return self.type.on_host

    @property
    def asked(self) -> tuple[Expr, ...]:
        """What decides whether, and how often, there is such a state."""
        return tuple(each for each in (self.count, self.when) if each is not None)


@dataclass(frozen=True, slots=True)
class Sparse:
    """Sparse gradients are taken under a condition; the only ones, where `only`."""

    only: bool = False
    when: Expr | None = None


@dataclass(frozen=True, slots=True)
class Arguments:
    """The constructor's arguments in their order; hypers that are none of them are part
    of every group with their defaults. The options `apart` are in a group only where they
    are on.
    """

    positional: tuple[str, ...]
    named: tuple[str, ...]
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Require:
    condition: Expr
    message: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    parameters: tuple[Ref, ...]
    body: Block
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Hook:
    name: str
    body: Block
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Rule:
    """An optimizer: its declarations, its hooks, its step. `prologue` is the host work
    that is the same for every parameter of a group. `counted` says how the step count is
    kept: "", "tensor" or "int". In the
    statements of the step that lie in `complex`, complex parameters are complex numbers;
    in all others they are pairs of reals. Hypers `of_model` are the same in all groups.
    `remembered` are numbers that a group keeps from
    when it was added, each under the name by which it is read. The hooks `on_calls` run
    when they are called by hand alone. A rule is `random` where it draws random numbers,
    and `reads_loss` where it asks what the closure returned. Where it means the same for
    `pairs` of reals on every target, it takes complex parameters.
    """

    name: str
    doc: str
    reference: str
    hypers: tuple[Hyper, ...]
    requires: tuple[Require, ...]
    states: tuple[State, ...]
    counted: str
    functions: tuple[Function, ...]
    pre_steps: tuple[Hook, ...]
    step: Block
    post_steps: tuple[Hook, ...]
    source: Source = field(compare=False, repr=False)
    prologue: Block = ()
    arguments: Arguments = Arguments((), ())
    sparse: Sparse | None = None
    complex: tuple[Span, ...] = ()
    of_model: tuple[str, ...] = ()
    remembered: tuple["Remembered", ...] = ()
    on_calls: tuple[Hook, ...] = ()
    random: bool = False
    reads_loss: bool = False
    pairs: bool = False

    @property
    def own(self) -> tuple[State, ...]:
        """The states that each parameter has for itself."""
        return tuple(each for each in self.states if not each.shared)

    @property
    def shared(self) -> tuple[State, ...]:
        """The states of groups and of the model."""
        return tuple(each for each in self.states if each.shared)

    @property
    def in_phases(self) -> bool:
        """Whether a step sees all parameters of a group, or of the model, together."""
        return any(isinstance(each, Each) for each in self.step)

    @property
    def hooks(self) -> tuple[Hook, ...]:
        return (*self.pre_steps, *self.post_steps, *self.on_calls)

    @property
    def of_group(self) -> tuple[Hyper, ...]:
        """All numbers that a group has."""
        return (*self.hypers, *(each.kept for each in self.remembered))


@dataclass(frozen=True, slots=True)
class Targets:
    """A rule lowered for each way to run it: one parameter at a time or many at once, with
    the host or `captured` without it; and with nothing in place, for autograd to follow.
    The captured ones are None where the rule cannot do without the host, and `why_not`
    says why.
    """

    loop: Rule
    foreach: Rule
    differentiable: Rule
    captured: Rule | None = None
    captured_foreach: Rule | None = None
    captured_differentiable: Rule | None = None
    why_not: str = ""

    @property
    def all(self) -> tuple[Rule, ...]:
        """The rules that there are."""
        fields = (getattr(self, each.name) for each in dataclasses.fields(self))
        return tuple(each for each in fields if isinstance(each, Rule))

    def blocks(self) -> Iterator[Block]:
        """What any of the update functions runs."""
        for rule in self.all:
            yield rule.prologue
            yield rule.step

    @property
    def apart(self) -> tuple[Rule | None, Rule | None]:
        """The captured updates, each where it differs from the one with the host."""
        pairs = (self.captured, self.loop), (self.captured_foreach, self.foreach)
        return tuple(
            None if one is None or _update(one) == _update(other) else one
            for one, other in pairs
        )


def _update(rule: Rule) -> tuple:
    return rule.functions, rule.prologue, rule.step


Node = Expr | Statement


def children(node: Node) -> Iterator[Node]:
    """The expressions and statements directly below a node, in order of evaluation."""
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if each.name in ("type", "span", "targets"):
            continue
        if each.name == "target":
            if value is not None and value.index is not None:
                yield value.index
        elif each.name == "keywords":
            yield from (argument for _, argument in value)
        elif isinstance(value, tuple):
            yield from (item for item in value if dataclasses.is_dataclass(item))
        elif dataclasses.is_dataclass(value):
            yield value


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with the expressions and statements directly below it changed."""
    changed = {}
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if each.name in ("type", "span"):
            continue
        if each.name == "keywords":
            value = tuple((name, change(argument)) for name, argument in value)
        elif isinstance(value, tuple):
            value = tuple(
                change(item) if dataclasses.is_dataclass(item) else item
                for item in value
            )
        elif dataclasses.is_dataclass(value):
            value = change(value)
        changed[each.name] = value
    return dataclasses.replace(node, **changed)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def reads(node: Node) -> Iterator[Ref]:
    """Every reference that a node reads, in order of evaluation."""
    return (each for each in walk(node) if isinstance(each, Ref))


def statements(block: Block) -> Iterator[Statement]:
    """Every statement of a block and of the branches inside it."""
    for statement in block:
        yield statement
        if isinstance(statement, If):
            yield from statements(statement.then)
            yield from statements(statement.otherwise)
        elif isinstance(statement, (Repeat, Each)):
            yield from statements(statement.body)


def assigned(block: Block) -> set[str]:
    """The names that a block assigns, in its branches too."""
    return {
        each.target.name
        for each in statements(block)
        if isinstance(each, (Assign, Repeat)) and each.target is not None
    }


def unpacked(block: Block) -> set[str]:
    """The names that a block takes out of tuples, in its branches too."""
    found = (each.targets for each in statements(block) if isinstance(each, Unpack))
    return {ref.name for refs in found for ref in refs}


def written(expr: Expr) -> Expr:
    """What a chain of in-place calls writes into: where it starts."""
    while isinstance(expr, Op) and expr.in_place:
        expr = expr.arguments[0]
    return expr


def blocks(rule: Rule) -> Iterator[Block]:
    """Every block of a rule: functions, hooks, prologue, step."""
    for function in rule.functions:
        yield function.body
    for hook in rule.hooks:
        yield hook.body
    yield rule.prologue
    yield rule.step


def with_blocks(rule: Rule, change: Callable[[Block], Block]) -> Rule:
    """The rule with every block changed."""
    return dataclasses.replace(
        rule,
        functions=tuple(
            dataclasses.replace(each, body=change(each.body)) for each in rule.functions
        ),
        pre_steps=tuple(
            dataclasses.replace(each, body=change(each.body)) for each in rule.pre_steps
        ),
        prologue=change(rule.prologue),
        step=change(rule.step),
        post_steps=tuple(
            dataclasses.replace(each, body=change(each.body))
            for each in rule.post_steps
        ),
        on_calls=tuple(
            dataclasses.replace(each, body=change(each.body)) for each in rule.on_calls
        ),
    )

"""What a spec means: the checked tree. Every name points to a role, every expression
has a type.

Kinds: a *host scalar* is known to Python once per group or parameter and costs no
tensor work; a *tensor scalar* is 0-d and lives on the device; a *tensor* has the shape of the
parameter, or of it reduced over some axes.

The passes lower the tree within the same types: arithmetic on tensors becomes `Op`
(one torch call), and a statement that only writes into a tensor becomes `Effect`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from .source import Source, Span


class Kind(Enum):
    HOST = "host scalar"
    SCALAR = "tensor scalar"
    TENSOR = "tensor"


class Role(Enum):
    HYPER = "hyper"
    STATE = "state"
    PARAM = "param"
    GRAD = "grad"
    COUNT = "count"
    FIRST = "first"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameter's shape after reductions, each (axes, keepdim), in order.

    Reductions that keep their axes and follow each other are one, its axes sorted, so
    that equal shapes are equal.
    """

    reductions: tuple[tuple[tuple[int, ...], bool], ...] = ()

    def reduced(self, axes: tuple[int, ...], keepdim: bool) -> "Shape":
        if keepdim and self.reductions and self.reductions[-1][1]:
            axes = tuple(sorted({*axes, *self.reductions[-1][0]}))
            return Shape((*self.reductions[:-1], (axes, True)))
        return Shape((*self.reductions, (tuple(sorted(axes)), keepdim)))

    def with_(self, other: "Shape") -> "Shape | None":
        """The shape of both, broadcast; None where they may not fit."""
        if self == other:
            return self
        if not all(len(each.reductions) < 2 for each in (self, other)):
            return None
        mine, its = (dict([*each.reductions, ((), True)][:1]) for each in (self, other))
        (left, left_kept), (right, right_kept) = *mine.items(), *its.items()
        if not (left_kept and right_kept) or _mixed_ends({*left, *right}):
            return None
        both = tuple(axis for axis in left if axis in right)
        return Shape(((both, True),)) if both else LIKE_PARAM

    def __str__(self) -> str:
        if not self.reductions:
            return "like p"
        return "like p" + "".join(
            f" {'with' if kept else 'without'} {'one of ' if kept else ''}axes "
            + ", ".join(map(str, axes))
            for axes, kept in self.reductions
        )


def _mixed_ends(axes: set[int]) -> bool:
    """Whether axes are counted from both ends, so that no one knows which are equal."""
    return any(axis < 0 for axis in axes) and any(axis >= 0 for axis in axes)


LIKE_PARAM = Shape()


@dataclass(frozen=True, slots=True)
class Type:
    """`element` is number, flag, text, tuple or unknown; a tuple has a `length`."""

    kind: Kind = Kind.HOST
    element: str = "number"
    shape: Shape = LIKE_PARAM
    length: int = 0
    optional: bool = False

    @property
    def on_host(self) -> bool:
        return self.kind is Kind.HOST

    @property
    def unknown(self) -> bool:
        return self.element == "unknown"

    def __str__(self) -> str:
        if self.element == "nothing":
            return "none"
        if self.on_host:
            size = f" of {self.length}" if self.element == "tuple" else ""
            return f"{self.element}{size}" + (" or none" if self.optional else "")
        text = self.kind.value + (" of flags" if self.element == "flag" else "")
        return text + (f" {self.shape}" if self.kind is Kind.TENSOR else "")


NUMBER, FLAG, TEXT = Type(), Type(element="flag"), Type(element="text")
NOTHING = Type(element="nothing", optional=True)
UNKNOWN = Type(element="unknown")
SCALAR, TENSOR = Type(Kind.SCALAR), Type(Kind.TENSOR)


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
    name: str
    role: Role
    type: Type
    span: Span = _span()


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
    value: "Expr"
    index: int
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """A built-in function; `dim` and `keepdim` are known when the spec is read."""

    function: str
    arguments: tuple["Expr", ...]
    type: Type
    span: Span = _span()
    dim: tuple[int, ...] | None = None
    keepdim: bool = False


@dataclass(frozen=True, slots=True)
class Invoke:
    """A call of a `def`, by the name of the instance made for these argument types."""

    function: str
    arguments: tuple["Expr", ...]
    type: Type
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Op:
    """One call of torch, by the name of the method; in place: on its first argument."""

    name: str
    arguments: tuple["Expr", ...]
    keywords: tuple[tuple[str, "Expr"], ...]
    type: Type
    span: Span = _span()
    in_place: bool = False


Expr = Const | Ref | Unary | Binary | Choose | Pack | Index | Call | Invoke | Op

# ---- statements


@dataclass(frozen=True, slots=True)
class Assign:
    target: Ref
    value: Expr
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Unpack:
    targets: tuple[Ref, ...]
    value: Expr
    span: Span = _span()


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


Statement = Assign | Unpack | If | Return | Effect
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
class State:
    """`host` states are 0-d and read as Python numbers."""

    name: str
    initial: Expr
    when: Expr | None
    type: Type
    host: bool
    doc: str
    span: Span = _span()


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
    that is the same for every parameter of a group.
    """

    name: str
    doc: str
    reference: str
    hypers: tuple[Hyper, ...]
    requires: tuple[Require, ...]
    states: tuple[State, ...]
    counted: bool
    functions: tuple[Function, ...]
    pre_steps: tuple[Hook, ...]
    step: Block
    post_steps: tuple[Hook, ...]
    source: Source = field(compare=False, repr=False)
    prologue: Block = ()


Node = Expr | Statement


def children(node: Node) -> Iterator[Node]:
    """The expressions and statements directly below a node, in order of evaluation."""
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if each.name in ("type", "span", "target", "targets"):
            continue
        if each.name == "keywords":
            yield from (argument for _, argument in value)
        elif isinstance(value, tuple):
            yield from (item for item in value if dataclasses.is_dataclass(item))
        elif dataclasses.is_dataclass(value):
            yield value


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def rewrite(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with `change` applied to every node, leaves first.

    A node below which nothing changes is kept as it is.
    """

    def below(value):
        if isinstance(value, tuple):
            items = tuple(below(item) for item in value)
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else items
        return rewrite(value, change) if isinstance(value, Node) else value

    changed = {}
    for each in dataclasses.fields(node):
        if each.name in ("type", "span", "target", "targets"):
            continue
        old = getattr(node, each.name)
        new = below(old)
        if new is not old:
            changed[each.name] = new
    return change(dataclasses.replace(node, **changed) if changed else node)


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


def blocks(rule: Rule) -> Iterator[Block]:
    """Every block of a rule: functions, hooks before, prologue, step, hooks after."""
    for function in rule.functions:
        yield function.body
    for hook in (*rule.pre_steps, *rule.post_steps):
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
    )

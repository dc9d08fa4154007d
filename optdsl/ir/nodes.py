"""The nodes of the checked tree: expressions and statements."""

from dataclasses import dataclass, field
from enum import Enum

from ..source import Span
from ..types import Type


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
    CALLS = "runs of a hook"
    OPTION = "option of a kernel"


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
class Skip:
    """The end of a step, before anything is updated."""

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


Statement = Assign | Unpack | If | Repeat | Each | Return | Skip | Effect | Forget
Block = tuple[Statement, ...]
Node = Expr | Statement

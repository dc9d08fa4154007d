"""The declarations of a rule, and the rule itself, for each way to run it."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..source import Source, Span
from ..types import Type
from .nodes import Block, Each, Expr, Ref, Unary

if TYPE_CHECKING:
    from .kernels import Program, Turns


def _span() -> Span:
    return field(compare=False, repr=False)


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


HOOKS = ("pre_steps", "post_steps", "on_calls", "modes")
"""The kinds of hooks that a rule has."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An optimizer: its declarations, its hooks, its step. `prologue` is the host work
    that is the same for every parameter of a group. `counted` says how the step count is
    kept: "", "tensor" or "int". In the
    statements of the step that lie in `complex`, complex parameters are complex numbers;
    in all others they are pairs of reals. Hypers `of_model` are the same in all groups.
    `remembered` are numbers that a group keeps from
    when it was added, each under the name by which it is read. The hooks `on_calls` run
    when they are called by hand alone; those of `modes` when a mode is set that was not.
    A rule is `random` where it draws random numbers,
    `reads_loss` where it asks what the closure returned, and `evaluates` where it has the
    closure evaluated again. Where it means the same for
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
    modes: tuple[Hook, ...] = ()
    random: bool = False
    reads_loss: bool = False
    evaluates: bool = False
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
        return tuple(each for kind in HOOKS for each in getattr(self, kind))

    @property
    def of_group(self) -> tuple[Hyper, ...]:
        """All numbers that a group has."""
        return (*self.hypers, *(each.kept for each in self.remembered))


@dataclass(frozen=True, slots=True)
class Targets:
    """A rule lowered for each way to run it: one parameter at a time or many at once, with
    the host or `captured` without it; and with nothing in place, for autograd to follow.
    The captured ones are None where the rule cannot do without the host, and `why_not`
    says why; so are the `kernels` where it needs what `no_kernels` names.
    """

    loop: Rule
    foreach: Rule
    differentiable: Rule
    captured: Rule | None = None
    captured_foreach: Rule | None = None
    captured_differentiable: Rule | None = None
    why_not: str = ""
    kernels: "Program | Turns | None" = None
    no_kernels: str = ""

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

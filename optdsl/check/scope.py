"""What the checker knows while it reads: the mistakes so far, the names, the place."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from .. import ir, syntax
from ..diagnostics import Diagnostic, Label
from ..source import Source, Span

MOST_MISTAKES = 50


@dataclass(frozen=True, slots=True)
class Mode:
    """How a target runs the rule: which host scalars are tensors on the device, and the
    flags that it is made for. The `note` is for those who read what is wrong on this
    target alone.
    """

    counts_on_device: bool = False
    items_on_device: bool = False
    capturable: bool = False
    differentiable: bool = False
    note: str = ""


LOOP = Mode()
FOREACH = Mode(
    items_on_device=True,
    note="where many parameters are updated at once, `item` leaves a tensor scalar as it is",
)
DIFFERENTIABLE = Mode(
    items_on_device=True,
    differentiable=True,
    note="with `differentiable`, `item` leaves a tensor scalar as it is",
)
CAPTURABLE = Mode(
    counts_on_device=True,
    items_on_device=True,
    capturable=True,
    note="with `capturable`, the count, scalar states and what `item` gives are tensors",
)


@dataclass
class Report:
    """Collects diagnostics; two about the same characters are one."""

    source: Source
    found: list[Diagnostic] = field(default_factory=list)

    def __call__(
        self,
        code: str,
        message: str,
        span: Span,
        label: str = "",
        *,
        others: tuple[Label, ...] = (),
        notes: tuple[str, ...] = (),
        help: str = "",
    ) -> None:
        if len(self.found) >= MOST_MISTAKES:
            return
        if any(each.label and each.label.span == span for each in self.found):
            return
        self.found.append(
            Diagnostic(
                code, message, self.source, Label(span, label), others, notes, help
            )
        )

    def about_file(self, code: str, message: str, help: str) -> None:
        self.found.append(Diagnostic(code, message, self.source, help=help))

    @property
    def errors(self) -> int:
        return sum(not each.is_warning for each in self.found)

    def sorted(self, note: str = "") -> list[Diagnostic]:
        """In the order of the file, with a note on those about kinds."""
        found = sorted(self.found, key=_place)
        return [
            replace(each, notes=(*each.notes, note))
            if note and each.code.startswith("E04")
            else each
            for each in found
        ]


def _place(found: Diagnostic) -> tuple[int, str]:
    return found.label.span.start if found.label else 0, found.code


@dataclass(frozen=True)
class Local:
    """A local's type here; `missing` is where it is assigned on one path only, which may
    be a loop without rounds. It is `whole` where its number is, if so are the arguments
    of the def that it `needs`. The `index` of a loop is set by the loop alone.
    """

    type: ir.Type
    missing: Span | None = None
    conflict: ir.Type | None = None
    looped: bool = False
    whole: bool = False
    needs: frozenset[str] = frozenset()
    index: bool = False


INDEX = Local(ir.NUMBER, whole=True, index=True)


@dataclass
class Scope:
    """The names of a spec, and those of the place that is being checked.

    `place` is default, require, sparse, when, state, pre_step, step, post_step, mode
    or def. `facts`
    are the conditions known to hold here, as keys; `counted` has an entry where `first`
    is read without a state to tell it by. `rounds` are the arguments of this def that have
    to be whole, for they are numbers of rounds; `counts` has them for each instance.
    `group_keys` are names under which a group keeps what no one declares, and why. `draws`
    has the number of each draw of random numbers, by where it stands; `loops` says how many
    loops are around this place; `not_captured` why no step can be captured, and where
    that is said.
    A def `has_tensor` among its arguments, whose precision numbers can take. States that
    are `early` are read or written by a pre-step hook.
    """

    report: Report
    mode: Mode = LOOP
    place: str = "default"
    hypers: dict[str, ir.Hyper] = field(default_factory=dict)
    states: dict[str, ir.State] = field(default_factory=dict)
    functions: dict[str, syntax.Function] = field(default_factory=dict)
    instances: dict[tuple, ir.Function] = field(default_factory=dict)
    declared: dict[str, Span] = field(default_factory=dict)
    instantiate: Callable | None = None
    calling: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    misspelled: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    locals: dict[str, Local] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()
    rounds: set[str] = field(default_factory=set)
    counts: dict[tuple, frozenset[str]] = field(default_factory=dict)
    group_keys: dict[str, str] = field(default_factory=dict)
    remembered: dict[str, ir.Remembered] = field(default_factory=dict)
    draws: dict[int, int] = field(default_factory=dict)
    loops: int = 0
    not_captured: tuple[str, tuple[Span, ...]] = ("", ())
    has_tensor: bool = False
    early: frozenset[str] = frozenset()

    def at(self, place: str, **fresh) -> "Scope":
        """The same names seen from another place, without its locals and facts."""
        return replace(
            self,
            place=place,
            **{"locals": {}, "facts": frozenset(), "rounds": set(), **fresh},
        )

    @contextmanager
    def knowing(self, facts: Iterator[str]) -> Iterator[None]:
        before = self.facts
        self.facts = before | frozenset(facts)
        try:
            yield
        finally:
            self.facts = before & self.facts

    def forget(self, name: str) -> None:
        """What was known of a name's value holds no longer."""
        mention = re.compile(rf"\b{name}\b")
        self.facts = frozenset(fact for fact in self.facts if not mention.search(fact))

    def visible(self) -> list[str]:
        """Every name that an expression may read here, for suggestions and notes."""
        names = list(self.locals)
        if self.place != "def" and self.place != "default":
            names += self.hypers
        if self.place in ("state", "pre_step", "step", "post_step", "mode"):
            names += self.states
        if self.place in ("state", "when", "pre_step", "step", "post_step"):
            names += ["p", "grad"]
        if self.place == "mode":
            names += ["p"]
        if self.place in ("step", "post_step"):
            names += ["t"]
        if self.place == "step":
            names += ["first"]
        if self.place == "pre_step":
            names += ["calls"]
        return sorted(dict.fromkeys(names))


_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def key(expr: ir.Expr) -> str:
    """A text that two expressions share where they say the same."""
    match expr:
        case ir.Const():
            return expr.text
        case ir.Ref():
            return expr.name + (f"[{key(expr.index)}]" if expr.index else "")
        case ir.Index(value=value, index=index) if not isinstance(index, int):
            return f"{key(value)}[{key(index)}]"
        case ir.Call("size", (x,), dim=(axis,)):
            return f"size({key(x)}, {axis})"
        case ir.Unary(operator="not"):
            return next(iter(holds_not(expr.operand)), f"not {key(expr.operand)}")
        case ir.Binary():
            return f"({key(expr.left)} {expr.operator} {key(expr.right)})"
        case _:
            inner = ", ".join(key(each) for each in ir.children(expr))
            inner += "".join(
                f" {each}"
                for each in (getattr(expr, "dim", ""), getattr(expr, "index", ""))
                if each != ""
            )
            name = getattr(
                expr, "function", getattr(expr, "operator", type(expr).__name__)
            )
            return f"{name}({inner})"


def holds(condition: ir.Expr) -> Iterator[str]:
    """What is known where a condition is true."""
    yield key(condition)
    match condition:
        case ir.Binary(operator="and"):
            yield from holds(condition.left)
            yield from holds(condition.right)
        case ir.Unary(operator="not"):
            yield from holds_not(condition.operand)


def conjuncts(condition: ir.Expr) -> Iterator[str]:
    """What has to be known for a condition to be true: its parts between `and`."""
    match condition:
        case ir.Binary("and", left, right):
            yield from conjuncts(left)
            yield from conjuncts(right)
        case _:
            yield key(condition)


def holds_not(condition: ir.Expr) -> Iterator[str]:
    """What is known where a condition is false."""
    match condition:
        case ir.Binary(operator="or"):
            yield from holds_not(condition.left)
            yield from holds_not(condition.right)
        case ir.Binary(operator=comparison) if comparison in _OPPOSITE:
            left, right = key(condition.left), key(condition.right)
            yield f"({left} {_OPPOSITE[comparison]} {right})"
        case ir.Unary(operator="not"):
            yield from holds(condition.operand)
        case ir.Ref():
            yield f"not {key(condition)}"

"""What a rule keeps for each parameter, in bytes for parameters of float32.

In: a checked rule. Out: for each state how much there is of it and under which condition,
read off its type; the default hypers decide conditions where they can.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import ir
from .known import Known, Undecided, defaults

FLOAT32, BFLOAT16 = 4, 2
_PER_AXES = {(-1,): "row", (-2,): "column", (-2, -1): "matrix"}


@dataclass(frozen=True, slots=True)
class Kept:
    """`amount` bytes for each `per`: an element, a row, a parameter, a group. `when` is
    the condition in the words of the spec; `now` whether it holds by default, None where
    the shape of the parameter decides.
    """

    name: str
    amount: int
    per: str
    when: str = ""
    now: bool | None = True

    @property
    def text(self) -> str:
        return f"{self.amount} bytes {self.article} {self.per}"

    @property
    def article(self) -> str:
        return "an" if self.per[0] in "aeiou" else "a"


def memory(rule: ir.Rule, hypers: Mapping[str, Any]) -> tuple[Kept, ...]:
    """Every state, and the step count where it is kept; hypers that are not set have
    their defaults.
    """
    known = defaults(rule, hypers)
    count = {"tensor": [Kept("step", FLOAT32, "whole parameter")]}.get(rule.counted, [])
    return (*(_kept(each, rule, known) for each in rule.states), *count)


def _kept(state: ir.State, rule: ir.Rule, known: Known) -> Kept:
    when = rule.source.cut(state.when.span) if state.when is not None else ""
    now = known.decides(state.when)
    return Kept(state.name, width(state) * many(state, known), per(state), when, now)


def many(state: ir.State, known: Known) -> int:
    """How many tensors a list of states has, 1 where it is not known or no list."""
    count = state.count
    try:
        return 1 if count is None else int(known.value(count))
    except Undecided:
        return 1


def width(state: ir.State) -> int:
    """The bytes of one value; a state has the precision that it starts with."""
    return BFLOAT16 if _starts_in_bfloat16(state.initial) else FLOAT32


def per(state: ir.State) -> str:
    """What there is one value of the state for."""
    place = state.place
    if place in ("group", "model"):
        return {"group": "group", "model": "optimizer"}[place]
    if state.scalar or state.type.kind is not ir.Kind.TENSOR:
        return "whole parameter"
    shape = state.type.shape
    if not shape.known:
        return f"entry of {_extents(state.initial) or 'its own shape'}"
    axes = tuple(sorted(axis for gone, _ in shape.reductions for axis in gone))
    if not axes:
        return "element"
    return _PER_AXES.get(axes, f"element without axes {', '.join(map(str, axes))}")


def summary(kept: tuple[Kept, ...]) -> str:
    """The bytes of state in a few words, without those of a whole parameter."""
    parts: dict[str, list[Kept]] = {}
    for each in kept:
        if each.now is not False and each.per not in (
            "whole parameter",
            "group",
            "optimizer",
        ):
            parts.setdefault("" if each.now else each.when, []).append(each)
    always = parts.pop("", [])
    if not parts:
        return _joined(always)
    return "; ".join(
        f"{_joined([*always, *some])} where {when}" for when, some in parts.items()
    )


def _joined(kept: list[Kept]) -> str:
    bytes_ = sum(each.amount for each in kept if each.per == "element")
    parts = [str(bytes_)] if bytes_ or not kept else []
    for per in dict.fromkeys(each.per for each in kept if each.per != "element"):
        some = [each for each in kept if each.per == per]
        parts.append(f"{sum(each.amount for each in some)} {some[0].article} {per}")
    return " + ".join(parts)


def _starts_in_bfloat16(initial: ir.Expr) -> bool:
    while isinstance(initial, ir.Call) and initial.arguments:
        if initial.function == "bfloat16":
            return True
        if initial.function not in (
            "zeros_like",
            "ones_like",
            "full_like",
            "transpose",
        ):
            return False
        initial = initial.arguments[0]
    return False


# ---- sizes of matrices


def _extents(expr: ir.Expr) -> str:
    """The sizes of a value that matrices decide, or "" where they are not known."""
    sides = _sides(expr)
    return f"{sides[0]} × {sides[1]}" if sides else ""


def _sides(expr: ir.Expr) -> tuple[str, str] | None:
    """The last two sizes of a tensor in words; one of them may be 1."""
    shape = expr.type.shape
    if expr.type.kind is not ir.Kind.TENSOR:
        return "1", "1"
    if shape.known:
        axes = {axis for gone, kept in shape.reductions if kept for axis in gone}
        if not all(kept for _, kept in shape.reductions):
            return None
        return "1" if -2 in axes else "rows", "1" if -1 in axes else "columns"
    below = [
        _sides(each) for each in ir.children(expr) if each.type.kind is ir.Kind.TENSOR
    ]
    if not below or None in below:
        return None
    match expr:
        case ir.Call("transpose"):
            return below[0][1], below[0][0]
        case ir.Binary(operator="@"):
            return below[0][0], below[1][1]
        case ir.Unary() | ir.Binary():
            return _broadcast(below)
        case ir.Call("zeros_like" | "ones_like" | "full_like" | "bfloat16"):
            return below[0]
    return None


def _broadcast(sides: list[tuple[str, str]]) -> tuple[str, str] | None:
    found = []
    for lengths in zip(*sides, strict=True):
        long = {each for each in lengths if each != "1"}
        if len(long) > 1:
            return None
        found.append(long.pop() if long else "1")
    return found[0], found[1]

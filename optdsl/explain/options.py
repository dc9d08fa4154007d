"""What each option switches on: the states, lines and bytes that a rule has with it and
does not have without.

In: a checked rule. Out: for each hyper that a condition asks for, the values that change
which statements run. They are found by deciding the rule with each, beside another one
where it does nothing alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from .. import ir
from ..evaluate import BINARY, literal
from .equations import equations
from .known import Known, decided, defaults
from .memory import memory
from .traffic import traffic

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A hyper away from its default; `words` say how."""

    hyper: str
    value: Any
    words: str


@dataclass(frozen=True, slots=True)
class Option:
    """What is there with it: `adds` and `drops` are lines of the rule, `adds_states` what
    is kept beside the others. `beside` is what has to be set for it to matter. `moved`
    are the bytes of a step with it, `moved_without` those of one without.
    """

    words: str
    beside: str
    adds_states: tuple[str, ...]
    drops_states: tuple[str, ...]
    adds: tuple[str, ...]
    drops: tuple[str, ...]
    moved: tuple[int, ...]
    moved_without: tuple[int, ...]


def options(rule: ir.Rule) -> tuple[Option, ...]:
    """Every option that changes which statements run, or which states there are."""
    every = choices(rule)
    alone = {each.words: _option(rule, each, None) for each in every}
    working = [each for each in every if alone[each.words]]
    found = []
    for each in every:
        others = (other for other in working if other.hyper != each.hyper)
        beside = (_option(rule, each, other) for other in others)
        option = alone[each.words] or next(filter(None, beside), None)
        found += [option] if option else []
    return tuple(found)


def _option(rule: ir.Rule, choice: Choice, beside: Choice | None) -> Option | None:
    """What a choice changes; None where that is nothing, or where it is refused."""
    without = {beside.hyper: beside.value} if beside is not None else {}
    set_ = {**without, choice.hyper: choice.value}
    known = defaults(rule, set_)
    if any(known.decides(each.condition) is False for each in rule.requires):
        return None
    before, after = (_kept(rule, each) for each in (without, set_))
    adds, drops = _changed(*(_lines(rule, each) for each in (without, set_)))
    if not (adds or drops or before != after):
        return None
    return Option(
        choice.words,
        beside.words if beside is not None else "",
        tuple(text for name, text in after.items() if name not in before),
        tuple(name for name in before if name not in after),
        tuple(adds),
        tuple(drops),
        tuple(each.bytes for each in traffic(rule, set_)),
        tuple(each.bytes for each in traffic(rule, without)),
    )


def _changed(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """The lines that are there after alone, and before alone."""
    adds, drops = [], []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag != "equal":
            drops += before[start:end]
            adds += after[new_start:new_end]
    return adds, drops


def _kept(rule: ir.Rule, set_: Mapping[str, Any]) -> dict[str, str]:
    return {
        each.name: f"{each.name} ({each.text})"
        for each in memory(rule, set_)
        if each.now is not False
    }


def _lines(rule: ir.Rule, set_: Mapping[str, Any]) -> list[str]:
    """The lines of hooks, step and defs, without times, which move with others."""
    chosen = decided(rule, defaults(rule, set_))
    return [each.plain for each in equations(chosen, timed=False)]


# ---- which values there are to try


def choices(rule: ir.Rule) -> tuple[Choice, ...]:
    """The other values of flags and texts, a number for none, and for numbers what turns
    a comparison round; once for each hyper and way.
    """
    found: dict[str, Choice] = {}
    known = defaults(rule, {})
    asked = list(_comparisons(rule))
    for hyper in rule.hypers:
        default = known.values[hyper.name]
        made = [*_others(hyper, default)]
        for comparison in asked:
            made += _turned(hyper, default, comparison, rule)
        for each in made:
            found.setdefault(each.words, each)
    return tuple(found.values())


def _others(hyper: ir.Hyper, default: Any) -> Iterator[Choice]:
    name = hyper.name
    if hyper.annotation == "bool":
        yield Choice(name, not default, f"{name} = {str(not default).lower()}")
    for text in hyper.choices:
        if text != default:
            yield Choice(name, text, f'{name} = "{text}"')
    if hyper.type.optional and default is not None:
        yield Choice(name, None, f"{name} = none")
    elif hyper.type.optional and not hyper.choices:
        yield Choice(name, 1, f"{name} = a number")


def _comparisons(rule: ir.Rule) -> Iterator[ir.Binary]:
    """Every comparison that decides which statements run or which states there are."""
    conditions = [each.when for each in rule.states if each.when is not None]
    for block in ir.blocks(rule):
        for statement in block:
            conditions += [
                each.condition
                for each in ir.walk(statement)
                if isinstance(each, (ir.If, ir.Choose))
            ]
    for condition in conditions:
        for each in ir.walk(condition):
            if isinstance(each, ir.Binary) and each.operator in _OPPOSITE:
                yield each


def _turned(
    hyper: ir.Hyper, default: Any, comparison: ir.Binary, rule: ir.Rule
) -> Iterator[Choice]:
    """The hyper, or an item of it, on the other side of a comparison with a constant."""
    compare = BINARY[comparison.operator]
    sides = (comparison.left, comparison.right)
    for asked, bound, holds in (
        (sides[0], sides[1], compare),
        (sides[1], sides[0], lambda bound, value: compare(value, bound)),
    ):
        place = _place(asked, hyper, rule)
        if place is None or not isinstance(bound, ir.Const):
            continue
        limit = literal(bound)
        if limit is None and place < 0:
            continue  # one of the hyper's other values
        now = default[place] if place >= 0 else default
        for value in _near(limit, now):
            if holds(value, limit) == holds(now, limit) or not _allowed(hyper, value):
                continue
            operator = comparison.operator
            if not holds(value, limit):
                operator = _OPPOSITE[operator]
            words = [rule.source.cut(each.span) for each in sides]
            said = f" {'=' if operator == '==' else operator} ".join(words)
            yield Choice(hyper.name, _with_item(default, place, value), said)
            break


def _place(asked: ir.Expr, hyper: ir.Hyper, rule: ir.Rule) -> int | None:
    """Which item of a hyper is asked for, -1 for all of it; None where it is another."""
    match asked:
        case ir.Ref(name=hyper.name, role=ir.Role.HYPER):
            return -1
        case ir.Index(ir.Ref(name=hyper.name, role=ir.Role.HYPER), index):
            return index
        case ir.Ref(name=name, role=ir.Role.LOCAL):
            for statement in rule.step:
                match statement:
                    case ir.Unpack(names, ir.Ref(name=hyper.name)):
                        items = [each.name for each in names]
                        return items.index(name) if name in items else None
    return None


def _near(limit: Any, now: Any) -> tuple[Any, ...]:
    """Values at a limit and on both sides of it; a number in place of none."""
    if limit is None:
        return (None, 1)
    if now is None or isinstance(limit, (bool, str)):
        return ()
    return (limit, limit + 1, limit - 1, limit + 0.5)


def _with_item(default: Any, place: int, value: Any) -> Any:
    if place < 0:
        return value
    return (*default[:place], value, *default[place + 1 :])


def _allowed(hyper: ir.Hyper, value: Any) -> bool:
    if hyper.range is None or value is None:
        return True
    known, allowed = Known({}), hyper.range
    low, high = known.value(allowed.low), known.value(allowed.high)
    return (low < value or (allowed.closed_low and low == value)) and (
        value < high or (allowed.closed_high and high == value)
    )

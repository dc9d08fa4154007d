"""The hypers of an optimizer, each with other values to try.

In: the rule of a spec, or the constructor of any class. Out: for each hyper its default,
values that may be allowed beside it, and values that are not. Nothing is promised about a
value before the class was asked: `options` does.
"""

import enum
import inspect
import math
import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from .. import ir, vocabulary
from ..evaluate import evaluate

SMALL = 1e-4  # below it, a number is there to keep a division finite


@dataclass(frozen=True, slots=True)
class Hyper:
    """`others` are (what is changed, the value of the whole hyper): for a tuple one entry
    an item. `bad` are values that its declaration does not allow.
    """

    name: str
    default: Any
    others: tuple[tuple[str, Any], ...]
    bad: tuple[Any, ...] = ()

    @property
    def is_mode(self) -> bool:
        """Whether it chooses between ways to compute."""
        return isinstance(self.default, (bool, str)) or any(
            isinstance(value, (bool, str)) for _, value in self.others
        )


# ---- of a spec


def of_rule(rule: ir.Rule) -> tuple[Hyper, ...]:
    return tuple(_declared(each) for each in rule.hypers)


def of_routed(name: str, rule: ir.Rule) -> Hyper:
    """What the constructor takes for one of several rules: its hypers by their names."""
    every = of_rule(rule)
    others = [
        (f"{name} {said}", {each.name: value})
        for each in every
        for said, value in each.others
    ]
    bad = [{each.name: value} for each in every for value in each.bad]
    return Hyper(name, {}, tuple(others), tuple(bad))


def _declared(hyper: ir.Hyper) -> Hyper:
    default = evaluate(hyper.default, lambda name: None)
    kinds = {"float": float, "int": int, "bool": bool, "str": str, "tuple": tuple}
    others = _others(hyper.name, default, {kinds[hyper.annotation]}, hyper.choices)
    bad: list[Any] = []
    if hyper.choices:
        bad = ["neither"]
    elif hyper.annotation == "bool":
        bad = ["yes"]
    elif hyper.range is not None:
        low = evaluate(hyper.range.low, lambda name: None)
        high = evaluate(hyper.range.high, lambda name: None)
        bad = [low - 1] if low > -math.inf else []
        bad += [high + 1] if high < math.inf else []
        if hyper.annotation == "tuple":
            bad = [(*default[:-1], value) for value in bad]
    return Hyper(hyper.name, default, tuple(others), tuple(bad))


# ---- of a class


def of_class(cls: type, given: Collection[str] = ()) -> tuple[Hyper, ...]:
    """What the constructor takes beside the parameters, the flags of all optimizers, and
    what is given anyway.

    Raises:
        TypeError: it takes something that has no default and is not a learning rate.
    """
    return tuple(
        _of_parameter(each, hints.get(each.name, each.annotation))
        for hints in [_hints(cls)]
        for each in arguments(cls)
        if each.name not in vocabulary.FLAGS and each.name not in given
    )


def arguments(cls: type) -> list[inspect.Parameter]:
    """The named arguments of a constructor, but for the first, which is the parameters."""
    every = [*inspect.signature(cls.__init__).parameters.values()][2:]
    return [
        each
        for each in every
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:  # an annotation that is there for readers alone
        return {}


def _of_parameter(parameter: inspect.Parameter, hint: Any) -> Hyper:
    name, default = parameter.name, parameter.default
    if default is inspect.Parameter.empty:
        if name != "lr":
            raise TypeError(f"its constructor needs {name}, which has no default")
        default = 0.01
    choices = tuple(_choices(hint))
    if hint is not inspect.Parameter.empty:
        kinds = set(_kinds(hint))
    else:  # `momentum=0` is often meant as a number
        kinds = {int, float} if type(default) is int else {type(default)}
    return Hyper(name, default, tuple(_others(name, default, kinds, choices)))


def _choices(hint: Any) -> Iterator[Any]:
    if typing.get_origin(hint) is typing.Literal:
        yield from typing.get_args(hint)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _choices(each)


def _kinds(hint: Any) -> Iterator[type]:
    """The Python types of numbers, flags and tuples that an annotation allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _kinds(each)
    elif hint in (float, int, bool):
        yield hint
    elif tuple in (hint, typing.get_origin(hint)):
        yield tuple


# ---- values to try


def _others(
    name: str, default: Any, kinds: set[type], choices: tuple[Any, ...]
) -> Iterator[tuple[str, Any]]:
    if choices:
        values = [each for each in choices if each != default]
    elif isinstance(default, enum.Enum):
        values = [each for each in type(default) if each is not default]
    elif isinstance(default, (tuple, list)):
        yield from _items(name, tuple(default))
        return
    elif isinstance(default, bool) or (default is None and kinds == {bool}):
        values = [True, False] if default is None else [not default]
    elif kinds and (default is None or isinstance(default, (int, float))):
        values = _numbers(name, default, kinds)
    else:
        values = []
    yield from ((name, value) for value in values)


def _items(name: str, default: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for at, item in enumerate(default):
        if (
            item is None
            or isinstance(item, (int, float))
            and not isinstance(item, bool)
        ):
            for value in _numbers(name, item, {float}):
                yield f"{name}[{at}]", (*default[:at], value, *default[at + 1 :])


def _numbers(name: str, default: float | None, kinds: set[type]) -> list[float]:
    """Values far from the default first: a misplaced term has to show."""
    values: list[float] = []
    if kinds & {float, type(None)}:
        values += _floats(name, default)
    if int in kinds:
        whole = [2, 1, 5] if default is None else [int(default) + 1, 2, 1, 3, 0]
        values = (
            whole + values if isinstance(default, int) and default else values + whole
        )
    return [*dict.fromkeys(each for each in values if each != default)]


def _floats(name: str, default: float | None) -> list[float]:
    if name == "lr" and default:
        return [0.05, 0.01, default / 2]
    if default is None:
        return [0.25, 1.0, 2.0, 0.01]
    if abs(default) == math.inf:
        return [1.0, 2.0, 10.0]
    if default == 0:
        return [0.25, 1.0, 0.01, -0.25]
    if 0 < default < SMALL:
        return [0.1, 10.0, default / 2]
    if 0 < default < 1:
        return [default / 2, (1 + default) / 2, 0.1, 2.0]
    return [default / 2, 2 * default, default + 1, 0.5, 2.0, 0.01, 0.99 * default]

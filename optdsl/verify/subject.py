"""What is judged: an optimizer class, with its hypers and, from a spec, what it means.

In: a spec, a class, or the text that a person gives for one. Out: a Subject.
"""

import importlib
import itertools
import linecache
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from .. import ir, syntax, vocabulary
from ..find import find
from ..load import load_optimizer
from ..parse import parse
from ..pipeline import Artifacts, Routed, build
from ..use import apart_from_rate
from . import hyper
from .hyper import Hyper
from .run import Make

NOTHING: Mapping[str, Any] = {}


class NoSubject(Exception):
    """There is no such optimizer, or it cannot be made from parameters alone."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`make(params, **hypers)` gives the optimizer that runs its loop, where there is a
    choice; each group of the parameters has to say what is in `group`. `reference` is a
    dotted path, or empty; `beneath` is that of the rule without the modifiers that it is
    given, of which those in `apart` change parameters whatever the learning rate is. The
    methods `by_hand` run when someone calls them alone. What it does is `timed` where it
    depends on how many steps there were before a parameter came.
    """

    name: str
    cls: type[Optimizer]
    hypers: tuple[Hyper, ...]
    flags: frozenset[str]
    make: Make
    artifacts: Artifacts | None = None
    reference: str = ""
    group: Mapping[str, Any] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    asks_names: bool = False
    beneath: str = ""
    apart: tuple[str, ...] = ()
    timed: bool = False

    def told(self, name: str, p: Tensor) -> Tensor | tuple[str, Tensor]:
        """A parameter as a param group is given it: where names are asked for, with its
        name.
        """
        return (name, p) if self.asks_names else p

    @property
    def rule(self) -> ir.Rule | None:
        return None if self.artifacts is None else self.artifacts.checked

    def hyper(self, name: str) -> Hyper | None:
        return next((each for each in self.hypers if each.name == name), None)

    def refuses(self, error: BaseException) -> bool:
        """Whether an exception is a refusal: code of the optimizer's own package raised
        it, on purpose. What torch or Python raise while it computes is an accident.
        """
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or isinstance(error, NotImplementedError):
            return isinstance(error, NotImplementedError)
        frame = trace.tb_frame
        module = frame.f_globals.get("__name__", "")
        line = linecache.getline(
            frame.f_code.co_filename, trace.tb_lineno, frame.f_globals
        ).strip()
        said = line.startswith(("raise ", "assert "))
        return said and module.startswith(tuple(_packages(self.cls)))


def _packages(cls: type) -> set[str]:
    """Where the code of a class is; of torch, what is about optimizers."""
    tops = {each.__module__.split(".")[0] for each in cls.__mro__ if each is not object}
    return {"torch.optim" if each == "torch" else each for each in tops}


def of_spec(spec: str, use: Sequence[str] = ()) -> Subject:
    """A spec of the library, by its name, or a `.opt` file; with modifiers.

    Raises:
        OptdslError: there is none, or it is wrong.
    """
    source = find(spec)
    artifacts = build(source, use)
    cls = load_optimizer(spec, use)
    if isinstance(artifacts, Routed):
        return _of_route(spec, artifacts, cls)
    rule, written = artifacts.checked, parse(source)
    flags = _flags(cls)
    return Subject(
        " + ".join((spec, *use)),
        cls,
        hyper.of_rule(rule),
        flags,
        _loop(cls, flags),
        artifacts,
        rule.reference,
        by_hand=tuple(each.name for each in rule.on_calls),
        timed=any(map(ir.counts, rule.pre_steps)),
        beneath=next((each.path for each in written.of(syntax.Reference)), ""),
        apart=apart_from_rate(written, source, use),
    )


def _of_route(spec: str, routed: Routed, cls: type[Optimizer]) -> Subject:
    """An optimizer that chooses among rules: the hypers of each of them are the values of
    one of its own.
    """
    rules = routed.rules.items()
    hypers = [hyper.of_routed(name, each.checked) for name, each in rules]
    by_hand = {hook.name: None for _, rule in rules for hook in rule.checked.on_calls}
    timed = any(ir.counts(hook) for _, rule in rules for hook in rule.checked.pre_steps)
    flags, asks_names = _flags(cls), routed.route.asks_names
    make = _loop(cls, flags)
    return Subject(
        spec, cls, tuple(hypers), flags, _with_names(make) if asks_names else make,
        by_hand=tuple(by_hand), asks_names=asks_names, timed=timed,
    )  # fmt: skip


def _with_names(make: Make) -> Make:
    """The same of parameters that get names."""

    def named(params: Any, **hypers: Any) -> Optimizer:
        number = itertools.count()
        groups = [
            {**group, "params": [(f"p{next(number)}", p) for p in group["params"]]}
            for group in params
        ]
        return make(groups, **hypers)

    return named


def of_class(
    cls: type[Optimizer], name: str = "", given: Mapping[str, Any] | None = None
) -> Subject:
    """Any class of optimizers; `given` are arguments that it always gets.

    Raises:
        NoSubject: its constructor needs more than these, parameters and a learning rate.
    """
    name = name or f"{cls.__module__}:{cls.__qualname__}"
    given = given or {}
    try:
        hypers, flags = hyper.of_class(cls, given.keys()), _flags(cls) - given.keys()
    except (TypeError, ValueError) as error:
        raise NoSubject(f"{name}: {error}") from None
    return Subject(name, cls, hypers, flags, _loop(cls, flags, given))


def _flags(cls: type) -> frozenset[str]:
    names = {each.name for each in hyper.arguments(cls)}
    return frozenset(vocabulary.FLAGS) & names


def _loop(
    cls: type[Optimizer], flags: frozenset[str], given: Mapping[str, Any] = NOTHING
) -> Make:
    fixed = {**({"foreach": False} if "foreach" in flags else {}), **given}
    return lambda params, **hypers: cls(params, **{**fixed, **hypers})


def of_text(text: str, use: Sequence[str] = ()) -> Subject:
    """A spec, with modifiers, or `package.module:Class`.

    Raises:
        OptdslError: there is no such spec, or it is wrong.
        NoSubject: there is no such class, or it is no optimizer that can be judged.
    """
    if ":" in text and not text.endswith(".opt"):
        if use:
            raise NoSubject(f"{text} is a class, and modifiers are for specs")
        return of_class(_imported(*text.split(":", 1)), text)
    return of_spec(text, use)


def of_path(path: str) -> Subject:
    """The class that a spec names as its reference, `package.module.Class`.

    Raises:
        NoSubject: as in `of_text`.
    """
    module, _, name = path.rpartition(".")
    return of_class(_imported(module, name), path)


def _imported(module: str, name: str) -> type[Optimizer]:
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise NoSubject(f"cannot import `{module}`: {error}") from None
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise NoSubject(f"importing `{module}` fails: {said}") from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise NoSubject(f"`{module}` has no `{name}`")
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise NoSubject(f"`{module}:{name}` is no subclass of torch.optim.Optimizer")
    return found


def module_of(cls: type) -> Any:
    return sys.modules[cls.__module__]

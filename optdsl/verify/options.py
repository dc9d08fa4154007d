"""The options of an optimizer that have an effect, found by trying.

An option is one hyper, or one item of a tuple, away from its default. Where that is
refused or changes nothing, it is tried together with one other option: Nesterov's variant
needs a momentum.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import torch

from .compare import difference, finite
from .outcome import words
from .run import Trace
from .scene import SHAPES, Part, Scene

if TYPE_CHECKING:
    from .study import Studied

SHORT, LONG = 8, 24  # steps of the two scenes that options are tried in
PAIRS = 60  # how many pairs of options are tried together with a third one
VALUES = None, 3, 1  # how many values of an option are tried beside how many others


@dataclass(frozen=True, slots=True)
class Option:
    """`name` is the hyper or its item, `betas[1]`; `hyper` and `value` what to set, and
    `needs` what has to be set beside it. Where nothing was found that changes a parameter
    or one of the states that are there without it, `why` says how far the search came.
    """

    name: str
    hyper: str
    value: Any
    needs: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    accepted: bool = True

    @property
    def works(self) -> bool:
        return not self.why

    @property
    def hypers(self) -> dict[str, Any]:
        return {**self.needs, self.hyper: self.value}


def of(studied: "Studied") -> tuple[Option, ...]:
    """Every option once, in the order of the constructor."""
    named: dict[str, list[tuple[str, Any]]] = {}
    for hyper in studied.subject.hypers:
        for name, value in hyper.others:
            named.setdefault(name, []).append((hyper.name, value))
    found: dict[str, Option] = {}
    for tries, scene in _scenes(studied):
        search = _Search(tries, scene, [each for each in found.values() if each.works])
        for name, values in named.items():
            if name not in found or (found[name].why and found[name].accepted):
                found[name] = search.option(name, values)
    return tuple(found.values())


def _scenes(studied: "Studied") -> Iterator[tuple["Studied", Scene]]:
    """A short one with parameters of which one or another feels most options. For what it
    does not show a long one with all kinds; the same in bfloat16, which some options are
    for; one whose learning rate falls; and one with gradients of one direction, and
    closures, for rules that wait for progress.
    """
    parts = [*studied.plain("one"), Part("zero", SHAPES[studied.shape], zero=True)]
    if studied.shape != "matrix" and studied.shapes["matrix"].went:
        parts.append(Part("matrix", SHAPES["matrix"]))
    yield studied, studied.scene(*parts, steps=SHORT)
    long = studied.scene(*studied.every, steps=LONG)
    yield studied, long
    if studied.dtypes[torch.bfloat16].went:
        yield studied, long.with_(dtype=torch.bfloat16)
    yield studied, long.with_(falling=True)
    yield replace(studied, needs_closure=True), long.with_(steady=True)


class _Search:
    """Tries combinations in one scene, and remembers what came of them. `found` are the
    options that other scenes have shown.
    """

    def __init__(self, studied: "Studied", scene: Scene, found: list[Option]) -> None:
        self.studied = studied
        self.scene = scene
        self.found = found
        self.known: dict[str, Trace | str] = {}

    def played(self, hypers: dict[str, Any]) -> Trace | str:
        """What the hypers do, or the words of the exception."""
        key = repr(hypers)
        if key not in self.known:
            try:
                self.known[key] = self.studied.play(self.scene, hypers)
            except Exception as error:
                self.known[key] = words(error)
        return self.known[key]

    def finite(self, hypers: dict[str, Any]) -> bool:
        key = f"finite {hypers!r}"
        if key not in self.known:
            self.known[key] = str(finite(self.played(hypers)) or "")
        return not self.known[key]

    def differ(self, some: dict[str, Any], others: dict[str, Any]) -> bool:
        one, two = self.played(some), self.played(others)
        if isinstance(one, str) or isinstance(two, str):
            return False
        return difference(one, two) is not None

    def option(self, name: str, values: list[tuple[str, Any]]) -> Option:
        """The first value that changes a step; one that leads to no number only where
        no other does.
        """
        hyper, doubtful = values[0][0], None
        for needs in self.companions(hyper):
            for _, value in values[: VALUES[min(len(needs), 2)]]:
                both = {**needs, hyper: value}
                if self.differ(needs, both):
                    if self.finite(both) or not self.finite(needs):
                        return Option(name, hyper, value, needs)
                    doubtful = doubtful or Option(name, hyper, value, needs)
        return doubtful or self.dead(name, values)

    def companions(self, hyper: str) -> Iterator[dict[str, Any]]:
        """Nothing; each option that is known to work; each other mode; the first value
        that is accepted of each number.
        """
        yield {}
        known = [each.hypers for each in self.found if hyper not in each.hypers]
        yield from known
        if self.scene.steady:  # the last scene
            yield from islice((a | b for a, b in combinations(known, 2)), PAIRS)
        for each in self.studied.subject.hypers:
            if each.name == hyper:
                continue
            taken = (
                {each.name: value}
                for _, value in each.others
                if isinstance(self.played({each.name: value}), Trace)
            )
            yield from taken if each.is_mode else islice(taken, 1)

    def dead(self, name: str, values: list[tuple[str, Any]]) -> Option:
        accepted = [
            each
            for each in values
            if isinstance(self.played({each[0]: each[1]}), Trace)
        ]
        hyper, value = (accepted or values)[0]
        if not accepted:
            return Option(
                name, hyper, value, why=str(self.played({hyper: value})), accepted=False
            )
        said = ", ".join(repr(each) for _, each in accepted)
        steps = f"within {self.scene.steps} steps"
        why = f"{said}: nothing changes {steps}, alone or beside others"
        return Option(name, hyper, value, why=why)

"""The options of an optimizer that have an effect, found by trying.

An option is one hyper, or one item of a tuple, away from its default. Where that is
refused or changes nothing, it is tried together with one other option: Nesterov's variant
needs a momentum.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .compare import difference, finite
from .outcome import words
from .run import Trace
from .scene import SHAPES, Part, Scene

if TYPE_CHECKING:
    from .study import Studied

STEPS = 8
VALUES = 3  # how many values of an option are tried together with another one


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
    search = _Search(studied)
    named: dict[str, list[tuple[str, Any]]] = {}
    for hyper in studied.subject.hypers:
        for name, value in hyper.others:
            named.setdefault(name, []).append((hyper.name, value))
    return tuple(search.option(name, values) for name, values in named.items())


class _Search:
    """Tries combinations, and remembers what came of them."""

    def __init__(self, studied: "Studied") -> None:
        self.studied = studied
        self.scene = _scene(studied)
        self.known: dict[str, Trace | str] = {}
        self.first = {
            each.name: each.others[0][1] for each in studied.subject.hypers if each.others
        }

    def played(self, hypers: dict[str, Any]) -> Trace | str:
        """What the hypers do, or the words of the exception."""
        key = repr(hypers)
        if key not in self.known:
            try:
                self.known[key] = self.studied.play(self.scene, hypers)
            except Exception as error:
                self.known[key] = words(error)
        return self.known[key]

    def differ(self, some: dict[str, Any], others: dict[str, Any], sane: bool) -> bool:
        one, two = self.played(some), self.played(others)
        if isinstance(one, str) or isinstance(two, str):
            return False
        if sane and finite(one) is None and finite(two) is not None:
            return False
        return difference(one, two) is not None

    def option(self, name: str, values: list[tuple[str, Any]]) -> Option:
        """The first value that changes a step; one that leads to no number only where
        no other does.
        """
        hyper = values[0][0]
        for sane in (True, False):
            for needs in self.companions(hyper):
                for _, value in values[: VALUES if needs else None]:
                    if self.differ(needs, {**needs, hyper: value}, sane):
                        return Option(name, hyper, value, needs)
        return self.dead(name, values)

    def companions(self, hyper: str) -> Iterator[dict[str, Any]]:
        yield {}
        yield from ({name: value} for name, value in self.first.items() if name != hyper)

    def dead(self, name: str, values: list[tuple[str, Any]]) -> Option:
        accepted = [each for each in values if isinstance(self.played({each[0]: each[1]}), Trace)]
        hyper, value = (accepted or values)[0]
        if accepted:
            said = ", ".join(repr(each) for _, each in accepted)
            why = f"{said}: nothing changes within {STEPS} steps, alone or beside others"
            return Option(name, hyper, value, why=why)
        return Option(name, hyper, value, why=str(self.played({hyper: value})), accepted=False)


def _scene(studied: "Studied") -> Scene:
    """Parameters of which one or another feels every option: a matrix, one that starts
    at zero.
    """
    parts = [*studied.plain("one"), Part("zero", SHAPES[studied.shape], zero=True)]
    matrix = studied.shapes.get("matrix")
    if studied.shape != "matrix" and matrix is not None and matrix.went:
        parts.append(Part("matrix", SHAPES["matrix"]))
    return studied.scene(*parts, steps=STEPS)

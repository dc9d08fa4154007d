"""What an optimizer takes, found by trying: before it is judged, it is studied.

In: a subject. Out: a Studied, which knows the shapes, dtypes and gradients that the
subject steps with, and the options that it accepts; or the reason why it takes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch

from . import options
from .compare import Difference, difference, finite
from .options import Option
from .outcome import words
from .precision import lowest
from .roundoff import apart
from .run import ONE_GROUP, Hypers, Run, Trace, play, start
from .scene import SHAPES, Part, Scene
from .subject import NoSubject, Subject

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.complex64)
STEPS = 6


@dataclass(frozen=True, slots=True)
class Trial:
    """How two steps went: `words` of the exception, and whether it was a refusal."""

    words: str = ""
    refused: bool = False

    @property
    def went(self) -> bool:
        return not self.words


@dataclass(frozen=True)
class Studied:
    """`shape` is that of plain parameters. `coupled` where what one parameter does
    depends on the values of others; `counts` where it depends on their presence alone.
    `known` remembers what was tried.
    """

    subject: Subject
    shape: str
    dtype: torch.dtype
    layout: str
    needs_closure: bool
    shapes: dict[str, Trial] = field(default_factory=dict)
    dtypes: dict[torch.dtype, Trial] = field(default_factory=dict)
    layouts: dict[str, Trial] = field(default_factory=dict)
    coupled: bool = False
    counts: str = ""
    options: tuple[Option, ...] = ()
    known: dict[str, Any] = field(default_factory=dict, repr=False)

    # ---- scenes

    @property
    def one(self) -> Part:
        return Part("one", SHAPES[self.shape])

    def plain(self, *names: str, has: str = "always") -> tuple[Part, ...]:
        return tuple(Part(name, SHAPES[self.shape], has) for name in names)

    @property
    def every(self) -> tuple[Part, ...]:
        """A parameter of each shape that is taken, and of each way to miss gradients."""
        shapes = [
            Part(name, SHAPES[name])
            for name, trial in self.shapes.items()
            if trial.went and name in SHAPES
        ]
        if (trial := self.shapes.get("transposed")) and trial.went:
            shapes.append(TRANSPOSED)
        missing = [Part(has, SHAPES[self.shape], has) for has in MISSING]
        return (*shapes, *missing, Part("zero", SHAPES[self.shape], zero=True))

    def scene(self, *parts: Part, steps: int = STEPS) -> Scene:
        return Scene(parts or (self.one,), steps, self.dtype, self.layout)

    # ---- runs

    def start(
        self, scene: Scene, hypers: Hypers | None = None,
        groups: Sequence[Hypers] = ONE_GROUP, backwards: bool = False,
    ) -> Run:  # fmt: skip
        told = [{**self.subject.group, **group} for group in groups]
        make, closure = self.subject.make, self.needs_closure
        by_hand = self.subject.by_hand
        return start(make, scene, hypers, told, closure, backwards, by_hand)

    def play(
        self, scene: Scene, hypers: Hypers | None = None,
        groups: Sequence[Hypers] = ONE_GROUP, backwards: bool = False,
    ) -> Trace:  # fmt: skip
        return play(self.start(scene, hypers, groups, backwards))

    def unfit(self, scene: Scene, hypers: Hypers) -> str:
        """Why a scene says nothing about more than itself: its plain steps end in an
        exception, or in something that is no number. '' where neither happens.
        """

        def ask(*_: Any) -> str:
            try:
                found = finite(self.play(scene, hypers))
                return "" if found is None else str(found)
            except Exception as error:
                return words(error)

        return self.remembered(repr(scene), hypers, ask)

    def apart(
        self, ours: Trace, play: Callable[[Scene], Trace], scene: Scene, hypers: Hypers
    ) -> Difference | None:
        """Where a trace parts from another run of this class by more than round-off."""
        return apart(
            ours, play, scene, self.remembered("precision", hypers, _precision)
        )

    def one_by_one(self, hypers: Hypers) -> str:
        """Why it says nothing how a parameter does without the others, or ''."""
        if self.random_with(hypers):
            return RANDOM
        if self.subject.rule is not None and self.subject.rule.in_phases:
            return COUPLED
        coupled, _ = self.remembered("neighbours", hypers, _neighbours)
        return COUPLED if coupled else ""

    def from_any_step(self, hypers: Hypers) -> str:
        """Why it says nothing how a parameter does that comes later, or ''."""
        return COUNTED if self.subject.timed else self.one_by_one(hypers)

    def random_with(self, hypers: Hypers) -> bool:
        """Whether the steps draw random numbers."""
        return self.remembered("random", hypers, _is_random)

    def remembered(self, what: str, hypers: Hypers, ask: Callable) -> Any:
        """What `ask(studied, hypers)` answers, asked once."""
        key = f"{what} {hypers!r}"
        if key not in self.known:
            self.known[key] = ask(self, hypers)
        return self.known[key]

    def tried(self, scene: Scene, hypers: Hypers | None = None) -> Trial:
        try:
            self.play(scene, hypers)
        except Exception as error:
            return Trial(words(error), self.subject.refuses(error))
        return Trial()


RANDOM = "its steps draw random numbers"
COUNTED = "its hooks count the steps of all parameters together"
COUPLED = "its parameters depend on each other's values"
MISSING = ("late", "never", "sometimes")
TRANSPOSED = Part("transposed", (3, 4), strided=True)


def study(subject: Subject) -> Studied:
    """Try what a subject takes.

    Raises:
        NoSubject: it takes no parameter of any kind that is tried; the message is that
            of the first.
    """
    found = _plain(subject)
    shapes = {found.shape: Trial()}
    for name, shape in SHAPES.items():
        beside = found.scene(found.one, Part(name, shape), steps=2)
        shapes[name] = shapes.get(name) or found.tried(beside)
    if shapes["matrix"].went:
        shapes["transposed"] = found.tried(found.scene(found.one, TRANSPOSED, steps=2))
    dtypes = {
        each: found.tried(found.scene(steps=2).with_(dtype=each)) for each in DTYPES
    }
    layouts = {
        each: found.tried(found.scene(steps=2).with_(layout=each))
        for each in ("dense", "sparse")
    }
    found = replace(found, shapes=shapes, dtypes=dtypes, layouts=layouts)
    coupled, counts = _neighbours(found, {})
    found = replace(found, coupled=coupled, counts=counts)
    return replace(found, options=options.of(found))


def _plain(subject: Subject) -> Studied:
    """The first kind of parameter that the subject steps."""
    first = None
    kinds = product(
        ("dense", "sparse"), (False, True), (torch.float64, torch.float32),
        ("vector", "matrix", "kernel", "scalar"),
    )  # fmt: skip
    for layout, closure, dtype, shape in kinds:
        studied = Studied(subject, shape, dtype, layout, closure)
        trial = studied.tried(studied.scene(steps=2))
        if trial.went:
            return studied
        first = first or trial
    raise NoSubject(first.words)


def _precision(studied: Studied, hypers: Hypers) -> torch.dtype:
    scene = studied.scene(*studied.every)
    return lowest(lambda: studied.tried(scene, hypers))


def _is_random(studied: Studied, hypers: Hypers) -> bool:
    scene = studied.scene(*studied.every)
    try:
        one, two = (studied.play(scene.with_(seed=seed), hypers) for seed in (0, 1))
    except Exception:  # for another check to tell
        return False
    return difference(one, two) is not None


def _neighbours(studied: Studied, hypers: Hypers) -> tuple[bool, str]:
    """Whether a parameter steps otherwise beside others: by their values, or, which no
    rule wants, because they are there.
    """
    one, two, other = studied.plain("one", "two", "other")
    alone, beside, besides = (
        studied.play(studied.scene(*parts), hypers).of(["one"])
        for parts in ((one,), (one, two), (one, other))
    )
    if difference(beside, besides) is not None:
        return True, ""
    found = difference(beside, alone)
    return False, "" if found is None else str(found)

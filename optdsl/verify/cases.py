"""The cases that a property is judged in, smallest first.

The first case that fails is then the smallest, and what a person is told. A case is a
scene and hypers; it says itself in words.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .outcome import Outcome, failed, not_applicable, passed, words
from .scene import Scene
from .study import DTYPES, Studied


class LeftOut(Exception):
    """A case says nothing about a property, and why."""


@dataclass(frozen=True, slots=True)
class Case:
    scene: Scene
    hypers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{said(self.hypers)}, {self.scene}"


def said(hypers: Mapping[str, Any]) -> str:
    """Hypers as a call has them."""
    return ", ".join(f"{k}={v!r}" for k, v in hypers.items()) or "defaults"


def cases(studied: Studied, dtypes: bool = True) -> Iterator[Case]:
    """One parameter and one step; more steps; each option; every parameter; every option
    at once; every dtype that is taken.
    """
    defaults, *options, everything = single(studied)
    yield Case(defaults.scene.with_(steps=1))
    yield defaults
    yield from options
    every = studied.scene(*studied.every)
    yield Case(every)
    yield Case(every, everything.hypers)
    for dtype in DTYPES if dtypes else ():
        if dtype != studied.dtype and studied.dtypes[dtype].went:
            yield Case(every.with_(dtype=dtype))
    if studied.layout == "dense" and studied.layouts["sparse"].went:
        yield Case(every.with_(layout="sparse"))


def single(studied: Studied) -> list[Case]:
    """One plain parameter over several steps: defaults, each option, all options."""
    one = studied.scene()
    options = [Case(one, each.hypers) for each in studied.options if each.works]
    return [Case(one), *options, Case(one, together(studied))]


def together(studied: Studied) -> dict[str, Any]:
    """As many options at once as the subject can bear together."""
    chosen: dict[str, Any] = {}
    scene = studied.scene(steps=2)
    for option in studied.options:
        more = {**chosen, **option.hypers}
        if option.works and option.hyper not in chosen:
            if not studied.unfit(scene, more):
                chosen = more
    return chosen


def judged(
    studied: Studied,
    over: Iterable[Case],
    judge: Callable[[Case], str],
    of_any_number: bool = False,
) -> Outcome:
    """The first case in which `judge` finds something to say, or an exception by accident.

    A case that the subject refuses is left out. So is one whose plain steps end in an
    accident or in no number, unless the property is `of_any_number`: that is the finding
    of one check, not of all.
    """
    count, reason = 0, "there is nothing to try"
    for case in over:
        unfit = "" if of_any_number else studied.unfit(case.scene, case.hypers)
        if unfit:
            reason = unfit
            continue
        try:
            found = judge(case)
        except LeftOut as left_out:
            reason = str(left_out)
            continue
        except Exception as error:
            if studied.subject.refuses(error):
                reason = words(error)
                continue
            found = words(error)
        if found:
            return failed(f"{case}: {found}")
        count += 1
    if not count:
        return not_applicable(reason)
    return passed(f"{count} case{'s' * (count != 1)}")

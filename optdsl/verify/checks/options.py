"""Properties about options: each does something, and what is no option is refused."""

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch

from ..cases import said
from ..compare import difference, same_bits
from ..hyper import Hyper
from ..outcome import Outcome, failed, not_applicable, passed
from ..run import Trace
from ..scene import SHAPES, Part, Scene
from ..study import Studied, Trial

DECAYS = (0.5, 5.0, 0.1)
UNKNOWN = "an_option_that_is_unknown"


def have_an_effect(studied: Studied) -> Outcome:
    dead = [
        f"{each.name} ({each.why})"
        for each in studied.options
        if each.accepted and each.why
    ]
    if dead:
        return failed("; ".join(dead))
    names = [each.name for each in studied.options if each.works]
    refused = [each.name for each in studied.options if not each.accepted]
    if not names:
        return not_applicable("it has no options of which other values are known")
    untried = (
        f"; no other value of {', '.join(refused)} was accepted" if refused else ""
    )
    return passed(", ".join(names) + untried)


def weight_decay_matters(studied: Studied) -> Outcome:
    decays = [each for each in studied.subject.hypers if _is_decay(each)]
    if not decays:
        return not_applicable("it has no weight decay")
    count = 0
    for scene in _scenes(studied):
        for mode in _modes(studied):
            for decay in decays:
                if decay.name not in mode:
                    found, tried = _decays(studied, scene, mode, decay.name)
                    if found:
                        return failed(found)
                    count += tried
    if not count:
        return not_applicable(f"{decays[0].name} can be no other number")
    return passed(f"{count} mode{'s' * (count != 1)}")


def _scenes(studied: Studied) -> Iterator[Scene]:
    """Several shapes, since a rule may mean to decay matrices alone; complex numbers too."""
    shapes = [each for each in ("matrix", "kernel") if studied.shapes[each].went]
    scene = studied.scene(studied.one, *(Part(each, SHAPES[each]) for each in shapes))
    yield scene
    if studied.dtypes[torch.complex64].went:
        yield scene.with_(dtype=torch.complex64)


def _decays(
    studied: Studied, scene: Scene, mode: dict[str, Any], name: str
) -> tuple[str, bool]:
    """What is wrong with the decay in a mode, and whether there was anything to try."""
    rate = next((each for each in studied.options if each.name == "lr"), None)
    rates = [{}] if rate is None or "lr" in mode else [{}, {"lr": rate.value}]
    count = 0
    for more in rates:  # at a small one, nothing that is small turns a sign
        without = _played(studied, scene, {**mode, **more, name: 0.0})
        if without is None or not _moves(without):
            continue
        for value in DECAYS:
            with_ = _played(studied, scene, {**mode, **more, name: value})
            if with_ is None:
                continue
            if difference(without, with_) is not None:
                return "", True
            count += 1
    values = ", ".join(map(str, DECAYS))
    found = f"{said(mode)}, {scene}: {name}={values} step as 0 does"
    return found if count else "", bool(count)


def _moves(trace: Trace) -> bool:
    last = trace.steps[-1]
    return any(not same_bits(last[key], before) for key, before in trace.start.items())


def _is_decay(hyper: Hyper) -> bool:
    number = isinstance(hyper.default, (int, float)) and not isinstance(
        hyper.default, bool
    )
    return number and hyper.name in ("weight_decay", "wd")


def _modes(studied: Studied) -> Iterator[dict[str, Any]]:
    """No option, each option that chooses a way to compute, two of them."""
    yield {}
    ways = []
    for hyper in studied.subject.hypers:
        if hyper.is_mode:
            ways += [(hyper.name, value) for _, value in hyper.others]
    needs = {each.hyper: each.needs for each in studied.options}
    for name, value in ways:
        yield {name: value}
        beside = {
            k: v for k, v in needs.get(name, {}).items() if not _is_named_decay(k)
        }
        if beside:
            yield {**beside, name: value}
    for (one, first), (two, second) in combinations(ways, 2):
        if one != two:
            yield {one: first, two: second}


def _is_named_decay(name: str) -> bool:
    return name in ("weight_decay", "wd")


def _played(studied: Studied, scene: Scene, hypers: dict[str, Any]) -> Trace | None:
    """What parameters do, or None where these hypers are not allowed or lead nowhere."""
    if studied.unfit(scene, hypers):
        return None
    return studied.play(scene, hypers).without_states()


# ---- what has to be refused


def unknown_is_refused(studied: Studied) -> Outcome:
    if _makes(studied, {UNKNOWN: 1}).went:
        return failed(f"{UNKNOWN}=1 is accepted")
    return passed()


def bad_is_refused(studied: Studied) -> Outcome:
    """What the declaration of a hyper does not allow, or the constructor refuses, is
    refused in a group and in a group that is added.
    """
    count = 0
    for hyper in studied.subject.hypers:
        for value in hyper.bad:
            if _makes(studied, {hyper.name: value}).went:
                return failed(f"{hyper.name}={value!r} is accepted by the constructor")
        for value in (*hyper.bad, *_doubtful(hyper)):
            if _makes(studied, {hyper.name: value}).went:
                if hyper.name == "lr" and value == -1.0:
                    return failed("lr=-1.0 is accepted by the constructor")
                continue
            found = _let_in(studied, hyper.name, value)
            if found:
                return failed(
                    f"{hyper.name}={value!r} is refused by the constructor, {found}"
                )
            count += 1
    if not count:
        return not_applicable(
            "the constructor refuses none of the values that were tried"
        )
    return passed(f"{count} values")


def _doubtful(hyper: Hyper) -> list[Any]:
    """Values that many a constructor refuses."""
    if isinstance(hyper.default, bool):
        return []
    if isinstance(hyper.default, (int, float)):
        return [-1.0, math.nan]
    if isinstance(hyper.default, tuple) and hyper.default:
        return [(*hyper.default[:-1], -1.0), (*hyper.default[:-1], 1.5)]
    return ["neither"] if isinstance(hyper.default, str) else []


def _let_in(studied: Studied, name: str, value: Any) -> str:
    """Where a group with this value is accepted, or ''."""
    scene, (two,) = studied.scene(), studied.plain("two")
    own = {name: value}
    if _trial(studied, lambda: studied.start(scene, {}, (own,))).went:
        return "accepted in a group"
    optimizer = studied.start(scene).optimizer
    p = studied.subject.told("two", scene.parameter(two))
    more = {"params": [p], **studied.subject.group, **own}
    if _trial(studied, lambda: optimizer.add_param_group(more)).went:
        return "accepted in a group that is added"
    if len(optimizer.param_groups) != 1:
        return "and the group that it was in stays"
    return ""


def _makes(studied: Studied, hypers: dict[str, Any]) -> Trial:
    return _trial(studied, lambda: studied.start(studied.scene(), hypers))


def _trial(studied: Studied, make: Callable[[], Any]) -> Trial:
    try:
        make()
    except Exception as error:
        return Trial(repr(error), studied.subject.refuses(error))
    return Trial()

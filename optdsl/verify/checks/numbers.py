"""Properties about shapes and dtypes."""

from collections.abc import Iterator

import torch

from ..cases import Case, LeftOut, cases, judged, single
from ..compare import difference, finite, moved
from ..outcome import Outcome, failed, not_applicable, passed, words
from ..roundoff import LUCK, SHORT
from ..run import ITSELF, Key, Snapshot, Trace
from ..scene import SHAPES, Part
from ..study import RANDOM, TRANSPOSED, Studied

NEAR = 0.25  # what eight bits may make of a quantity, as a share of it


def everything_steps(studied: Studied) -> Outcome:
    """Each option beside each shape that the subject takes, and each dtype."""
    scenes = [studied.scene(studied.one, part, steps=2) for part in studied.every]
    scenes += [
        studied.scene(steps=2).with_(dtype=dtype)
        for dtype, trial in studied.dtypes.items()
        if trial.went
    ]
    works = [each for each in studied.options if each.works]
    pairs = [Case(scene, each.hypers) for each in works for scene in scenes]
    for case in _smallest_first(studied, pairs):
        try:
            found = finite(studied.play(case.scene, case.hypers))
        except Exception as error:
            if not studied.subject.refuses(error):
                return failed(f"{case}: {words(error)}")
        else:
            if found is not None and not case.hypers:  # an option may lead anywhere
                return failed(f"{case}: {found}")
    return passed(f"{len(pairs)} pairs of an option and a shape or dtype")


def _smallest_first(studied: Studied, pairs: list[Case]) -> Iterator[Case]:
    """Pairs of an option and one thing more come before everything at once."""
    plain = list(cases(studied))
    yield from (each for each in plain if not each.hypers)
    yield from pairs
    yield from (each for each in plain if each.hypers)


def shapes(studied: Studied) -> Outcome:
    """Each shape steps, finite; and memory that is not contiguous changes nothing."""
    taken = [name for name, trial in studied.shapes.items() if trial.went]
    broken = [
        f"{name}: {trial.words}"
        for name, trial in studied.shapes.items()
        if not trial.went and not trial.refused
    ]
    if broken:
        return failed("; ".join(broken))
    for name in taken:
        part = TRANSPOSED if name == "transposed" else Part(name, SHAPES[name])
        found = finite(studied.play(studied.scene(studied.one, part)))
        if found is not None:
            return failed(str(found))
    if "transposed" in taken:
        outcome = judged(
            studied, _laid_out(studied), lambda case: _strided(studied, case)
        )
        if outcome.failed:
            return outcome
    refused = [name for name in studied.shapes if name not in taken]
    return passed(
        ", ".join(taken) + (f"; refused: {', '.join(refused)}" * bool(refused))
    )


def _laid_out(studied: Studied) -> list[Case]:
    scene = studied.scene(TRANSPOSED)
    return [Case(scene, each.hypers) for each in single(studied)]


def _strided(studied: Studied, case: Case) -> str:
    """Parameter, gradient or both in the memory of their transpose."""
    flat = Part(TRANSPOSED.name, TRANSPOSED.shape)
    plain = case.scene.with_(parts=(flat,))
    expected = studied.play(plain, case.hypers)
    if studied.random_with(case.hypers):
        raise LeftOut(RANDOM)
    for what in ("p and p.grad are", "p.grad is", "p is"):
        scene = plain if what == "p.grad is" else case.scene
        run = studied.start(scene, case.hypers)
        steps = []
        for step in scene.numbers:
            part = flat if what == "p is" else TRANSPOSED
            run.parameters[flat.name].grad = scene.gradient(part, step)
            run.move(step)
            steps.append(run.snapshot())
        got = Trace(expected.start, tuple(steps))
        found = studied.apart(
            got, lambda it: studied.play(it, case.hypers), plain, case.hypers
        )
        if found is not None:
            return f"{what} not contiguous, {found} with contiguous memory"
    return ""


# ---- bfloat16


def short_is_near(studied: Studied) -> Outcome:
    """In bfloat16, parameters are what float32 makes of the same numbers, but for a
    quarter: gross errors show, rounding does not. States are as large as there; what
    their numbers are may be a matter of rounding, as the sign of an eigenvector is.
    """
    trial = studied.dtypes[torch.bfloat16]
    if not trial.went:
        return not_applicable(trial.words)
    if studied.random_with({}):
        return not_applicable(RANDOM)
    return judged(
        studied, _visible(studied), lambda case: far_from_wide(studied, case), True
    )


def _visible(studied: Studied) -> list[Case]:
    """Cases with a learning rate whose steps are larger than a rounding."""
    rate = next(
        (each for each in studied.options if each.hyper == "lr" and each.works), None
    )
    scene = studied.scene().with_(dtype=torch.bfloat16)
    large = {} if rate is None else rate.hypers
    return [Case(scene, {**large, **each.hypers}) for each in single(studied)]


def far_from_wide(studied: Studied, case: Case) -> str:
    """Where a case in bfloat16 is far from the same in float32, or ''."""
    wide = case.scene.with_(dtype=torch.float32, held=torch.bfloat16)
    ours, theirs = (
        _sized(studied.play(each, case.hypers)) for each in (case.scene, wide)
    )
    if difference(ours, theirs, _near(ours, theirs, [])) is None:
        return ""
    # Only now, since it is dear: how far do inputs lead that are wrong as bfloat16 is?
    wrong = [
        _sized(studied.play(wide.with_(noise=4 * SHORT, seed=seed), case.hypers))
        for seed in (1, 2)
    ]
    found = difference(ours, theirs, _near(ours, theirs, wrong))
    return "" if found is None else f"{found} in float32"


def _sized(trace: Trace) -> Trace:
    """The root mean square of each state in the place of its numbers."""

    def sized(snapshot: Snapshot) -> Snapshot:
        return {
            key: value if key[1] == ITSELF else value.double().square().mean().sqrt()
            for key, value in snapshot.items()
        }

    return Trace(trace.start, tuple(map(sized, trace.steps)))


def _near(ours: Trace, theirs: Trace, wrong: list[Trace]) -> list[dict]:
    allowed: list[dict] = []
    largest: dict[
        Key, float
    ] = {}  # so far: what has become small again was rounded then
    for step, snapshot in enumerate(theirs.steps):
        allowed.append({})
        for key, value in snapshot.items():
            far = moved(theirs.start, key, value).abs()
            now = far.nan_to_num().max().item() if far.numel() else 0.0
            largest[key] = max(now, largest.get(key, 0.0))
            rounding = 4 * (step + 1) * SHORT * value.abs().double()
            spread = torch.zeros_like(far)
            for each in wrong:
                there = moved(each.start, key, each.steps[step][key])
                here = moved(theirs.start, key, value)
                spread = torch.maximum(
                    spread, (here - there).abs().nan_to_num(torch.inf)
                )
            bound = NEAR * largest[key] + LUCK * spread
            allowed[-1][key] = bound + (rounding if key[1] == ITSELF else 0)
    return allowed

"""Properties about optimizers that travel: to a file and back, or as a copy."""

import copy
import io
import pickle
from collections.abc import Callable

import torch

from ..cases import Case, cases, judged
from ..compare import difference
from ..outcome import Outcome, words
from ..run import Run, Trace
from ..study import Studied

BEFORE, AFTER = 4, 3  # steps before and after an optimizer is saved


def saved(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        ours, groups = _started(studied, case)
        return _goes_on(ours, loaded(studied, case, ours, groups))

    return judged(studied, cases(studied), judge)


def _started(studied: Studied, case: Case) -> tuple[Run, tuple[dict, ...]]:
    """An optimizer after some steps; with two groups where there are parameters for them."""
    rate = studied.subject.hyper("lr")
    own = {"lr": rate.others[0][1]} if rate is not None and rate.others else {}
    groups: tuple[dict, ...] = ({}, own) if len(case.scene.parts) > 1 else ({},)
    run = studied.start(case.scene, case.hypers, groups)
    for step in range(BEFORE):
        run.step(step)
    return run, groups


def loaded(
    studied: Studied, case: Case, ours: Run, groups: tuple[dict, ...],
    weights_only: bool = True,
) -> Run:  # fmt: skip
    """A new optimizer with the parameters of ours, which has loaded what ours saved."""
    file = io.BytesIO()
    torch.save(ours.optimizer.state_dict(), file)
    file.seek(0)
    fresh = studied.start(case.scene, case.hypers, tuple({} for _ in groups))
    with torch.no_grad():
        for name, p in fresh.parameters.items():
            p.copy_(ours.parameters[name])
    fresh.optimizer.load_state_dict(torch.load(file, weights_only=weights_only))
    return fresh


def _goes_on(ours: Run, theirs: Run, what: str = "loaded") -> str:
    """Whether two optimizers take the same steps from here on."""
    start = ours.start()
    steps = [[each.snapshot()] for each in (ours, theirs)]
    for step in range(BEFORE, BEFORE + AFTER):
        for each, seen in zip((ours, theirs), steps, strict=True):
            each.step(step)
            seen.append(each.snapshot())
    mine, its = (Trace(start, tuple(each)) for each in steps)
    for at, (here, there) in enumerate(zip(mine.steps, its.steps, strict=True)):
        if here.keys() != there.keys():
            key = sorted(here.keys() ^ there.keys())[0]
            where = "does not have" if key in here else "has"
            return f"the {what} one {where} {key[1]} of {key[0]} after {at} more steps"
    exactly = [dict.fromkeys(each, torch.zeros(())) for each in its.steps]
    found = difference(its, mine, exactly)  # dtypes are for another check
    if found is None:
        return ""
    when = f"{found.step} steps after it was {what}" if found.step else f"just {what}"
    return f"{when}, {str(found).partition(', ')[2]}"


def dtypes_are_kept(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        ours, groups = _started(studied, case)
        theirs = loaded(studied, case, ours, groups, weights_only=False)
        for name in ours.parameters:
            before, after = ours.memory(name), theirs.memory(name)
            for key in before:
                if key in after and after[key].dtype != before[key].dtype:
                    return f"{key} of {name} is {after[key].dtype}, was {before[key].dtype}"
        return ""

    one = studied.scene()
    others = [each for each, trial in studied.dtypes.items() if trial.went]
    return judged(
        studied,
        [Case(one.with_(dtype=dtype)) for dtype in others] + [*cases(studied)],
        judge,
    )


def copied(studied: Studied) -> Outcome:
    def pickled(run: Run) -> Run:
        return pickle.loads(pickle.dumps(run))

    ways: tuple[tuple[str, Callable[[Run], Run]], ...]
    ways = ("deepcopy", copy.deepcopy), ("pickle", pickled)

    def judge(case: Case) -> str:
        for name, way in ways:
            run, _ = _started(studied, case)
            try:
                found = _goes_on(run, way(run), "copied")
            except Exception as error:
                found = words(error)
            if found:
                return f"{name}: {found}"
        return ""

    return judged(studied, cases(studied, dtypes=False), judge)

"""Properties about states: when they are made, whose memory they are, how they travel."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..cases import Case, cases, judged
from ..compare import difference
from ..outcome import Outcome, words
from ..run import Run, Trace
from ..scene import SHAPES, Part
from ..study import Studied

BEFORE, AFTER = 4, 3  # steps before and after an optimizer is saved


def lazily(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        never = Part("silent", SHAPES[studied.shape], "never")
        run = studied.start(
            case.scene.with_(parts=(*case.scene.parts, never)), case.hypers
        )
        run.optimizer.zero_grad()
        run.optimizer.state_dict()
        for step in (None, *case.scene.numbers):
            if step is not None:
                run.step(step)
            for name, part in run.parts.items():
                seen = step is not None and any(
                    part.has_gradient(each) for each in range(step + 1)
                )
                made = [*run.memory(name)]
                if made and not seen:
                    when = (
                        "before the first step"
                        if step is None
                        else f"after step {step + 1}"
                    )
                    return f"{when}, {name} has the state {made[0]} and had no gradient"
        return ""

    return judged(studied, [*cases(studied, dtypes=False)], judge)


# ---- memory


def own_memory(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        run = studied.start(case.scene, case.hypers)
        for step in case.scene.numbers:
            run.step(step)
            found = _shared([*_held(run)])
            if found:
                return f"step {step + 1}: {found}"
        return ""

    return judged(studied, cases(studied), judge)


def _held(run: Run) -> Iterator[tuple[str, Tensor]]:
    """Everything that holds memory, states first."""
    tensors = [
        (f"{key} of {name}", value)
        for name, p in run.parameters.items()
        for key, value in _tensors("", run.optimizer.state.get(p, {}))
    ]
    yield from tensors
    for name, p in run.parameters.items():
        yield f"{name} itself", p
        if p.grad is not None:
            yield f"p.grad of {name}", p.grad


def _tensors(path: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(f"{path}.{key}".removeprefix("."), item)
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _tensors(f"{path}[{at}]", item)


def _shared(held: list[tuple[str, Tensor]]) -> str:
    """Two of the tensors that overlap, the first of them a state."""
    seen: dict[int, list[tuple[int, int, str]]] = {}
    order = [
        *held[::-1]
    ]  # parameters and gradients first, so that a state is the culprit
    for name, tensor in order:
        tensor = tensor._values() if tensor.layout == torch.sparse_coo else tensor
        if tensor.layout != torch.strided or not tensor.numel():
            continue
        low = tensor.data_ptr()
        reach = sum(
            (n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)
        )
        high = low + (reach + 1) * tensor.element_size()
        block = seen.setdefault(tensor.untyped_storage().data_ptr(), [])
        for other_low, other_high, other in block:
            if low < other_high and other_low < high:
                return f"{name} shares its memory with {other}"
        block.append((low, high, name))
    return ""


# ---- travel


def saved(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        ours, groups = _started(studied, case)
        return _goes_on(ours, _loaded(studied, case, ours, groups))

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


def _loaded(studied: Studied, case: Case, ours: Run, groups: tuple[dict, ...]) -> Run:
    """A new optimizer with the parameters of ours, which has loaded what ours saved."""
    file = io.BytesIO()
    torch.save(ours.optimizer.state_dict(), file)
    file.seek(0)
    fresh = studied.start(case.scene, case.hypers, tuple({} for _ in groups))
    with torch.no_grad():
        for name, p in fresh.parameters.items():
            p.copy_(ours.parameters[name])
    fresh.optimizer.load_state_dict(torch.load(file, weights_only=True))
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
    found = difference(its, mine)
    if found is None:
        return ""
    when = f"{found.step} steps after it was {what}" if found.step else f"just {what}"
    return f"{when}, {str(found).partition(', ')[2]}"


def dtypes_are_kept(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        ours, groups = _started(studied, case)
        theirs = _loaded(studied, case, ours, groups)
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

"""The other ways to run a step do what the loop does: foreach and capturable."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from ..cases import Case, cases, judged
from ..compare import difference, largest
from ..outcome import PASS, Outcome, not_applicable, passed
from ..run import Trace
from ..scene import Scene
from ..study import Studied
from ..subject import module_of

DEVICES = "_get_capturable_supported_devices"


def foreach(studied: Studied) -> Outcome:
    with exact_scalars():
        return _as_the_loop(studied, "foreach")


def capturable(studied: Studied) -> Outcome:
    with capturable_on_cpu(studied.subject.cls), exact_scalars():
        return _as_the_loop(studied, "capturable")


@contextmanager
def capturable_on_cpu(*classes: type) -> Iterator[None]:
    """Let a step that is for graphs of a GPU run here: its arithmetic is the same."""
    with ExitStack() as stack:
        for module in {module_of(each) for cls in classes for each in cls.__mro__}:
            if hasattr(module, DEVICES):
                stack.enter_context(patch.object(module, DEVICES, _devices))
        yield


@contextmanager
def exact_scalars() -> Iterator[None]:
    """Let torch keep step counts and other numbers in float64: it takes its default dtype,
    in which a bias correction of a first step has three digits less than a step.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _devices(*_: Any, **__: Any) -> list[str]:
    return ["cpu", "cuda"]


def _as_the_loop(studied: Studied, flag: str) -> Outcome:
    if flag not in studied.subject.flags:
        return not_applicable(f"its constructor has no {flag}")
    apart: dict[torch.dtype, float] = {}

    def judge(case: Case) -> str:
        found, far = compared(studied, case, {flag: True})
        apart[case.scene.dtype] = max(apart.get(case.scene.dtype, 0.0), far)
        return found and f"{flag}=True, {found} in the loop"

    outcome = judged(studied, cases(studied), judge)
    return passed(bits_or(apart)) if outcome.verdict == PASS else outcome


def compared(studied: Studied, case: Case, flags: dict[str, Any]) -> tuple[str, float]:
    """Where a case with flags parts from one without them, and how far they are apart."""
    hypers = dict(case.hypers)
    theirs = studied.play(case.scene, hypers, _groups(studied, case))
    ours = studied.play(case.scene, {**hypers, **flags}, _groups(studied, case))
    if difference(ours, theirs) is None:
        return "", 0.0

    def again(scene: Scene) -> Trace:
        return studied.play(scene, hypers, _groups(studied, case))

    found = studied.apart(ours, again, case.scene, hypers)
    return ("" if found is None else str(found)), largest(ours, theirs)


def _groups(studied: Studied, case: Case) -> tuple[dict, ...]:
    """Two groups where there are parameters for them, the second with another lr."""
    rate = next(
        (each for each in studied.options if each.name == "lr" and each.works), None
    )
    if len(case.scene.parts) == 1 or rate is None or "lr" in case.hypers:
        return ({},)
    return {}, {"lr": rate.value}


def bits_or(apart: Mapping[torch.dtype, float]) -> str:
    """In which dtypes two ways to run a step give the same bits, and how far apart they
    are in the others, as a share of the largest value of a tensor.
    """
    same = [_name(dtype) for dtype, far in apart.items() if not far]
    said = [f"the same bits in {', '.join(same)}"] if same else []
    said += [
        f"at most {far:.0e} apart in {_name(each)}"
        for each, far in apart.items()
        if far
    ]
    return ", ".join(said) + (", within round-off" if any(apart.values()) else "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

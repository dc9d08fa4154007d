"""Properties about states: when they are made, and whose memory they are."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..cases import Case, cases, judged
from ..outcome import Outcome
from ..run import Run
from ..scene import SHAPES, Part
from ..study import Studied


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
    for name, tensor in held[::-1]:  # so that the state is the one that shares
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

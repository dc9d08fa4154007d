"""Two traces side by side: whether every bit is the same, and if not, where they part.

Parameters are compared by how far they moved from the start, never by their values: a
step is small beside the value that it changes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .run import ITSELF, Key, Snapshot, Trace


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step and tensor in which two traces differ, and what each has there."""

    step: int  # from 0
    part: str
    tensor: str
    ours: float | complex
    theirs: float | complex
    why: str = ""

    def __str__(self) -> str:
        where = f"step {self.step + 1}, {self.part}"
        if self.why:
            return f"{where}: {self.tensor or 'p'} {self.why}"
        said = "p moved by" if self.tensor == ITSELF else f"{self.tensor} is"
        ours, theirs = told_apart(self.ours, self.theirs)
        return f"{where}: {said} {ours} instead of {theirs}"


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """One dtype, one shape, the same bits; NaN and -0 too."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    return torch.equal(_bits(ours), _bits(theirs))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def difference(
    ours: Trace, theirs: Trace, allowed: list[Snapshot] | None = None
) -> Difference | None:
    """Where two traces part, in the tensors that both have. Without `allowed`, every bit
    counts; with it, tensors may be so far apart, and their dtypes may differ.
    """
    assert len(ours.steps) == len(theirs.steps)
    for step, (mine, its) in enumerate(zip(ours.steps, theirs.steps, strict=True)):
        for key in mine:
            if key not in its:
                continue
            a, b = mine[key], its[key]
            if same_bits(a, b):
                continue
            if allowed is None and a.shape == b.shape and a.dtype != b.dtype:
                return Difference(
                    step, *key, 0, 0, f"is {a.dtype} instead of {b.dtype}"
                )
            if a.shape != b.shape:
                shapes = f"has shape {tuple(a.shape)} instead of {tuple(b.shape)}"
                return Difference(step, *key, 0, 0, shapes)
            far = moved(ours.start, key, a), moved(theirs.start, key, b)
            found = _worst(*far, None if allowed is None else allowed[step][key])
            if found is not None:
                return Difference(step, *key, *found)
    return None


def moved(start: Snapshot, key: Key, value: Tensor) -> Tensor:
    """How far a parameter is from its start; of a state, its value. In float64."""
    wide = value.to(torch.complex128 if value.is_complex() else torch.float64)
    return wide - start[key] if key[1] == ITSELF else wide


def _worst(a: Tensor, b: Tensor, allowed: Tensor | None) -> tuple | None:
    """Where two tensors are furthest apart beyond what is allowed."""
    off = (a - b).abs()
    both = ~(a.isfinite() | b.isfinite()) & ((a == b) | (a.isnan() & b.isnan()))
    beyond = off if allowed is None else off - allowed
    beyond = torch.where(off.isnan(), torch.inf, beyond)
    beyond = torch.where(both, -torch.inf, beyond)
    if allowed is not None and not (beyond > 0).any():
        return None
    at = int(beyond.flatten().argmax())
    return a.flatten()[at].item(), b.flatten()[at].item()


def largest(ours: Trace, theirs: Trace) -> float:
    """The largest difference, as a share of the largest value that its tensor has in any
    step.
    """
    off: dict[Key, float] = {}
    size: dict[Key, float] = {}
    for mine, its in zip(ours.steps, theirs.steps, strict=True):
        for key in mine.keys() & its.keys():
            a, b = moved(ours.start, key, mine[key]), moved(theirs.start, key, its[key])
            if a.shape == b.shape and a.numel():
                off[key] = max(off.get(key, 0.0), _most(a - b))
                size[key] = max(size.get(key, 0.0), _most(b))
    return max((off[key] / (size[key] or 1) for key in off), default=0.0)


def _most(value: Tensor) -> float:
    return value.abs().nan_to_num().max().item()


def finite(trace: Trace) -> Difference | None:
    """The first tensor that holds something that is no number. States of a parameter
    without elements reach nothing, whatever a mean over nothing is.
    """
    for step, snapshot in enumerate(trace.steps):
        for (part, tensor), value in snapshot.items():
            if trace.start[part, ITSELF].numel() and not value.isfinite().all():
                bad = value[~value.isfinite()].flatten()[0].item()
                return Difference(step, part, tensor, 0, 0, f"holds {bad}")
    return None


def told_apart(ours: complex, theirs: complex) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart."""
    for digits in (4, 6, 8, 12):
        said = f"{ours:.{digits}g}", f"{theirs:.{digits}g}"
        if said[0] != said[1]:
            return said
    return repr(ours), repr(theirs)

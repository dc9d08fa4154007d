"""A step of a rule, measured each way in turn, in one run.

In: a spec, shapes, options. Out: the median time of each way, what it moves a second, and
what share that is of what the memory can do.
"""

import importlib
import inspect
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ..find import find
from ..load import load_optimizer
from ..pipeline import Artifacts, build
from ..vocabulary import FLAGS
from .moved import moved
from .shapes import Shapes
from .stream import stream

STREAM = "stream"
_OURS = {
    "loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
TORCH_FUSED = "torch fused"
_TORCH = {
    "torch loop": {"foreach": False, "fused": False},
    "torch foreach": {"foreach": True},
    TORCH_FUSED: {"fused": True},
}
COMPILED = "torch.compile"


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is to the fastest way of torch's class, or to foreach; `gigabytes` are moved
    a second, `share` is that of the memory's; the `first` step, in seconds, makes the
    state and builds what there is to build.
    """

    way: str
    milliseconds: float
    ratio: float
    gigabytes: float
    share: float | None
    first: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    rule: str
    shapes: str
    numbers: int
    bytes: float
    dtype: str
    device: str
    threads: int
    rows: tuple[Row, ...]


@dataclass
class _Way:
    step: Callable[[], Any]
    first: float | None = None


def measure(
    spec: str,
    shapes: Shapes,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    rounds: int = 20,
    compiled: bool = False,
    hypers: Mapping[str, Any] | None = None,
    use: Sequence[str] = (),
) -> Measured:
    """Every way to step a rule, in turn, each on parameters of its own.

    Raises:
        OptdslError: there is no such spec, or it is wrong.
        TypeError, ValueError: the rule does not take the hypers.
    """
    artifacts = build(find(spec), use)
    hypers = dict(hypers or {})
    cls = load_optimizer(spec, use)
    kinds = shapes.dtypes_or(dtype)
    grads = [
        torch.randn(size, dtype=kind, device=device)
        for size, kind in zip(shapes.sizes, kinds, strict=True)
    ]
    ways: dict[str, _Way] = {}
    for name, options in _OURS.items():
        if name == "fused" and artifacts.lowered.kernels is None:
            continue
        optimizer = _made(cls, shapes, grads, {**hypers, **options})
        way = _first_step(optimizer.step, device)
        if name != "fused" or _is_carried(cls, optimizer):
            ways[name] = way
    for name, stepped, options in _of_torch(artifacts, cls, hypers, compiled):
        try:
            optimizer = _made(stepped, shapes, grads, options)
            step = optimizer.step
            if name == COMPILED:
                torch.compiler.reset()
                step = torch.compile(step)
            ways[name] = _first_step(step, device)
        except RuntimeError:
            if name != TORCH_FUSED:  # of which torch has only some
                raise
    numbers = sum(each.numel() for each in grads)
    parts = moved(artifacts.checked, hypers, shapes, dtype)
    if (plain := stream(parts, device)) is not None:
        ways[STREAM] = _Way(plain)
    times = _in_turn({name: each.step for name, each in ways.items()}, rounds, device)
    total = sum(each.bytes for each in parts)
    theirs = [times[each] for each in times if each in _TORCH] or [times["foreach"]]
    rows = [
        Row(
            name,
            1e3 * times[name],
            times[name] / min(theirs),
            total / times[name] / 1e9,
            times[STREAM] / times[name] if STREAM in times else None,
            way.first,
        )
        for name, way in ways.items()
    ]
    return Measured(
        artifacts.checked.name,
        shapes.label,
        numbers,
        total / numbers,
        " and ".join(dict.fromkeys(str(x).removeprefix("torch.") for x in kinds)),
        device,
        torch.get_num_threads(),
        tuple(rows),
    )


def _made(
    cls: type[Optimizer], shapes: Shapes, grads: list[Tensor], options: dict[str, Any]
) -> Optimizer:
    """An optimizer of parameters of its own, with the gradients of all."""
    torch.manual_seed(0)
    params = [Parameter(torch.randn_like(each)) for each in grads]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    groups = [{"params": params[at :: shapes.groups]} for at in range(shapes.groups)]
    return cls(groups, **options)


def _of_torch(
    artifacts: Artifacts, own: type[Optimizer], hypers: dict[str, Any], compiled: bool
) -> list[tuple[str, type[Optimizer], dict[str, Any]]]:
    """The ways of the class that a spec names as its reference. It gets our hypers, the
    defaults too, where it has one of the name: both compute the same.
    """
    path = artifacts.checked.reference
    found = []
    if path.startswith("torch."):
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        known = inspect.signature(cls).parameters
        ours = inspect.signature(own).parameters
        both = (ours.keys() & known.keys()) - {"params", *FLAGS}
        given = {name: ours[name].default for name in both}
        given |= {name: value for name, value in hypers.items() if name in known}
        for way, options in _TORCH.items():
            asked = {key for key, value in options.items() if value}
            if asked <= known.keys():
                kept = {key: x for key, x in options.items() if key in known}
                found.append((way, cls, {**given, **kept}))
        if compiled:
            many = {"foreach": True} if "foreach" in known else {}
            found.append((COMPILED, cls, {**given, **many}))
    elif compiled:
        found.append((COMPILED, own, {**hypers, "foreach": True}))
    return found


def _is_carried(cls: type[Optimizer], optimizer: Optimizer) -> bool:
    """Whether kernels made the step, not what stands in for them: there are none for the
    rule, for the device, or no compiler for them.
    """
    kernel = getattr(sys.modules[cls.__module__], "_KERNELS", None)
    return kernel is not None and kernel.has_stepped(optimizer)


def _first_step(step: Callable[[], Any], device: str) -> _Way:
    """The way after a step, which builds what there is to build, and another one."""
    first = _seconds(step, device)
    step()
    return _Way(step, first)


def _seconds(step: Callable[[], Any], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _in_turn(
    steps: dict[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, float]:
    """The median of each; who goes first changes, so that no one always finds the caches
    of the same other.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = [*steps]
    for _ in range(rounds):
        for name in order:
            times[name].append(_seconds(steps[name], device))
        order = [*order[1:], order[0]]
    return {name: statistics.median(each) for name, each in times.items()}

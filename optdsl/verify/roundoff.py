"""How far round-off may carry results: measured, not guessed.

The same calculation runs again a little wrong, and another order of it has to stay within
what that does. Of a rule, each result of the interpreter is made a little wrong; of a
class, whose inside is not known, each gradient and each start.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from .. import interpret, ir
from .compare import Difference, difference, moved
from .run import ITSELF, Snapshot, Trace
from .scene import Scene, noise_of

LUCK = 16  # how much further than the few runs that were drawn another one may go
SHORT_LUCK = 4  # the same, where each result was off by the most that bfloat16 may be
SHORT = 2.0**-9  # the largest error of a number in bfloat16, as a share of it
DRAWS = 3

Results = Sequence[Mapping[Any, Tensor]]


class Inexact(interpret.Run):
    """Every result of a calculation is a little wrong; from a cast to bfloat16 to the end
    of its function, as wrong as bfloat16 is.
    """

    random: torch.Generator
    size = 2.0**-40
    was_short = False

    def value(self, expr: ir.Expr) -> Any:
        value = super().value(expr)
        if isinstance(expr, (ir.Ref, ir.Invoke, ir.Choose)):
            return value
        if isinstance(value, float):
            return value * (
                1 + self.size * float(torch.randn((), generator=self.random))
            )
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if _is_short(expr):
            self.size, Inexact.was_short = max(self.size, SHORT), True
        noise = torch.randn(value.shape, generator=self.random, dtype=value.dtype)
        return value * (1 + self.size * noise)

    def _invoke(self, call: ir.Invoke) -> Any:
        before = self.size
        try:
            return super()._invoke(call)
        finally:
            self.size = before


def _is_short(expr: ir.Expr) -> bool:
    """Whether an expression is a cast to bfloat16."""
    name = expr.function if isinstance(expr, ir.Call) else getattr(expr, "name", "")
    return name == "bfloat16"


def measured(
    run: Callable[[], Results], exact: Results, size: float = 2.0**-40
) -> list[dict[Any, Tensor]]:
    """How far each number that `run` makes with the interpreter may be off, where every
    result of a calculation is off by `size` of itself.
    """
    spread = [
        {name: abs(value) * size for name, value in each.items()} for each in exact
    ]
    Inexact.size, Inexact.was_short = size, False
    for seed in range(DRAWS):
        Inexact.random = torch.Generator().manual_seed(seed)
        with patch.object(interpret, "Run", Inexact):
            wrong = run()
        short = Inexact.was_short
        chaos, luck = (2.0, SHORT_LUCK) if short else (2.0**-10, LUCK)
        for far, here, there in zip(spread, exact, wrong, strict=True):
            for name in here:
                off = (here[name] - there[name]).abs()
                off[~off.isfinite()] = torch.inf
                if off.numel() and off.max() > chaos * here[name].abs().max():
                    off = torch.full_like(off, torch.inf)  # round-off decides
                elif off.numel() and short:  # matrix products carry it everywhere
                    off = torch.full_like(off, off.max())
                far[name] = torch.maximum(far[name], luck * off)
    return spread


def apart(
    ours: Trace, play: Callable[[Scene], Trace], scene: Scene, inside: torch.dtype
) -> Difference | None:
    """Where a trace parts from what `play` makes of a scene by more than round-off, both
    of one class that calculates in the precision `inside`, whatever it is given.
    """
    theirs = play(scene)
    if difference(ours, theirs) is None:
        return None
    allowed = allowance(play, scene, theirs, noise_of(inside))
    return difference(ours, theirs, allowed)


def allowance(
    play: Callable[[Scene], Trace], scene: Scene, exact: Trace, noise: float
) -> list[Snapshot]:
    """How far each tensor of a scene may be off where all that is given is off by `noise`,
    or by the precision of the scene.
    """
    size = scene.held or scene.dtype
    noise = max(noise, noise_of(size))
    ulp = torch.finfo(size).eps
    spread: list[Snapshot] = []
    for step, snapshot in enumerate(exact.steps):
        spread.append({})
        for key, value in snapshot.items():
            far = moved(exact.start, key, value).abs()
            # A parameter is rounded once a step, whatever the size of its update.
            floor = (
                2 * (step + 1) * ulp * value.abs().double() if key[1] == ITSELF else 0
            )
            largest = far.nan_to_num().max() if far.numel() else 0
            spread[-1][key] = noise * largest + floor + 0 * far.nan_to_num()
    for seed in range(1, DRAWS):
        wrong = play(scene.with_(noise=noise, seed=seed))
        for far, here, there in zip(spread, exact.steps, wrong.steps, strict=True):
            for key in here:
                if key in there and here[key].shape == there[key].shape:
                    off = moved(exact.start, key, here[key]) - moved(
                        wrong.start, key, there[key]
                    )
                    if off.numel():  # an element may be lucky, a tensor is not
                        far[key] = (
                            far[key] + LUCK * off.abs().nan_to_num(torch.inf).max()
                        )
    return spread

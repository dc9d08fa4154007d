"""A step that kernels and torch take turns in.

In: the columns of a param group. Out: what runs the kernels of each turn, where they carry
all of the group; nothing has been changed by then.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from .again import by_default
from .carried import PLAIN
from .kernel import Kernel
from .launch import Batch, Launch, is_asked_for

Groups = list[tuple[dict[str, Any], Any]]


class Turns:
    """The kernels of a rule, in the order of their turns. What one turn hands on to
    another is `handed` tensors a parameter.
    """

    def __init__(self, *kernels: Kernel, handed: int = 0) -> None:
        self.kernels = kernels
        self._count = handed
        self._carried: WeakSet[Any] = WeakSet()

    def has_stepped(self, optimizer: Any) -> bool:
        """Whether kernels had their turns in its last step, for all of its groups."""
        return optimizer in self._carried

    def apart(self, optimizer: Any, groups: Groups) -> tuple[Groups, Groups]:
        """The groups that ask for kernels and whose tensors may be for them; and others."""
        default = by_default()
        taken: Groups = []
        left: Groups = []
        for group, columns in groups:
            asked = is_asked_for(group, default) and all(map(_may_be, columns[0]))
            (taken if asked else left).append((group, columns))
        self._carried.discard(optimizer)
        if not left:
            self._carried.add(optimizer)
        return taken, left

    def handed(self, params: list[Tensor]) -> list[list[Tensor]]:
        """Tensors like the parameters, for as long as a step takes."""
        return [[torch.empty_like(p) for p in params] for _ in range(self._count)]

    def runs(
        self,
        optimizer: Any,
        group: dict[str, Any],
        elements: Sequence[Sequence[Sequence[Any]]],
        asked: Sequence[Sequence[Sequence[float]]] = (),
    ) -> list[Callable[[], None]] | None:
        """What runs the kernels of each turn; None where they do not carry all of it."""
        asked = asked or [()] * len(self.kernels)
        result: list[Callable[[], None]] = []
        for kernel, own, looked_up in zip(self.kernels, elements, asked, strict=True):
            launch = kernel.launch(None)
            launch.add(group, (), own, asked=looked_up)
            batches = launch.batches()
            built = (kernel.built(each.types, each.options) for each in batches)
            if launch.left or not all(built):
                self._carried.discard(optimizer)
                return None
            result.append(partial(_run, launch, batches))
        return result


def _may_be(p: Tensor) -> bool:
    return type(p) in PLAIN and p.is_cpu and not p.is_complex()


def _run(launch: Launch, batches: list[Batch]) -> None:
    for batch in batches:
        launch.step(batch)

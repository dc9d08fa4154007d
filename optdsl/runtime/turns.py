"""A step that kernels and torch take turns in.

In: the columns of a param group. Out: what runs the kernels of each turn, where they carry
all of the group; nothing has been changed by then.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from .again import by_default
from .carried import PLAIN
from .cuda import CPU
from .kernel import Kernel
from .launch import Launch, is_asked_for
from .triton_text import is_there, runs_on

Groups = list[tuple[dict[str, Any], Any]]
Column = Sequence[Any]


@dataclass(frozen=True)
class Turn:
    """The kernels of one turn, for a group of an optimizer. A call takes columns of
    tensors, parameters first, and what the host looks up; columns that it is not given are
    made, like the parameters, and returned.
    """

    kernel: Kernel
    optimizer: Any
    group: dict[str, Any]

    def __call__(
        self, params: Column, *given: Column, asked: Sequence[Sequence[float]] = ()
    ) -> Any:
        count = len(self.kernel.elements) - 1 - len(given)
        made = [[torch.empty_like(p) for p in params] for _ in range(count)]
        launch = self.launch([params, *given, *made], asked)
        for batch in launch.batches():
            launch.step(batch)
        return made[0] if count == 1 else made

    def launch(
        self, elements: list[Column], asked: Sequence[Sequence[float]] = ()
    ) -> Launch:
        device = elements[0][0].device if elements[0] else CPU
        kernel = self.kernel.device if runs_on(device) else self.kernel
        launch = kernel.launch(self.optimizer, device)
        launch.add(self.group, (), elements, asked=asked)
        return launch

    def carries(self, elements: list[Column]) -> bool:
        """Whether the kernels take all of these, and can be built."""
        launch = self.launch(elements)
        batches = launch.batches()
        if launch.left or launch.kernel is not self.kernel:
            return not launch.left
        return all(self.kernel.built(x.types, x.options) for x in batches)


class Turns:
    """The kernels of a rule, in the order of their turns."""

    def __init__(self, *kernels: Kernel) -> None:
        self.kernels = kernels
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
            asked = is_asked_for(group, default) and _may_be(group, columns[0])
            (taken if asked else left).append((group, columns))
        self._carried.discard(optimizer)
        if not left:
            self._carried.add(optimizer)
        return taken, left

    def of(
        self, optimizer: Any, group: dict[str, Any], known: dict[str, Column]
    ) -> list[Turn] | None:
        """The turns of a group, None where kernels do not carry all of it. The columns
        that are `known` have names; all others will be like the parameters.
        """
        turns = [Turn(kernel, optimizer, group) for kernel in self.kernels]
        for turn in turns:
            names = turn.kernel.elements
            if not turn.carries([known.get(name, known["p"]) for name in names]):
                self._carried.discard(optimizer)
                return None
        return turns

    def handed(self, columns: list[Column], *values: list[Tensor] | None) -> Any:
        """What torch has worked out as kernels take it: of the type and the order in memory
        of its parameter, and in memory that no column has. Where there is nothing there is
        memory alone, which no one reads before kernels have written it.
        """
        taken = {_memory(each) for each in _tensors(columns)}
        seen: set[int] = set()
        result = [
            [
                _apart(p, each, taken, seen)
                for p, each in zip(columns[0], value, strict=True)
            ]
            if value is not None
            else [torch.empty_like(p) for p in columns[0]]
            for value in values
        ]
        return result[0] if len(result) == 1 else result


def _may_be(group: dict[str, Any], params: Column) -> bool:
    """Whether kernels may be for parameters: real ones of one device. Where this is a GPU,
    the group has to ask for them; what is captured is for no host between its kernels.
    """
    if not all(type(p) in PLAIN and not p.is_complex() for p in params):
        return False
    devices = {p.device for p in params}
    if len(devices) > 1:
        return False
    device = next(iter(devices), CPU)
    if not runs_on(device):
        return device == CPU
    return bool(group.get("fused")) and not group.get("capturable") and is_there(device)


def _tensors(columns: Iterable[Any]) -> Iterator[Tensor]:
    for each in columns:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from _tensors(each)


def _memory(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _apart(p: Tensor, value: Tensor, taken: set[int], seen: set[int]) -> Tensor:
    """A value in memory that is none of what is `taken`, nor of another that was `seen`."""
    is_like_p = value.dtype == p.dtype and value.shape == p.shape
    is_alike = is_like_p and value.stride() == p.stride()
    if not is_alike or _memory(value) in taken or value.data_ptr() in seen:
        value = torch.empty_like(p).copy_(value)
    seen.add(value.data_ptr())
    return value

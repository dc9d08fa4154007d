"""The kernels of one rule, built for the types and options that a step asks for."""

import ctypes
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .again import Plan, repeat
from .carried import TYPES
from .cuda import CPU, DeviceKernel, Left, is_asked_for, reads_scale, run
from .launch import Launch, Table, Types
from .native import library
from .triton_text import is_there

_SHARED = Path(__file__).with_name("kernel.hpp")
_OF_AXES = Path(__file__).with_name("axes.hpp")

Options = tuple[int, ...]
"""Conditions, and behind them counts."""
Hypers = Callable[[dict[str, Any]], tuple[Iterable[Any], Iterable[Any]]]


class Kernel:
    """What a generated file says of its kernels.

    Args:
        function: the name of the function that runs them.
        text: their C++, without what all kernels share.
        hypers: the numbers of a group that they read, None for one that no one does, and
            the conditions that they are built for.
        elements: the names of the tensors of the parameters' sizes, parameters first.
        numbers: the names of the 0-d tensors.
        optional: the names of those that may be missing.
        scratch: the names of the tensors that live as long as a step.
        options: the names of the conditions.
        counts: the names of whole numbers that they are built for, too; `hypers` has them
            behind the conditions.
        lists: how long each list of tensors is, a number or the name of a count.
        together: whether all parameters have to be in one launch.
        elementwise: whether a part of a tensor may be updated without the rest of it.
        view: which matrices they see tensors as, where they reduce along axes.
        least: how many axes a tensor has at least of which anything is reduced.
        reduced: the names of the tensors that have, in place of the parameter's size, one
            number of each "line", each "column" or each "matrix".
        cuda: the text of the Triton kernels, which run on a GPU.
        scaled: whether those may take the scale of a GradScaler out of the gradients;
            else it is taken out before, and the host waits to hear of an overflow.
    """

    def __init__(
        self,
        function: str,
        text: str,
        hypers: Hypers,
        *,
        elements: tuple[str, ...],
        numbers: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        scratch: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        counts: tuple[str, ...] = (),
        lists: dict[str, int | str] | None = None,
        together: bool = False,
        elementwise: bool = False,
        view: str = "",
        least: int = 0,
        reduced: dict[str, str] | None = None,
        cuda: str = "",
        scaled: bool = False,
    ) -> None:
        self.function = function
        self.text = text
        self.hypers = hypers
        self.elements = elements
        self.numbers = numbers
        self.optional = optional
        self.scratch = scratch
        self.options = options
        self.counts = counts
        self.lists = lists or {}
        self.together = together
        self.elementwise = elementwise
        self.view = view
        self.least = least
        self.reduced = reduced or {}
        self.grads = elements.index("grad") if "grad" in elements else None
        self.plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()
        self._built: dict[tuple, Callable | None] = {}
        self.scaled = scaled
        self.device = DeviceKernel(cuda, self) if cuda else None

    def launch(self, optimizer: object, device: torch.device = CPU) -> Launch:
        """A step of an optimizer, to be filled with groups."""
        return Launch(self, optimizer)

    def repeat(self, optimizer: Any) -> list[dict[str, Any]]:
        """Update by what is known of the step before, where only gradients and numbers are
        new; the param groups that are still to be updated.
        """
        for each in (self, self.device):
            if each is not None and optimizer in each.plans:
                return repeat(each, optimizer)
        return optimizer.param_groups

    def has_stepped(self, optimizer: Any) -> bool:
        """Whether kernels took the last step of an optimizer as a whole."""
        plans = [each.plans for each in (self, self.device) if each is not None]
        return any(optimizer in each for each in plans)

    def on_device(self, launch: Launch) -> Left:
        """Update what is for Triton's kernels; what is left of it."""
        return run(launch)

    def reads_scale(self, optimizer: object) -> bool:
        """Whether kernels take the scale of a GradScaler out by themselves."""
        return reads_scale(self, optimizer)

    def has_numbers_near(self, group: dict[str, Any], p: Tensor) -> bool:
        """Whether 0-d states are to lie on the device of their parameter."""
        if torch.compiler.is_compiling() or not p.is_cuda or self.device is None:
            return False
        return is_asked_for(group) and is_there(p.device)

    def numbers_of(self, group: dict[str, Any]) -> tuple[tuple[float, ...], Options]:
        """The hypers, and the options and counts of a group. Groups of one launch may
        differ in their options where they have to be `together`: these are numbers as
        well, then.
        """
        hypers, options = self.hypers(group)
        values = tuple([0.0 if each is None else float(each) for each in hypers])
        given = iter(options)
        chosen = tuple(bool(next(given)) for _ in self.options)
        counts = tuple(map(int, given))
        if self.together:
            return (*values, *map(float, chosen)), counts
        return values, (*chosen, *counts)

    def built(self, types: Types, options: Options) -> Callable | None:
        """The function for these types, options and counts; None where nothing can build
        it.
        """
        key = types, options
        if key not in self._built:
            self._built[key] = self._build(types, options)
        return self._built[key]

    def _build(self, types: Types, options: Options) -> Callable | None:
        if any(len({*kinds} - {None}) > 1 for kinds in self.kinds(types, options)):
            return None  # entries of one list are of one type
        shared = [_SHARED.read_text(), *[_OF_AXES.read_text()] * bool(self.view)]
        text = "\n".join([*shared, self.prelude(types, options), self.text])
        built = library(text)
        if built is None:
            return None
        function = getattr(built, self.function)
        function.argtypes, function.restype = [ctypes.POINTER(Table)], ctypes.c_int
        return function

    def prelude(self, types: Types, options: Options) -> str:
        """The C++ that says which types, options and counts the kernels are built for."""
        said = self._said(options)
        names = (*self.elements, *self.numbers)
        kinds = dict(zip(names, self.kinds(types, options), strict=True))
        of_elements = {kind for name in self.elements for kind in kinds[name]}
        real = "double" if of_elements & {torch.float64, torch.complex128} else "float"
        lines = [f"using real = {real};"]
        for name, found in kinds.items():
            kind = next(filter(None, found), None)
            lines.append(f"using {name}_t = {TYPES[kind] if kind else real};")
            if name in self.optional and not self.together:
                lines.append(_has(name, found, name in self.lists))
        lines += [f"using {name}_t = real;" for name in self.scratch]
        for name, value in said.items():
            kind = "int" if name in self.counts else "bool"
            lines.append(f"constexpr {kind} {name} = {str(value).lower()};")
        return "\n".join(["", "// Built for these types and options.", *lines, ""])

    def _said(self, options: Options) -> dict[str, int]:
        """The values of options and counts by their names."""
        own = () if self.together else self.options
        return dict(zip((*own, *self.counts), options, strict=True))

    def kinds(self, types: Types, options: Options) -> list[Types]:
        """The types of each name: one, or that of each entry of a list."""
        said, left = self._said(options), iter(types)
        lengths = (self.lists.get(x, 1) for x in (*self.elements, *self.numbers))
        return [
            (*islice(left, said[each] if isinstance(each, str) else each),)
            for each in lengths
        ]


def _has(name: str, kinds: Types, listed: bool) -> str:
    """Whether there is a tensor; of a list, whether there is each."""
    has = ["false" if kind is None else "true" for kind in kinds]
    if not listed:
        return f"constexpr bool has_{name} = {has[0]};"
    return f"constexpr bool has_{name}[] = {{{', '.join(has)}}};"

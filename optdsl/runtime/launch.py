"""One step by kernels: which groups they carry, and their tables.

In: the columns of each param group, as an optimizer has collected them. Out: the groups
that are left to other targets. A step whose parameters and states are those of the step
before, at the same addresses, takes its tables over and looks at the gradients alone.
"""

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .again import Plan, by_default
from .carried import NotCarried, check_together, dtypes, lacks
from .matrices import matrices
from .objects import addresses
from .shards import are_held, held

if TYPE_CHECKING:
    from .kernel import Kernel

Types = tuple[torch.dtype | None, ...]


class Table(ctypes.Structure):
    """As `Table` in kernel.hpp."""

    _fields_ = [
        ("rows", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("numel", ctypes.c_void_p),
        ("shapes", ctypes.c_void_p),
        ("group", ctypes.c_void_p),
        ("hypers", ctypes.c_void_p),
        ("asked", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
    ]


@dataclass(slots=True, eq=False)
class Entry:
    """A group, what was collected of it, and what of this the kernels take; of tensors
    that are `sharded`, what this process holds.
    """

    group: dict[str, Any]
    columns: Any
    elements: Sequence[Sequence[Any]]
    numbers: Sequence[Sequence[Any]]
    asked: Sequence[Sequence[float]]
    sharded: bool = False

    @property
    def tensors(self) -> list[Sequence[Any]]:
        return [*self.elements, *self.numbers]

    @property
    def back(self) -> tuple[dict[str, Any], Any]:
        return self.group, self.columns

    @property
    def here(self) -> "Entry":
        """The same, with no more of each tensor than kernels take."""
        if not self.sharded:
            return self
        parts = [*map(held, self.elements)], [*map(held, self.numbers)]
        return Entry(self.group, self.columns, *parts, self.asked)

    def only(self, places: list[int]) -> "Entry":
        """Some of its rows."""

        def chosen(columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
            return [[column[at] for at in places] for column in columns]

        parts = chosen(self.elements), chosen(self.numbers), chosen(self.asked)
        return Entry(self.group, chosen(self.columns), *parts, self.sharded)


@dataclass(slots=True)
class Batch:
    """The rows of one launch, all of the same types: their entries, their columns from end
    to end, and their tables.
    """

    types: Types
    options: tuple[int, ...]
    entries: list[Entry] = field(default_factory=list)
    hypers: list[float] = field(default_factory=list)
    columns: list[Sequence[Any]] = field(default_factory=list)
    sharded: bool = False
    sizes: list[int] = field(default_factory=list)
    of_groups: list[int] = field(default_factory=list)
    tables: list[array] = field(default_factory=list)
    numel: array = field(default_factory=lambda: array("q"))
    shapes: array = field(default_factory=lambda: array("q"))
    group: array = field(default_factory=lambda: array("q"))
    asked: array = field(default_factory=lambda: array("d"))

    def here(self, column: Sequence[Any]) -> Sequence[Any]:
        """What kernels take of a column."""
        return held(column) if self.sharded else column

    def lay_out(self, view: str, least: int) -> None:
        """Fill the tables; a rule with a view sees tensors as matrices."""
        self.columns = _end_to_end(self.entries)
        self.sharded = any(entry.sharded for entry in self.entries)
        columns = [*map(self.here, self.columns)]
        self.sizes = [*map(Tensor.numel, columns[0])]
        factor = 2 if self.types[0].is_complex else 1
        self.numel = array("q", (factor * each for each in self.sizes))
        if view:
            shapes = (matrices(view, least, p.shape) for p in columns[0])
            self.shapes = array("q", chain.from_iterable(shapes))
        self.of_groups = [len(entry.elements[0]) for entry in self.entries]
        for at, rows in enumerate(self.of_groups):
            self.group.extend([at] * rows)
        self.tables = [*map(addresses, columns)]
        of_entries = (entry.asked for entry in self.entries)
        for column in chain.from_iterable(zip(*of_entries, strict=True)):
            self.asked.extend(column)


def _end_to_end(entries: list[Entry]) -> list[Sequence[Any]]:
    if len(entries) == 1:
        return entries[0].tensors
    several = zip(*(entry.tensors for entry in entries), strict=True)
    return [[*chain.from_iterable(columns)] for columns in several]


def is_asked_for(group: dict[str, Any], by_default: bool) -> bool:
    """Whether a group is to be updated by kernels where they carry it. Where it says
    neither `fused` nor `foreach` it is, if so `by_default`.
    """
    if group.get("differentiable"):
        return False
    fused = group.get("fused")
    if fused is None and group.get("foreach") is None:
        return by_default and not group.get("capturable")
    return bool(fused)


class Launch:
    """Collects the groups of a step of one optimizer, and runs them."""

    def __init__(self, kernel: "Kernel", optimizer: object) -> None:
        self.kernel = kernel
        self.optimizer = optimizer
        self.by_default = by_default()
        self.given: list[tuple[dict[str, Any], Any]] = []
        self.entries: list[Entry] = []
        self.left: list[tuple[dict[str, Any], Any]] = []

    def add(
        self,
        group: dict[str, Any],
        columns: Any,
        elements: Sequence[Sequence[Any]],
        numbers: Sequence[Sequence[Any]] = (),
        asked: Sequence[Sequence[float]] = (),
    ) -> None:
        """Take a group, or leave it.

        Args:
            group: the param group.
            columns: what was collected of it; both are handed back where it is left.
            elements: the tensors of each parameter's size: parameters, gradients, states;
                a missing one is None.
            numbers: the 0-d tensors of each parameter.
            asked: what the host looks up of each parameter.
        """
        self.given.append((group, columns))
        if not is_asked_for(group, self.by_default):
            self.left.append((group, columns))
        elif elements[0]:
            self.entries.append(Entry(group, columns, elements, numbers, asked))

    def run(self) -> list[tuple[dict[str, Any], Any]]:
        """Update what is carried; the groups that are left, or what is left of them."""
        self.left += self.kernel.on_device(self)
        if self.kernel.together and self.left:
            return self.given
        if not self.entries:
            return self.left
        batches = self.batches()
        if self.kernel.together and (self.left or len(batches) != 1):
            return self.given
        for batch in batches:
            if not self.step(batch):
                self.left += [entry.back for entry in batch.entries]
        if not self.left:
            plan = Plan.of(self.optimizer, batches, self.kernel)
            if plan is not None:
                self.kernel.plans[self.optimizer] = plan
        return self.left

    # ---- what is carried

    def _dtypes(self, entry: Entry) -> list[set[torch.dtype | None]]:
        return dtypes(entry, self.kernel)

    def _rows(self, entry: Entry) -> list[tuple[Types, Entry]]:
        """The rows of a group for each combination of their types.

        Raises:
            NotCarried: kernels do not take one of its tensors, nor what is here of it.
        """
        together, alone = self.kernel.together, self.kernel.elementwise
        try:
            return _by_types(self._dtypes(entry), entry, together)
        except NotCarried:
            if together or not are_held(entry.elements, entry.numbers, alone):
                raise
        entry.sharded = True
        return _by_types(self._dtypes(entry.here), entry, together)

    def batches(self) -> list[Batch]:
        """What kernels carry, in batches of one combination of types and options."""
        carried, parts = [], []
        for entry in self.entries:
            try:
                rows = self._rows(entry)
                for types, _ in rows:
                    check_together(types[: len(entry.elements)])
            except NotCarried:
                self.left.append(entry.back)
                continue
            carried.append(entry)
            parts += [(types, part) for types, part in rows]
        if self.kernel.together:
            parts = _of_one_type(parts)
        batches: dict[tuple, Batch] = {}
        for types, part in parts:
            hypers, options = self.kernel.numbers_of(part.group)
            fresh = Batch(types, options)
            batch = batches.setdefault((types, options), fresh)
            batch.entries.append(part)
            batch.hypers += hypers
        self.entries = carried
        result = [*batches.values()]
        for batch in result:
            batch.lay_out(self.kernel.view, self.kernel.least)
        if any(_repeats(batch) or _has_no_memory(batch) for batch in result):
            # A parameter that is there twice is updated twice, one after the other.
            self.left += [entry.back for entry in carried]
            return []
        return result

    # ---- running

    def step(self, batch: Batch) -> bool:
        """Whether the kernels took a batch."""
        step = self.kernel.built(batch.types, batch.options)
        if step is None:
            return False
        count = len(batch.tables) - len(self.kernel.numbers)
        scratch = [_scratch(batch, count) for _ in self.kernel.scratch]
        columns = [
            *batch.tables[:count],
            *(each for _, each in scratch),
            *batch.tables[count:],
        ]
        heads = array("q", (each.buffer_info()[0] for each in columns))
        hypers = array("d", batch.hypers)
        tables = (batch.numel, batch.shapes, batch.group, hypers, batch.asked, heads)
        begin = (each.buffer_info()[0] for each in tables)
        table = Table(len(batch.numel), torch.get_num_threads(), *begin)
        return step(ctypes.byref(table)) == 0


def _by_types(
    kinds: list[set[Any]], entry: Entry, together: bool
) -> list[tuple[Types, Entry]]:
    """The rows of a group for each combination of their types; where rows have to be in
    one launch, those with and those without a state are of one type.
    """
    if together:
        kinds = [each if len(each) == 1 else each - {None} for each in kinds]
    if all(len(each) == 1 for each in kinds):
        return [(tuple(next(iter(each)) for each in kinds), entry)]
    places: dict[Types, list[int]] = {}
    for at, row in enumerate(zip(*entry.here.tensors, strict=True)):
        types = tuple(None if each is None else each.dtype for each in row)
        places.setdefault(types, []).append(at)
    return [(types, entry.only(at)) for types, at in places.items()]


def _of_one_type(parts: list[tuple[Types, Entry]]) -> list[tuple[Types, Entry]]:
    """The same, where groups that lack a state are of the type of those that have it. Of
    groups whose lists are of other lengths no column is the same.
    """
    if len({len(types) for types, _ in parts}) != 1:
        return parts
    columns = zip(*(types for types, _ in parts), strict=True)
    several = [{*column} - {None} for column in columns]
    if not all(len(each) <= 1 for each in several):
        return parts
    types = tuple(next(iter(each), None) for each in several)
    return [(types, part) for _, part in parts]


def _repeats(batch: Batch) -> bool:
    """Whether a parameter is there more than once."""
    full = [at for at, size in zip(batch.tables[0], batch.sizes, strict=True) if size]
    return len({*full}) != len(full)


def _has_no_memory(batch: Batch) -> bool:
    """Whether a tensor of the batch has none."""
    columns = zip(batch.columns, batch.tables, strict=True)
    return any(
        lacks(batch.here(column), where) for column, where in columns if 0 in where
    )


def _scratch(batch: Batch, elements: int) -> tuple[Tensor, array]:
    """Memory for what one pass hands on to another, and where it is for each row."""
    precise = {torch.float64, torch.complex128} & {*batch.types[:elements]}
    real = torch.float64 if precise else torch.float32
    whole = torch.empty(sum(batch.numel), dtype=real)
    ends = accumulate(batch.numel, initial=0)
    size, base = whole.element_size(), whole.data_ptr()
    pairs = zip(ends, batch.numel, strict=False)
    return whole, array("q", (base + size * start for start, _ in pairs))

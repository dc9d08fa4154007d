"""What kernels on a device are handed of many tensors: tables on the device.

In: a batch of rows. Out: tables. One says how the rows lie in blocks; it is the same as
long as the rows are. The other one says where the tensors begin and what the hypers are;
it is copied to the device where it is not what it was. What was copied is never written
again: the steps that read it may not have run.
"""

from array import array
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from .device_matrices import Matrices, is_even, shapes_of, tiles_of
from .launch import Batch

Words = array  # of 64 bits each, some of which are floats


@dataclass(slots=True)
class Copies:
    """Carries tables to one device. `held` is memory that captured steps read again at
    every replay, and `spares` is memory for the next one: while a step is captured, none
    of this kind can be had.
    """

    device: torch.device
    held: list[Tensor] = field(default_factory=list)
    spares: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, words: bytearray) -> Tensor:
        host = torch.frombuffer(words, dtype=torch.int64)
        if self.device.type == "cpu":
            return host
        if not is_capturing(self.device):
            if len(host) not in self.spares:
                self.spares[len(host)] = torch.empty_like(host, pin_memory=True)
            return host.pin_memory().to(self.device, non_blocking=True)
        pinned = self.spares.pop(len(host), None)
        if pinned is None:
            pinned = torch.empty(len(host), dtype=torch.int64, pin_memory=True)
        self.held.append(pinned.copy_(host))
        return pinned.to(self.device, non_blocking=True)


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched on a device goes into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@dataclass(slots=True)
class Rows:
    """How the rows of a batch lie in blocks: of each its size, its group, and its first
    block; of each group its first row; of each block its row. Where they are seen as
    matrices, blocks are tiles of these.
    """

    BLOCK: int
    rows: int
    groups: int
    chunks: int
    numel: Tensor
    group: Tensor
    starts: Tensor
    bounds: Tensor
    row_of: Tensor
    matrices: Matrices | None

    @classmethod
    def of(cls, batch: Batch, block: int, copy: Copies) -> "Rows":
        shapes = shapes_of(batch, block)
        more = Matrices.tables(shapes, block) if shapes else []
        chunks = tiles_of(shapes, block) or [-(-each // block) for each in batch.numel]
        starts = array("q", accumulate(chunks, initial=0))
        bounds = array("q", accumulate(batch.of_groups, initial=0))
        places = torch.arange(len(chunks))
        row_of = places.repeat_interleave(torch.tensor(chunks, dtype=torch.int64))
        parts = [batch.numel, batch.group, starts, bounds]
        listed = [*(x.tobytes() for x in parts), _bytes(row_of)]
        tables = _carried([*listed, *(x.tobytes() for x in more)], copy)
        sizes = len(chunks), len(batch.of_groups), starts[-1]
        own, of_matrices = tables[: len(listed)], tables[len(listed) :]
        matrices = None
        if more:
            matrices = Matrices.of(is_even(shapes, batch), more, of_matrices)
        return cls(block, *sizes, *own, matrices)


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.untyped_storage()) if len(tensor) else b""


def _carried(parts: list[bytes], copy: Copies) -> list[Tensor]:
    """Several tables by one copy, each of which begins at a multiple of 16 bytes."""
    words, places = bytearray(), []
    for part in parts:
        places.append(len(words) // 8)
        words += part
        words += bytes(-len(words) % 16)
    whole = copy(words + bytes(16))
    return [whole[at:] for at in places]


@dataclass(slots=True)
class Values:
    """Where the tensors of a batch begin, column by column; the hypers, group by group;
    what the host looked up, column by column. `known` is what was copied.
    """

    known: list[bytes]
    columns: Tensor
    hypers: Tensor
    asked: Tensor
    aligned: bool

    @classmethod
    def of(cls, parts: list[bytes], elements: int, copy: Copies) -> "Values":
        columns, hypers, asked = _carried(parts, copy)
        begins = torch.frombuffer(bytearray(parts[0]), dtype=torch.int64)
        aligned = not (begins[:elements] & 15).any()
        as_floats = (each.view(torch.float64) for each in (hypers, asked))
        return cls(parts, columns, *as_floats, aligned)


def parts_of(batch: Batch, pointers: list[array]) -> list[bytes]:
    """What `Values` are made of; hypers that are tensors of the device are zeros here."""
    hypers = array("d", (0.0 if is_tensor(x) else x for x in batch.hypers))
    columns = b"".join(x.tobytes() for x in pointers)
    return [columns, hypers.tobytes(), batch.asked.tobytes()]


def is_tensor(hyper: Any) -> bool:
    return isinstance(hyper, Tensor)

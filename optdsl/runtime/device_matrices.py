"""How the matrices of a batch lie in blocks: tables for Triton's kernels.

In: the rows of a batch. Out: for passes, how many tiles each row has; for what there is
once a line, once a column or once a matrix, its blocks, and where the numbers of each row
begin among those of all rows.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from .launch import Batch

Shape = tuple[int, int, int]  # matrices, height, width


def tile_of(block: int) -> tuple[int, int]:
    """The lines and the columns of a tile of as many elements as a block has."""
    lines = 1 << (block.bit_length() - 1) // 2
    return lines, block // lines


def shapes_of(batch: Batch, block: int) -> list[Shape]:
    """The matrices of each row, if rows are seen so. What is no matrix is as wide as a
    tile.
    """
    if not batch.shapes:
        return []
    _, columns = tile_of(block)
    found = zip(batch.shapes[::3], batch.shapes[1::3], batch.shapes[2::3], strict=True)
    return [
        each if each[0] else (0, -(-numel // columns), columns)
        for each, numel in zip(found, batch.numel, strict=True)
    ]


def is_even(shapes: Sequence[Shape], batch: Batch) -> bool:
    """Whether all lines, and all rows, have multiples of 16 elements."""
    rows = zip(shapes, batch.numel, strict=True)
    return all(
        not numel or width % 16 == numel % 16 == 0 for (*_, width), numel in rows
    )


def tiles_of(shapes: Sequence[Shape], block: int) -> list[int]:
    """How many tiles each row has. Their lines are counted through all its matrices."""
    lines, columns = tile_of(block)
    return [
        -(-max(many, 1) * height // lines) * -(-width // columns)
        for many, height, width in shapes
    ]


@dataclass(slots=True)
class Blocks:
    """What there is of one kind, in `chunks` blocks: of each block its row, of each row
    its first block, and how many there are `before` it; `total` in all.
    """

    chunks: int
    total: int
    row_of: Tensor
    starts: Tensor
    before: Tensor


@dataclass(slots=True)
class Matrices:
    """Blocks of lines, of columns and single matrices. What passes gather, a part a tile,
    begins for each row behind so many others: `parts` of each kind, of `sizes` in all.
    Where all is `even`, lines and rows have multiples of 16 elements.
    """

    even: bool
    shapes: Tensor
    blocks: dict[str, Blocks]
    parts: dict[str, Tensor]
    sizes: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def tables(shapes: Sequence[Shape], block: int) -> list[array]:
        """What is carried to the device of it."""
        lines, columns = tile_of(block)
        tables = [array("q", (x for side in zip(*shapes, strict=True) for x in side))]
        counts = {
            "lines": [many * height for many, height, _ in shapes],
            "columns": [many * width for many, _, width in shapes],
            "matrices": [many for many, _, _ in shapes],
        }
        for kind, each in counts.items():
            size = 1 if kind == "matrices" else length_of(block)
            chunks = [-(-count // size) for count in each]
            places = torch.arange(len(chunks))
            row_of = places.repeat_interleave(torch.tensor(chunks, dtype=torch.int64))
            starts = array("q", accumulate(chunks, initial=0))
            before = array("q", accumulate(each, initial=0))
            tables += [array("q", row_of.tolist()), starts, before]
        side_by_side = [
            many * height * -(-width // columns) for many, height, width in shapes
        ]
        # As many pairs of a matrix and a tile, as both together.
        below = [
            many and (-(-many * height // lines) + many) * width
            for many, height, width in shapes
        ]
        for each in (side_by_side, below):
            tables.append(array("q", accumulate(each, initial=0)))
        return tables

    @classmethod
    def of(
        cls, even: bool, host: Sequence[array], device: Sequence[Tensor]
    ) -> "Matrices":
        blocks, at = {}, 1
        for kind in ("lines", "columns", "matrices"):
            _, starts, before = host[at : at + 3]
            blocks[kind] = Blocks(starts[-1], before[-1], *device[at : at + 3])
            at += 3
        parts = dict(zip(("line_parts", "column_parts"), device[at:], strict=True))
        sizes = {kind: each.total for kind, each in blocks.items()}
        sizes |= {kind: each[-1] for kind, each in zip(parts, host[at:], strict=True)}
        return cls(even, device[0], blocks, parts, sizes)


def length_of(block: int) -> int:
    """How many lines, or columns, a program takes, where it takes a block of elements."""
    return max(1, block // 8)

"""What the function that launches Triton's kernels is handed: tables, and what kernels are
built for.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from .device_matrices import Blocks, Matrices, length_of, tile_of
from .device_tables import Rows, Values
from .launch import Batch, Types

KINDS = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.complex64: tl.float32,
    torch.complex128: tl.float64,
}
"""What Triton calls the types of numbers in memory; complex ones are pairs."""
_OF_ROWS = "rows chunks row_of starts bounds numel group".split()
# Subnormal numbers count, as they do elsewhere in torch.
_PLAIN = {} if torch.version.hip else {"enable_reflect_ftz": False}


class Handed:
    """One launch of all kernels of a rule.

    Args:
        names: what the kernels call the types of columns, and the options.
        batch: the rows.
        kinds: the types of each name: one, or that of each entry of a list.
        elements: how many of these are of the parameter's size, or of lines of it.
        scratch: how many columns live as long as a step.
        rows: how the rows lie in blocks.
        values: where they begin, and what their groups say.
        scale: what a GradScaler found, and its scale; both may be None.
        device: where all of this is.
    """

    of_rows = {"num_warps": 1, **_PLAIN}
    of_chunks = {"num_warps": 8, **_PLAIN}
    of_lines = {"num_warps": 4, **_PLAIN}
    numbers: Tensor | None = None
    """What one kernel worked out once a row, for others."""
    parts: Tensor | None = None
    """What the last pass gathered once a block."""

    def __init__(
        self,
        names: tuple[tuple[str, ...], tuple[str, ...]],
        batch: Batch,
        kinds: list[Types],
        elements: int,
        scratch: int,
        rows: Rows,
        values: Values,
        scale: tuple[Any, Any],
        device: torch.device,
    ) -> None:
        real = tl.float64 if is_precise(chain(*kinds[:elements])) else tl.float32
        types = [KINDS.get(next(filter(None, each), None), real) for each in kinds]
        types[elements:elements] = [real] * scratch
        self.rows, self.chunks, self.groups = rows.rows, rows.chunks, rows.groups
        self.device = device
        self.arguments = {
            **dict(zip(names[0], types, strict=True)),
            **dict(zip(names[1], batch.options, strict=True)),
            "real": real,
            "aligned": values.aligned,
            "BLOCK": rows.BLOCK,
            **{name: getattr(rows, name) for name in _OF_ROWS},
            **{name: getattr(values, name) for name in ("columns", "hypers", "asked")},
            "found_inf": scale[0],
            "grad_scale": scale[1],
        }
        self.has_empty = 0 in batch.numel
        self.blocks: dict[str, Blocks] = {}
        self.sizes: dict[str, int] = {}
        if rows.matrices is not None:
            self._see(rows.matrices, rows.BLOCK)

    def _see(self, matrices: Matrices, block: int) -> None:
        """Rows as matrices."""
        self.blocks, self.sizes = matrices.blocks, matrices.sizes
        self.arguments |= {"shapes": matrices.shapes, "even": matrices.even}
        tables = {kind: each.before for kind, each in matrices.blocks.items()}
        for name, table in (tables | matrices.parts).items():
            self.arguments[f"{name}_before"] = table
        self.arguments["LINES"], self.arguments["COLUMNS"] = tile_of(block)

    def new(self, count: int) -> Tensor:
        """Numbers that live as long as a step."""
        return torch.empty(max(count, 1), dtype=torch.float64, device=self.device)

    def make(self, name: str, of: str) -> None:
        """As many numbers as there are of lines, columns, matrices or parts of them."""
        self.arguments[name] = self.new(self.sizes[of])

    def each_row(self, kernel: Any) -> None:
        self._launch(kernel, self.rows, self.of_rows)

    def each_group(self, kernel: Any) -> None:
        self._launch(kernel, self.groups, self.of_rows)

    def once(self, kernel: Any) -> None:
        self._launch(kernel, 1, self.of_rows)

    def each_chunk(self, kernel: Any) -> None:
        if self.chunks:
            self._launch(kernel, self.chunks, self.of_chunks)

    def each_line(self, kernel: Any) -> None:
        self._along("lines", kernel)

    def each_column(self, kernel: Any) -> None:
        self._along("columns", kernel)

    def each_matrix(self, kernel: Any) -> None:
        self._along("matrices", kernel)

    def _along(self, kind: str, kernel: Any) -> None:
        of = self.blocks[kind]
        length = length_of(self.arguments["BLOCK"])
        given = {"row_of": of.row_of, "starts": of.starts, "BLOCK": length}
        if of.chunks:
            self._launch(kernel, of.chunks, self.of_lines, **given)

    def _launch(
        self, kernel: Any, programs: int, how: dict[str, Any], **given: Any
    ) -> None:
        """Launch a kernel with what it says that it reads."""
        made = {"numbers": self.numbers, "parts": self.parts}
        known = self.arguments | made | given
        kernel[(programs,)](*(known[name] for name in kernel.arg_names), **how)


def is_precise(types: Iterable[Any]) -> bool:
    """Whether elements are calculated in float64."""
    return bool({torch.float64, torch.complex128} & {*types})

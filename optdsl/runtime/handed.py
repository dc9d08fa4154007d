"""What the function that launches Triton's kernels is handed: tables, and what kernels are
built for.
"""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

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
# Subnormal numbers count, as they do elsewhere in torch.
_PLAIN = {} if torch.version.hip else {"enable_reflect_ftz": False}


class Handed:
    """One launch of all kernels of a rule.

    Args:
        batch: the rows.
        elements: how many of their types are of the parameter's size.
        scratch: how many columns live as long as a step.
        rows: how the rows lie in blocks.
        values: where they begin, and what their groups say.
        scale: what a GradScaler found, and its scale; both may be None.
        device: where all of this is.
    """

    of_rows = {"num_warps": 1, **_PLAIN}
    of_chunks = {"num_warps": 8, **_PLAIN}

    def __init__(
        self,
        batch: Batch,
        elements: int,
        scratch: int,
        rows: Rows,
        values: Values,
        scale: tuple[Any, Any],
        device: torch.device,
    ) -> None:
        types: Types = batch.types
        self.real = tl.float64 if is_precise(types[:elements]) else tl.float32
        kinds = [KINDS.get(each, self.real) for each in types]
        self.types = [*kinds[:elements], *[self.real] * scratch, *kinds[elements:]]
        self.options = batch.options
        self.BLOCK, self.rows, self.groups = rows.BLOCK, rows.rows, rows.groups
        self.chunks, self.row_of, self.starts = rows.chunks, rows.row_of, rows.starts
        self.numel, self.group, self.bounds = rows.numel, rows.group, rows.bounds
        self.columns, self.hypers = values.columns, values.hypers
        self.asked, self.aligned = values.asked, values.aligned
        self.found_inf, self.grad_scale = scale
        self.device = device

    def new(self, count: int) -> Tensor:
        """Numbers that live as long as a step."""
        return torch.empty(max(count, 1), dtype=torch.float64, device=self.device)


def is_precise(types: Types) -> bool:
    """Whether elements are calculated in float64."""
    return bool({torch.float64, torch.complex128} & {*types})

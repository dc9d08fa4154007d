"""The random numbers of a compiled class, drawn by hand: a function of the seed of the group,
the place of the parameter in it, the number of its update and the draw of the spec.
"""

from typing import Any

import torch
from torch import Tensor


def _mixed(*numbers: int) -> int:
    """From 1 on, for each number: exclusive or, times an odd constant modulo 2**63, and the
    upper half folded into the lower one, which is all that the generator of a CPU takes.
    """
    seed = 1
    for number in numbers:
        seed = ((seed ^ number) * 0x9E3779B97F4A7C15) % (1 << 63)
        seed = seed ^ (seed >> 32)
    return seed


def normal(like: Tensor, group: dict[str, Any], place: int, update: int) -> Tensor:
    """The first draw of an update."""
    seed = _mixed(_mixed(group["seed"], place, update), 0)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator).to(like.dtype)

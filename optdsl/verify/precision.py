"""The precision that an optimizer calculates in, whatever it is given.

Some cast to bfloat16 to orthogonalize, or to float32 to be careful; two of their runs
agree no better than that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Lowest(TorchDispatchMode):
    """Sees the result of every operation of torch. Of single numbers, which may be counts
    or rates, all are taken to be float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.float32

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if (
                isinstance(each, Tensor)
                and each.numel() > 1
                and each.is_floating_point()
            ):
                if torch.finfo(each.dtype).eps > torch.finfo(self.dtype).eps:
                    self.dtype = each.dtype
        return result


def lowest(run: Callable[[], Any]) -> torch.dtype:
    """The lowest precision of what `run` calculates, float32 at best."""
    with _Lowest() as seen:
        run()
    return seen.dtype

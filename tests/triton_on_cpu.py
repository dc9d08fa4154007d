"""Triton's interpreter, where there is no GPU: it runs kernels one program after the other,
with numpy. It has no libdevice, which is NVIDIA's; numpy and Python's math stand in for it,
so that what is tested is what a kernel calls it with.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

# Whoever says where Triton's kernels are to run has to do so before it is imported.
pytest.importorskip("triton", reason="Triton is for Linux")

import triton.language as tl  # noqa: E402
from triton.language.extra import libdevice  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from optdsl.runtime.cuda import DeviceKernel, DeviceLaunch  # noqa: E402
from optdsl.runtime.launch import Launch  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCK = 16  # in place of some thousand elements: a kernel has several blocks to take


def _each(function: Callable) -> Callable:
    return np.vectorize(function, otypes=[float])


_ARRAYS = {
    "pow": np.power,
    "atan2": np.arctan2,
    "fmod": np.fmod,
    **{name: getattr(np, name) for name in "exp expm1 log log1p log2 log10".split()},
    **{name: getattr(np, name) for name in "sin cos tan sinh cosh tanh".split()},
    **{name: getattr(np, name) for name in "trunc rint".split()},
    **{name: getattr(np, f"arc{name[1:]}") for name in "asin acos atan".split()},
    "erf": _each(math.erf),
}


def _stand_in(function: Callable) -> Callable:
    """A function of libdevice for numpy's arrays. As there, its arguments are Triton's,
    all of one precision.
    """

    def called(*arguments: tl.tensor) -> tl.tensor:
        dtype = arguments[0].dtype
        assert all(isinstance(each, tl.tensor) for each in arguments)
        assert {each.dtype for each in arguments} == {dtype}
        assert dtype in (tl.float32, tl.float64)
        arrays = [each.handle.data for each in arguments]
        result = np.asarray(function(*arrays)).astype(arrays[0].dtype)
        type_ = max(arguments, key=lambda each: each.handle.data.size).type
        return tl.tensor(interpreter.TensorHandle(result, dtype), type_)

    return called


def _call_inside(self: Any, *args: Any, **kwargs: Any) -> Any:
    """A call of one kernel's function by another. The interpreter puts itself into Triton's
    language anew at every call, which is slow; once it is there, it stays.
    """
    if any(tl.core.is_builtin(each.load) for each in _languages(self.fn)):
        interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


@cache
def _languages(function: Callable) -> list[Any]:
    """The modules of Triton's language that a function sees."""
    seen = function.__globals__.values()
    return [each for each in (tl, tl.core) if any(each is x for x in seen)]


@contextmanager
def triton_kernels(block: int = BLOCK, leave: bool = False) -> Iterator[list[int]]:
    """Where tensors of the device are updated by Triton's kernels, in small blocks, unless
    they may `leave` some; how many rows each launch had.
    """
    rows: list[int] = []
    run, one = Launch.run, DeviceLaunch.step

    def watched(self: Launch) -> list:
        is_asked_for = bool(self.entries)
        left = run(self)
        assert leave or not (is_asked_for and left), "kernels left a group"
        return left

    def counted(self: DeviceLaunch, batch: Any) -> bool:
        rows.append(len(batch.numel))
        return one(self, batch)

    patches = [
        patch.dict("os.environ", OPTDSL_FUSED="triton"),
        patch.object(DeviceKernel, "block", block),
        patch.object(Launch, "run", watched),
        patch.object(DeviceLaunch, "step", counted),
    ]
    if DEVICE.type == "cpu":
        patches += [
            patch.object(libdevice, name, _stand_in(function), create=True)
            for name, function in _ARRAYS.items()
        ]
        inside = interpreter.InterpretedFunction
        patches.append(patch.object(inside, "__call__", _call_inside))
    with np.errstate(all="ignore"):
        for each in patches:
            each.start()
        try:
            yield rows
        finally:
            for each in patches:
                each.stop()

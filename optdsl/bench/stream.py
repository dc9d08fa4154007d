"""What the memory of this machine can do: a plain loop that reads and writes as many bytes
as a step has to, in the same mix, and computes next to nothing.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from ..runtime.native import library

_TEXT = """
#include <cstdint>

extern "C" void stream(float **arrays, int64_t size, int threads) {{
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t begin = 0; begin < size; begin += 16384) {{
        const int64_t end = begin + 16384 < size ? begin + 16384 : size;
{declared}
        #pragma omp simd
        for (int64_t i = begin; i < end; ++i) {{
            const float sum = {sum};
{written}
        }}
    }}
}}
"""


def stream(
    reads: int, writes: int, size: int, device: str
) -> Callable[[], None] | None:
    """A call that reads `reads` arrays of `size` float32 numbers and writes `writes` of
    them anew; on another device, a copy of as many bytes. None where nothing builds it.
    """
    if device != "cpu":
        count = (reads + writes) * size // 2
        source = torch.ones(count, device=device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)
    names = [f"a{at}" for at in range(reads)]
    declared = [f"        float *{x} = arrays[{at}];" for at, x in enumerate(names)]
    written = [f"            {x}[i] = 0.5f * {x}[i] + sum;" for x in names[:writes]]
    text = _TEXT.format(
        declared="\n".join(declared),
        sum=" + ".join(f"{x}[i]" for x in names),
        written="\n".join(written),
    )
    built = library(text)
    if built is None:
        return None
    arrays: list[Tensor] = [torch.zeros(size) for _ in names]
    pointers = (ctypes.c_void_p * len(arrays))(*(x.data_ptr() for x in arrays))
    threads = torch.get_num_threads()

    def run(kept: list[Tensor] = arrays) -> None:
        built.stream(pointers, ctypes.c_int64(size), threads)

    return run

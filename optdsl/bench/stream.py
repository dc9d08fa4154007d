"""What this machine's memory can do: a step that only moves the bytes of a rule.

In: the parts of what a rule moves, and a device. Out: a function that reads and writes as
much, one pass over arrays of the same number, sizes and roles; a copy of as many bytes on
CUDA. None on a CPU without a C++ compiler.
"""

import ctypes
from collections.abc import Callable, Sequence

import torch

from ..runtime.native import library
from .moved import Array, Part

_TYPES = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# The sum of what is read goes to all that is written: nothing can be left out, and
# integers take the same time whatever they are.
_TEXT = """#include <cstdint>

extern "C" void stream(int64_t count, int64_t threads, void *const *arrays) {{
    {declared}
    #pragma omp parallel for simd schedule(static) num_threads(int(threads))
    for (int64_t at = 0; at < count; ++at) {{
        const {widest} sum = {sum};
        {writes}
    }}
}}
"""


def stream(parts: Sequence[Part], device: str) -> Callable[[], None] | None:
    """A step that moves what the parts say."""
    if device != "cpu":
        return _copy(sum(each.bytes for each in parts), device)
    made = [_pass(each) for each in parts]
    if None in made:
        return None

    def step() -> None:
        for each in made:
            each()

    return step


def _copy(moved: int, device: str) -> Callable[[], None]:
    source = torch.ones(moved // 2, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return lambda: target.copy_(source)


def _pass(part: Part) -> Callable[[], None] | None:
    built = library(text(part.arrays))
    if built is None:
        return None
    function = built.stream
    function.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    function.restype = None
    tensors = [
        torch.ones(part.numbers, dtype=_TYPES[each.width]) for each in part.arrays
    ]
    pointers = (ctypes.c_void_p * len(tensors))(*(each.data_ptr() for each in tensors))

    def step(kept: object = tensors) -> None:
        function(part.numbers, torch.get_num_threads(), pointers)

    return step


def text(arrays: Sequence[Array]) -> str:
    """The C++ of one pass."""
    widths = [f"uint{8 * each.width}_t" for each in arrays]
    declared = [
        f"{width} *__restrict a{at} = ({width} *)arrays[{at}];"
        for at, width in enumerate(widths)
    ]
    reads = [f"a{at}[at]" for at, each in enumerate(arrays) if each.read]
    writes = [
        f"a{at}[at] = {width}(sum);"
        for at, (each, width) in enumerate(zip(arrays, widths, strict=True))
        if each.written
    ]
    return _TEXT.format(
        declared="\n    ".join(declared),
        widest=f"uint{8 * max(each.width for each in arrays)}_t",
        sum=" + ".join(reads) or "1",
        writes="\n        ".join(writes),
    )

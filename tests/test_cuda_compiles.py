"""Triton compiles the kernels for a GPU, also where there is none: its interpreter takes
more than its compiler does. That needs a process of its own, since Triton is either.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from built import of_library
from oracle import LONG

from optdsl.resources import library

pytest.importorskip("triton", reason="Triton is for Linux")

# Between them they have one pass and several, branches, sums over a tensor, over the model,
# lists, lines and columns and matrices.
FEW = ["radam", "prodigy", "aggmo", "adafactor"]
NAMES = [each for each in library() if "_CUDA" in of_library(each).python]
PROGRAM = """
import inspect, sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from optdsl import load_optimizer
from optdsl.runtime.device_matrices import tile_of
from optdsl.runtime.handed import Handed
from optdsl.runtime.triton_text import module

WORDS = {"rows": "i32", "chunks": "i32", "found_inf": "*fp32", "grad_scale": "*fp32"}
WORDS |= dict.fromkeys(("hypers", "asked", "numbers", "parts"), "*fp64")

for name, kind in (each.split(":") for each in sys.argv[1:]):
    cls = load_optimizer(name)
    rule = sys.modules[cls.__module__]._KERNELS
    made = module(rule.device.text)
    kernels = {
        key: each for key, each in vars(made).items()
        if key.startswith(("numbers_", "pass_", "across_", "lines_", "columns_", "matrices_"))
    }
    assert kernels
    kind = getattr(tl, kind)
    real = tl.float64 if kind == tl.float64 else tl.float32
    for key, kernel in kernels.items():
        types, constants = {}, {}
        for each in inspect.signature(kernel.fn).parameters.values():
            made = each.name.endswith(("_all", "_parts"))
            types[each.name] = "*fp64" if made else WORDS.get(each.name, "*i64")
            if each.annotation is not inspect.Parameter.empty:
                types[each.name] = "constexpr"
                constants[each.name] = kind if each.name.endswith("_t") else True
        lines, columns = tile_of(2048)
        values = {"real": real, "BLOCK": 2048, "LINES": lines, "COLUMNS": columns}
        values |= dict.fromkeys(rule.counts, 3)
        constants |= {k: v for k, v in values.items() if k in types}
        options = {
            "pass": Handed.of_chunks, "numbers": Handed.of_rows, "across": Handed.of_rows,
        }.get(key.split("_")[0], Handed.of_lines)
        source = ASTSource(kernel, types, constants)
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        if key.startswith("pass_"):
            # Where tensors begin at multiples of 16 bytes, several elements at once; of
            # matrices, where lines are even.
            loads = ("ld.global.v2", "ld.global.v4")
            assert any(each in built.asm["ptx"] for each in loads)
        print(name, key)
"""


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Nothing of an earlier run helps. PTX is for a GPU of compute capability 9.0."""
    cases = [f"{name}:float32" for name in FEW]
    if LONG:
        kinds = ("float32", "float64", "bfloat16")
        cases = [f"{name}:{kind}" for name in NAMES for kind in kinds]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *cases],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) > len(cases)

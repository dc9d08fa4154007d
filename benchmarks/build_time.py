"""How long it takes to build the kernels of each rule of the library for the CPU, with an
empty cache.

    python benchmarks/build_time.py

Prints seconds a kernel, the slowest last. A rule in which torch has a part has several.
"""

import os
import statistics
import tempfile
import time
from typing import Any
from unittest.mock import patch

CACHE = tempfile.TemporaryDirectory()
os.environ["OPTDSL_CACHE_DIR"] = CACHE.name

import torch  # noqa: E402  (after the choice of a cache)
from torch.nn import Parameter  # noqa: E402

from optdsl import load_optimizer  # noqa: E402
from optdsl.find import find  # noqa: E402
from optdsl.pipeline import build  # noqa: E402
from optdsl.resources import library  # noqa: E402
from optdsl.runtime.kernel import Kernel  # noqa: E402


def seconds(name: str) -> list[float]:
    """How long each kernel takes that a first step of a matrix builds."""
    found: list[float] = []
    build_one = Kernel._build

    def timed(self: Kernel, *key: Any) -> Any:
        start = time.perf_counter()
        built = build_one(self, *key)
        found.append(time.perf_counter() - start)
        return built

    p = Parameter(torch.ones(8, 8))
    p.grad = torch.ones(8, 8)
    optimizer = load_optimizer(name)([{"params": [p], "seed": 1}], fused=True)
    with patch.object(Kernel, "_build", timed):
        optimizer.step()
    return found


def main() -> None:
    rules = [each for each in library() if build(find(each)).lowered.kernels]
    of_rules = {name: seconds(name) for name in rules}
    pairs = sorted((x, name) for name, each in of_rules.items() for x in each)
    for taken, name in pairs:
        print(f"{taken:5.2f}  {name}")
    median = statistics.median(taken for taken, _ in pairs)
    print(f"{len(pairs)} kernels of {len(rules)} rules, median {median:.2f} s")


if __name__ == "__main__":
    main()

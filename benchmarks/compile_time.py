"""How long it takes from a spec's text to its class, and to check the library.

    python benchmarks/compile_time.py

Prints medians in milliseconds: the first time in a process (beyond importing torch), warm,
and `optdsl check` of the whole library as a command.
"""

import statistics
import subprocess
import sys
import time

FIRST = """
import sys, time
import torch
start = time.perf_counter()
from optdsl import from_string
from_string(open(sys.argv[1]).read())
print(time.perf_counter() - start)
"""
NO_TORCH = """
import sys
from optdsl.cli import main
try:
    main(["check", "adam"])
finally:
    print("torch" in sys.modules)
"""


def first(path: str, runs: int = 7) -> float:
    """Seconds in a fresh process, torch's import not counted."""
    command = [sys.executable, "-c", FIRST, path]
    outputs = [
        subprocess.run(command, capture_output=True, check=True) for _ in range(runs)
    ]
    return statistics.median(float(each.stdout) for each in outputs)


def warm(text: str, runs: int = 50) -> float:
    """Seconds for a text that was not seen before, in a process that compiled others."""
    from optdsl import from_string

    times = []
    for run in range(runs):
        start = time.perf_counter()
        from_string(text, f"{run}.opt")
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


def check_library(runs: int = 5) -> float:
    """Seconds for the whole command, start of Python included."""
    from optdsl.resources import folder

    command = [sys.executable, "-m", "optdsl", "check", str(folder("specs"))]
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    from optdsl.resources import library

    path = library()["adam"]
    imported = subprocess.run(
        [sys.executable, "-c", NO_TORCH], capture_output=True, text=True
    )
    print("from text to class, adam                    median ms")
    print(f"  first time in a process, after torch      {first(str(path)) * 1e3:9.1f}")
    print(
        f"  warm                                      {warm(path.read_text()) * 1e3:9.1f}"
    )
    print(
        f"optdsl check of {len(library())} specs, a whole process    {check_library() * 1e3:9.1f}"
    )
    print(f"  torch imported by it: {imported.stdout.strip().endswith('True')}")


if __name__ == "__main__":
    main()

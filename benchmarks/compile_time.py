"""How long it takes from a spec's text to its class, and to check the library.

    python benchmarks/compile_time.py

Prints medians in milliseconds: the first time in a process, beyond importing torch; warm;
and `optdsl check` of the whole library, a process of its own. As on every run but the very
first, Python finds its bytecode and Lark the tables of the grammar in their caches.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

FIRST = """
import gc, sys, time
import torch
if sys.argv[2] == "collected":
    gc.collect()
start = time.perf_counter()
from optdsl import from_string
from_string(open(sys.argv[1]).read())
print(time.perf_counter() - start)
"""
NO_TORCH = """
import sys
from optdsl.cli import main
main(["check", "adam"], standalone_mode=False)
print("torch" in sys.modules)
"""


CACHES = tempfile.TemporaryDirectory()
WITH_CACHES = {
    key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
}
WITH_CACHES |= {"PYTHONPYCACHEPREFIX": CACHES.name, "XDG_CACHE_HOME": CACHES.name}


def child(*command: str) -> str:
    """What a Python process prints."""
    ran = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=WITH_CACHES
    )
    return ran.stdout


def first(path: str, garbage: str, runs: int = 9) -> float:
    """Seconds in a fresh process, torch's import not counted.

    The first thousand objects that anyone makes after it set off a full collection over
    torch's own: counted, or `collected` before the clock starts.
    """
    child("-c", FIRST, path, garbage)
    return statistics.median(
        float(child("-c", FIRST, path, garbage)) for _ in range(runs)
    )


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

    times = []
    for _ in range(runs):
        start = time.perf_counter()
        child("-m", "optdsl", "check", str(folder("specs")))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    from optdsl.resources import library

    adam, count = library()["adam"], len(library())
    rows = {
        "adam, first time in a process, after torch": first(str(adam), "collected"),
        "  with the collection of torch's objects": first(str(adam), "counted"),
        "adam, warm": warm(adam.read_text()),
        f"optdsl check of {count} specs, whole process": check_library(),
    }
    for label, seconds in rows.items():
        print(f"{label:45} {seconds * 1e3:8.1f} ms")
    print(f"torch imported by optdsl check: {child('-c', NO_TORCH).strip()}")


if __name__ == "__main__":
    main()

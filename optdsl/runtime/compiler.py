"""The C++ compiler of this machine: which it is, and a library made by it."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp", "-ffp-contract=off",
    "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC",
)  # fmt: skip
_DISPENSABLE = ("-fopenmp", "-march=native")
# What sums up the lines above it, which say more.
_OF_THE_LINKER = re.compile("ld returned|linker command failed")
_PROBE = "#ifdef _OPENMP\n#include <omp.h>\n#endif\nint probe() { return 0; }\n"


class Failed(Exception):
    """No library could be made; the message says why, in a line."""


def command() -> list[str] | None:
    """How the compiler is called: CXX with its arguments, else g++, else clang++.

    The first of them that is there, or None.
    """
    for words in (_words(os.environ.get("CXX", "")), ["g++"], ["clang++"]):
        program = shutil.which(words[0]) if words else None
        if program:
            return [os.path.abspath(program), *words[1:]]
    return None


def _words(text: str) -> list[str]:
    if shutil.which(text):
        return [text]
    try:
        return shlex.split(text)
    except ValueError:
        return []


def identity(command: list[str]) -> tuple[object, ...]:
    """What tells one compiler from another, without a process to ask for its version.

    Each program that the command names counts (`ccache g++` names two), as found and as
    the links lead to it, with its size and the time it was written.
    """
    said: list[object] = [*command]
    for program in filter(None, map(shutil.which, command)):
        target = os.path.realpath(program)
        status = os.stat(target)
        said.append((program, target, status.st_size, status.st_mtime_ns))
    return tuple(said)


def make_library(command: list[str], source: Path, library: Path) -> None:
    """Compile a file to a shared library.

    Without OpenMP, or without what only this processor can, where the compiler has no
    such thing.

    Raises:
        Failed: with the first line of what the compiler has against it.
    """
    error = _run(command, [*FLAGS], source, library)
    if error:
        refused = [flag for flag in _DISPENSABLE if _refuses(command, flag)]
        if refused:
            kept = [flag for flag in FLAGS if flag not in refused]
            error = _run(command, kept, source, library)
    if error:
        raise Failed(error)


def _refuses(command: list[str], flag: str) -> bool:
    """Whether the compiler makes nothing of a flag, the text left aside."""
    with tempfile.TemporaryDirectory(prefix="optdsl-") as folder:
        source, library = Path(folder, "probe.cpp"), Path(folder, "probe.so")
        source.write_text(_PROBE)
        return bool(_run(command, [flag, "-shared", "-fPIC"], source, library))


def _run(command: list[str], flags: list[str], source: Path, library: Path) -> str:
    """The first line of the compiler's error, empty where there is none."""
    ran = subprocess.run(
        [*command, *flags, str(source), "-o", str(library)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    if ran.returncode == 0 and library.exists():
        return ""
    said = ran.stderr.decode(errors="replace").replace(str(source), "kernel.cpp")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [
        line for line in lines if "error:" in line and not _OF_THE_LINKER.search(line)
    ]
    silent = f"{command[0]} exits with {ran.returncode}"
    return next(iter([*errors, *lines, silent]))

"""The library of a C++ kernel: built once for a machine, loaded once in a process."""

import ctypes
import threading
import warnings
from pathlib import Path

from . import cache, compiler
from .machine import machine

_loaded: dict[str, ctypes.CDLL | None] = {}
_loading = threading.Lock()
_has_warned = False


def library(text: str) -> ctypes.CDLL | None:
    """The library that a kernel compiles to, or None, with a warning, where it cannot.

    There is one warning in a process, and a kernel that failed is not tried again.

    Args:
        text: C++ that declares what it offers as extern "C".
    """
    if text not in _loaded:
        with _loading:
            if text not in _loaded:
                failure = None
                try:
                    loaded = _load(text)
                except (compiler.Failed, OSError) as error:
                    loaded, failure = None, error
                _loaded[text] = loaded  # before the warning, which may be an error
                if failure:
                    _warn(failure)
    return _loaded[text]


def _warn(failure: Exception) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"no C++ kernels: {failure}; the next best target runs instead",
            RuntimeWarning,
            stacklevel=3,
        )


def _load(text: str) -> ctypes.CDLL:
    command = compiler.command()
    if command is None:
        raise compiler.Failed("there is no compiler, neither CXX nor g++ nor clang++")

    def make(path: Path) -> None:
        source = path.with_suffix(".cpp")
        source.write_text(text, encoding="utf-8", newline="\n")
        compiler.make_library(command, source, path)

    key = cache.key(text, compiler.identity(command), compiler.FLAGS, machine())
    try:
        return ctypes.CDLL(str(cache.store(key, ".so", make)))
    except OSError:  # kept where nothing may be run, or removed just now
        return ctypes.CDLL(str(cache.make_apart(key, ".so", make)))

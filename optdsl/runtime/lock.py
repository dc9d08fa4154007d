"""One process at a time, where that can be had."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

PATIENCE = 60.0  # seconds


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait for those who hold a file, then hold it.

    It saves work and promises nothing: who has waited for long goes on without, and so
    does who is on a disk that knows no locks. A holder that dies lets go.
    """
    handle = _open(path)
    if handle is None:
        yield
        return
    try:
        _wait(handle)
        yield
    finally:
        # By word: a child that was forked meanwhile would keep what is only closed.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _open(path: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None


def _wait(handle: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            return

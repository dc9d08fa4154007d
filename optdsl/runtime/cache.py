"""What is slow to make, kept in a folder under a key, for the processes to come.

Whatever is wrong with the folder costs time only: what cannot be kept is made in a
temporary folder, for this process alone.
"""

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .lock import lock
from .trust import distrust

Make = Callable[[Path], None]

_KEY = "optdsl_[0-9a-f]{64}"
_OURS = re.compile(rf"{_KEY}\.[a-z0-9.]+|\.{_KEY}\.[a-z0-9.]+\.[a-z0-9_]{{8}}")
_DIGEST = ".sha256"


class Kept(NamedTuple):
    """All files of one key."""

    key: str
    files: tuple[Path, ...]
    bytes: int


def folder() -> Path | None:
    """Where things are kept, there or not; None for a user without a home."""
    if chosen := os.environ.get("OPTDSL_CACHE_DIR"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):
        return Path(caches, "optdsl")
    home = os.path.expanduser("~")
    if os.path.isabs(home) and os.path.isdir(home):
        return Path(home, ".cache", "optdsl")
    return None


def key(*parts: object) -> str:
    """The name of what is made from the parts, whose repr has to say all of them."""
    return f"optdsl_{hashlib.sha256(repr(parts).encode()).hexdigest()}"


def store(key: str, suffix: str, make: Make) -> Path:
    """The file of a key and a suffix, made where it is not there or damaged.

    `make` writes the file it is given. What it writes beside it is kept for people to
    read; those names start with the key too. Its exceptions go on to the caller.
    """
    kept = _ready_folder()
    if kept is None:
        return make_apart(key, suffix, make)
    path = kept / f"{key}{suffix}"
    if _is_whole(path):
        return path
    with lock(kept / f"{key}.lock"):
        if _is_whole(path):
            return path
        made = make_apart(key, suffix, make)
        with contextlib.suppress(OSError):
            if path.exists() and distrust(path):
                return made
            _publish(made.parent, kept)
    if not _is_whole(path):
        return made
    shutil.rmtree(made.parent, ignore_errors=True)
    return path


def make_apart(key: str, suffix: str, make: Make) -> Path:
    """The file made in a folder of its own, which is removed when the process ends."""
    apart = Path(tempfile.mkdtemp(prefix="optdsl-"))
    atexit.register(_remove, apart, os.getpid())
    path = apart / f"{key}{suffix}"
    make(path)
    _digest_file(path).write_text(_digest_line(path))
    return path


def _remove(apart: Path, process: int) -> None:
    if os.getpid() == process:  # and not a child forked from it
        shutil.rmtree(apart, ignore_errors=True)


def contents() -> list[Kept]:
    """What is kept, by key."""
    files: dict[str, list[Path]] = {}
    for path in _ours():
        files.setdefault(path.name.partition(".")[0], []).append(path)
    return [
        Kept(key, tuple(paths), sum(path.stat().st_size for path in paths))
        for key, paths in sorted(files.items())
        if any(path.suffix == _DIGEST for path in paths)
    ]


def clear() -> tuple[int, int]:
    """Remove all files that were written here and nothing else; how many, and bytes.

    Raises:
        OSError: where a file cannot be removed.
    """
    files = size = 0
    for path in _ours():
        with contextlib.suppress(FileNotFoundError):
            bytes_ = path.stat().st_size
            path.unlink()
            files, size = files + 1, size + bytes_
    return files, size


def distrusted() -> str:
    """Why nothing is kept in the folder, empty where it is."""
    kept = folder()
    return distrust(kept) if kept is not None and kept.exists() else ""


def _ours() -> Iterator[Path]:
    """The files that have our names and belong to us."""
    kept = folder()
    if kept is None or not kept.is_dir():
        return
    for path in sorted(kept.iterdir()):
        if _OURS.fullmatch(path.name):
            status = path.lstat()
            is_mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
            if stat.S_ISREG(status.st_mode) and is_mine:
                yield path


def _ready_folder() -> Path | None:
    """The folder, there and to be trusted."""
    try:
        kept = folder()
        if kept is None:
            return None
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        return None if distrust(kept) else kept
    except OSError:
        return None


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + _DIGEST)


def _digest_line(path: Path) -> str:
    """What `sha256sum` prints; raises OSError for what is no plain file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no file")
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n"


def _is_whole(path: Path) -> bool:
    """Whether a file is there, as it was written, and written by no stranger."""
    digest = _digest_file(path)
    try:
        if not digest.is_file() or distrust(path):
            return False
        return digest.read_bytes() == _digest_line(path).encode()
    except OSError:
        return False


def _publish(apart: Path, kept: Path) -> None:
    """Copy all files by rename, so that no reader ever sees half of one.

    The digest comes last, as the names are sorted; a reader between finds the file
    damaged and waits for the lock.
    """
    for each in sorted(apart.iterdir()):
        handle, name = tempfile.mkstemp(dir=kept, prefix=f".{each.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(each.read_bytes())
            os.replace(name, kept / each.name)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

"""Files on disk: written whole or not at all, and never over what is not ours."""

import os
import tempfile
from pathlib import Path

from .emit import is_untouched


class Refused(Exception):
    """A file that is in the way; the message says why it was left alone."""


def check_target(path: Path, text: str) -> None:
    """Refuse a file that no compiler wrote, or that was edited since.

    Raises:
        Refused: with the reason.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        raise Refused(f"{path} is no file")
    try:
        there = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Refused(f"{path} was not written by optdsl") from None
    if there != text and not is_untouched(there):
        ours = "Compiled by optdsl from" in there
        why = (
            "was edited since it was compiled" if ours else "was not written by optdsl"
        )
        raise Refused(f"{path} {why}")


def write(path: Path, text: str) -> None:
    """Write a file by rename, so that no reader ever sees half of it."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

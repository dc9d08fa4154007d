"""Whose files may be run: what a stranger can have written is not."""

import os
import stat
from pathlib import Path


def distrust(path: Path) -> str:
    """What is wrong with a file or a folder that is there, empty where nothing is.

    A link is followed. A folder in which all may write but none replace what another has
    written, as in /tmp, will do; the files in it are asked for themselves.
    """
    if not hasattr(os, "geteuid"):  # on Windows the mode says nothing of others
        return ""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return "belongs to another user"
    is_shared = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_shared:
        return "is writable by others"
    return ""

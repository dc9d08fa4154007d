"""The text of Triton kernels as a module, and whether there is Triton for a device.

Triton reads the source of a kernel and keeps what it compiles under a digest of that. The
source of a module made here is found where Python looks for that of modules without a
file, so that no file has to be written, and the digest is the same in every process.
"""

import hashlib
import importlib.util
import linecache
import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType

import torch


@cache
def module(text: str) -> ModuleType:
    """The module of a text. It needs Triton."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"optdsl_kernels_{digest}"
    filename = f"<{name}>"
    lines = text.splitlines(keepends=True)
    # Without a time nobody looks for the file.
    linecache.cache[filename] = (len(text), None, lines, filename)
    made = ModuleType(name)
    made.__file__ = filename
    sys.modules[name] = made
    exec(compile(text, filename, "exec"), vars(made))
    return made


def may_run() -> bool:
    """Whether there may be tensors that are for Triton's kernels."""
    return torch.cuda.is_initialized() or runs_on(torch.device("cpu"))


def runs_on(device: torch.device) -> bool:
    """Whether tensors of a device are for Triton's kernels: those of a GPU are, and those
    of the CPU where OPTDSL_FUSED is `triton`, which is for Triton's interpreter.
    """
    if device.type == "cpu":
        return os.environ.get("OPTDSL_FUSED") == "triton"
    return device.type == "cuda"


@cache
def is_there(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device. Where it is installed and cannot compile,
    there is a warning.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from .arithmetic import spread

        tried = torch.empty(1, dtype=torch.float64, device=device)
        with on(device):
            spread[(1,)](tried, 0, 1, 0.0)
    except Exception as error:  # whatever a compiler or a driver does not like
        warnings.warn(
            f"no Triton kernels: {error}; the next best target runs instead",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def on(device: torch.device) -> AbstractContextManager:
    """What is launched inside of this is launched on a device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

"""What this machine is, as far as a kernel built for it depends on it."""

import os
import platform

_CPUS = "/proc/cpuinfo"
_KEPT = {
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
    "Features", "cpu", "features", "isa", "uarch",
}  # fmt: skip


def machine() -> tuple[str, ...]:
    """The system, its C library, the processor and what it can; the same at each call."""
    return (platform.system(), platform.machine(), _c_library(), *_processor())


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def _processor() -> list[str]:
    """What is said of the first processor, but for what changes, as its clock does."""
    # Only as far as that: the kernel asks each processor for its clock, one by one.
    text = b""
    try:
        with open(_CPUS, "rb", buffering=0) as file:
            while b"\n\n" not in text and (more := file.read(4096)):
                text += more
    except OSError:
        return []
    lines = text.partition(b"\n\n")[0].decode(errors="replace").splitlines()
    return [line for line in lines if line.partition(":")[0].strip() in _KEPT]

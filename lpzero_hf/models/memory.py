"""Free memory and disk space, and the memory that this process uses.

Where the system does not report a value, a function returns None or 0, or does nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch

CGROUP = (  # limit, usage, and a line of the statistics: files that the kernel drops from memory when it needs room
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def resident_bytes() -> int:
    """RAM that this process uses; 0 where that is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def available_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Free memory on `device`; for RAM, the smallest of what the machine, the control group and the limit of this
    process have free.

    Args:
        device: of torch.
        root: where the system's files are.

    Returns:
        Bytes; None where that is unknown.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # what torch keeps for later
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type != "cpu":
        return None
    free: list[int] = []
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    for limit, usage, statistics, inactive in CGROUP:
        group = root / "sys/fs/cgroup"
        try:
            most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
        except (OSError, ValueError):  # no such group, or "max"
            continue
        free.append(max(0, most - max(0, used - _line(group / statistics, inactive))))
    if (limited := _under_limit()) is not None:
        free.append(limited)
    return min(free) if free else None


def _under_limit() -> int | None:
    """Bytes that this process may still map under its own limit (`ulimit -v`); None if there is none."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))


def _line(file: Path, name: str) -> int:
    """The number in the line that begins with `name`; 0 if there is none."""
    try:
        lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
        return next((int(line[1]) for line in lines if line[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def give_back() -> None:
    """Return freed memory to the system; glibc keeps it in pieces that are too small for large tensors."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None

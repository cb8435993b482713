"""How much memory this process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

# Of a control group: its limit, what it uses, and how its memory.stat names what of that are files,
# which the system gives up when memory is short.
_VERSION_2 = ("memory.max", "memory.current", "")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def free_bytes(root: Path = Path("/")) -> int:
    """What the machine has free, or what the control groups of a container or a job leave.

    Args:
      root: Where `proc` and `sys` lie.
    """
    return min([psutil.virtual_memory().available, *_left_by_groups(root)])


def _left_by_groups(root: Path) -> Iterator[int]:
    """Of each control group of this process that has a limit, the bytes that are left."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, files = root / "sys/fs/cgroup", _VERSION_2
        elif "memory" in controllers.split(","):
            mount, files = root / "sys/fs/cgroup/memory", _VERSION_1
        else:
            continue
        inside = Path(path.lstrip("/"))
        # In a container the path may be the host's, and its own group the mount itself.
        for group in (inside, *inside.parents):
            left = _left(mount / group, *files)
            if left is not None:
                yield left


def _left(group: Path, limit: str, usage: str, prefix: str) -> int | None:
    """Bytes that a group leaves; None of one without a limit, or that is not seen from here."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        figures = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = sum(int(figures.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
        return max(0, most - used + files)
    except (OSError, ValueError):  # 'max' is no limit
        return None

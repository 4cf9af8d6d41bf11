"""How much memory may still be taken: of the machine, and of the container that this process is in."""

from collections.abc import Iterator
from pathlib import Path

import psutil

# Limit, use, and in memory.stat what can be given up at once: v2, then v1.
FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return what may still be taken; a cgroup's page cache counts as free, as the machine's does."""
    return max(0, min([psutil.virtual_memory().available, *_left_in(cgroup)]))


def _left_in(cgroup: Path) -> Iterator[int]:
    for limit, use, stat, reclaimable in FILES:
        try:
            most, used = (cgroup / limit).read_text(encoding="utf-8"), (cgroup / use).read_text(encoding="utf-8")
            lines = dict(line.split() for line in (cgroup / stat).read_text(encoding="utf-8").splitlines())
            # Without a limit there is the word max, which is no number.
            yield int(most) - int(used) + int(lines.get(reclaimable, 0))
        except (OSError, ValueError):
            continue

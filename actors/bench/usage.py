"""What processes use, read from /proc: memory with everything shared counted once, and processor time to the
nanosecond.
"""

from __future__ import annotations

import os
from pathlib import Path

from .peers.python import pss


def descendants(root: int) -> list[int]:
    """Every process below `root`, not `root` itself."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has just ended
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def memory(pids: list[int]) -> int:
    """Bytes: the private and proportional memory of the processes, and every memfd that they hold open or mapped,
    once, by its pages.
    """
    return sum(pss(pid) - pss(pid, "Pss_Shmem") for pid in pids) + sum(_memfds(pids).values())


def _memfds(pids: list[int]) -> dict[int, int]:
    """Inode to bytes in pages, of every anonymous file that the processes hold."""
    sizes: dict[int, int] = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(link.readlink()).startswith("/memfd:"):
                    stat = link.stat()
                    sizes[stat.st_ino] = stat.st_blocks * 512
            except OSError:  # closed meanwhile
                continue
    return sizes


def processor_time(pids: list[int]) -> float:
    """Seconds on a processor so far, of all threads of these processes."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def system_pids() -> list[int]:
    """This program's actor system: everything below this process."""
    return descendants(os.getpid())

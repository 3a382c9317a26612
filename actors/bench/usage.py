"""What processes use, read from /proc: memory with everything shared counted once, processor time to the nanosecond,
and what everybody else used meanwhile.
"""

from __future__ import annotations

import os
import resource
import time
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


class Elsewhere:
    """Cores that processes other than this one's used since this was made: what disturbs a measurement."""

    def __init__(self) -> None:
        self._begin, self._busy, self._own = time.monotonic(), _busy(), _own()

    def cores(self) -> float:
        elapsed = time.monotonic() - self._begin
        return max(0.0, (_busy() - self._busy) - (_own() - self._own)) / elapsed


def _busy() -> float:
    """Seconds that all cores worked or were kept from it by the host."""
    user, nice, system, _idle, _wait, *interrupts = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, [user, nice, system, *interrupts])) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds of this process and all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)

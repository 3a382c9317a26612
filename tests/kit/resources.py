"""What a process holds: descriptors, mappings, threads and memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Resources(NamedTuple):
    """Of one process, now."""

    descriptors: int
    mappings: int  # of memory that actors share
    threads: int
    resident: int  # bytes of its own: what it shares with files, memfds or the process it was forked from is left out

    @classmethod
    def of(cls, pid: int) -> Resources:
        """FileNotFoundError: there is no such process."""
        proc = Path("/proc") / str(pid)
        private = sum(
            int(line.split()[1])
            for line in (proc / "smaps_rollup").read_text().splitlines()
            if line.startswith(("Private_Clean:", "Private_Dirty:"))
        )
        return cls(
            len(list((proc / "fd").iterdir())),
            (proc / "maps").read_text().count("memfd:actors"),
            len(list((proc / "task").iterdir())),
            private * 1024,
        )

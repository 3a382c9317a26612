"""What a test may leave behind: nothing.

Rule: before and after a test, the same processes (zombies too), descriptors, threads, mappings of actors' memory,
abstract sockets and files in /dev/shm. What is new afterwards is looked at again for up to five seconds, since the
kernel takes its time over ends; what remains then is a leak and is named.

Processes are this one's descendants, and those of this run that somebody else has adopted: marked by an environment
variable, or titled with a system name of this run (`system_name`). Rejected: counting everything on the machine, where other
runs come and go.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from .processes import RUN, descendants, marked, processes

PATIENCE = 5.0  # seconds
_numbers = itertools.count(1)


def system_name(label: str = "fault") -> str:
    """A system's name that no other run uses and that the guard knows."""
    return f"{label}-{os.getpid()}-{next(_numbers)}"


class LeakGuard:
    """A context manager around a test. AssertionError at its end, naming what was left."""

    def __enter__(self) -> LeakGuard:
        self.start()
        return self

    def start(self) -> None:
        """Note what is there."""
        os.environ.setdefault(RUN, str(os.getpid()))
        gc.collect()
        self.before = snapshot()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.check()

    def check(self, processes_only: bool = False) -> None:
        """Compare now. AssertionError, naming what was left."""
        end = time.monotonic() + PATIENCE
        while left := self.processes_left() if processes_only else self.left():
            if time.monotonic() >= end:
                raise AssertionError("left behind:\n" + "\n".join(f"  {each}" for each in left))
            gc.collect()
            time.sleep(0.005)

    def left(self) -> list[str]:
        """What is there now and was not before."""
        found = sorted((snapshot() - self.before).elements())
        return [
            each for each in found if not (each.startswith("file ") and _used_by_others(each.removeprefix("file ")))
        ]

    def processes_left(self) -> list[str]:
        """Of these, the processes; for a test that still holds references, and with them mappings."""
        return [each for each in self.left() if each.startswith(("process", "zombie"))]


def snapshot() -> Counter[str]:
    """Everything that counts, as sentences."""
    return Counter([*_processes(), *_descriptors(), *_threads(), *_mappings(), *_sockets(), *_files()])


def _ours(text: str) -> bool:
    """Does this title or socket bear a system name of this process?"""
    return f"-{os.getpid()}-" in text


def _processes() -> list[str]:
    found = {each.pid: each for each in descendants(os.getpid())}
    found.update((each.pid, each) for each in processes() if each.title.startswith("actors: ") and _ours(each.title))
    found.update((each.pid, each) for each in marked(os.environ[RUN]) if each.pid != os.getpid())
    # no pid: a zygote may have been replaced; and whether a process is kept ready for the next birth depends on the last one
    return [
        f"{'process' if each.lives else 'zombie'} {each.title}"
        for each in found.values()
        if not each.title.endswith(" spare")
    ]


def _descriptors() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # the one that lists this folder
            continue
        found.append(f"descriptor of {target.partition('[')[0] if target.startswith(('pipe:', 'socket:')) else target}")
    return found


def _threads() -> list[str]:
    # an event loop's default executor belongs to the loop, which may be older than the test
    return [f"thread {each.name}" for each in threading.enumerate() if not each.name.startswith("asyncio_")]


def _mappings() -> list[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [f"mapping of {line.split(maxsplit=5)[5]}" for line in lines if "memfd:actors" in line]


def _sockets() -> list[str]:
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [
        f"socket {name}" for line in lines if (name := line.rpartition(" ")[2]).startswith("@actors/") and _ours(name)
    ]


def _used_by_others(path: str) -> bool:
    """Is a file mapped by a process that is not of this run, or does its name say that it is one's (`sem.loky-4711-x`,
    `joblib_memmapping_folder_4711_x`: the first number that stands alone)? Then it is that one's to remove."""
    number = re.search(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])", Path(path).name)
    named = int(number[0]) if number else 0
    ours = {
        os.getpid(),
        *(each.pid for each in descendants(os.getpid())),
        *(each.pid for each in marked(os.environ[RUN])),
    }
    for maps in Path("/proc").glob("[0-9]*/maps"):
        pid = int(maps.parent.name)
        try:
            if pid not in ours and (pid == named or path in maps.read_text()):
                return True
        except OSError:
            continue
    return False


def _files() -> list[str]:
    return [f"file {path}" for path in Path("/dev/shm").glob("*")]

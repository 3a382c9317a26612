"""Who was killed by the kernel for memory: told apart from anybody's SIGKILL by the counters of memory cgroups.

Rule: a dead process does not say so itself, its cgroup does: `oom_kill` counts the kills among its members (v1:
memory.oom_control, v2: memory.events.local). One increment explains one death. A process's cgroup is noted when it is
ready, since in v1 a zombie's is always "/"; in v2 the zombie still tells it. Where the noted one explains nothing, in v1
the process may have been moved afterwards: if the kernel has killed anybody at all since the last look (/proc/vmstat),
all cgroups are compared with what they were, and one in which somebody was killed is believed to have been its last if
it used at least half of the most that this ever held.

What can't be told apart: an operator's SIGKILL of an actor after the kernel has killed, in the same cgroup, somebody who
is no actor (what an actor has started, say). Where no cgroup counts (an old kernel, a system without cgroups) the
machine's counter alone decides.

Rejected: the kernel's log (not for everybody to read), inotify on the counters (v2 only).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .vitals import read

MOST = 256  # cgroups that are compared


class Oom:
    """Counters as they were, and where each process lives."""

    def __init__(self) -> None:
        self.root, self.base, self.v2 = _mount()
        self.home: dict[int, str] = {}  # pid -> path of its memory cgroup
        self.counts: dict[str, int] = {}  # path -> kills that are explained
        self.total = _machine()

    def survey(self) -> None:
        """Note all counters (v1), so as to see later where one has moved."""
        if self.root and not self.v2:
            for path in self._all():
                self._known(path)

    def note(self, pid: int) -> None:
        """This process is ready: remember where it lives."""
        path = self._home(pid)
        if path:
            self.home[pid] = path
            self._known(path)

    def last(self, pid: int) -> str:
        """It has ended and is not reaped yet: the cgroup that it was in; "": not known."""
        noted = self.home.pop(pid, "")
        return (self.v2 and self._home(pid)) or noted

    def killed(self, home: str, peak: int) -> bool:
        """A process was ended by a SIGKILL that was not the guardian's: was it for memory? home: its cgroup (`last`);
        peak: the most memory that it had, in bytes."""
        here = self._count(home) if home else None
        if here is not None and here > self.counts.setdefault(home, 0):
            return self._explain(home)
        total = _machine()
        if (here is not None and self.v2) or total == self.total:
            return False
        if not self.root or (home and here is None):
            self.total = total
            return True
        for path in self._all():
            count = self._count(path)
            if count is not None and count > self.counts.setdefault(path, 0) and 2 * peak >= self._peak(path):
                return self._explain(path)
        self.total = total  # a kill that is none of ours
        return False

    def _explain(self, path: str) -> bool:
        self.counts[path] += 1
        self.total += 1
        return True

    def _known(self, path: str) -> None:
        if path not in self.counts:
            self.counts[path] = self._count(path) or 0

    def _home(self, pid: int) -> str:
        """Path of the cgroup that counts for a process; "": not known."""
        try:
            lines = read(f"/proc/{pid}/cgroup").decode(errors="surrogateescape").splitlines()
        except OSError:
            return ""
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if (number == "0") if self.v2 else ("memory" in controllers.split(",")):
                below = path.removesuffix(" (deleted)")
                if self.base != "/" and (below + "/").startswith(self.base + "/"):
                    below = below[len(self.base) :]
                return self.root + below.rstrip("/")
        return ""

    def _count(self, path: str) -> int | None:
        for name in ("memory.events.local", "memory.events") if self.v2 else ("memory.oom_control",):
            try:
                return _field(read(f"{path}/{name}"), b"oom_kill")
            except OSError:
                continue
        return None

    def _peak(self, path: str) -> int:
        """The most memory that a cgroup (v1) ever had."""
        try:
            return int(read(f"{path}/memory.max_usage_in_bytes"))
        except OSError:
            return 0

    def _all(self) -> Iterator[str]:
        paths, count = [self.root], 0
        while paths and count < MOST:
            path, count = paths.pop(), count + 1
            yield path
            try:
                with os.scandir(path) as entries:
                    paths += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue


def _machine() -> int:
    """How many the kernel has killed for memory since it runs."""
    try:
        return _field(read("/proc/vmstat"), b"oom_kill") or 0
    except OSError:
        return 0


def _field(text: bytes, name: bytes) -> int | None:
    _, found, rest = (b"\n" + text).partition(b"\n" + name + b" ")
    return int(rest.partition(b"\n")[0]) if found else None


def _mount() -> tuple[str, str, bool]:
    """Where the memory cgroups are mounted, which of them is there, and whether it is v2. ("", …): nowhere."""
    unified = "", "/", True
    try:
        lines = read("/proc/self/mountinfo").decode(errors="surrogateescape").splitlines()
    except OSError:
        return unified
    for line in lines:
        before, _, after = line.partition(" - ")
        base, point = before.split()[3:5]
        kind, _, options = after.partition(" ")
        if kind == "cgroup" and "memory" in options.split()[-1].split(","):
            return point, base, False
        if kind == "cgroup2":
            unified = point, base, True
    return unified

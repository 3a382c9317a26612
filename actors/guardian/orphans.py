"""What actors have started and left behind: it ends with its actor.

Rule: at every exit the guardian looks at its own children, to whom everything falls that has lost its parent. Who is in
the actor's process group was ended with it; this is about those that left it (setsid, setpgid, daemons that fork twice).
Whose a stray is, it shows itself: what was exec'd has ACTORS_OWNER in its environment (set with putenv, so that an
actor's `os.environ` stays the program's), and what was only forked has the actor's title. It is killed when that process
has ended, and with it what is below it at that moment.

One without a mark (it was given an environment of its own: `env=...`) in a session of its own belongs to one of the
actors that lived when it began, and is killed when the last of these has ended: nobody is killed for another's actor, and
nobody outlives the system. So a daemon that shall outlive its actor must be started by somebody else (systemd-run).

Rejected: each actor a subreaper (daemons would stay its zombies, and a stranger's status could come out of its
os.wait()), a cgroup for each (rights).
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from .entry import MARK
from .vitals import read

if TYPE_CHECKING:
    from .main import Guardian

TICKS = os.sysconf("SC_CLK_TCK")
MOST = 1000  # processes that are ended at once; the others when they fall to the guardian


class Orphans:
    """Strays among the guardian's children."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.session = os.getsid(0)
        self.me = str(os.getpid()).encode()
        self.children = f"/proc/self/task/{os.getpid()}/children"
        self.ours: set[int] = set()  # of the guardian's session and without a mark: zygotes, spares, newborns

    def look(self, dead: int) -> None:
        """The process `dead` has exited and is not reaped yet."""
        self.ours.discard(dead)
        try:
            found = {int(pid) for pid in read_all(self.children).split()}
        except OSError:  # no descriptors: at the next exit
            return
        actors = self.guardian.deaths.by_pid
        for pid in found - actors.keys() - self.ours - {dead}:
            try:
                strange = os.getsid(pid) != self.session
                owner = self._owner(pid, dead)
            except (OSError, ValueError):  # it has just ended
                continue
            if owner is None and not strange:
                self.ours.add(pid)
            elif owner is None:
                self._unmarked(pid, dead)
            elif owner == dead or owner not in found:
                kill_all(pid)

    def stranger(self, pid: int) -> bool:
        """Is this a stray, whose group is no actor's?"""
        try:
            return os.getsid(pid) != self.session
        except OSError:
            return True

    def _owner(self, pid: int, dead: int) -> int | None:
        """Pid of the actor that has (indirectly) started it; None: it does not say. OSError, ValueError: it is gone."""
        _, mark, rest = (b"\0" + read_all(f"/proc/{pid}/environ")).partition(f"\0{MARK}=".encode())
        guardian, _, owner = rest.partition(b"\0")[0].partition(b"/")
        if mark and guardian == self.me:  # else of an actor of another system, which has started this one
            return int(owner)
        title = read_all(f"/proc/{pid}/cmdline").rstrip(b"\0").decode(errors="replace")
        prefix = f"actors: {self.guardian.system}/"
        record = self.guardian.registry.named(title[len(prefix) :]) if title.startswith(prefix) else None
        return record.pid if record is not None and record.pid and _began(pid) >= record.sent else None

    def _unmarked(self, pid: int, dead: int) -> None:
        """Of a session of its own and of nobody that it names."""
        began, actors = _began(pid), self.guardian.deaths.by_pid
        if not any(record.sent <= began for other, record in actors.items() if other != dead):
            kill_all(pid)


def _began(pid: int) -> float:
    """When a process began, in seconds of CLOCK_BOOTTIME, not too early (the kernel counts ticks). OSError: there is
    none."""
    return (int(read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()[19]) + 1) / TICKS


def kill_all(pid: int) -> None:
    """End a child of ours and what is below it at this moment. Who is nobody's child of ours may be reaped, and its
    number be a stranger's, at any time: a pidfd holds it fast, and its parent is looked at again afterwards."""
    held: list[int] = []
    try:
        queue = [pid]
        while queue and len(held) < MOST:
            parent = queue.pop()
            for child in _children(parent):
                with contextlib.suppress(OSError):
                    fd = os.pidfd_open(child)
                    held.append(fd)
                    if int(read(f"/proc/{child}/stat").rpartition(b") ")[2].split()[1]) == parent:
                        queue.append(child)
                    else:
                        os.close(held.pop())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        for fd in held:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        for fd in held:
            os.close(fd)


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, read_all(f"/proc/{pid}/task/{task}/children").split())
    return found


def read_all(path: str) -> bytes:
    """All of a file of /proc, whatever its length. OSError."""
    parts: list[bytes] = []
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)

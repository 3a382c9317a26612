"""Those that asked to be looked after: who hangs is ended, who has grown too large is replaced.

Rule: only counters are read, in the header of the mailbox and in /proc; no message is sent, and actors without
`progress_timeout` or `max_memory` are never looked at. One timer an actor and limit, armed when an incarnation is ready.

A hang (pulse.py judges) ends in this order: the stacks of all threads are asked for and logged, then SIGTERM, SIGKILL a
moment later; the next incarnation starts when the kernel has reported this one's end. A process that is stopped gets
SIGKILL at once: it could not use the time, and must not come back to life in it.

Memory "of its own" is what it shares with no other process, so neither the modules that the zygote imported for all nor
the mailboxes count. The kernel's cheap figure (resident minus shared) includes the former; the exact one, which costs a
walk over all pages, is only read when the cheap one is past the limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..exits import ExitReason
from .pulse import Pulse
from .stacks import state_of

if TYPE_CHECKING:
    from .main import Guardian
    from .peers import Peer
    from .registry import Record

PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLED = 1.0  # seconds between two looks at memory
PATIENCE = 1.0  # seconds that a hung process has to show its stacks


class Vitals:
    """Looks, and acts on what it sees."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian

    def ready(self, record: Record) -> None:
        """A new incarnation is: look after it until it ends."""
        limits, peer = record.limits, record.peer
        if peer is None:
            return
        if "progress_timeout" in limits:
            pulse = Pulse(limits["progress_timeout"], time.monotonic())
            self._later(pulse.step, record, peer, lambda: self._feel(record, peer, pulse))
        if "max_memory" in limits:
            born = self._handled(record), own_memory(record.pid, limits["max_memory"])
            self._later(SAMPLED, record, peer, lambda: self._weigh(record, peer, born))

    def _later(self, seconds: float, record: Record, peer: Peer, look: Callable[[], None]) -> None:
        """Look again, if it is still the same incarnation."""
        self.guardian.timers.after(seconds, lambda: look() if record.peer is peer and record.mail else None)

    # --- progress

    def _feel(self, record: Record, peer: Peer, pulse: Pulse) -> None:
        assert record.mail is not None
        what = pulse.look(record.mail.stats(), time.monotonic())
        if what is None:
            self._later(pulse.pause, record, peer, lambda: self._feel(record, peer, pulse))
            return
        reason = ExitReason("hung", error=f"no progress for {pulse.timeout:g} s: {what}")
        stopped = state_of(record.pid) in ("T", "t")
        patience = min(PATIENCE, 2 * pulse.timeout)
        self.guardian.stacks.ask(record, lambda text: self._end(record, peer, reason, stopped, text), patience)

    def _end(self, record: Record, peer: Peer, reason: ExitReason, stopped: bool, stacks: str) -> None:
        if record.peer is not peer:
            return
        decided = self.guardian.tree.hung(record.uid, reason, self.guardian.alarms.now(), stopped)
        if decided:  # else it is being killed already
            record.hung = reason
            address = self.guardian.watch.address(record.name)
            self.guardian.watch.log("error", "hung: it is ended", actor=address, reason=str(reason), stack=stacks)
            self.guardian.hands.perform(decided)

    # --- memory

    def _weigh(self, record: Record, peer: Peer, born: tuple[int, int]) -> None:
        """born: messages handled when it was, and its memory."""
        most, used = record.limits["max_memory"], own_memory(record.pid, record.limits["max_memory"])
        if used > most and (born[1] <= most or self._handled(record) != born[0]):  # else another would be no smaller
            reason = ExitReason("shutdown", error=f"max_memory={most}: it uses {used} bytes")
            decided = self.guardian.tree.recycle(record.uid, reason, self.guardian.alarms.now())
            if decided:
                self.guardian.hands.perform(decided)
                return
        self._later(SAMPLED, record, peer, lambda: self._weigh(record, peer, born))

    def _handled(self, record: Record) -> int:
        return record.mail.stats()["handled"] if record.mail is not None else 0


def own_memory(pid: int, limit: int) -> int:
    """Bytes of resident memory that only this process has; up to `limit`, an upper bound of it. 0: it has just ended."""
    try:
        resident, shared = read(f"/proc/{pid}/statm").split()[1:3]
        bound = (int(resident) - int(shared)) * PAGE
        if bound <= limit:
            return bound
        lines = read(f"/proc/{pid}/smaps_rollup").splitlines()
    except (OSError, ValueError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith((b"Private_Clean:", b"Private_Dirty:")))


def read(path: str) -> bytes:
    """All of a small file of /proc or /sys; pathlib would be imported for this. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)

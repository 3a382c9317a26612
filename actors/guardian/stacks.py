"""Stacks of live processes: what every thread of an actor does at this moment, also when it is stuck.

Rule: nothing in the process needs to cooperate. A signal (SIGUSR1) makes faulthandler write all threads' stacks, in C and
without the GIL, into a pipe whose other end is here; a zero byte ends each (`stamp` in transports/process.c). What was
asked for goes to whoever asked, what was not (`kill -USR1 PID` by hand) into the log. Whoever asks gets an answer within
PATIENCE: a process that is stopped, stuck in the kernel, or that has a handler of its own for the signal is named so.

Rejected: a request that the actor's loop answers (a hang is when it doesn't), py-spy and ptrace (rights that containers
don't give), a socket (a packet for each of faulthandler's many small writes).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..transports import KIND

if TYPE_CHECKING:
    from .main import Guardian
    from .peers import Peer
    from .registry import Record

PATIENCE = 2.0  # seconds
QUIET = 0.1  # seconds without a word after which a dump is over, where there is no extension to mark its end
LONGEST = 1 << 20  # bytes of one dump; what comes after is left out
STATES = {
    "T": "it is stopped (SIGSTOP), so it shows nothing; SIGCONT lets it go on",
    "t": "it is held by a debugger, so it shows nothing",
    "Z": "it has just ended",
    "D": "it waits in the kernel (uninterruptible: a disk, a network file system) and takes no signals",
}
SILENT = "it takes no signals: it blocks SIGUSR1 or has a handler of its own for it"
Then = Callable[[str], object]


class Source:
    """The reading end of one incarnation's pipe, and who waits for the text."""

    def __init__(self, record: Record, fd: int) -> None:
        self.record, self.fd = record, fd
        self.text = bytearray()
        self.waiting: list[Then] = []

    def answer(self, text: str) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(text)


class Stacks:
    """All pipes, by the endpoint of the process."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.sources: dict[int, Source] = {}

    def open(self, record: Record, peer: Peer) -> int:
        """The writing end for a process to be born; the caller closes it. OSError: no descriptors."""
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        source = self.sources[peer.id] = Source(record, read)
        self.guardian.on(read, lambda _: self._hear(source))
        return write

    def close(self, peer: Peer) -> None:
        """The process has ended."""
        source = self.sources.pop(peer.id, None)
        if source is not None:
            self._hear(source)
            self.guardian.off(source.fd)
            os.close(source.fd)
            source.answer("it has just ended")

    def ask(self, record: Record, then: Then, patience: float = PATIENCE) -> None:
        """Call `then` with the stacks of this actor's process, or with why there are none. Once, within `patience`."""
        source = self.sources.get(record.peer.id) if record.peer is not None else None
        if source is None or not record.pid:
            then("it has no process at this moment")
            return
        state = state_of(record.pid)
        if state in "TtZ":
            then(STATES[state])
            return
        source.waiting.append(then)
        if len(source.waiting) == 1:
            os.kill(record.pid, signal.SIGUSR1)
        self.guardian.timers.after(patience, lambda: self._late(source, then))

    def _late(self, source: Source, then: Then) -> None:
        if then in source.waiting:
            source.waiting.remove(then)
            part = source.text.decode(errors="replace")
            then(f"{STATES.get(state_of(source.record.pid), SILENT)}\n{part}".rstrip())

    def _hear(self, source: Source) -> None:
        try:
            data = os.read(source.fd, 1 << 16)
        except BlockingIOError:
            return
        if not data:  # closed by the process itself
            self.guardian.off(source.fd)
            return
        *whole, rest = data.split(b"\0")
        for part in whole:
            source.text += part
            self._complete(source)
        source.text += rest[: max(0, LONGEST - len(source.text))]
        if rest and KIND == "python":  # nothing marks the end of a dump
            length = len(source.text)
            self.guardian.timers.after(QUIET, lambda: self._quiet(source, length))

    def _quiet(self, source: Source, length: int) -> None:
        if length == len(source.text):
            self._complete(source)

    def _complete(self, source: Source) -> None:
        text, source.text = source.text.decode(errors="replace").rstrip(), bytearray()
        if source.waiting:
            source.answer(text)
        elif text:
            watch = self.guardian.watch
            watch.log("warning", "stacks, by SIGUSR1", actor=watch.address(source.record.name), stack=text)


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does: R, S, D, T, t, Z; X when it is not there."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "X"
    try:
        return os.read(fd, 512).rpartition(b") ")[2][:1].decode() or "X"
    except OSError:
        return "X"
    finally:
        os.close(fd)

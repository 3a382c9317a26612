"""What compare-and-swap is made of here: one process, thread and handler at a time, for a few instructions.

Rule: processes take turns by a lock on the memory's own file (flock), which the kernel gives back at a death and nobody
can write over; threads by an RLock. What runs inside is a stretch that nothing interrupts (ring.py), so a handler or
finalizer of the very thread that is inside finds the memory in order and may go ahead.

A lock belongs to the open file, and all who were sent a descriptor share one: so each process opens it anew.

Rejected: the robust mutex of the rings. Glibc follows pointers that lie in it, and the guardian comes here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

NUDGE: Final = 0.02  # seconds after which who is inside is taken to be stopped, and let go on (SIGCONT)
LIMIT: Final = 1.0  # seconds after which whoever must not wait goes ahead


class Exclusive:
    """A lock on a memfd. OSError: it can't be opened."""

    __slots__ = ("_close", "_inside", "_threads", "fd", "pid")

    def __init__(self, fd: int) -> None:
        self.fd, self._close, self._inside = -1, os.close, False
        self._open(fd)

    def _open(self, fd: int) -> None:
        mine = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        if self.fd >= 0:  # forked: the file is the parent's, and its threads are not here
            os.close(self.fd)
        self.fd, self.pid, self._inside, self._threads = mine, os.getpid(), False, threading.RLock()

    def __del__(self) -> None:
        if self.fd >= 0:
            self._close(self.fd)

    def run(self, stretch: Callable[[], T], inside: Callable[[], int] | None = None, limit: float = float("inf")) -> T:
        """Call it with the lock. inside: says who has it, a pid, as far as it is known. limit: seconds of waiting after
        which it is called all the same."""
        if self.pid != os.getpid():
            self._open(self.fd)
        with self._threads:
            if self._inside:
                return stretch()
            try:
                self._wait(inside, limit)
                self._inside = True
                return stretch()
            finally:
                self._inside = False
                fcntl.flock(self.fd, fcntl.LOCK_UN)

    def _wait(self, inside: Callable[[], int] | None, limit: float) -> None:
        pause, begun = 0.00002, 0.0
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            begun = begun or time.monotonic()
            passed = time.monotonic() - begun
            if passed > limit:
                return
            if passed > NUDGE and inside is not None:
                _let_go_on(inside())
            time.sleep(pause)
            pause = min(pause * 2, 0.005)


def _let_go_on(pid: Any) -> None:
    if pid > 1:
        with contextlib.suppress(OSError, OverflowError):
            os.kill(pid, signal.SIGCONT)

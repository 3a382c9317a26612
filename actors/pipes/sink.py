"""The end of a pipe that is written to: whole frames, in order, without blocking the event loop.

Rule: what the pipe takes at once costs no turn of the loop; the rest waits here and is written when there is room, each
frame to its end before the next one. A frame that was given up is withdrawn only if none of it is written: a pipe never
carries half a frame and then another. Rejected: asyncio's write transports, which say that there is room again, but not
that the pipe has taken this frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import deque

PIPE = 1 << 20  # bytes that a pipe of ours holds, if the system allows it: fewer switches between the processes


class Sink:
    """Writes into a descriptor, which it owns from now on. To be used in the event loop's thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: deque[Writing] = deque()
        self._loop = asyncio.get_running_loop()
        self.error: Exception | None = None  # why it writes no more
        self._closing = False
        os.set_blocking(fd, False)

    def send(self, data: bytes) -> Writing | None:
        """Write a frame. None: the pipe took it; else what to await. OSError: nobody reads; ValueError: closed."""
        if self.error is not None:
            raise self.error
        if self._closing:
            raise ValueError("its input is closed; nothing can be written any more")
        written = 0 if self._queue else self._try(memoryview(data))
        if written == len(data):
            return None
        writing = Writing(self, memoryview(data), written)
        if not self._queue:
            self._loop.add_writer(self._fd, self._room)
        self._queue.append(writing)
        return writing

    def close(self) -> None:
        """The other side reads the end of its input after what was sent before. Harmless the second time."""
        self._closing = True
        if not self._queue:
            self._let_go()

    def abandon(self, error: Exception) -> None:
        """Write nothing more: what waits, and what is sent from now on, ends with this error."""
        self.error = self.error or error
        queue, self._queue = self._queue, deque()
        if queue:
            self._loop.remove_writer(self._fd)
        for writing in queue:
            if not writing.done.done():
                writing.done.set_exception(self.error)
                writing.done.exception()  # who waits is told; that nobody does is no news
        self._let_go()

    def withdraw(self, writing: Writing) -> bool:
        """Take back a frame of which nothing is written. False: too late."""
        if writing.begun or writing not in self._queue:
            return False
        self._queue.remove(writing)
        if not self._queue:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._let_go()
        return True

    def _try(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.abandon(error)
            raise

    def _room(self) -> None:
        with contextlib.suppress(OSError):  # those who wait have been told
            while self._queue:
                writing = self._queue[0]
                written = self._try(writing.rest)
                writing.begun = writing.begun or written > 0
                writing.rest = writing.rest[written:]
                if writing.rest:
                    return
                self._queue.popleft()
                if not writing.done.done():
                    writing.done.set_result(None)
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._let_go()

    def _let_go(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Writing:
    """A frame that waits for room. Await `done`."""

    def __init__(self, sink: Sink, rest: memoryview, written: int) -> None:
        self.rest = rest[written:]
        self.begun = written > 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sink = sink

    def withdraw(self) -> bool:
        """Nobody waits for it any more; True: and nothing of it will be written."""
        return self._sink.withdraw(self)


def enlarge(fd: int) -> None:
    """Let a pipe hold more than the usual 64 KiB, if this user still may."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)

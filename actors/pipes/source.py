"""The end of a pipe that is read from: chunks, when somebody wants the next one.

Rule: nothing is read ahead. Who does not ask for the next chunk leaves it in the pipe, which stops the writer: that is
all the back-pressure there is, and all that is needed. Rejected: asyncio's read transports, which read until they are
told to pause.
"""

from __future__ import annotations

import asyncio
import os

CHUNK = 120 << 10  # bytes of one read that is cut into frames: they are all held at once
RAW = 512 << 10  # of one that is a frame by itself: large enough to be handed on in shared memory


class Source:
    """Reads from a descriptor, which it owns from now on. One reader, in the event loop's thread."""

    def __init__(self, fd: int, chunk: int = CHUNK, fifo: bool = False) -> None:
        """fifo: it is one, whose first writer may still have to come (which would read as its end)."""
        self._fd, self._chunk, self._fifo = fd, chunk, fifo
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._finishing = False
        os.set_blocking(fd, False)

    async def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        if self._fifo and not self._finishing:
            await self._readable()
        while True:
            try:
                return os.read(self._fd, self._chunk)
            except BlockingIOError:
                if self._finishing:
                    return b""
            await self._readable()

    def finish(self) -> None:
        """From now on the end is where the pipe is empty, whoever may still hold its other end."""
        self._finishing = True
        self._wake()

    def close(self) -> None:
        """Harmless the second time."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    async def _readable(self) -> None:
        self._waiting = self._loop.create_future()
        self._loop.add_reader(self._fd, self._wake)
        try:
            await self._waiting
        finally:
            self._loop.remove_reader(self._fd)
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

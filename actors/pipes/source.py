"""The end of a pipe that is read from: chunks, when somebody wants the next one.

Rule: nothing is read ahead. Who does not ask for the next chunk leaves it in the pipe, which stops the writer: that is
all the back-pressure there is, and all that is needed. Rejected: asyncio's read transports, which read until they are
told to pause.
"""

from __future__ import annotations

import asyncio
import math
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
        self._linger, self._end = 0.0, math.inf  # seconds; when silence is the end, on the loop's clock
        self.held = False  # others still hold its other end, although `finish` has made this the end
        os.set_blocking(fd, False)

    async def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        if self._fifo and self._end == math.inf:
            await self.readable()
        while (data := self.poll()) is None:
            await self.readable()
        return data

    def poll(self) -> bytes | None:
        """What is there now; b"" at the end, None: nothing yet."""
        try:
            data = os.read(self._fd, self._chunk)
        except BlockingIOError:
            self.held = self._loop.time() >= self._end
            return b"" if self.held else None
        if self._linger:
            self._end = self._loop.time() + self._linger
        return data

    def readable(self) -> asyncio.Future[None]:
        """Done when it is worth a look. Who gives up waiting need not say so."""
        if self._waiting is None or self._waiting.done():
            self._waiting = self._loop.create_future()
            self._loop.add_reader(self._fd, self._wake)
            if self._end < math.inf:
                self._loop.call_at(self._end, self._wake)
        return self._waiting

    def finish(self, linger: float = 0.0) -> None:
        """From now on the end is where the pipe stays empty for `linger` seconds, whoever may still hold its other end."""
        self._linger, self._end = linger, self._loop.time() + linger
        self._wake()

    def close(self) -> None:
        """Harmless the second time."""
        if self._fd >= 0:
            self._wake()
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._loop.remove_reader(self._fd)
            if not waiting.done():
                waiting.set_result(None)

"""Where the frames of a stream go: to an actor (`Push`), or to whoever asks for them (`Pull`).

Rule: `put` gives a frame away, `room` returns when the next chunk should be read. Pushing waits for room in the
receiver's mailbox; pulling holds the frames of one chunk until they are taken. So a slow receiver stops the reading,
and the reading stops the writer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, Protocol

from ..errors import ActorsError, MailboxFull
from ..ref import ActorRef
from .framing import Codec
from .source import Source

WAITING = 12  # reads that may wait for a frame; the other handlers of `concurrency` are for writing
LINGER = 5.0  # seconds for which unread frames are kept after the end of their writer, and after each read since
PAUSE = 0.005


class Outlet(Protocol):
    """What a stream's frames go into. `dropped`: frames that nobody will read."""

    dropped: int

    async def put(self, frame: Any) -> None:
        """Give a frame away. ActorDied: its receiver has ended."""
        ...

    async def room(self) -> None:
        """Until the next chunk should be read."""
        ...

    def ending(self) -> None:
        """The writer is gone: no more comes than what is in the pipe."""
        ...

    def discard(self) -> None:
        """Nobody will take any more."""
        ...

    def fail(self, error: Exception, requests: bool = True) -> None:
        """There will be no more: those who wait end with this. requests: those too who have asked the writer for it."""
        ...


async def pour(source: Source, codec: Codec, outlet: Outlet) -> None:
    """Give away every frame of a stream that is complete. FramingError, and what `put` raises."""
    while data := await source.read():
        for frame in codec.feed(data):
            await outlet.put(frame)
        await outlet.room()


async def pour_rest(codec: Codec, outlet: Outlet) -> None:
    """Give away what the end of the stream completes. FramingError: it ended inside a frame."""
    for frame in codec.end():
        await outlet.put(frame)
    await outlet.room()


class Push:
    """Frames as messages to an actor, in order. A mailbox that raises when it is full makes the stream wait as well:
    a pipe can wait, and a frame must not be lost."""

    def __init__(self, to: ActorRef[Any], method: str) -> None:
        self.dropped = 0
        self.to, self._method = to, method

    async def put(self, frame: Any) -> None:
        while True:
            try:
                return await self.to.tell_async(self._method, frame)
            except MailboxFull:
                await asyncio.sleep(PAUSE)

    async def room(self) -> None:
        await asyncio.sleep(0)  # a stream that never waits must not keep the loop

    def ending(self) -> None:
        return

    def discard(self) -> None:
        return

    def fail(self, error: Exception, requests: bool = True) -> None:
        return


class _Reader(NamedTuple):
    frame: asyncio.Future[Any]
    owed: bool  # a frame that answers a request: if that was given up, the frame goes with it


class Pull:
    """Frames for those who ask, first come, first served."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frames: deque[Any] = deque()
        self._readers: deque[_Reader] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()
        self._last_read = 0.0  # on the loop's clock
        self._error: Exception | None = None
        self._discarding = False

    def next(self, owed: bool = False) -> asyncio.Future[Any]:
        """The next frame, when it is there. owed: it answers what the writer was sent. ActorsError: too many wait that
        are owed none, and would keep writers out."""
        self._last_read = self._loop.time()
        found: asyncio.Future[Any] = self._loop.create_future()
        if self._frames:
            found.set_result(self._frames.popleft())
            if not self._frames:
                self._empty.set()
        elif self._error is not None:
            found.set_exception(self._error)
        elif not owed and sum(not each.owed for each in self._readers) >= WAITING:
            raise ActorsError(f"{WAITING} reads wait for a frame already; wait for their answers first")
        else:
            self._readers.append(_Reader(found, owed))
        return found

    def forget(self, frame: asyncio.Future[Any]) -> None:
        """The request that this frame was to answer was never written."""
        self._readers = deque(each for each in self._readers if each.frame is not frame)

    async def put(self, frame: Any) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.frame.done():
                return reader.frame.set_result(frame)
            if reader.owed:
                return None
        if self._discarding:
            self.dropped += 1
        else:
            self._frames.append(frame)
            self._empty.clear()
        return None

    async def room(self) -> None:
        await self._empty.wait()
        await asyncio.sleep(0)

    def ending(self) -> None:
        self._last_read = self._loop.time()
        self._expire()

    def discard(self) -> None:
        self._discarding = True
        self.dropped += len(self._frames)
        self._frames.clear()
        self._empty.set()

    def fail(self, error: Exception, requests: bool = True) -> None:
        self._error = error
        readers, self._readers = self._readers, deque()
        for reader in readers:
            if reader.owed and not requests:
                self._readers.append(reader)
            elif not reader.frame.done():
                reader.frame.set_exception(error)

    def _expire(self) -> None:
        left = self._last_read + LINGER - self._loop.time()
        if left > 0 or self._readers:
            self._loop.call_later(max(left, LINGER / 10), self._expire)
        else:
            self.discard()

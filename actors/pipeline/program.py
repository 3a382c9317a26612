"""A program as a stage: what it reads from its stdin are items, what it writes to its stdout are results.

Rule: a program does not say which result is of which item, so it is a stage with a state: results come as the program
writes them, the last ones at the end of the input, and its death or a failing exit is an error that shows the end of
its stderr. It is fed and read at the same time, and held up when nobody takes its results: neither side can block the
other, and memory stays bounded.

framing "lines": an item is a str and becomes a line, each line becomes a str; "raw": bytes in, bytes out as they come.
"""

from __future__ import annotations

import asyncio
import collections
import signal
from collections.abc import AsyncIterator
from typing import Any

from ..errors import ActorsError

LARGEST = 1 << 16  # bytes of a raw result
LONGEST_LINE = 1 << 26  # bytes
WORDS = 2000  # characters of stderr in an error


class Program:
    """Runs the command, from the first item (or the end of the input) on."""

    def __init__(self, command: list[str], framing: str) -> None:
        self.command, self.lines = command, framing == "lines"
        self.results: asyncio.Queue[str | bytes | None] = asyncio.Queue(64)  # None: the end
        self.words: collections.deque[str] = collections.deque(maxlen=20)
        self.child: asyncio.subprocess.Process
        self.tasks: list[asyncio.Task[None]] = []

    async def on_start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self.child = await asyncio.create_subprocess_exec(
            *self.command, stdin=pipe, stdout=pipe, stderr=pipe, limit=LONGEST_LINE
        )
        self.tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

    async def process(self, item: Any) -> AsyncIterator[str | bytes]:
        return self._fed(self._encoded(item))

    async def finish(self) -> AsyncIterator[str | bytes]:
        return self._ended()

    async def _fed(self, data: bytes) -> AsyncIterator[str | bytes]:
        """Write, and hand out what comes meanwhile."""
        assert self.child.stdin is not None
        self.child.stdin.write(data)
        writing = asyncio.ensure_future(self.child.stdin.drain())
        while not writing.done():
            reading = asyncio.ensure_future(self.results.get())
            await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
            if not reading.cancel():
                yield await self._checked(reading.result())
        if writing.exception() is not None:  # it does not read any more
            async for each in self._ended():
                yield each
            raise ActorsError(f"{self.command[0]} ended before its input did{self._said()}")
        while not self.results.empty():
            yield await self._checked(self.results.get_nowait())

    async def _ended(self) -> AsyncIterator[str | bytes]:
        """Close its input, and hand out the rest."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        while (result := await self.results.get()) is not None:
            yield result
        await asyncio.gather(*self.tasks)
        if code := await self.child.wait():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            raise ActorsError(f"{self.command[0]} {how}{self._said()}")

    async def _checked(self, result: str | bytes | None) -> str | bytes:
        if result is None:
            async for _ in self._no_more():
                pass
            raise ActorsError(f"{self.command[0]} ended before its input did{self._said()}")
        return result

    async def _no_more(self) -> AsyncIterator[str | bytes]:
        await self.results.put(None)
        async for each in self._ended():
            yield each

    async def _read(self) -> None:
        out = self.child.stdout
        assert out is not None
        while part := await (out.readline() if self.lines else out.read(LARGEST)):
            await self.results.put(part.decode(errors="surrogateescape").removesuffix("\n") if self.lines else part)
        await self.results.put(None)

    async def _listen(self) -> None:
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            self.words.append(line.decode(errors="replace"))

    def _said(self) -> str:
        words = "".join(self.words)[-WORDS:].strip()
        return f": {words}" if words else ""

    def _encoded(self, item: Any) -> bytes:
        if self.lines:
            if not isinstance(item, str):
                raise TypeError(f"{self.command[0]} takes lines, not {type(item).__name__}; framing='raw' takes bytes")
            return item.encode(errors="surrogateescape") + b"\n"
        if not isinstance(item, (bytes, bytearray, memoryview)):
            raise TypeError(f"{self.command[0]} takes bytes, not {type(item).__name__}; framing='lines' takes str")
        return bytes(item)

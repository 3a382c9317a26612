"""A program as a stage: what it reads from its stdin are items, what it writes to its stdout are results.

Rule: a program does not say which result is of which item, so it is a stage with a state: results come as the program
writes them, the last ones at the end of the input, and its death or a failing exit is an error that shows the end of
its stderr. It is fed and read at the same time, and held up when nobody takes its results: neither side can block the
other, and memory stays bounded by the pipes and one chunk.

Process, pipes and framing are those of an actor's program (`pipes.Coprocess`); only what becomes of its end differs.
Items are written, and results looked for, once for all that come within a millisecond, since each write wakes the
program; the last ones before a pause are written when the worker rests. What the program has said waits in one place for
whichever item's turn it is, so that results keep their order. When the run is given up, the program gets SIGTERM, and no
end of its input, which it would take for the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ActorsError, FramingError
from ..exits import ExitReason
from ..pipes import plumbing
from ..pipes.coprocess import PATIENCE, Coprocess
from ..pipes.diary import Diary, say
from ..pipes.framing import codec
from ..pipes.launch import checked_command
from ..pipes.sink import Writing
from .batch import Spent

WORDS = 2000  # characters of stderr in an error
PAUSE = 0.001  # seconds between two writes, and looks for results, while it takes its items at once
FULL = 1 << 16  # bytes that are written at once


class Program:
    """Runs the command. Made, used and ended by its worker, as the object of a class is."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        framing: str,
        encoding: str | None,
        limit: int,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str | None],
        grace: float,
    ) -> None:
        self.command, self.framing, self.grace = checked_command(command), framing, grace
        self.cwd, self.env = None if cwd is None else os.fspath(cwd), env
        self.codec = codec(framing, limit, encoding, "surrogateescape")
        self.unsent: list[bytes] = []
        self.size, self.sent = 0, 0.0  # bytes of that; when the last was sent
        self.frames: deque[Any] = deque()  # said, and not handed out
        self.silent = False  # its stdout has come to the end
        self.broken: FramingError | None = None  # or to what is no frame

    def on_start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.program = Coprocess(self.command, self.framing, self.cwd, self.env, linger=PATIENCE)
        self.diary = Diary(self.program.stderr, "stderr")
        self.kept = asyncio.create_task(self.diary.keep())
        plumbing.when_asked_to_stop(self._asked_to_stop)

    def process(self, item: Any) -> Iterator[Any] | AsyncIterator[Any] | None:
        try:
            frame = self.codec.encode(item)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self.command[0]}: {error}") from None
        if not self.unsent:
            self.loop.call_soon(self._send)
        self.unsent.append(frame)
        self.size += len(frame)
        if self.size < FULL and time.monotonic() - self.sent < PAUSE:
            return None
        return self._exchanged()

    async def finish(self) -> AsyncIterator[Any]:
        self._send()
        self.program.stdin.close()
        async for each in self._rest(None):
            yield each
        error = await self._fault()
        if error is not None:
            raise Spent(error)
        if self.program.stdout.held or self.program.stderr.held:
            say(f"{self.command[0]} has ended; what it has started, and is still there, ends with the run", "warning")

    async def on_stop(self, reason: ExitReason) -> None:
        await self.program.end(self.grace)

    def _asked_to_stop(self) -> None:
        self.ending = asyncio.ensure_future(self.program.end(self.grace))

    # --- feeding

    def _exchanged(self) -> Iterator[Any] | AsyncIterator[Any] | None:
        """Write what there is, and look for what has come of what was written before."""
        writing = self._send()
        if self.broken is not None or self.program.status is not None or self.program.stdin.error is not None:
            return self._over()
        if writing is not None:
            return self._fed(writing)
        self._look()
        return self._said() if self.frames else None

    def _send(self) -> Writing | None:
        """What waits for room in the pipe, if some does."""
        if not self.unsent:
            return None
        data, self.unsent, self.size = b"".join(self.unsent), [], 0
        self.sent = time.monotonic()
        with contextlib.suppress(OSError):  # it reads no more: `stdin` keeps that in mind
            return self.program.stdin.send(data)
        return None

    async def _fed(self, writing: Writing) -> AsyncIterator[Any]:
        """Hand out what it says until it has taken the item: it may do nothing else before."""
        taken, program = writing.done, self.program
        while not taken.done() and program.status is None and self.broken is None:
            readable = () if self.silent else (program.stdout.readable(),)
            await asyncio.wait((taken, program.exited, *readable), return_when=asyncio.FIRST_COMPLETED)
            self._look()
            for each in self._said():
                yield each
        if not taken.done() or taken.exception() is not None:
            async for each in self._over():
                yield each

    # --- reading

    def _look(self) -> None:
        """Take what it has said. Nothing is read while that is not handed out."""
        if self.frames or self.silent or (data := self.program.stdout.poll()) is None:
            return
        self.silent = not data
        try:
            self.frames.extend(self.codec.feed(data) if data else self.codec.end())
        except FramingError as error:
            self.broken, self.silent = error, True

    def _said(self) -> Iterator[Any]:
        while self.frames:
            yield self.frames.popleft()

    async def _rest(self, seconds: float | None) -> AsyncIterator[Any]:
        """What it still says, until it has ended; or until it has been silent for so many seconds."""
        for each in self._said():
            yield each
        while not self.silent:
            ready, _ = await asyncio.wait((self.program.stdout.readable(),), timeout=seconds)
            if not ready:
                break
            self._look()
            for each in self._said():
                yield each
        await asyncio.wait((self.program.exited,), timeout=seconds if self.broken is None else PATIENCE)

    # --- its end

    async def _over(self) -> AsyncIterator[Any]:
        """It takes no more: hand out what it still says, then raise why."""
        async for each in self._rest(PATIENCE):
            yield each
        what = "ended before its input did"
        if self.program.status is None:
            what = f"has closed its stdin and runs on (process {self.program.pid})"
        raise Spent(await self._fault() or ActorsError(f"{self.command[0]} {what}{self._words()}"))

    async def _fault(self) -> ActorsError | None:
        """What is wrong with how it has ended, or with what it has said."""
        name, status = self.command[0], self.program.status
        if status is not None:
            await self.kept
        if status is not None and status.abnormal:
            how = f"was {status}" if status.kind == "signal" else str(status)
            return ActorsError(f"{name} {how}{self._words()}")
        return None if self.broken is None else FramingError(f"{name}: {self.broken}{self._words()}")

    def _words(self) -> str:
        words = self.diary.last(WORDS)
        return f": {words}" if words else ""

"""An actor that answers at once, late, or never, as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from actors import Actor, ActorRef

from .gate import Gate
from .journal import Journal


class Worker(Actor):
    """Does what it is told, and writes down what it did."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal

    def echo(self, value: Any) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

    def note(self, text: str) -> str:
        assert self.journal is not None
        self.journal.write(text)
        return text

    def fail(self, text: str) -> None:
        raise KeyError(text)

    async def linger(self, text: str) -> str:
        """Ends only by being cancelled, and writes that down."""
        assert self.journal is not None
        self.journal.write("begin", text)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.journal.write("cancelled", text)
            raise
        return "never"

    async def linger_through(self, other: ActorRef[Worker], text: str) -> str:
        return await other.ask(Worker.linger, text)

    async def deny_cancellation(self) -> str:
        assert self.journal is not None
        self.journal.write("begin")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "went on"

"""What the kit adds inside the actors' processes: the loop of a system that it made.

Rule: a subclass of the real loop that adds and changes nothing of its order: the clock that timers run on, the marked
points at which a process may be killed, and, in the process of a probe, the relay. An ordinary system never imports
this: its birth messages name no other loop.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..codec import decode_call
from ..context import current
from ..loop import ASK, EXPIRED, Loop, Worker
from ..message import Kind
from .manual import Handle, ManualClock
from .points import Point, Points

if TYPE_CHECKING:
    from ..client import Client
    from ..endpoint import LoopEndpoint
    from ..transports._ring import Inbox, Record, Ring
    from .relay import Relay

_TIME = struct.Struct("<d")
Answer = Callable[[int, int, int, bytes, int], None]


class ActorClock(ManualClock):
    """Virtual time in an actor's process: the guardian moves it and says when something is due."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        _, (fd,) = client.exchange("clock", act="page")
        try:
            self._page = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._told: float | None = None
        client.handlers[int(Kind.TICK)] = self._tick

    def time(self) -> float:
        now: float = _TIME.unpack_from(self._page)[0]
        return now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        handle = super().call_at(when, callback)
        if when <= self.time():
            asyncio.get_running_loop().call_soon(self._run)
        self._tell()
        return handle

    def _tick(self, body: bytes, sender: int, corr: int) -> None:
        self._told = None  # the guardian has forgotten
        self._run()

    def _run(self) -> None:
        self.run_due()
        self._tell()

    def _tell(self) -> None:
        due = self.next()
        if due != self._told:
            self._told = due
            self._client.send("clock", act="due", when=due)


class KitLoop(Loop):
    """The loop of an actor in a system of the kit."""

    def __init__(self, kit: dict[str, Any], client: Client, endpoint: LoopEndpoint, mail: Ring, on_error: str) -> None:
        super().__init__(client, endpoint, mail, on_error)
        self.points = Points(kit["faults"])
        self.relay: Relay | None = None
        self._open: dict[tuple[int, int], Record] = {}  # asks in hand, by sender and correlation
        if kit["clock"]:
            self.clock = ActorClock(client)
        client.answer = self._answering(client.answer)  # type: ignore[assignment, method-assign, unused-ignore]
        self.answer = client.answer
        endpoint.main = _PointedInbox(endpoint.main, mail, self._pass)  # type: ignore[assignment]

    async def hook(self, method: Callable[..., Any], *args: Any) -> None:
        match getattr(method, "__name__", ""):
            case "on_start":
                self._pass("in_on_start")
            case "on_stop":
                self._pass("in_on_stop")
        await super().hook(method, *args)

    def _begin(self, worker: Worker, record: Record) -> Any:
        if self.relay is not None:
            return self.relay.begin(record)
        self._pass("in_handler", record)
        if record[0] == ASK:
            self._open[record[2], record[3]] = record
        value = super()._begin(worker, record)
        if value is None:
            self._over(record)
        return value

    async def _finish(self, worker: Worker, record: Record, pending: Any) -> None:
        await super()._finish(worker, record, pending)
        self._over(record)

    def _over(self, record: Record) -> None:
        if record[0] != ASK:
            self._pass("after_handler", record)
        self._open.pop((record[2], record[3]), None)

    def _answering(self, answer: Answer) -> Answer:
        """`Client.answer` between its two points."""

        def answering(sender: int, corr: int, kind: int, body: bytes, flags: int) -> None:
            record = self._open.get((sender, corr)) if kind != EXPIRED else None
            if record is not None:
                self._pass("after_handler", record)
            answer(sender, corr, kind, body, flags)
            if record is not None:
                self._pass("after_reply", record)

        return answering

    def _pass(self, point: Point, record: Record | None = None) -> None:
        self.points.passing(current().ref.name, point, lambda: self._method_of(record))

    def _method_of(self, record: Record | None) -> str:
        return "" if record is None else str(decode_call(self.client.body_of(record), record[1])[0])


class _PointedInbox:
    """An inbox with a marked point before it takes a message that waits."""

    def __init__(self, inbox: Inbox, mail: Ring, passing: Callable[[Point], object]) -> None:
        self._inbox, self._mail, self._passing = inbox, mail, passing
        self.collect, self.hold, self.finish, self.clear = inbox.collect, inbox.hold, inbox.finish, inbox.clear

    def next(self, spin: float) -> Record | int | None:
        self._inbox.finish()  # what was in hand is handled and shall not die with this process
        counts = self._mail.stats()
        if counts["accepted"] > counts["handled"]:
            self._passing("before_handler")
        return self._inbox.next(spin)

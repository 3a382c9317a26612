"""The actor behind a probe: takes every message, whatever its name, and hands it on to the test.

Rule: it is an actor like any other (a process, a mailbox, monitors, a death), only that its messages are not called but
kept, undecoded, with a number each, until the test has them. The test asks for what comes after the last number that it
has (`TAKE`), so nothing is lost when it gives up waiting. An ask stays in hand until the test has answered it
(`DONE`); if the probe dies before, its asker is told, as by any actor.

The test's own two calls have private names, which no other sender can use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actor import Actor
from ..codec import decode_call, encode, encode_call, inlined
from ..context import current
from ..message import HANDLE, Kind
from .inside import KitLoop

if TYPE_CHECKING:
    from ..transports._ring import Record

TAKE, DONE = "_take", "_done"
ASK = int(Kind.ASK)
_BEGINS = {encode_call(name, (0,), {})[0][:-1]: name for name in (TAKE, DONE)}  # a body of these, but for the number

Item = list[Any]  # [number, kind, flags, sender, corr, position, body]


class Relay(Actor):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.count = 0
        self.waiting: tuple[int, int] | None = None  # the TAKE that has not been answered: sender, corr

    def on_start(self) -> None:
        loop = current().agenda
        assert isinstance(loop, KitLoop)
        self.loop = loop
        loop.relay = self

    def begin(self, record: Record) -> None:
        """In place of calling a method."""
        kind, flags, sender, corr, _, _, position, body = record
        known = [name for begin, name in _BEGINS.items() if not flags and body.startswith(begin)]
        if known == [TAKE]:
            self._take(sender, corr, self._argument(body))
        elif known == [DONE]:
            self.loop.mail.done(self._argument(body))
        else:
            if flags & HANDLE:
                body, flags = inlined(self.loop.client.body_of(record), flags)
                self.loop.client.release(record[7])
            if kind == ASK:
                self.loop.endpoint.main.hold()
            self.count += 1
            self.items.append([self.count, kind, flags, sender, corr, position, body])
            self._hand_on()

    @staticmethod
    def _argument(body: bytes) -> int:
        number: int = decode_call(body, 0)[1]
        return number

    def _take(self, sender: int, corr: int, after: int) -> None:
        if self.waiting is not None:  # given up
            self.loop.client.answer(*self.waiting, int(Kind.CANCELLED), b"", 0)
        self.waiting = (sender, corr)
        self.items = [item for item in self.items if item[0] > after]
        self._hand_on()

    def _hand_on(self) -> None:
        if self.waiting is not None and self.items:
            waiting, self.waiting = self.waiting, None
            self.loop.client.answer(*waiting, int(Kind.VALUE), *encode(self.items))

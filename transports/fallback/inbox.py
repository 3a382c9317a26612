"""Inbox: one process's receiving side, and ReplyBase, the pending answer that it fills.

Rule: as inbox.c has it, but for the spinning, which would keep the GIL from those who could send. Any thread may call
collect() at any time, a signal's handler and a finalizer too: a record is moved to its place, and the reading position
over it, in one stretch that nothing interrupts (ring.py), if nobody else moved it meanwhile; so no lock is needed, and a
handler that raises leaves every record either where it was or where it belongs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, final

from . import libc
from .layout import ASLEEP, AWAKE, ELSEWHERE, FIELDS, HANDLED, M64, RECORD, SLEEPING, size_of
from .ring import Found, Record, Ring

News = tuple[int, int, int, int, bytes]
TELL, ASK = 1, 2
INERT = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple, set})  # nobody can await these


class ReplyBase:
    """See _ring.pyi."""

    __slots__ = ("body", "cbs", "flags", "kind", "sender", "waitfd")
    kind: int
    flags: int
    sender: int
    body: bytes | None
    cbs: list[Any] | None
    waitfd: int

    def __new__(cls, *_: object, **__: object) -> ReplyBase:
        self = object.__new__(cls)
        self.kind = self.waitfd = -1
        self.flags = self.sender = 0
        self.body = self.cbs = None
        return self


@final
class Inbox:
    """See _ring.pyi."""

    __slots__ = ("bell", "busy", "caller", "control", "lanes", "left", "mail", "position", "record", "replies", "rings")

    def __init__(self, bell: int, replies: Ring | None, control: Ring | None, mail: Ring | None = None, /) -> None:
        for ring in (replies, control, mail):
            if ring is not None and type(ring) is not Ring:
                raise TypeError("replies, control and mail must each be a Ring or None")
        self.bell, self.replies, self.control, self.mail = bell, replies, control, mail
        self.lanes = [ring for ring in (replies, control) if ring is not None]
        self.rings = [*self.lanes, mail] if mail is not None else self.lanes
        self.busy, self.position = False, 0
        self.caller = self.left = 0
        self.record: Record | None = None
        for ring in self.rings:
            ring.armed = True  # by the consumer that died before us, perhaps

    # --- collect

    def collect(
        self,
        table: dict[int, ReplyBase],
        fire: list[ReplyBase],
        news: list[News],
        spin: float,
        mine: ReplyBase | None,
        clear: bool,
        /,
    ) -> int:
        if not (isinstance(table, dict) and isinstance(fire, list) and isinstance(news, list)):
            raise TypeError("collect() takes a dict and two lists")
        total = 0
        try:
            if clear:
                self._clear_lanes_bell()
            while True:
                _disarm(self.lanes)
                if self.replies is not None:
                    total += self._drain(self.replies, table, fire, None, mine)
                if self.control is not None:
                    total += self._drain(self.control, table, fire, news, mine)
                if _arm(self.lanes):
                    break
        except BaseException:
            if not _arm(self.lanes) and self.bell >= 0:  # for the others that sleep on it
                os.eventfd_write(self.bell, 1)
            raise
        if total == 0:
            for ring in self.lanes:
                ring.trim()
        return total

    def _drain(
        self,
        ring: Ring,
        table: dict[int, ReplyBase],
        fire: list[ReplyBase],
        news: list[News] | None,
        mine: ReplyBase | None,
    ) -> int:
        """Move all records of a lane. How many."""
        count = 0
        try:
            while (found := ring.peek()) is not None:
                count += self._move(ring, found, table, fire, news, mine)
        finally:
            if ring.head != ring.next:
                ring.move_head(ring.next)
        return count

    def _move(
        self,
        ring: Ring,
        found: Found,
        table: dict[int, ReplyBase],
        fire: list[ReplyBase],
        news: list[News] | None,
        mine: ReplyBase | None,
    ) -> int:
        """Move the peeked record to its place; it ends here and needs no state. 0: another has moved it meanwhile."""
        (position, at, length), words = found, ring.words
        _, _, kind, flags, _, sender, corr, _, _ = FIELDS.unpack_from(ring.bytes, at)
        body = bytes(ring.bytes[at + RECORD : at + RECORD + length])
        behind, notice = position + size_of(length), ((kind, flags, sender, corr, body),)
        reply = table.get(corr) if corr else None
        if reply is not None and not isinstance(reply, ReplyBase):
            raise TypeError("the table must hold ReplyBase objects")
        awaited = reply is not None and bool(reply.cbs or reply.cbs is not None or flags & ELSEWHERE)
        handled, one, waitfd = (words[HANDLED] + 1) & M64, (reply,), -1
        # from here on no call
        if ring.next != position:
            return 0
        if reply is not None and corr in table:
            if reply.cbs is not None or awaited:
                fire += one  # type: ignore[arg-type]
            reply.body = body
            reply.flags = flags
            reply.sender = sender
            reply.kind = kind
            waitfd = reply.waitfd
            del table[corr]
        elif news is not None:
            news += notice
        ring.next = behind
        words[HANDLED] = handled
        if waitfd >= 0 and reply is not mine:
            libc.write(waitfd, libc.ONE, 8)  # with the GIL: whoever wakes closes it
        return 1

    def _clear_lanes_bell(self) -> None:
        """Read the bell. Mail may have rung it too, which collect can't deliver: who sleeps for it shall still hear."""
        try:
            os.eventfd_read(self.bell)
        except OSError:  # another thread has read it
            return
        if self.mail is not None and self.mail.armed and self.mail.available():
            os.eventfd_write(self.bell, 1)

    # --- the actor's loop

    def next(self, spin: float, /) -> Record | int | None:
        float(spin)
        self.finish()
        while True:
            if self.mail is not None:
                _disarm([self.mail])
            if any(ring.available() for ring in self.lanes):
                return 1
            if self.mail is not None and (record := self.mail.take()) is not None:
                self.record, self.position, self.busy = record, record[6], True
                return record
            if _arm(self.rings):
                for ring in self.rings:
                    ring.trim()
                return None

    def run(
        self,
        spin: float,
        unpack: Callable[..., Any],
        options: dict[str, Any],
        methods: dict[str, Callable[..., Any]],
        news: list[News],
        /,
    ) -> Record | tuple[Record, Any] | int | None:
        float(spin)
        if not (isinstance(options, dict) and isinstance(methods, dict) and isinstance(news, list)):
            raise TypeError("run() takes two dicts and a list")
        while True:
            self.finish()
            if self.left <= 0:
                return 0
            record = 1 if news else self.next(spin)
            if not isinstance(record, tuple):
                return record
            self.left -= 1
            kind, flags, self.caller, _, deadline, _, _, body = record
            if flags or deadline or kind not in (TELL, ASK):
                return record
            call = unpack(body, **options)
            method = methods.get(call[0]) if isinstance(call, list) and call else None
            if method is None:
                return record
            value = method(*call[1:])
            if kind == ASK or type(value) not in INERT:
                return record, value

    def current(self) -> Record | None:
        return self.record if self.busy else None

    def hold(self) -> int:
        if not self.busy:
            raise RuntimeError("hold(): there is no record in hand")
        self.busy = False
        return self.position

    def finish(self) -> None:
        if self.busy and self.mail is not None:
            self.busy = False
            if not self.mail.settle(self.position):
                raise self.mail.corrupt("the record in hand was overwritten")

    def clear(self) -> None:
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            return


def _disarm(rings: list[Ring]) -> None:
    for ring in rings:
        if ring.armed:
            ring.armed = False
            ring.halves[SLEEPING] = AWAKE


def _arm(rings: list[Ring]) -> bool:
    """Armed on return. True: and nothing had arrived, so the bell will tell. (S)"""
    for ring in rings:
        ring.armed = True
        ring.halves[SLEEPING] = ASLEEP
    libc.fence()
    return not any(ring.available() for ring in rings)

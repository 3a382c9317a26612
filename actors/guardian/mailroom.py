"""Mailboxes as the guardian sees them: kept over crashes, reported when their reader dies, swept when their actor ends.

Rule: fixed headers only. A record in hand at a death is answered (`ActorDied`) or becomes a dead letter, unless
`redeliver` says to hand it out again, or it was handled and is in the actor's snapshot (slots.py), which is kept here
as well; what waits goes to the next incarnation. At the end, after no sender can publish
any more (`quiet`), everything left is answered or reported.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Any

from ..message import BEGUN, HANDLE, Kind
from ..slots import published
from ..transports._ring import Corrupt, Ring, create
from ..transports._ring import Record as RingRecord
from .peers import Peer, Peers
from .registry import Record
from .segments import Segments
from .watch import Watch

OPEN, ENDED, FAILED = 0, 1, 2  # what a mailbox's closed word says


class Mailroom:
    """All mailboxes, and what is too large for a control lane."""

    def __init__(self, peers: Peers, watch: Watch, segments: Segments) -> None:
        self.peers, self.watch, self.segments = peers, watch, segments
        self.users: dict[int, set[int]] = {}  # uid -> endpoints that mapped the mailbox
        self.blobs: dict[int, tuple[int, int]] = {}  # number -> memfd, reader
        self.readers: dict[int, set[int]] = {}  # endpoint -> blobs that nobody else reads
        self._numbers = itertools.count(1)

    def open(self, record: Record) -> None:
        """Give a new actor its mailbox. OSError: no descriptors, no memory."""
        options = record.options.get("mailbox") or {}
        with contextlib.ExitStack() as undo:
            record.mail_fd = create(options.get("capacity", 1 << 20), "actors:mailbox")
            undo.callback(os.close, record.mail_fd)
            record.door = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, record.door)
            record.mail = Ring(record.mail_fd, record.door)
            undo.pop_all()

    def in_hand(self, record: Record, reason: dict[str, Any], restarting: bool) -> None:
        """The reader died: settle what it had in hand."""
        assert record.mail is not None
        handled = published(record.slots)
        if handled and handled > record.mail.stats()["tail"]:  # somebody wrote over it
            handled = 0
        tries = int(record.options.get("redeliver", 0))
        try:
            items = record.mail.in_hand(tries, handled)
        except Corrupt as error:
            items = self._damaged(record, error)
        for item in items:
            if tries and restarting and item[6] < handled and item[0] == Kind.ASK:
                record.owed = item[2:4]
        self._settle(record, items, reason, restarting, BEGUN, handled)

    def fail(self, record: Record, reason: dict[str, Any]) -> None:
        """Restarts are used up: refuse what is new, answer queued asks, keep queued tells."""
        assert record.mail is not None
        self.owe_nothing(record, reason)
        record.mail.close(FAILED)
        self._settle(record, self._swept(record, int(Kind.ASK)), reason, False, 0)

    def sweep(self, record: Record, reason: dict[str, Any]) -> None:
        """The actor has ended and its mailbox is quiet: settle all that is left and let go of it."""
        assert record.mail is not None
        self.owe_nothing(record, reason)
        self._settle(record, self._swept(record, -1), reason, False, 0)
        for endpoint in self.users.pop(record.uid, ()):
            peer = self.peers.by_id.get(endpoint)
            if peer is not None:
                peer.mailboxes.discard(record.uid)
                self.peers.tell(peer, Kind.ENDED, {"uid": record.uid, "name": record.name, "reason": reason})
        self.segments.somebody_gone()
        record.mail = None
        os.close(record.mail_fd)
        os.close(record.door)
        self.keep(record, [])

    def _swept(self, record: Record, kind: int) -> list[RingRecord]:
        assert record.mail is not None
        try:
            return record.mail.sweep(kind)
        except Corrupt as error:
            return self._damaged(record, error)

    def _damaged(self, record: Record, error: Corrupt) -> list[RingRecord]:
        """Some process wrote over it: what it held is lost, and no incarnation could read it."""
        assert record.mail is not None
        if not record.damaged:
            what, actor = "its mailbox is damaged, so it ends; what it held is lost", self.watch.address(record.name)
            self.watch.log("error", what, actor=actor, error=str(error))
        record.damaged = True
        return []

    def _settle(
        self,
        record: Record,
        items: list[RingRecord],
        reason: dict[str, Any],
        restarting: bool,
        begun: int,
        handled: int = 0,
    ) -> None:
        """Answer asks, report tells. handled: what came before this position was, though an ask may lack its answer (if it
        has it, that was the first).
        """
        died = {"uid": record.uid, "name": record.name, "reason": reason, "restarting": restarting, "begun": begun}
        for item in items:
            kind, flags, sender, corr, _, _, position, body = item
            if flags & HANDLE:
                self.segments.release(body)
            if kind == Kind.ASK and (sender, corr) != record.owed:
                self.peers.answer(sender, corr, died, Kind.DIED)
            elif kind != Kind.ASK and position >= handled:
                self.watch.dead_letter(record, reason, item)

    def owe_nothing(self, record: Record, reason: dict[str, Any]) -> None:
        """Nobody will send the answer that is in the snapshot."""
        if record.owed:
            (sender, corr), record.owed = record.owed, ()
            died = {"uid": record.uid, "name": record.name, "reason": reason, "restarting": False, "begun": BEGUN}
            self.peers.answer(sender, corr, died, Kind.DIED)

    def keep(self, record: Record, slots: list[int]) -> None:
        """Where its snapshots are from now on; the descriptors are the mailroom's."""
        for fd in record.slots:
            os.close(fd)
        record.slots = slots

    # --- large news

    def deposit(self, fd: int, reader: int) -> int:
        """Keep a large body until its reader has fetched it, at most as long as that lives."""
        number = next(self._numbers)
        self.blobs[number] = fd, reader
        self.readers.setdefault(reader, set()).add(number)
        return number

    def blob(self, number: int) -> int:
        """Its descriptor, which stays the mailroom's; -1: it is gone."""
        return self.blobs.get(number, (-1, 0))[0]

    def drop_blob(self, number: int) -> None:
        fd, reader = self.blobs.pop(number, (-1, 0))
        if reader in self.readers:
            self.readers[reader].discard(number)
        if fd >= 0:
            os.close(fd)

    def peer_gone(self, peer: Peer) -> None:
        """It uses no mailbox any more and reads no large answer."""
        for uid in peer.mailboxes:
            self.users.get(uid, set()).discard(peer.id)
        for number in self.readers.pop(peer.id, set()).copy():
            self.drop_blob(number)

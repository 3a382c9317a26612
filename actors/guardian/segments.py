"""Segments of large data as the guardian sees them: who made them, who has mapped them, how much there is.

Rule: a descriptor of each is kept here, so that a part outlives whoever wrote it as long as somebody has a lease on it;
the words in the ledger say whether anybody has. After a process or an actor is gone, words that name nobody who lives are
dropped. The segments of a process that is gone are kept until their last lease is given up, which nobody tells: they are
looked at every now and then.

Known and left: a sender that dies between taking a message's lease and sending it leaves that lease until the receiver
ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Iterable
from typing import Any

from ..arena import MESSAGE, MOST, RECEIVER, release, to_actor, to_asker
from ..message import Kind
from ..transports._ring import Ledger, memory
from .peers import Peer, Peers
from .registry import Registry
from .timers import Timers
from .vitals import read

PAGE = 4096
LOOK = 0.25  # seconds between looks at segments whose process is gone


class _Segment:
    def __init__(self, id: int, fd: int, size: int, owner: int) -> None:
        self.id, self.fd, self.size, self.owner = id, fd, size, owner
        self.users = {owner}  # endpoints that may have it mapped

    @property
    def index(self) -> int:
        return self.id & 0xFFFFFFFF


class Segments:
    """All of them, within a budget of bytes."""

    def __init__(self, peers: Peers, registry: Registry, timers: Timers, budget: int | None) -> None:
        self.peers, self.registry, self.timers = peers, registry, timers
        self.budget = budget or _half_of_memory()
        self.used = 0
        self.by_id: dict[int, _Segment] = {}
        self.ledger_fd = -1
        self._ledger: Ledger | None = None
        self._free: list[int] = []  # indexes
        self._indexes = itertools.count()
        self._generations = itertools.count(int.from_bytes(os.urandom(3), "little"))
        self._looking = False
        self._looks = 0  # audits that are due
        self.receivers: set[int] = set()  # uids of named mailboxes: they hold leases as actors do

    def ledger(self) -> int:
        """Descriptor of the ledger, made when it is first needed."""
        if self._ledger is None:
            self.ledger_fd = memory(MOST * PAGE, "actors:ledger")
            self._ledger = Ledger(self.ledger_fd)
        return self.ledger_fd

    def add(self, owner: int, fd: int, size: int) -> dict[str, Any]:
        """{id} of a new segment, whose descriptor is kept; or {id: 0, why}, and the others are asked to give back what
        they don't use."""
        why = ""
        if self.used + size > self.budget:
            why = f"{self.used:,} of {self.budget:,} bytes of the system's budget are in use"
        elif not self._free and len(self.by_id) >= MOST:
            why = f"there are {MOST} segments already"
        if why:
            for peer in {segment.owner for segment in self.by_id.values()}:
                if peer in self.peers.by_id and peer != owner:
                    self.peers.tell(self.peers.by_id[peer], Kind.TRIM)
            return {"id": 0, "why": why}
        self.ledger()
        index = self._free.pop() if self._free else next(self._indexes)
        id = (next(self._generations) & 0x7FFFFFFF) << 32 | index
        self.by_id[id] = _Segment(id, fd, size, owner)
        self.used += size
        return {"id": id}

    def map(self, peer: Peer, id: int) -> list[int]:
        """Its descriptor, to be sent; nothing: it is gone."""
        segment = self.by_id.get(id)
        if segment is None:
            return []
        segment.users.add(peer.id)
        return [segment.fd]

    def give_back(self, owner: int, ids: Iterable[int]) -> None:
        """The process that made them does not need them any more."""
        for segment in [self.by_id[id] for id in ids if id in self.by_id]:
            if segment.owner == owner:
                segment.owner = 0
                self._look_at(segment)

    def answers_for(self, endpoint: int) -> bool:
        """Has this process large answers that it has not taken hold of yet?"""
        ledger, word = self._ledger, to_asker(endpoint)
        return ledger is not None and any(ledger.held(each.index, word, RECEIVER) for each in self.by_id.values())

    def info(self) -> dict[str, int]:
        """Bytes of segments, of those that somebody has a lease on, and of the budget."""
        ledger, segments = self._ledger, self.by_id.values()
        in_use = sum(each.size for each in segments if ledger is not None and ledger.held(each.index))
        return {"used": self.used, "in_use": in_use, "budget": self.budget}

    def release(self, body: bytes) -> None:
        """A message with parts will not be handled."""
        if self._ledger is not None:
            with contextlib.suppress(
                struct.error, ValueError
            ):  # somebody wrote over it: its leases go with their holder
                release(self._ledger, body)

    def process_gone(self, endpoint: int) -> None:
        for segment in list(self.by_id.values()):
            if segment.owner == endpoint:
                segment.owner = 0
            segment.users.discard(endpoint)
        self.somebody_gone()

    def somebody_gone(self) -> None:
        """A process or (for good) an actor: the leases in its name are nobody's. Looked for twice, since others may be
        answering it at this moment."""
        if self._ledger is not None:
            self._looks = 2
            self._look_later()

    def _audit(self) -> None:
        """Drop the leases of those that are gone."""
        assert self._ledger is not None
        actors = {to_actor(uid) for uid in (*self.registry.by_uid, *self.receivers)}
        processes = {*self.peers.by_id, *map(to_asker, self.peers.by_id)}
        for segment in self.by_id.values():
            for slot, word in self._ledger.words(segment.index):
                receiver = word & RECEIVER
                if (receiver or word) not in (actors if word & MESSAGE else processes):
                    self._ledger.drop(segment.index, slot, word)

    def _look_at(self, segment: _Segment) -> None:
        """Remove it if nobody has a lease; else later."""
        assert self._ledger is not None
        if self._ledger.held(segment.index):
            self._look_later()
            return
        del self.by_id[segment.id]
        self.used -= segment.size
        os.close(segment.fd)
        self._free.append(segment.index)
        for user in segment.users:
            if user in self.peers.by_id:
                self.peers.tell(self.peers.by_id[user], Kind.UNMAP, segment.id)

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self.timers.after(LOOK, self._look)

    def _look(self) -> None:
        self._looking = False
        if self._looks:
            self._looks -= 1
            self._audit()
            if self._looks:
                self._look_later()
        for segment in [each for each in self.by_id.values() if each.owner == 0]:
            self._look_at(segment)


def _half_of_memory() -> int:
    """Half of what this machine or container has."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = read(name).strip()
        except OSError:
            continue
        if text.isdigit():
            found = min(found, int(text))
    return found // 2

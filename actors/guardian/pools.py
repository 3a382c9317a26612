"""Pools as the guardian keeps them: a supervisor whose workers share one reference.

Rule: the guardian keeps who is a member, as it keeps names, and tells those who send to a pool of every change; it
never routes. A worker is a member from its readiness on, over its restarts, until it has ended for good or is to leave:
first the senders are told, then it handles what its mailbox has accepted, then it ends. Who has not heard yet and sends
to a closed mailbox is refused there, before anything is accepted, and takes another member.

A pool with bounds is looked at every LOOK seconds, by the numbers in its mailboxes' headers (`wanted`, a pure function).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..message import Kind
from ..supervision.policy import Policy

if TYPE_CHECKING:
    from .main import Guardian
    from .registry import Record

LOOK = 0.1  # seconds between looks at a pool with bounds
QUIET = 3.0  # seconds with an idle member after which one of them leaves


def wanted(size: int, low: int, high: int, depths: list[int], quiet: float) -> int:
    """How many members a pool of `size` should have. depths: messages that each mailbox holds, the one in hand too.
    quiet: seconds since nothing waited.
    """
    waiting = sum(max(0, depth - 1) for depth in depths)
    if waiting > 0:
        return min(high, size + max(1, min(size, waiting // 8)))  # a burst doubles it at most
    if quiet >= QUIET and 0 in depths:
        return max(low, size - 1)
    return min(high, max(low, size))


class Pool:
    """One pool: its members by uid, oldest first, and how one more is made."""

    def __init__(self, record: Record, template: dict[str, Any], members: list[Record]) -> None:
        options = record.options["pool"]
        self.record, self.template = record, template
        self.routing: str = options["routing"]
        self.key: bytes = options["key"]
        self.low, self.high = options["size"]
        self.all: dict[int, Record] = {each.uid: each for each in members}  # neither ended nor to leave
        self.ready: dict[int, Record] = {}
        self.users: set[int] = set()  # endpoints that send to it
        self.number = len(members)
        self.busy = time.monotonic()  # when something last waited

    def to_wire(self) -> dict[str, Any]:
        members = [[each.uid, each.name] for each in self.ready.values()]
        return {"uid": self.record.uid, "members": members, "routing": self.routing}


class Pools:
    """All pools."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.by_uid: dict[int, Pool] = {}

    def found(self, records: list[Record], nodes: list[dict[str, Any]]) -> None:
        """A pool is about to start."""
        pool = self.by_uid[records[0].uid] = Pool(records[0], nodes[1], records[1:])
        if pool.low < pool.high:
            self.guardian.timers.after(LOOK, lambda: self._look(pool))

    def of(self, record: Record) -> Pool | None:
        """The pool that an actor was made for."""
        return self.by_uid.get(record.parent)

    # --- what happens to members

    def joined(self, record: Record) -> None:
        """It is ready, perhaps not for the first time."""
        pool = self.of(record)
        if pool is not None and record.uid in pool.all and record.uid not in pool.ready:
            pool.ready[record.uid] = record
            self._tell(pool)

    def left(self, record: Record) -> None:
        """It has ended for good, or has failed."""
        pool = self.of(record)
        if pool is not None:
            pool.all.pop(record.uid, None)
            if pool.ready.pop(record.uid, None) is not None:
                self._tell(pool)
        elif (ended := self.by_uid.pop(record.uid, None)) is not None:
            ended.all.clear()
            ended.ready.clear()
            self._tell(ended)

    def _tell(self, pool: Pool) -> None:
        for endpoint in pool.users.copy():
            peer = self.guardian.peers.by_id.get(endpoint)
            if peer is None:
                pool.users.discard(endpoint)
            else:
                self.guardian.peers.tell(peer, Kind.POOL, pool.to_wire())

    # --- size

    def resize(self, pool: Pool, low: int, high: int) -> None:
        """Give it these bounds. SpecError, OSError: a member could not be made."""
        watched, pool.low, pool.high = pool.low < pool.high, low, high
        self._to(pool, min(high, max(low, len(pool.all))))
        if low < high and not watched:
            self.guardian.timers.after(LOOK, lambda: self._look(pool))

    def _to(self, pool: Pool, size: int) -> None:
        guardian = self.guardian
        while len(pool.all) < size:
            pool.number += 1
            node = {**pool.template, "name": str(pool.number), "under": -1}
            record = guardian.desk.record(node, pool.record)
            pool.all[record.uid] = record
            now, policy = guardian.alarms.now(), Policy.from_wire(node["policy"])
            guardian.hands.perform(guardian.tree.add(record.uid, pool.record.uid, record.name, "worker", policy, now))
        leaving = list(pool.all.values())[size:]
        for record in leaving:
            del pool.all[record.uid]
            pool.ready.pop(record.uid, None)
        if leaving:
            self._tell(pool)  # before their mailboxes are closed
        for record in leaving:
            guardian.hands.perform(guardian.tree.stop(record.uid, guardian.alarms.now(), drain=True))

    def _look(self, pool: Pool) -> None:
        guardian, uid = self.guardian, pool.record.uid
        if self.by_uid.get(uid) is not pool or pool.low == pool.high:
            return
        guardian.timers.after(LOOK, lambda: self._look(pool))
        if uid not in guardian.tree or guardian.tree.status(uid) != "running" or len(pool.ready) < len(pool.all):
            return
        depths = [depth(each) for each in pool.ready.values()]
        now = time.monotonic()
        if sum(depths) > len(depths):
            pool.busy = now
        size = wanted(len(pool.all), pool.low, pool.high, depths, now - pool.busy)
        if size != len(pool.all):
            pool.busy = now  # one step at a time
            try:
                self._to(pool, size)
            except (SpecError, OSError) as error:
                guardian.watch.log("warning", f"pool {pool.record.name!r} can't grow: {error}")


def depth(record: Record) -> int:
    """Messages that its mailbox holds, in hand or waiting."""
    stats = record.mail.stats() if record.mail is not None else {"accepted": 0, "handled": 0}
    return stats["accepted"] - stats["handled"]

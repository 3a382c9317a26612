"""Named mailboxes as the guardian sees them: made once, kept until they are closed and empty, and given back what a dead
consumer had in hand.

Rule: no lock and no message's body. The death of an endpoint costs a look at the mailboxes that it had opened, no more.
A name that was closed stays closed, so that a consumer that comes late hears of the end instead of waiting for ever; its
memory goes as soon as everything in it is over. A damaged mailbox is closed, and nothing else happens.

Rejected: the name free again after the end (a late consumer would make a new mailbox and wait in it).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from ..address import check_name
from ..transports._ring import Corrupt, Ring, create
from .peers import Peers
from .segments import Segments
from .watch import Watch

REMEMBERED = 10_000  # names of closed mailboxes


class Box:
    """One named mailbox. OSError: no descriptors, no memory."""

    def __init__(self, uid: int, name: str, maxsize: int, capacity: int) -> None:
        self.uid, self.name, self.maxsize, self.capacity = uid, name, maxsize, capacity
        self.users: set[int] = set()
        with contextlib.ExitStack() as undo:
            self.fd = create(capacity, "actors:box")
            undo.callback(os.close, self.fd)
            self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self.bell)
            self.ring = Ring(self.fd, self.bell)
            undo.pop_all()

    def depth(self) -> int:
        """Messages that wait or are in hand."""
        stats = self.ring.stats()
        return stats["accepted"] - stats["handled"]


class Boxes:
    """All of them."""

    def __init__(self, peers: Peers, watch: Watch, segments: Segments, new_uid: Callable[[], int]) -> None:
        self.by_name: dict[str, Box] = {}
        self.used: dict[int, set[str]] = {}  # endpoint -> names that it has opened
        self.closed: dict[str, None] = {}  # names of those that are no more
        self.watch, self.segments, self.new_uid = watch, segments, new_uid
        peers.on_removed.append(lambda peer: self.gone(peer.id))

    def open(self, endpoint: int, name: str, maxsize: int, capacity: int) -> Box | None:
        """The mailbox of that name, made if it is new. None: it was closed, and all that was in it is over."""
        box = self.by_name.get(name)
        if box is None:
            if name in self.closed:
                return None
            check_name(name)
            box = self.by_name[name] = Box(self.new_uid(), name, maxsize, capacity)
            self.segments.receivers.add(box.uid)
        box.users.add(endpoint)
        self.used.setdefault(endpoint, set()).add(name)
        return box

    def close(self, name: str) -> None:
        """Refuse what is new; consumers take what is there."""
        if name in self.by_name:
            box = self.by_name[name]
            box.ring.close()
            box.ring.rouse()
            self.over(name)

    def over(self, name: str) -> None:
        """Let go of a closed mailbox if nothing of it is left."""
        box = self.by_name.get(name)
        if box is not None and box.ring.quiet() and box.depth() == 0:
            del self.by_name[name]
            for endpoint in box.users:
                self.used.get(endpoint, set()).discard(name)
            if len(self.closed) >= REMEMBERED:
                del self.closed[next(iter(self.closed))]
            self.closed[name] = None
            self.segments.receivers.discard(box.uid)
            self.segments.somebody_gone()
            os.close(box.fd)
            os.close(box.bell)

    def gone(self, endpoint: int) -> None:
        """A process has ended (or left): what it had in hand comes back, and whoever it was to wake is woken."""
        for name in self.used.pop(endpoint, ()):
            box = self.by_name[name]
            box.users.discard(endpoint)
            try:
                box.ring.reclaim(endpoint)
            except Corrupt as error:
                self.watch.log("error", "a mailbox is damaged; it is closed", mailbox=name, error=str(error))
                box.ring.close()
            box.ring.rouse()

    def lock_owners(self) -> set[int]:
        """Threads that hold a lock of a mailbox now."""
        rings = [box.ring for box in self.by_name.values()]
        return {owner for ring in rings for owner in (ring.owner(), ring.keeper()) if owner}

    def log_left(self) -> None:
        """The system ends: say what nobody has taken."""
        for box in self.by_name.values():
            if depth := box.depth():
                self.watch.log("warning", "messages were left in a mailbox", mailbox=box.name, count=depth)
        self.by_name.clear()

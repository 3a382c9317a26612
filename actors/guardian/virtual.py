"""Virtual time, for systems of the test kit: a clock that stands still until it is moved.

Rule: the supervision tree's time (backoff, intensity, stable time, start and shutdown timeouts) and the actors' timers
are virtual; what the guardian does for itself (tries again, flushes) stays on real time. Time moves from one due thing
to the next, never past one: `step` goes to the earliest, carries it out, and the test kit steps again when everybody is
at rest. An actor tells when its next timer is due (`due`); its own look at the clock costs nothing, for the time stands
in a page that it maps (`page`).

When the system is closed, the clock goes on by itself (`release`): an ending needs its time limits.

Rejected: ticks that carry the time (an actor that has not read its tick yet would set a timer too early); moving the
event loops' `time()` (it is the time of sockets and subprocesses, too, which are real).
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..message import Kind
from .timers import Timers

if TYPE_CHECKING:
    from ..wire import Message
    from .main import Guardian
    from .peers import Peer

START = 1000.0  # seconds
NEAR = 1e-6  # seconds that a sum of floats may be off
SOON = 0.03  # seconds: what the guardian will do for itself so soon belongs to what is going on
_TIME = struct.Struct("<d")


class VirtualTimers(Timers):
    """The alarms of the tree on virtual time, and the time of the actors."""

    def __init__(self, guardian: Guardian) -> None:
        super().__init__()
        self._guardian = guardian
        self._due: dict[int, float] = {}  # endpoint id of an actor -> when its next timer is due
        self._lag: float | None = None  # real time minus this one, once it goes on by itself
        self._page_fd = os.memfd_create("actors:clock", os.MFD_CLOEXEC)
        os.truncate(self._page_fd, mmap.PAGESIZE)
        self._page = mmap.mmap(self._page_fd, mmap.PAGESIZE)
        self._move(START)

    def now(self) -> float:
        return self._now if self._lag is None else time.monotonic() - self._lag

    def at(self, when: float, call: Callable[[], object]) -> None:
        if self._lag is None:
            super().at(when, call)
        else:
            self._guardian.timers.at(when + self._lag, call)

    def _move(self, now: float) -> None:
        self._now = now
        _TIME.pack_into(self._page, 0, now)

    def release(self) -> None:
        """From now on time passes."""
        if self._lag is None:
            self._lag = time.monotonic() - self._now
            for when, _, call in self._heap:
                self.at(when, call)
            self._heap.clear()

    # --- requests

    def serve(self, peer: Peer, m: Message) -> None:
        """act: page, due {when}, step {until}, look."""
        peers = self._guardian.peers
        if m["act"] == "page":
            peers.send(peer, {"seq": m["seq"]}, [self._page_fd])
        elif m["act"] == "due":
            self._note(peer, m["when"])
        else:
            ran = m["act"] == "step" and self._lag is None and self._step(m["until"])
            left = self._guardian.timers.timeout()
            answer = {"now": self.now(), "ran": ran, "soon": left is not None and left < SOON}
            peers.answer(peer.id, m["corr"], answer)

    def _note(self, peer: Peer, when: float | None) -> None:
        if when is None:
            self._due.pop(peer.id, None)
        else:
            self._due[peer.id] = when

    def _step(self, until: float) -> bool:
        """To what is due next, and carry it out; False: nothing is, so to `until`."""
        peers = self._guardian.peers
        self._due = {endpoint: when for endpoint, when in self._due.items() if endpoint in peers.by_id}
        due = [*self._due.values(), *(when for when, _, _ in self._heap[:1])]
        first = min(due, default=None)
        if first is None or first > until + NEAR:
            self._move(max(self._now, until))
            return False
        self._move(max(self._now, first))
        for endpoint in [endpoint for endpoint, when in self._due.items() if when <= self._now]:
            del self._due[endpoint]  # it tells again when it has looked
            peers.put(peers.by_id[endpoint], b"", Kind.TICK, 0, 0, 0)
        self.run()
        return True

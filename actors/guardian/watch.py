"""Who is told what: monitors, waits, links, events, dead letters, log lines.

Rule: everybody is told exactly once, also of what happened before they asked. A link ties two incarnations: it ends
with either of them.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any

from .. import wire
from ..message import Kind
from ..transports._ring import Record as RingRecord
from .peers import Peer, Peers
from .registry import Record

UNKNOWN = {"kind": "normal", "error": "it ended so long ago that the reason is forgotten"}


class Watch:
    """Lists of the curious."""

    def __init__(
        self, peers: Peers, node: str, owner: int, later: Callable[[float, Callable[[], object]], None]
    ) -> None:
        self.peers, self.node, self.owner, self._later = peers, node, owner, later
        peers.on_caught_up = self._caught_up
        self.dead: collections.Counter[str] = collections.Counter()  # dead letters by actor, in the present second
        self.monitors: dict[int, dict[tuple[int, int], bool]] = {}  # uid -> (endpoint, monitor) -> incarnations too
        self.waits: dict[
            int, dict[tuple[int, int], None]
        ] = {}  # uid -> (endpoint, corr) of those that wait for its end
        self.of_peer: dict[int, tuple[dict[int, int], dict[int, int]]] = {}  # endpoint -> monitor -> uid, corr -> uid
        self.links: dict[int, set[int]] = {}  # uid -> uids linked to its present incarnation
        self.subscribers: dict[str, set[int]] = {"events": set(), "dead_letters": set()}

    # --- monitors

    def monitor(
        self,
        peer: Peer,
        record: Record | None,
        ended: dict[str, Any] | None,
        uid: int,
        monitor: int,
        incarnations: bool,
        failed: bool,
    ) -> None:
        if record is None or failed:
            known = ended or {
                "uid": uid,
                "name": record.name if record else "",
                "reason": (record.last_reason if record else None) or UNKNOWN,
            }
            self._down(peer, monitor, uid, known["name"], known["reason"], False)
        else:
            self.monitors.setdefault(uid, {})[peer.id, monitor] = incarnations
            self._of(peer.id)[0][monitor] = uid

    def _of(self, endpoint: int) -> tuple[dict[int, int], dict[int, int]]:
        """What this process listens for: else every death would look through all of everybody's."""
        return self.of_peer.setdefault(endpoint, ({}, {}))

    def demonitor(self, peer: Peer, monitor: int) -> None:
        uid = self._of(peer.id)[0].pop(monitor, 0)
        self._drop(self.monitors, uid, (peer.id, monitor))

    def _drop(self, lists: dict[int, dict[tuple[int, int], Any]], uid: int, key: tuple[int, int]) -> None:
        if uid in lists:
            lists[uid].pop(key, None)
            if not lists[uid]:
                del lists[uid]

    def incarnation_died(self, record: Record, reason: dict[str, Any]) -> None:
        for (endpoint, monitor), incarnations in self.monitors.get(record.uid, {}).items():
            if incarnations and endpoint in self.peers.by_id:
                self._down(self.peers.by_id[endpoint], monitor, record.uid, record.name, reason, True)

    def actor_ended(self, record: Record, reason: dict[str, Any]) -> None:
        """For good, or FAILED: monitors and waits fire."""
        for endpoint, monitor in self.monitors.pop(record.uid, {}):
            self._of(endpoint)[0].pop(monitor, None)
            if endpoint in self.peers.by_id:
                self._down(self.peers.by_id[endpoint], monitor, record.uid, record.name, reason, False)
        for endpoint, corr in self.waits.pop(record.uid, ()):
            self._of(endpoint)[1].pop(corr, None)
            self.peers.answer(endpoint, corr, reason)

    def wait(self, record: Record, endpoint: int, corr: int) -> None:
        self.waits.setdefault(record.uid, {})[endpoint, corr] = None
        self._of(endpoint)[1][corr] = record.uid

    def forget_wait(self, endpoint: int, corr: int) -> None:
        self._drop(self.waits, self._of(endpoint)[1].pop(corr, 0), (endpoint, corr))

    def _down(self, peer: Peer, monitor: int, uid: int, name: str, reason: dict[str, Any], restarting: bool) -> None:
        self.peers.tell(
            peer, Kind.DOWN, {"monitor": monitor, "uid": uid, "name": name, "reason": reason, "restarting": restarting}
        )

    # --- links

    def link(self, a: int, b: int) -> None:
        if a != b:
            self.links.setdefault(a, set()).add(b)
            self.links.setdefault(b, set()).add(a)

    def unlink(self, a: int, b: int) -> None:
        for one, other in ((a, b), (b, a)):
            if one in self.links:
                self.links[one].discard(other)
                if not self.links[one]:
                    del self.links[one]

    def take_links(self, uid: int) -> set[int]:
        """Those linked to the incarnation that just ended; the links are gone with it."""
        linked = self.links.pop(uid, set())
        for other in linked:
            self.unlink(other, uid)
        return linked

    # --- streams

    def subscribe(self, peer: Peer, what: str, on: bool) -> None:
        if on:
            self.subscribers[what].add(peer.id)
        else:
            self.subscribers[what].discard(peer.id)

    def forget_peer(self, peer: Peer) -> None:
        for subscribers in self.subscribers.values():
            subscribers.discard(peer.id)
        monitors, waits = self.of_peer.pop(peer.id, ({}, {}))
        for monitor, uid in monitors.items():
            self._drop(self.monitors, uid, (peer.id, monitor))
        for corr, uid in waits.items():
            self._drop(self.waits, uid, (peer.id, corr))

    def event(self, kind: str, record: Record, reason: dict[str, Any] | None = None, **more: Any) -> None:
        if self.subscribers["events"]:
            event = {
                "event": kind,
                "uid": record.uid,
                "name": record.name,
                "pid": record.pid,
                "reason": reason,
                "time": time.time(),
                **more,
            }
            self._publish("events", Kind.EVENT, wire.dumps(event))

    def dead_letter(self, record: Record, reason: dict[str, Any], item: RingRecord) -> None:
        kind, flags, body = item[0], item[1], item[7]
        if not self.dead:
            self._later(1.0, self.log_dead)
        self.dead[record.name] += 1
        if self.subscribers["dead_letters"]:
            self._publish("dead_letters", Kind.DEAD, wire.dumps([record.uid, record.name, reason, kind, flags, body]))

    def log_dead(self) -> None:
        """A line an actor and second, however many messages a death leaves."""
        for name, count in self.dead.items():
            self.log("warning", "dead letters: messages were not handled", actor=self.address(name), count=count)
        self.dead.clear()

    def _publish(self, what: str, kind: Kind, body: bytes) -> None:
        for endpoint in list(self.subscribers[what]):
            peer = self.peers.by_id.get(endpoint)
            if peer is not None:
                self.peers.report(peer, body, kind)

    def _caught_up(self, peer: Peer) -> None:
        missed, peer.missed = peer.missed, 0
        text = "a program did not read for a while and missed log lines, events or dead letters"
        self.log("warning", text, count=missed, endpoint=peer.id)

    # --- logs

    def address(self, name: str) -> str:
        return f"actor://{self.node}/{name}"

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.forward(wire.dumps({"event": event, "level": level, "timestamp": time.time(), **fields}))

    def forward(self, line: bytes) -> None:
        owner = self.peers.by_id.get(self.owner)
        if owner is not None:
            self.peers.report(owner, line, Kind.LOG)

"""What a process knows of others in its system: mailboxes and reply lanes that it has mapped, who is who, who has ended.

Rule: everything here is a cache of what the guardian knows, bounded (`_remember`), and told by the guardian when it is no
longer true (ENDED, GONE). A mailbox is mapped once, one exchange; from then on every message is one write into shared memory.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import wire
from .errors import ActorsError
from .link import Link
from .message import Kind
from .reply import died
from .transports._ring import Ring

if TYPE_CHECKING:
    from .routing import Membership

KEEP = 512  # mappings a process keeps at most, of mailboxes and of reply lanes each; fewer if descriptors are short


class Directory(Link):
    """Who is where."""

    def __init__(self, system: str, sock: socket.socket, node: str) -> None:
        super().__init__(system, sock)
        self.node = node
        self.uid = 0  # of the actor that runs in this process
        self.ports: dict[int, Ring] = {}  # uid -> its mailbox
        self.lanes: dict[int, Ring] = {}  # endpoint id -> its reply lane
        self.options: dict[int, dict[str, Any]] = {}  # uid -> what its map answer said
        self.senders: dict[
            int, tuple[int, str]
        ] = {}  # endpoint id -> (uid, name) of the actor behind it, uid 0: a program
        self.ended: dict[int, dict[str, Any]] = {}  # uid -> why it ended, as far as this process was told
        self.pools: dict[int, Membership] = {}  # uid -> what this process knows of a pool that it sends to
        self.keep = max(16, min(KEEP, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self.handlers: dict[int, Callable[[bytes, int, int], None]] = {
            int(Kind.ENDED): self._ended,
            int(Kind.GONE): self._gone,
        }  # of the guardian's news

    def map(self, uid: int, name: str) -> Ring:
        """The mailbox of an actor, mapped. ActorDied: it has ended."""
        if self.gone is not None:
            raise self.system_died()
        if uid in self.ended:
            raise died(self.address(name), self.ended[uid])
        answer, fds = self.exchange("map", uid=uid)
        if answer.get("supervisor"):
            raise ActorsError(f"{self.address(name)} is a supervisor and takes no messages; ask one of its children")
        if not fds:
            self._note_end(uid, answer)
            raise died(self.address(name), answer)
        ring = take_ring(fds)
        self.options[uid] = answer
        self._remember(self.ports, uid, ring)
        return ring

    def lane(self, endpoint: int) -> Ring | None:
        """The lane that the answers to a process go into, mapped; None: that process is gone."""
        found = self.lanes.get(endpoint)
        if found is None:
            _, fds = self.exchange("lane", endpoint=endpoint)
            if fds:
                found = take_ring(fds)
                self._remember(self.lanes, endpoint, found)
        return found

    def waits_when_full(self, uid: int) -> bool:
        return bool(self.options.get(uid, {}).get("overflow", "block") == "block")

    def address(self, name: str) -> str:
        return f"actor://{self.node}/{name}"

    def sender_of(self, endpoint: int) -> tuple[int, str]:
        """(uid, name) of the actor behind an endpoint; uid 0 for programs and processes that are gone."""
        known = self.senders.get(endpoint)
        if known is None:
            answer, _ = self.exchange("who", endpoint=endpoint)
            known = (answer.get("uid") or 0, answer.get("name") or "")
            self._remember(self.senders, endpoint, known)
        return known

    def cycle(self, uid: int) -> str:
        """'; deadlock: a waits for b waits for a' when this process and the callee wait for each other, else ''."""
        if self.uid == 0 or self.gone is not None or uid == 0:
            return ""
        answer, _ = self.exchange("cycle")
        names = answer.get("names") or []
        return "; deadlock: " + " waits for ".join(self.address(name) for name in names) if names else ""

    def _note_end(self, uid: int, answer: dict[str, Any]) -> None:
        if not answer.get("failed"):  # a FAILED actor may be resumed
            self._remember(self.ended, uid, answer)

    def _ended(self, body: bytes, sender: int, corr: int) -> None:
        wire_reason = wire.loads(body)
        self._remember(self.ended, wire_reason["uid"], wire_reason)
        self.ports.pop(wire_reason["uid"], None)
        self.options.pop(wire_reason["uid"], None)

    def _gone(self, body: bytes, sender: int, corr: int) -> None:
        self.lanes.pop(wire.loads(body), None)

    def _remember(self, cache: dict[int, Any], key: int, value: Any) -> None:
        """Keep a bounded number; the oldest goes first (it is mapped, or asked for, again when it is needed)."""
        if len(cache) >= self.keep:
            cache.pop(next(iter(cache)), None)
        cache[key] = value


def take_ring(fds: list[int]) -> Ring:
    """Map [memfd, eventfd]; the ring owns the eventfd."""
    try:
        return Ring(fds[0], fds[1], True)
    except BaseException:  # no memory for the mapping
        os.close(fds[1])
        raise
    finally:
        os.close(fds[0])

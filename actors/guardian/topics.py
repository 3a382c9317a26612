"""Topics as the guardian sees them: who hears each one, and who must be told when that changes.

Rule: no message passes here. Publishers keep the list of members and send to each mailbox themselves; a change is in
their control lanes before whoever caused it is answered, so that what is published after a subscription reaches it. A
list is told whole, with a version: whichever is newer counts, in whatever order they are read.

Rejected: telling differences (a publisher that joins while they are under way would have to piece them together).
"""

from __future__ import annotations

from ..address import check_name
from ..message import Kind
from .peers import Peers

Members = list[tuple[int, str, str]]  # uid, actor's name, method


class Topic:
    """One topic."""

    def __init__(self) -> None:
        self.version = 0
        self.members: dict[tuple[int, str], str] = {}  # (uid, method) -> the actor's name, in the order they came
        self.publishers: set[int] = set()

    def listed(self, silent: set[int]) -> Members:
        return [(uid, name, method) for (uid, method), name in self.members.items() if uid not in silent]


class Topics:
    """All of them."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.by_name: dict[str, Topic] = {}
        self.heard: dict[int, set[str]] = {}  # uid -> topics that it hears
        self.silent: set[int] = set()  # uids that have FAILED: nothing is sent to them until they are resumed
        peers.on_removed.append(lambda peer: self._publisher_gone(peer.id))

    def publish(self, endpoint: int, name: str) -> tuple[int, Members]:
        """A process publishes from now on: (version, members)."""
        topic = self._topic(name)
        topic.publishers.add(endpoint)
        return topic.version, topic.listed(self.silent)

    def subscribe(self, name: str, uid: int, actor: str, method: str) -> None:
        topic = self._topic(name)
        if (uid, method) not in topic.members:
            topic.members[uid, method] = actor
            self.heard.setdefault(uid, set()).add(name)
            self._tell(name, topic)

    def unsubscribe(self, name: str, uid: int, method: str | None) -> None:
        """method: None for all of this actor's."""
        topic = self.by_name.get(name)
        if topic is None:
            return
        gone = [key for key in topic.members if key[0] == uid and method in (None, key[1])]
        for key in gone:
            del topic.members[key]
        if uid in self.heard and not any(key[0] == uid for key in topic.members):
            self.heard[uid].discard(name)
        if gone:
            self._tell(name, topic)
        self._tidy(name)

    def ended(self, uid: int) -> None:
        """An actor has ended for good."""
        self.silent.discard(uid)
        for name in self.heard.pop(uid, ()):
            self.unsubscribe(name, uid, None)

    def failed(self, uid: int) -> None:
        """It can be resumed, and hears again then."""
        if uid in self.heard:
            self.silent.add(uid)
            for name in self.heard[uid]:
                self._tell(name, self.by_name[name])

    def resumed(self, uid: int) -> None:
        if uid in self.silent:
            self.silent.discard(uid)
            for name in self.heard[uid]:
                self._tell(name, self.by_name[name])

    def _topic(self, name: str) -> Topic:
        if name not in self.by_name:
            check_name(name)
            self.by_name[name] = Topic()
        return self.by_name[name]

    def _tell(self, name: str, topic: Topic) -> None:
        topic.version += 1
        for endpoint in topic.publishers:
            if endpoint in self.peers.by_id:
                self.peers.tell(
                    self.peers.by_id[endpoint], Kind.TOPIC, [name, topic.version, topic.listed(self.silent)]
                )

    def _publisher_gone(self, endpoint: int) -> None:
        for name, topic in list(self.by_name.items()):
            topic.publishers.discard(endpoint)
            self._tidy(name)

    def _tidy(self, name: str) -> None:
        """Nobody speaks and nobody hears: nothing to remember."""
        topic = self.by_name.get(name)
        if topic is not None and not topic.members and not topic.publishers:
            del self.by_name[name]

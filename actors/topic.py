"""`Topic`: publish and subscribe. One message to every actor that hears the topic now.

Rule: no middleman a message. The publisher keeps the list of members, which the guardian tells it anew whenever it
changes, and tells each one as `ActorRef.tell` does: into its mailbox, in the order published, by its overflow policy. A
message goes to all that have room first, then to those that have not: a slow member holds up nobody but, if its policy
is `block`, the publisher. Members leave when their actor has ended.

What happened before counts: a subscription that had returned when `publish` was called is heard of, in whatever
process, since the guardian's word lies in this process's control lane by then, and `publish` looks there first.

Rejected: an actor that forwards (two hops, and it can die); a ring that all members read (the slowest one would decide
for all).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import extensions, wire
from .address import check_name
from .client import SHORT, TELL, Client, clients, goes_beside, made
from .codec import encode_call
from .errors import ActorDied, ActorsError, MailboxCorrupt, MailboxFull, SystemDied
from .message import HANDLE, Kind
from .ref import ActorRef, checked, message_name
from .reply import died
from .transports._ring import Corrupt

if TYPE_CHECKING:
    from .actor import Actor

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
A = TypeVar("A", bound="Actor")
Member = tuple[int, str, str]  # uid, actor's name, method
Topics = dict[str, tuple[int, list[Member]]]

NEWS = int(Kind.TOPIC)


class Topic(Generic[T]):
    """A named topic, made by `ActorSystem.topic`; can be sent in messages and pickled."""

    __slots__ = ("_system", "name")

    def __init__(self, system: str, name: str) -> None:
        self._system, self.name = system, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topic) and (self.name, self._system) == (other.name, other._system)

    def __hash__(self) -> int:
        return hash((self._system, self.name))

    def __repr__(self) -> str:
        return f"<Topic {self.name!r} of system {self._system!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Topic, (self._system, self.name)

    # --- hearing

    def subscribe(self, ref: ActorRef[A], method: Callable[[A, T], object] | str) -> None:
        """From now on this method of this actor is called with every message published; twice is once.

        It ends with `unsubscribe`, or with the actor (not with an incarnation). ActorDied: the actor has ended.
        """
        self._of_here(checked(ref))
        name = message_name(method)
        answer, _ = self._client().exchange("topic_join", name=self.name, uid=ref.uid, method=name)
        if "ended" in answer:
            raise died(ref.address, answer["ended"])

    def unsubscribe(self, ref: ActorRef[A], method: Callable[[A, T], object] | str | None = None) -> None:
        """Nothing that is published from now on reaches that method (all of this actor's, if none is given)."""
        self._of_here(checked(ref))
        name = None if method is None else message_name(method)
        self._client().exchange("topic_leave", name=self.name, uid=ref.uid, method=name)

    def subscribers(self) -> list[tuple[ActorRef[Any], str]]:
        """(actor, method) of everybody who hears it now."""
        return [(ActorRef(self._system, name, uid), method) for uid, name, method in self._members(self._client())]

    # --- speaking

    def publish(self, message: T) -> int:
        """Send the message to every subscriber there is now; returns how many accepted it.

        A full mailbox's policy is followed: `block` waits (in a coroutine it counts as `raise`), `drop` drops it (and
        counts as accepted), `raise` raises `MailboxFull` after all others have got it. Actors that have ended are left
        out. Raises `CodecError` when the message can't be sent, before anything is.
        """
        client = self._client()
        accepted, rest = self._to_those_with_room(client, message)
        count = _Count()
        for uid, name, body, flags in rest:
            with count:
                client.tell(uid, name, body, flags)
        return accepted + count.accepted(self)

    async def publish_async(self, message: T) -> int:
        """`publish` that waits for room without blocking the event loop."""
        client = self._client()
        accepted, rest = self._to_those_with_room(client, message)
        count = _Count()
        for uid, name, body, flags in rest:
            with count:
                await client.tell_async(uid, name, body, flags)
        return accepted + count.accepted(self)

    def _to_those_with_room(self, client: Client, message: T) -> tuple[int, list[tuple[int, str, bytes, int]]]:
        """(how many have it, what is left to be sent otherwise)."""
        members = self._members(client)
        calls = {method: encode_call(method, (message,), {}) for method in {each[2] for each in members}}
        if made:
            client.define()
        accepted, rest = 0, []
        for uid, name, method in members:
            body, flags = calls[method]
            port = client.ports.get(uid)
            short = port is not None and not flags & HANDLE and (len(body) <= SHORT or not goes_beside(body, port))
            try:
                taken = (
                    short and not client.outbox.queues and port.push(body, TELL, flags, client.me, 0, 0, 0.0) >= 0  # type: ignore[union-attr]
                )
            except Corrupt:  # it ends, and does not count
                continue
            if taken:
                accepted += 1
            else:
                rest.append((uid, name, body, flags))
        return accepted, rest

    # --- members

    def _members(self, client: Client) -> list[Member]:
        topics: Topics = client.topics
        if self.name not in topics:
            client.handlers.setdefault(NEWS, lambda body, _sender, _corr: _note(topics, body))
            answer, _ = client.exchange("topic", name=self.name)
            known = topics.get(self.name)
            if known is None or known[0] < answer["version"]:
                topics[self.name] = answer["version"], answer["members"]
        client.endpoint.look()
        for kind, _, _, _, body in list(client.endpoint.news):  # its owner reads it, too, and perhaps later
            if kind == NEWS and wire.loads(body)[0] == self.name:
                _note(topics, body)
        return topics[self.name][1]

    def _client(self) -> Client:
        client = clients.get(self._system)
        if client is None:
            raise ActorsError(
                f"{self!r}: this process is not connected to the system; use ActorSystem.attach({self._system!r})"
            )
        if client.gone is not None:
            raise client.system_died()
        return client

    def _of_here(self, ref: ActorRef[Any]) -> None:
        if ref._system != self._system:
            raise ActorsError(f"{self!r}: {ref.address} belongs to another system")


class _Count:
    """Of those that a message is sent to one after the other: who accepts it, who refuses; who has ended does not count."""

    def __init__(self) -> None:
        self.sent, self.full = 0, list[MailboxFull]()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None:
            self.sent += 1
        elif isinstance(error, MailboxFull):
            self.full.append(error)
        return isinstance(error, MailboxFull | MailboxCorrupt | ActorDied) and not isinstance(error, SystemDied)

    def accepted(self, topic: Topic[Any]) -> int:
        if self.full:
            raise MailboxFull(f"{topic!r}: {len(self.full)} of its subscribers did not get a message: {self.full[0]}")
        return self.sent


def _note(topics: Topics, body: bytes) -> None:
    """The guardian's news of a topic: the newest list counts."""
    name, version, members = wire.loads(body)
    if name not in topics or topics[name][0] < version:
        topics[name] = version, members


def topic(system: str, name: str) -> Topic[Any]:
    """`ActorSystem.topic`."""
    return Topic(system, check_name(name))


extensions.BY_TYPE[Topic] = extensions.Extension(extensions.TOPIC, lambda topic: [topic._system, topic.name], False)

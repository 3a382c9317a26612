"""Which member of a pool gets a message: pure decisions.

Rule: the sender decides, by what it sees: the members, and how many messages each has (in the mailboxes' shared memory).
Nothing is sent to find out.

`hash` is rendezvous hashing (Thaler and Ravishankar, 1998): of the members, the one whose weight with this key is the
greatest. A key stays where it is while the members are the same, in every process, and when one of n comes or leaves, one
key in n moves. Keys are hashed as the bytes that a message would carry, since `hash()` of a string differs from process
to process.
"""

from __future__ import annotations

import itertools
import random
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .codec import encode

if TYPE_CHECKING:
    from .reply import Reply

Routing = Literal["least-busy", "round-robin", "hash", "broadcast"]
Member = tuple[int, str]  # uid, name
Load = tuple[int, bool, int]  # messages; whether this process waits for its answer; since when it is busy, negative


class Membership:
    """What this process knows of a pool."""

    def __init__(self, members: Sequence[Member], routing: Routing, key: Callable[..., Any] | None) -> None:
        self.members, self.routing, self.key = list(members), routing, key
        self.latest: dict[int, weakref.ref[Reply[Any]]] = {}  # uid -> the latest ask of this process
        self.turn = itertools.count(random.randrange(1 << 16))  # senders that begin together don't all begin with one

    def choose(
        self, members: Sequence[Member], args: tuple[Any, ...], kwargs: dict[str, Any], load: Callable[[Member], Load]
    ) -> Member:
        """The member that gets a message with these arguments. members: those that may; not empty."""
        if self.routing == "hash":
            return weightiest(members, self.key_of(args, kwargs))
        start = next(self.turn) % len(members)
        if self.routing == "least-busy":  # of the equally busy, each in turn
            return min((*members[start:], *members[:start]), key=load)
        return members[start]

    def waits(self, uid: int) -> bool:
        """Has this process's latest ask of a member no answer yet? A member that has just answered counts its message a
        moment longer, and is not to be taken for one that is busy with it.
        """
        latest = self.latest.get(uid)
        reply = latest() if latest is not None else None
        return reply is not None and reply.kind < 0

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The bytes that stand for a message's key. TypeError: it has none."""
        if self.key is not None:
            return encode(self.key(*args, **kwargs))[0]
        if args:
            return encode(args[0])[0]
        if kwargs:
            return encode(next(iter(kwargs.values())))[0]
        raise TypeError(
            "routing='hash': the message has no argument to route by; give one, or use pool(…, key=function)"
        )


def weightiest(members: Sequence[Member], key: bytes) -> Member:
    """Rendezvous hashing."""
    return max(members, key=lambda member: (_mixed(zlib.crc32(key), member[0]), member[0]))


def _mixed(key: int, uid: int) -> int:
    """A crc is linear: without mixing, all keys would rank the members alike (the finaliser of splitmix64)."""
    x = (key ^ (uid * 0x9E3779B97F4A7C15)) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)

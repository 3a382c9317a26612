"""References to pools: one reference, many workers.

Rule: a pool's reference is an actor's: `tell`, `ask`, `stop`, `wait`, `info`, sendable, hashable. Each call goes
straight to a member's mailbox; there is no router in between. Who the members are is asked of the guardian once, and
told by it at every change (`Kind.POOL`). A member that refuses, because it is leaving, has accepted nothing: the call
goes to another.

Messages of one sender keep their order at each member, not over the pool; with `hash`, those of one key do, while the
members are the same.
"""

from __future__ import annotations

import contextlib
import io
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from . import codec, wire
from .errors import ActorDied, CodecError, SpecError
from .message import Kind
from .rebalance import rebalance
from .ref import ActorRef, message_name
from .reply import NEVER, Reply, died
from .routing import Load, Member, Membership, Routing

if TYPE_CHECKING:
    from .client import Client

P = ParamSpec("P")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
Size = int | tuple[int, int]
SPREADING = ("least-busy", "round-robin")  # any member may have any message


class PoolRef(ActorRef[T_co]):
    """A reference to a pool of actors whose class is `T_co`. Made by `pool` and `lookup`, never by hand."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._system, self.name, self.uid, self._timeout)

    # --- calls

    def _tell(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """Send a message to one member, by the pool's routing. As `ActorRef.tell`; ActorDied: no member is left."""
        body, flags, client, known = self._prepared(method, args, kwargs)
        tried: set[int] = set()
        while True:
            uid, name = self._member(client, known, args, kwargs, tried)
            try:
                return client.tell(uid, name, body, flags, -1.0 if self._timeout is None else max(0.0, self._timeout))
            except ActorDied as error:  # refused: it was not accepted
                known = self._refresh(client, error, tried, uid)

    async def _tell_async(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """`tell` that waits for room without blocking the event loop."""
        body, flags, client, known = self._prepared(method, args, kwargs)
        tried: set[int] = set()
        while True:
            uid, name = self._member(client, known, args, kwargs, tried)
            try:
                return await client.tell_async(uid, name, body, flags)
            except ActorDied as error:
                known = self._refresh(client, error, tried, uid)

    def _ask(self, method: Any, /, *args: Any, **kwargs: Any) -> Reply[Any]:
        """Ask one member, by the pool's routing. As `ActorRef.ask`; the reply is that member's."""
        body, flags, client, known = self._prepared(method, args, kwargs)
        timeout = client.ask_timeout if self._timeout is None else self._timeout
        tried: set[int] = set()
        while True:
            uid, name = self._member(client, known, args, kwargs, tried)
            reply = client.ask(uid, name, message_name(method), body, flags, timeout)
            if reply.position != NEVER or not isinstance(reply.got, ActorDied):
                known.latest[uid] = weakref.ref(reply)
                return reply
            known = self._refresh(client, reply.got, tried, uid)

    if not TYPE_CHECKING:  # for type checkers they are ActorRef's
        tell, tell_async, ask = _tell, _tell_async, _ask

    def _prepared(
        self, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, int, Client, Membership]:
        try:
            body, flags = codec.encode_call(message_name(method), args, kwargs)
        except CodecError as error:
            raise self._unsendable(error) from error
        client = self._connected()
        return body, flags, client, client.pools.get(self.uid) or self._join(client)

    def _member(
        self,
        client: Client,
        known: Membership,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tried: set[int],
    ) -> Member:
        members = [each for each in known.members if each[0] not in tried] if tried else known.members
        if not members:
            self._join(client)  # which says so if the pool has ended
            raise ActorDied(f"{self.address}: no member of the pool takes messages now; resize it, or see its members")
        return known.choose(members, args, kwargs, lambda member: load(client, known, member))

    def _join(self, client: Client) -> Membership:
        """Ask who the members are, and be told of every change from now on. ActorDied: the pool has ended."""
        client.handlers[int(Kind.POOL)] = lambda body, _sender, _corr: changed(client, wire.loads(body))
        answer, _ = client.exchange("pool", uid=self.uid)
        if answer.get("members") is None:
            raise died(self.address, answer)
        key = codec.decode(answer["key"], codec.PICKLED) if answer.get("key") else None
        known = Membership([(uid, name) for uid, name in answer["members"]], answer["routing"], key)
        client.pools[self.uid] = known
        return known

    def _refresh(self, client: Client, error: ActorDied, tried: set[int], uid: int) -> Membership:
        if client.gone is not None:
            raise error
        tried.add(uid)
        return self._join(client)

    # --- the pool

    def members(self) -> list[ActorRef[T_co]]:
        """Its present members, oldest first. ActorDied: it has ended."""
        return [ActorRef(self._system, name, uid) for uid, name in self._join(self._connected()).members]

    def resize(self, size: Size) -> None:
        """Give it `size` members, or (a pair) bounds between which it grows and shrinks by itself; returns when that is
        decided. New ones take messages once they are ready; those that leave, the youngest first, handle what they have
        accepted before they end.

        SpecError: a senseless size. ActorDied: the pool has ended.
        """
        self._connected().request("resize", about=self.address, uid=self.uid, size=checked_size(size)).result()


class BroadcastRef(PoolRef[T_co]):
    """A reference to a pool with routing "broadcast": every member gets every message."""

    __slots__ = ()

    def _tell(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """Send a message to all members."""
        body, flags, client, known = self._prepared(method, args, kwargs)
        self._member(client, known, args, kwargs, set())
        for uid, name in list(known.members):
            with contextlib.suppress(ActorDied):  # it has left meanwhile
                client.tell(uid, name, body, flags)

    async def _tell_async(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """`tell` that waits for room without blocking the event loop."""
        body, flags, client, known = self._prepared(method, args, kwargs)
        self._member(client, known, args, kwargs, set())
        for uid, name in list(known.members):
            with contextlib.suppress(ActorDied):
                await client.tell_async(uid, name, body, flags)

    if not TYPE_CHECKING:
        tell, tell_async = _tell, _tell_async

    @overload  # type: ignore[override]
    def ask(
        self, method: Callable[Concatenate[T_co, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Reply[list[R]]: ...
    @overload
    def ask(
        self, method: Callable[Concatenate[T_co, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Reply[list[R]]: ...
    @overload
    def ask(self, method: str, /, *args: Any, **kwargs: Any) -> Reply[list[Any]]: ...
    def ask(self, method: Any, /, *args: Any, **kwargs: Any) -> Reply[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask all members: the reply's value is the list of all answers, in the order of `members()`. It ends when the
        last has answered; if one raised or died, with the first such error. A member that leaves meanwhile is left out.
        """
        body, flags, client, known = self._prepared(method, args, kwargs)
        self._member(client, known, args, kwargs, set())
        timeout = client.ask_timeout if self._timeout is None else self._timeout
        name = message_name(method)
        replies = [client.ask(uid, each, name, body, flags, timeout) for uid, each in list(known.members)]
        taken = [each for each in replies if each.position != NEVER or not isinstance(each.got, ActorDied)]
        return All.of(client, (self.name, name), taken)


class All(Reply[Any]):
    """The answers of several, as one."""

    __slots__ = ("parts",)

    parts: list[Reply[Any]]

    @classmethod
    def of(cls, client: Client, label: tuple[str, str], parts: list[Reply[Any]]) -> All:
        """It ends when all parts have."""
        self = cls()
        self.client, self.label, self.parts = client, label, parts
        self.uid = self.deadline = 0
        self.corr, self.position, self.got = next(client.endpoint.ids), NEVER, None
        for part in parts:
            part._call(self._ended, None, True)
        if not parts:
            self.fail(ActorDied(f"{self._what}: no member of the pool takes messages now"))
        return self

    def done(self) -> bool:
        for part in self.parts:
            part.done()
        return self.kind >= 0

    def cancel(self) -> bool:
        """Give all up that have not ended."""
        if self.done():
            return False
        self._conclude(Kind.CANCELLED)
        for part in self.parts:
            part.cancel()
        return True

    def _ended(self, _: object) -> None:
        if self.kind >= 0 or any(part.kind < 0 for part in self.parts):
            return
        values: list[Any] = []
        for part in self.parts:
            try:
                values.append(part.result(0))
            except BaseException as error:  # a cancelled part, too
                self.fail(error)
                return
        self.got = values
        self._conclude(Kind.VALUE)


def load(client: Client, known: Membership, member: Member) -> Load:
    """How busy a member is; one that can't be seen is taken last."""
    uid, name = member
    try:
        stats = (client.ports.get(uid) or client.map(uid, name)).stats()
    except ActorDied:
        return 1 << 62, False, 0
    return stats["accepted"] - stats["handled"], known.waits(uid), -stats["busy_since"]


def changed(client: Client, news: dict[str, Any]) -> None:
    """The guardian says that a pool has other members."""
    known = client.pools.get(news["uid"])
    if known is None:
        return
    before, known.members = known.members, [(uid, name) for uid, name in news["members"]]
    new = [each for each in known.members if each not in before]
    if new and known.routing in SPREADING:
        rebalance(client, [each for each in before if each in known.members], new)


def checked_size(size: Size) -> tuple[int, int]:
    """(least, most). SpecError."""
    low, high = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    for bound in (low, high):
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 1:
            raise SpecError(f"size is {size!r}: give a number of members from 1 on, or a pair (least, most)")
    if low > high:
        raise SpecError(f"size is {size!r}: the least is more than the most")
    return low, high


def options(size: Size, routing: Routing, key: Callable[..., Any] | None) -> dict[str, Any]:
    """What the guardian keeps of a pool. SpecError, CodecError."""
    if routing not in ("least-busy", "round-robin", "hash", "broadcast"):
        raise SpecError(f"routing is {routing!r}: use 'least-busy', 'round-robin', 'hash' or 'broadcast'")
    if key is not None and (routing != "hash" or not callable(key)):
        raise SpecError("key is a function of a message's arguments, for routing='hash' only")
    packed = b""
    if key is not None:
        from .pickling import WholePickler, unsendable  # here: few pools have one

        with io.BytesIO() as file:
            try:
                WholePickler(file, protocol=5).dump(key)
            except Exception as error:
                raise unsendable("the key function", [("it", key)], error) from error
            packed = file.getvalue()
    return {"size": checked_size(size), "routing": routing, "key": packed}


def reference(system: str, answer: dict[str, Any]) -> ActorRef[Any]:
    """The reference that the guardian's answer stands for: an actor's or a pool's."""
    routing = answer.get("pool")
    kind = ActorRef if routing is None else BroadcastRef if routing == "broadcast" else PoolRef
    return kind(system, answer["name"], answer["uid"])


def _pack(ref: PoolRef[Any]) -> list[Any]:
    return [ref._system, ref.name, ref.uid, ref._timeout]


codec.register(PoolRef, 60, _pack, lambda parts: PoolRef(*parts))
codec.register(BroadcastRef, 61, _pack, lambda parts: BroadcastRef(*parts))

"""What surrounds an actor that runs in the test's own process: stubs of others, and a client without a system.

Rule: the real references, replies and codec over a client that delivers in this process. What is sent to a stub is
encoded, decoded and noted; what it answers was said before. What needs a supervisor or the kernel (ends, restarts,
events) is noted and not done, or refused by name: that is for a real system.

Design: one world a process, registered as the connection to a system of its own name, so that references find it as
they find any system. Local actors live as long as the test holds them; the latest stubs are kept, since a test often
holds no more of one than its reference.
"""

from __future__ import annotations

import collections
import itertools
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .. import wire
from ..address import join
from ..client import Client, clients
from ..codec import decode_call, encode
from ..endpoint import Endpoint
from ..errors import ActorDied, ActorsError
from ..exits import ExitReason
from ..failures import encode_error
from ..message import KEYWORDS, Kind
from ..ref import ActorRef, message_name
from ..reply import Reply, died
from ..shipping import unship

if TYPE_CHECKING:
    from ..monitor import Monitor
    from ..transports._ring import Record, Ring
    from .local_actor import Local

A = TypeVar("A")
R = TypeVar("R")
A_co = TypeVar("A_co", covariant=True)
SYSTEM = "local-world"
KEEP = 1000  # stubs that are kept, though nobody holds them
HERE = 1  # its endpoint id: the test


@dataclass(frozen=True)
class Sent:
    """A message: to whom, what, and whether an answer was asked for."""

    to: ActorRef[Any]
    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    asked: bool = False


@dataclass(frozen=True)
class Spawned(Generic[A]):
    """A child that an actor started: what it was to be made of, and the stub that stands for it. options: those that
    `spawn` was given or has by default.
    """

    factory: Callable[..., A]
    args: tuple[Any, ...]
    options: dict[str, Any]
    stub: Stub[A]


class Stub(Generic[A_co]):
    """Somebody whom the actor under test knows: notes what it is told and asked, and answers what it was given to
    answer. Made by `stub`.
    """

    def __init__(self, name: str) -> None:
        self._world = world()
        self._answers: dict[str, Callable[..., Any]] = {}
        self.ref: ActorRef[A_co] = self._world.register(name, self)
        self.received: list[Sent] = []

    def __repr__(self) -> str:
        return f"<Stub {self.ref.address}>"

    @overload
    def answers(self, method: Callable[..., Awaitable[R]], value: R, /) -> None: ...
    @overload
    def answers(self, method: Callable[..., R], value: R, /) -> None: ...
    @overload
    def answers(self, method: str, value: object, /) -> None: ...
    def answers(self, method: Any, value: Any, /) -> None:
        """From now on asks of this method are answered with `value`."""
        self._answers[message_name(method)] = lambda *_, **__: value

    def raises(self, method: Callable[..., Any] | str, error: Exception, /) -> None:
        """From now on asks of this method end with this exception."""
        self.calls(method, lambda *_, **__: _raise(error))

    def calls(self, method: Callable[..., Any] | str, function: Callable[..., Any], /) -> None:
        """From now on asks of this method are answered with what `function(*args, **kwargs)` returns or raises."""
        self._answers[message_name(method)] = function

    def take(self, sent: Sent) -> tuple[int, bytes, int] | None:
        """Note a message: the answer as (kind, body, flags), or None."""
        self.received.append(sent)
        answer = self._answers.get(sent.method) if sent.asked else None
        if answer is None:
            return None
        try:
            return int(Kind.VALUE), *encode(answer(*sent.args, **sent.kwargs))
        except Exception as error:
            return int(Kind.ERROR), *encode_error(error)


@overload
def stub(cls: Callable[..., A], /, *, name: str | None = None) -> Stub[A]: ...
@overload
def stub(*, name: str | None = None) -> Stub[Any]: ...
def stub(cls: Any = None, /, *, name: str | None = None) -> Stub[Any]:
    """Somebody for a `local` actor to know. cls: for the type checker, and for the name where none is given."""
    return Stub(name or world().free_name(getattr(cls, "__name__", "stub").lower()))


class LocalEndpoint(Endpoint):
    """The receiving side: what is not there at once will never come."""

    def __init__(self) -> None:
        self.me = HERE
        self.bell = self.door = -1
        self.table = {}
        self.ids = itertools.count(1)
        self.fire, self.news = [], []
        self.limit = 1 << 30
        self.in_sync = False
        self.thread = threading.get_ident()

    def may_block(self) -> bool:
        return self.in_sync or super().may_block()

    def pump(self, spin: float = 0.0, mine: Reply[Any] | None = None, clear: bool = False) -> None:
        return

    def wait(self, reply: Reply[Any], seconds: float | None) -> bool:
        self.spin_for(reply)
        return True

    def spin_for(self, reply: Reply[Any]) -> None:
        if reply.kind < 0:
            raise AssertionError(
                f"{reply._what}: nobody answers; say what it is answered with `stub.answers(method, value)`, "
                "or use a real system (the fixture `system`)"
            )

    def attach(self, loop: Any) -> None:
        return

    def detach_all(self) -> None:
        return

    def abandon(self, kind: int, body: bytes) -> None:
        return


class _Nothing:
    """Where a client has a socket or an outbox."""

    queues: tuple[()] = ()

    def close(self) -> None:
        return


class World(Client):
    """The client of actors in the test's process."""

    has_definitions = False

    def __init__(self) -> None:
        self.system = self.node = SYSTEM
        self.me, self.uid, self.guardian_pid = HERE, 0, 0
        self.endpoint: LocalEndpoint = LocalEndpoint()
        self.sock: Any = _Nothing()
        self.outbox: Any = _Nothing()
        self.ports, self.lanes, self.options, self.ended = {}, {}, {}, {}
        self.handlers, self.streams = {}, {}
        self.monitors: dict[int, Monitor] = {}
        self.large = weakref.WeakKeyDictionary()
        self.ask_timeout, self.gone, self.forked, self.reader = None, None, False, None
        self.defined, self.users, self.keep = set(), 1, 1 << 16
        self.lock = self.closing = threading.Lock()
        self.fetching = threading.RLock()
        self.actors: weakref.WeakValueDictionary[int, Local[Any] | Stub[Any]] = weakref.WeakValueDictionary()
        self._stubs: collections.deque[Stub[Any]] = collections.deque(maxlen=KEEP)
        self.watched: dict[int, int] = {}  # monitor -> uid
        self.acting: list[Local[Any]] = []  # whose code runs, the innermost last
        self._uids = itertools.count(HERE + 1)
        self._numbers: dict[str, int] = {}
        clients[SYSTEM] = self

    def cut_off(self) -> None:
        """A forked child has its own copy of all of it."""

    # --- who is there

    def register(self, name: str, actor: Local[Any] | Stub[Any]) -> ActorRef[Any]:
        uid = next(self._uids)
        self.actors[uid] = actor
        if isinstance(actor, Stub):
            self._stubs.append(actor)
        return ActorRef(SYSTEM, name, uid)

    def free_name(self, base: str) -> str:
        number = self._numbers[base] = self._numbers.get(base, 0) + 1
        return f"{base}-{number}"

    def _child_name(self, parent: Local[Any] | None, node: dict[str, Any]) -> str:
        if node.get("name"):
            return join(parent.ref.name if parent is not None else "", node["name"])
        if parent is None:
            return self.free_name(node["base"])
        numbers = parent.children
        numbers[node["base"]] += 1
        return join(parent.ref.name, f"{node['base']}-{numbers[node['base']]}")

    def sender_of(self, endpoint: int) -> tuple[int, str]:
        found = self.actors.get(endpoint)
        return (found.ref.uid, found.ref.name) if found is not None else (0, "")

    # --- messages

    def tell(self, uid: int, name: str, body: bytes, flags: int, timeout: float = -1.0) -> None:
        target = self._target(uid, name)
        sent = self._note(target, body, flags, asked=False)
        if isinstance(target, Stub):
            target.take(sent)
        else:
            target.accept((int(Kind.TELL), flags, self._sender(target), 0, 0, 0, 0, body))

    async def tell_async(self, uid: int, name: str, body: bytes, flags: int) -> None:
        self.tell(uid, name, body, flags)

    def ask(self, uid: int, name: str, method: str, body: bytes, flags: int, timeout: float | None) -> Reply[Any]:
        reply = self._new_reply(uid, (name, method), 0)
        try:
            target = self._target(uid, name)
        except ActorDied as error:
            reply.got, reply.kind = error, int(Kind.DIED)
            return reply
        sent = self._note(target, body, flags, asked=True)
        if not isinstance(target, Stub):
            target.accept((int(Kind.ASK), flags, self._sender(target), reply.corr, 0, 0, 0, body))
        elif (answer := target.take(sent)) is not None:
            self._fill(reply, *answer)
        return reply

    def answer(self, sender: int, corr: int, kind: int, body: bytes, flags: int) -> None:
        reply = self.endpoint.table.get(corr)
        if reply is not None:
            self._fill(reply, kind, body, flags)

    def _fill(self, reply: Any, kind: int, body: bytes, flags: int) -> None:
        self.endpoint.table.pop(reply.corr, None)
        reply.body, reply.flags, reply.kind = body, flags, kind
        if reply.cbs:
            reply.run_callbacks()

    def _target(self, uid: int, name: str) -> Local[Any] | Stub[Any]:
        target = self.actors.get(uid)
        reason = getattr(target, "reason", None)
        if target is None or reason is not None:
            raise died(self.address(name), {"reason": (reason or ExitReason("normal")).to_wire()})
        return target

    def _note(self, target: Local[Any] | Stub[Any], body: bytes, flags: int, asked: bool) -> Sent:
        call = decode_call(body, flags)
        arguments, keywords = (call[2:], call[1]) if flags & KEYWORDS else (call[1:], {})
        sent = Sent(target.ref, call[0], tuple(arguments), keywords, asked)
        if self.acting:
            self.acting[-1].sent.append(sent)
        return sent

    def _sender(self, target: Local[Any]) -> int:
        if self.acting:
            return self.acting[-1].ref.uid
        return target.sender.uid if target.sender is not None else 0

    def body_of(self, record: Record) -> bytes:
        return record[7]

    def release(self, body: bytes) -> None:
        return

    def define(self) -> None:
        return

    def cycle(self, uid: int) -> str:
        return ""

    def withdraw(self, reply: Reply[Any]) -> None:
        self.endpoint.table.pop(reply.corr, None)

    def map(self, uid: int, name: str) -> Ring:
        raise ActorsError(f"{self.address(name)} is in this process and has no mailbox")

    def exchange(self, op: str, fds: tuple[int, ...] = (), **fields: Any) -> tuple[wire.Message, list[int]]:
        self.send(op, **fields)
        return {"body": b"", "names": []}, []

    # --- what a guardian does

    def send(self, op: str, **fields: Any) -> None:
        if op == "monitor":
            self.watched[fields["monitor"]] = fields["uid"]
        elif op == "demonitor":
            self.watched.pop(fields["monitor"], None)
        elif op in ("link", "unlink", "stop", "kill", "restart", "resume") and self.acting:
            known = self.actors.get(fields["uid"])
            if known is not None:
                self.acting[-1].acts.append((op, known.ref))

    def request(self, op: str, fds: tuple[int, ...] = (), about: str | None = None, **fields: Any) -> Reply[Any]:
        reply = self._new_reply(0, about or op, 0)
        operation = getattr(self, f"_op_{op}", None)
        if operation is None:
            text = f"{op}: an actor in the test's process has no guardian; use a real system (the fixture `system`)"
            self._fill(reply, int(Kind.REFUSED), wire.dumps(["ActorsError", text]), 0)
        else:
            self._fill(reply, *operation(fields))
        return reply

    def _op_spawn(self, fields: dict[str, Any]) -> tuple[int, bytes, int]:
        parent = self.actors.get(fields["parent"])
        above = None if isinstance(parent, Stub) else parent
        first: ActorRef[Any] | None = None
        for node in fields["nodes"]:
            made: Stub[Any] = Stub(self._child_name(above, node))
            first = first or made.ref
            factory, args = unship(node["payload"]) if "payload" in node else (None, ())
            if self.acting:
                options = {**node["policy"], **node.get("options", {})}
                self.acting[-1].spawned.append(Spawned(factory, args, options, made))  # type: ignore[arg-type]
        assert first is not None
        return int(Kind.VALUE), *encode({"uid": first.uid, "name": first.name})

    def _op_lookup(self, fields: dict[str, Any]) -> tuple[int, bytes, int]:
        for uid, actor in sorted(self.actors.items(), reverse=True):
            if actor.ref.name == fields["name"]:
                return int(Kind.VALUE), *encode({"uid": uid, "name": actor.ref.name})
        text = f"{self.address(fields['name'])} does not exist; make it with stub(name={fields['name']!r})"
        return int(Kind.REFUSED), wire.dumps(["ActorNotFound", text]), 0


def world() -> World:
    """The world of this process."""
    found = clients.get(SYSTEM)
    return found if isinstance(found, World) else World()


def _raise(error: Exception) -> Any:
    raise error

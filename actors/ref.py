"""References to actors: all that users hold.

Rule: a reference is a value: a name and a uid in a system. It keeps no descriptor and no mapping (its client does), so
it is small, immutable, hashable, picklable and can be sent in any message. It names an actor, not an incarnation:
restarts keep it.

A method is named by the function itself (`Counter.add`), which is what lets type checkers know arguments and result, or
by its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from . import codec
from .address import format_address
from .client import Client, clients, made
from .errors import ActorDied, ActorsError, AskTimeout, CodecError, MailboxFull
from .exits import ExitReason
from .reply import died
from .seconds import FOREVER, bounded
from .transports._ring import Corrupt

if TYPE_CHECKING:
    from typing import Self

    from .monitor import Down, Monitor
    from .reply import Reply

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
T_co = TypeVar("T_co", covariant=True)

RESERVED: set[str] = set()  # Actor's own public names; filled by actor.py
_names: dict[Any, str] = {}  # function or name -> checked message name
_CODE = 40  # msgpack extension type


class ActorRef(Generic[T_co]):
    """A reference to an actor whose class is `T_co`. Made by `spawn` and `lookup`, never by hand."""

    __slots__ = ("_client", "_system", "_timeout", "name", "uid")

    name: str
    uid: int
    _system: str
    _client: Client | None
    _timeout: float | None

    def __init__(self, system: str, name: str, uid: int, timeout: float | None = None) -> None:
        set_ = object.__setattr__
        set_(self, "_system", system)
        set_(self, "name", name)
        set_(self, "uid", uid)
        set_(self, "_timeout", timeout)
        set_(self, "_client", clients.get(system))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a reference is immutable; {name!r} can't be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a reference is immutable; {name!r} can't be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and (self.uid, self._system) == (other.uid, other._system)

    def __hash__(self) -> int:
        return hash((self._system, self.uid))

    def __repr__(self) -> str:
        return f"<ActorRef {self.address}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorRef, (self._system, self.name, self.uid, self._timeout)

    @property
    def address(self) -> str:
        """`actor://node/name`."""
        return format_address(self._system, self.name)

    def _connected(self) -> Client:
        client = self._client
        if client is None or clients.get(self._system) is not client:
            current = clients.get(self._system)
            if current is not None:
                object.__setattr__(self, "_client", client := current)
            elif client is None:
                raise ActorsError(
                    f"{self.address}: this process is not connected to system {self._system!r}; use ActorSystem.attach({self._system!r})"
                )
        return client

    # --- calls

    def using(self, *, timeout: float | None = None) -> Self:
        """The same reference with a deadline (seconds) for its asks, which travels with the call: an expired call is
        not handled any more. A `tell` waits so long for room in a full mailbox, and then raises `MailboxFull`.
        """
        seconds = bounded(timeout)
        if timeout is not None and seconds is None:
            seconds = FOREVER  # None is the system's own default
        return type(self)(self._system, self.name, self.uid, seconds)

    @overload
    def tell(self, method: Callable[Concatenate[T_co, P], object], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def tell(self, method: str, /, *args: Any, **kwargs: Any) -> None: ...
    def tell(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """Send a message and return once the mailbox has accepted it; it is handled even if the actor crashes
        meanwhile.

        Blocks while the mailbox is full; in a coroutine it raises `MailboxFull` instead (use `tell_async`). Raises
        `ActorDied` when the actor has ended, `CodecError` when an argument can't be sent.
        """
        name = _names.get(method) or message_name(method)
        client = self._client or self._connected()
        port = client.ports.get(self.uid)
        # the short way: mapped, small, plain, room, nothing to explain; the client knows all others
        body: bytes | Literal[False] | None = False
        if port is not None and not (kwargs or made or client.outbox.queues):
            try:
                body = port.tell(name, args, codec.PACKERS, client.me)
            except Corrupt as error:
                raise client.damaged(self.name, error) from None
        if body is None:
            return
        try:
            rest, flags = (body, 0) if body else codec.encode_call(name, args, kwargs)
        except CodecError as error:
            raise self._unsendable(error) from error
        client.tell(self.uid, self.name, rest, flags, -1.0 if self._timeout is None else max(0.0, self._timeout))

    @overload
    async def tell_async(
        self, method: Callable[Concatenate[T_co, P], object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    @overload
    async def tell_async(self, method: str, /, *args: Any, **kwargs: Any) -> None: ...
    async def tell_async(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """`tell` that waits for room without blocking the event loop."""
        try:
            body, flags = codec.encode_call(message_name(method), args, kwargs)
        except CodecError as error:
            raise self._unsendable(error) from error
        accepted = self._connected().tell_async(self.uid, self.name, body, flags)
        if self._timeout is None:
            await accepted
            return
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                await accepted
        except TimeoutError:
            if not limit.expired():
                raise
            raise MailboxFull(f"{self.address}: its mailbox is full for {self._timeout:g} s") from None

    @overload
    def ask(
        self, method: Callable[Concatenate[T_co, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Reply[R]: ...
    @overload
    def ask(self, method: Callable[Concatenate[T_co, P], R], /, *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    @overload
    def ask(self, method: str, /, *args: Any, **kwargs: Any) -> Reply[Any]: ...
    def ask(self, method: Any, /, *args: Any, **kwargs: Any) -> Reply[Any]:
        """Send a call; its `Reply` is awaited, or blocks in `.result(timeout)`. It always ends, at the latest when the
        actor does.

        Blocks while the mailbox is full; in a coroutine the reply waits for room instead. Raises `CodecError` here when
        an argument can't be sent, `MailboxFull` where the mailbox says so; everything else comes out of the reply.
        """
        name = _names.get(method) or message_name(method)
        try:
            body, flags = codec.encode_call(name, args, kwargs)
        except CodecError as error:
            raise self._unsendable(error) from error
        client = self._client or self._connected()
        timeout = self._timeout
        return client.ask(self.uid, self.name, name, body, flags, client.ask_timeout if timeout is None else timeout)

    def _unsendable(self, error: CodecError) -> CodecError:
        return CodecError(f"{self.address}: {error}")

    def proxy(self) -> Any:
        """Attribute style: `proxy.add(5)` is `ask`, `proxy.add.tell(5)` is `tell`."""
        return Proxy(self)

    # --- life

    def stop(self) -> None:
        """Close the mailbox, let it handle what was accepted within its `shutdown` time, run `on_stop`, and end. Never
        restarts. Does not wait.
        """
        self._command("stop")

    def kill(self) -> None:
        """End it at once with SIGKILL. Never restarts; queued asks get `ActorDied`, queued tells become dead letters."""
        self._command("kill")

    def restart(self) -> None:
        """Replace the process by hand, as if it had been asked to stop and start again; queued mail stays. Not counted
        as a crash. ActorDied: it has ended for good.
        """
        self._replace("restart")

    def resume(self) -> None:
        """Start a FAILED actor again, with its mail. ActorDied: it has ended for good."""
        self._replace("resume")

    def _command(self, op: str) -> None:
        self._connected().send(op, uid=self.uid)

    def _replace(self, op: str) -> None:
        answer, _ = self._connected().exchange(op, uid=self.uid)
        if "ended" in answer:
            raise died(self.address, answer["ended"])

    def wait(self, timeout: float | None = None) -> ExitReason:
        """Block until it has ended for good (or FAILED): why. TimeoutError (`AskTimeout`): not within `timeout`
        seconds.
        """
        reply = self._connected().request("wait", about=self.address, uid=self.uid)
        try:
            return ExitReason.from_wire(reply.result(timeout))
        except AskTimeout:
            reason = self._ended()  # a time too short for the guardian's answer says nothing
            if reason is None:
                raise AskTimeout(f"{self.address} has not ended within {timeout:g} s") from None
            return reason
        finally:
            reply.cancel()

    def _ended(self) -> ExitReason | None:
        """Why it has ended or FAILED, if it has."""
        try:
            info = self.info()
        except ActorDied as error:
            return error.reason
        return ExitReason.from_wire(info["reason"]) if info["status"] == "failed" else None

    async def wait_async(self) -> ExitReason:
        """`wait` for coroutines."""
        return ExitReason.from_wire(await self._connected().request("wait", about=self.address, uid=self.uid))

    def info(self) -> dict[str, Any]:
        """What `ActorSystem.tree()` says of this one actor. ActorDied: it has ended."""
        info: dict[str, Any] = self._connected().request("info", about=self.address, uid=self.uid).result()
        return info

    def stacks(self) -> str:
        """What every thread of its process does at this moment, as `faulthandler` writes it (the latest call first), also
        when it is stuck in C code; or, within two seconds, a sentence on why that can't be seen. ActorDied: it has ended.
        """
        stacks: str = self._connected().request("stacks", about=self.address, uid=self.uid).result()
        return stacks

    def monitor(self, callback: Callable[[Down], object], *, incarnations: bool = False) -> Monitor:
        """Call `callback(Down)` exactly once when the actor has ended (also when it already has), in the reader thread.

        When the whole system is gone unexpectedly, `Down.reason` is "unreachable".

        `incarnations`: hear every crash too; `Down.restarting` tells them apart. The returned monitor has `.cancel()`.
        """
        from .monitor import watch

        if not callable(callback):
            raise TypeError(f"{self.address}: monitor takes what is to be called with a Down, not {callback!r}")

        return watch(self._connected(), self, lambda _, down: callback(down), incarnations)


class Proxy:
    """Attribute style for a reference; can't be typed."""

    __slots__ = ("_ref",)

    def __init__(self, ref: ActorRef[Any]) -> None:
        self._ref = ref

    def __getattr__(self, name: str) -> _Method:
        return _Method(self._ref, message_name(name))

    def __repr__(self) -> str:
        return f"<Proxy {self._ref.address}>"


class _Method:
    __slots__ = ("_name", "_ref")

    def __init__(self, ref: ActorRef[Any], name: str) -> None:
        self._ref, self._name = ref, name

    def __call__(self, *args: Any, **kwargs: Any) -> Reply[Any]:
        return self._ref.ask(self._name, *args, **kwargs)

    def tell(self, *args: Any, **kwargs: Any) -> None:
        self._ref.tell(self._name, *args, **kwargs)


def checked(ref: ActorRef[A]) -> ActorRef[A]:
    """The same. TypeError: it is no reference."""
    if not isinstance(getattr(ref, "uid", None), int):
        raise TypeError(f"{ref!r} is no reference of an actor")
    return ref


def message_name(method: Any) -> str:
    """The name that a method has as a message. AttributeError: private, or one of Actor's own; TypeError: not a method."""
    name = method if isinstance(method, str) else getattr(method, "__name__", None)
    if not isinstance(name, str) or not (isinstance(method, str) or callable(method)):
        raise TypeError(f"{method!r} is no method: use tell(Class.method, …) or tell('method', …)")
    if name.startswith("_") or name in RESERVED:
        raise AttributeError(
            f"{name!r} is {'private' if name.startswith('_') else 'one of Actor itself'} and can't be called from outside"
        )
    if not name.isidentifier():
        raise AttributeError(f"{name!r} is no method name")
    if len(_names) > 10_000:  # names made at run time must not grow without end
        _names.clear()
    _names[method] = name
    return name


def _pack(ref: ActorRef[Any]) -> list[Any]:
    return [ref._system, ref.name, ref.uid, ref._timeout]


def _unpack(parts: list[Any]) -> ActorRef[Any]:
    return ActorRef(*parts)


codec.register(ActorRef, _CODE, _pack, _unpack)

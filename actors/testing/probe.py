"""Probes: actors whose messages the test receives.

Rule: a probe's reference is a real one, to an actor in a process of its own (`relay.py`), so everything that others may
do with a reference works; only its handlers are the test: it takes the messages one by one, in the order in which they
came, says what it expected, and answers asks. Messages are decoded here, so classes of the test file are themselves.

What the test says fails as an AssertionError that names what came instead.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ..codec import decode_call, encode, encode_call
from ..errors import ActorDied, AskTimeout
from ..exits import ExitReason
from ..failures import encode_error
from ..message import KEYWORDS, Kind
from ..ref import ActorRef, message_name
from .relay import ASK, DONE, TAKE, Item

if TYPE_CHECKING:
    from ..client import Client
    from ..reply import Reply

R = TypeVar("R")
T = TypeVar("T")
A_co = TypeVar("A_co", covariant=True)

TIMEOUT = 5.0  # seconds that a probe waits for a message
NOTHING = 0.1  # seconds without a message that count as nothing


class Call(Generic[R]):
    """A message that a probe received.

    method, args, kwargs: as sent. sender: the actor that sent it, None: a program or a timer. asked: an answer is
    awaited (`reply`, `fail`).
    """

    def __init__(self, client: Client, item: Item, finish: Callable[[int], object]) -> None:
        _, kind, flags, self._sender, self._corr, self._position, body = item
        call = decode_call(body, flags)
        self.method: str = call[0]
        self.args: tuple[Any, ...] = tuple(call[2:] if flags & KEYWORDS else call[1:])
        self.kwargs: dict[str, Any] = call[1] if flags & KEYWORDS else {}
        self.asked = kind == ASK
        self.answered = False
        self._client, self._finish = client, finish

    def __repr__(self) -> str:
        values = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{'ask' if self.asked else 'tell'} {self.method}({', '.join(values)})"

    @property
    def sender(self) -> ActorRef[Any] | None:
        uid, name = self._client.sender_of(self._sender)
        return ActorRef(self._client.system, name, uid) if uid else None

    def reply(self, value: R) -> None:
        """Answer an ask. AssertionError: it was a tell, or is answered already; CodecError: it can't be sent."""
        self._answer(Kind.VALUE, *encode(value))

    def fail(self, error: Exception) -> None:
        """Answer an ask with an exception, as a handler that raises does."""
        self._answer(Kind.ERROR, *encode_error(error))

    def _answer(self, kind: Kind, body: bytes, flags: int) -> None:
        if not self.asked:
            raise AssertionError(f"{self!r} can't be answered: nobody waits for a tell's answer")
        if self.answered:
            raise AssertionError(f"{self!r} is answered already")
        self.answered = True
        self._client.answer(self._sender, self._corr, int(kind), body, flags)
        self._finish(self._position)


class Probe(Generic[A_co]):
    """An actor of a test system, played by the test. Made by `TestSystem.probe`; the fixture `probe` is one.

    Used by one thread (or coroutine) at a time.
    """

    def __init__(self, ref: ActorRef[Any]) -> None:
        self.ref: ActorRef[A_co] = ref
        self._client = ref._connected()
        self._taken = 0  # number of the last message that is here
        self._calls: collections.deque[Call[Any]] = collections.deque()
        self._last: Call[Any] | None = None

    def __repr__(self) -> str:
        return f"<Probe {self.ref.address}>"

    # --- messages

    def receive(self, timeout: float = TIMEOUT) -> Call[Any]:
        """The next message. AssertionError: none within `timeout` seconds, or the probe has ended."""
        return self._some(self._next(timeout), timeout)

    async def receive_async(self, timeout: float = TIMEOUT) -> Call[Any]:
        """`receive` for coroutines."""
        return self._some(await self._next_async(timeout), timeout)

    @overload
    def expect(self, what: type[T], /, timeout: float = TIMEOUT) -> T: ...  # type: ignore[overload-overlap]
    @overload
    def expect(self, what: Callable[..., Awaitable[R]], /, timeout: float = TIMEOUT) -> Call[R]: ...
    @overload
    def expect(self, what: Callable[..., R], /, timeout: float = TIMEOUT) -> Call[R]: ...
    @overload
    def expect(self, what: str, /, timeout: float = TIMEOUT) -> Call[Any]: ...
    def expect(self, what: Any, /, timeout: float = TIMEOUT) -> Any:
        """The next message, which must be what is said. A method (or its name): then the call is returned; a type: then
        the message's first argument, which must be of it.

        AssertionError: another message came (it is named, and counts as received), or none within `timeout` seconds.
        """
        return self._matching(what, self._next(timeout), timeout)

    @overload
    async def expect_async(self, what: type[T], /, timeout: float = TIMEOUT) -> T: ...  # type: ignore[overload-overlap]
    @overload
    async def expect_async(self, what: Callable[..., Awaitable[R]], /, timeout: float = TIMEOUT) -> Call[R]: ...
    @overload
    async def expect_async(self, what: Callable[..., R], /, timeout: float = TIMEOUT) -> Call[R]: ...
    @overload
    async def expect_async(self, what: str, /, timeout: float = TIMEOUT) -> Call[Any]: ...
    async def expect_async(self, what: Any, /, timeout: float = TIMEOUT) -> Any:
        """`expect` for coroutines."""
        return self._matching(what, await self._next_async(timeout), timeout)

    def expect_nothing(self, seconds: float = NOTHING) -> None:
        """Nothing comes within so many (real) seconds. AssertionError: something did; it counts as received."""
        self._none(self._next(seconds))

    async def expect_nothing_async(self, seconds: float = NOTHING) -> None:
        """`expect_nothing` for coroutines."""
        self._none(await self._next_async(seconds))

    def reply(self, value: object) -> None:
        """Answer the ask that was received last. AssertionError: there is none. (`Call.reply` is typed.)"""
        self._asked().reply(value)

    def fail(self, error: Exception) -> None:
        """Answer the ask that was received last with an exception."""
        self._asked().fail(error)

    # --- ends

    def expect_down(self, ref: ActorRef[Any], timeout: float = TIMEOUT) -> ExitReason:
        """`ref` has ended for good, or does within `timeout` seconds: why. AssertionError: it lives on."""
        try:
            return ref.wait(timeout)
        except AskTimeout as error:
            raise AssertionError(str(error)) from None

    async def expect_down_async(self, ref: ActorRef[Any], timeout: float = TIMEOUT) -> ExitReason:
        """`expect_down` for coroutines."""
        try:
            return await asyncio.wait_for(ref.wait_async(), timeout)
        except TimeoutError:
            raise AssertionError(f"{ref.address} has not ended within {timeout:g} s") from None

    # --- inside

    def _next(self, timeout: float) -> Call[Any] | None:
        reply = self._ask()
        try:
            return self._keep(None if reply is None else reply.result(timeout))
        except AskTimeout:
            assert reply is not None
            reply.cancel()
            return None
        except ActorDied as error:
            raise AssertionError(f"the probe itself is gone: {error}") from None

    async def _next_async(self, timeout: float) -> Call[Any] | None:
        reply = self._ask()
        try:
            return self._keep(None if reply is None else await asyncio.wait_for(reply, timeout))
        except TimeoutError:
            return None
        except ActorDied as error:
            raise AssertionError(f"the probe itself is gone: {error}") from None

    def _ask(self) -> Reply[list[Item]] | None:
        """Ask for more, if nothing is here."""
        if self._calls:
            return None
        body, flags = encode_call(TAKE, (self._taken,), {})
        return self._client.ask(self.ref.uid, self.ref.name, TAKE, body, flags, None)

    def _keep(self, items: list[Item] | None) -> Call[Any]:
        for item in items or ():
            self._taken = item[0]
            self._calls.append(Call(self._client, item, self._finish))
        call = self._calls.popleft()
        self._last = call if call.asked else self._last
        return call

    def _finish(self, position: int) -> None:
        """An ask is answered, and in hand no more."""
        self._client.tell(self.ref.uid, self.ref.name, *encode_call(DONE, (position,), {}))

    def _asked(self) -> Call[Any]:
        if self._last is None:
            raise AssertionError(f"{self.ref.address}: nothing was asked yet")
        return self._last

    def _some(self, call: Call[Any] | None, timeout: float) -> Call[Any]:
        if call is None:
            raise AssertionError(f"{self.ref.address}: no message within {timeout:g} s")
        return call

    def _none(self, call: Call[Any] | None) -> None:
        if call is not None:
            raise AssertionError(f"{self.ref.address}: {call!r} came where nothing was expected")

    def _matching(self, what: Any, call: Call[Any] | None, timeout: float) -> Any:
        is_type = isinstance(what, type)
        wanted = f"a {what.__name__}" if is_type else message_name(what)
        if call is None:
            raise AssertionError(f"{self.ref.address}: expected {wanted}, and nothing came within {timeout:g} s")
        if not is_type and call.method == wanted:
            return call
        if is_type and call.args and isinstance(call.args[0], what):
            return call.args[0]
        raise AssertionError(f"{self.ref.address}: expected {wanted}, and {call!r} came")

"""The answer to an ask, now or later: `Reply`.

Rule: a reply ends exactly once, and the first outcome stays: the callee's value or exception, the guardian's word that
the callee died, a deadline, a cancellation. Its C part (`ReplyBase`) is filled by whoever collects; the outcome is
decoded in the frame of whoever looks.

Methods have the meaning that they have in `concurrent.futures.Future`; awaiting one has the meaning that it has for
`asyncio.Future`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from . import errors, wire
from .codec import decode
from .exits import ExitReason
from .failures import decode_error
from .message import GUARDIAN, HANDLE, Kind
from .outbox import UNSENT
from .parcels import Parcel
from .seconds import bounded
from .transports._ring import ReplyBase

if TYPE_CHECKING:
    from .client import Client

R_co = TypeVar("R_co", covariant=True)
VALUE = int(Kind.VALUE)
NEVER = -1  # position of an ask that is not in a ring
_MISSING: Any = object()


class Reply(ReplyBase, Generic[R_co]):
    """The pending answer of `ask`. Awaitable; `result()` blocks.

    Raises (from `result`, `await`): the exception that the handler raised, in its own type; `ActorDied` when the callee
    died before it answered; `AskTimeout` when the time is over; `concurrent.futures.CancelledError` (awaited:
    `asyncio.CancelledError`) after `cancel`.
    """

    __slots__ = ("__weakref__", "client", "corr", "deadline", "got", "label", "position", "seconds", "uid")
    __hash__ = object.__hash__

    client: Client
    corr: int
    uid: int  # whom was asked; 0: the guardian
    label: str | tuple[str, str]  # what was asked, for errors: (actor, method), or a sentence
    position: int
    deadline: int  # CLOCK_MONOTONIC ns, 0: none
    seconds: float  # as the asker gave it, if there is a deadline
    got: Any

    def __repr__(self) -> str:
        state = "pending" if self.kind < 0 else Kind(self.kind).name.lower()
        return f"<Reply {self._what} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Reply can't be sent; await it, or take its result(), and send that")

    @property
    def _what(self) -> str:
        label = self.label
        return label if isinstance(label, str) else f"{self.client.address(label[0])}: {label[1]}"

    # --- looking

    def done(self) -> bool:
        """True when it has ended, one way or another. Never blocks."""
        if self.kind < 0:
            self.client.endpoint.pump()
            self.expire()
        return self.kind >= 0

    def running(self) -> bool:
        """True when it is neither done nor cancelled (whether its handler runs already can't be told from here)."""
        return not self.done()

    def cancelled(self) -> bool:
        return self.kind == Kind.CANCELLED

    def result(self, timeout: float | None = None) -> R_co:
        """The answer; blocks up to `timeout` seconds (None: while the callee lives).

        RuntimeError: called in a coroutine while pending (await it instead). AskTimeout: not in time; the reply stays
        pending.
        """
        if self.kind < 0:
            self._block(timeout)
        if self.kind != VALUE:
            raise self._error()
        return self._value()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that `result` would raise, None when it would return. Raises AskTimeout, CancelledError as
        `result` does.
        """
        if self.kind < 0:
            self._block(timeout)
        if self.kind == VALUE:
            return None
        error = self._error()
        if isinstance(error, concurrent.futures.CancelledError):
            raise error
        return error

    def __await__(self) -> Generator[Any, None, R_co]:
        if self.kind < 0:
            self.client.endpoint.spin_for(self)
            if self.kind < 0:
                yield from self._suspend()
        if self.kind == Kind.CANCELLED:
            raise asyncio.CancelledError
        if self.kind != VALUE:
            raise self._error()
        return self._value()

    # --- acting

    def cancel(self) -> bool:
        """Give the call up: dropped if it still waits in the mailbox, its handler cancelled if it is async and runs.

        True: cancelled; False: it has ended already.
        """
        if self.done():
            return False
        self._end(Kind.CANCELLED)
        if self.kind != Kind.CANCELLED:  # the answer was faster
            return False
        self.client.withdraw(self)
        return True

    def add_done_callback(self, fn: Callable[[Reply[Any]], object]) -> None:
        """Call fn(reply) once it has ended: at once if it has, else in the thread or loop that collects it."""
        self._call(fn, None)

    def future(self) -> concurrent.futures.Future[R_co]:
        """A real `concurrent.futures.Future` with the same outcome, for `wait` and `as_completed`. Cancelling it
        cancels the call.
        """
        future: concurrent.futures.Future[R_co] = concurrent.futures.Future()

        begun = False

        def settle() -> None:
            nonlocal begun
            if self.kind == Kind.CANCELLED:
                future.cancel()
            if begun:  # a signal handler raised the last time
                if future.done():
                    return
            else:
                begun = True
                if not future.set_running_or_notify_cancel():
                    return
            try:
                error = self.exception(0)
            except concurrent.futures.CancelledError as cancelled:
                error = cancelled
            if error is None:
                future.set_result(self.result(0))
            else:
                future.set_exception(error)

        def ended(
            _: object,
        ) -> None:  # a future's lock, a Condition, stays locked if a signal handler raises at the wrong moment
            if not self.client.endpoint.elsewhere(settle):
                settle()

        future.add_done_callback(lambda f: self.cancel() if f.cancelled() else None)
        self._call(ended, None, True)
        return future

    # --- inside

    def run_callbacks(self) -> None:
        """Fetch a body that the guardian keeps, and run what waits for the end. Anyone may call it; each callback runs
        once, ours again if a signal handler raised on the way.
        """
        if self.flags & HANDLE:
            with contextlib.suppress(errors.ActorsError):  # the system is gone: whoever looks will hear of it
                self._fetch()
        for entry in self.cbs or ():
            fn, loop, ours = entry
            if fn is None:
                continue
            entry[0] = None  # no call between the look and this: nothing can come between
            try:
                if loop is None or loop is asyncio._get_running_loop():
                    fn(self)
                elif not loop.is_closed():
                    loop.call_soon_threadsafe(fn, self)
            except Exception:  # a broken callback or a closed loop must not stop the others (as in concurrent.futures)
                logging.getLogger("actors").exception("callback of %r failed", self)
            except BaseException:
                if ours:
                    entry[0] = fn
                raise

    def also(self, fn: Callable[[Reply[Any]], object]) -> None:
        """Call fn(reply), once, when it has ended; by a thread that collects itself, and perhaps not for the first time."""
        if not any(entry[0] == fn for entry in self.cbs or ()):
            self._call(fn, None, True, False)

    def _call(
        self,
        fn: Callable[[Reply[Any]], object],
        loop: asyncio.AbstractEventLoop | None,
        ours: bool = False,
        watch: bool = True,
    ) -> None:
        if self.cbs is None:
            self.cbs = []
        self.cbs.append([fn, loop, ours])  # append, then look: the collector sets the kind, then looks
        if self.kind >= 0:
            self.run_callbacks()
        elif loop is None and watch:
            self.client.endpoint.watch(self)

    def _suspend(self) -> Generator[Any, None, None]:
        loop = asyncio.get_running_loop()
        endpoint = self.client.endpoint
        endpoint.attach(loop)
        future = loop.create_future()
        timer = None
        if self.deadline:
            timer = loop.call_later(max(0.0, (self.deadline - time.monotonic_ns()) / 1e9), self.expire)
        mailbox = endpoint.blocked()
        if mailbox is not None:
            mailbox.waiting = self.uid
        self._call(lambda _: None if future.done() else future.set_result(None), loop, True)
        try:
            yield from future
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            if mailbox is not None:
                mailbox.waiting = 0
            if timer is not None:
                timer.cancel()

    def _block(self, timeout: float | None) -> None:
        timeout = bounded(timeout)
        endpoint = self.client.endpoint
        if self.uid and not endpoint.may_block():  # the guardian answers by itself: waiting for it is slow, no deadlock
            if timeout != 0:  # always, not only when the answer is late: what works by chance fails some day
                raise RuntimeError(
                    f"{self._what}: result() would block the event loop; in a coroutine, await it: `await ref.ask(...)`"
                )
            if not self.done():
                raise errors.AskTimeout(f"{self._what}: no answer yet")
            return
        seconds, final = timeout, False
        if self.deadline:
            left = max(0.0, (self.deadline - time.monotonic_ns()) / 1e9)
            final = seconds is None or left <= seconds
            seconds = left if final else seconds
        mailbox = endpoint.blocked()
        if mailbox is not None:
            mailbox.waiting = self.uid
        try:
            if endpoint.wait(self, seconds):
                return
            if final:
                self.expire()
            elif self.kind < 0:
                raise self._late(timeout)
        finally:
            if mailbox is not None:
                mailbox.waiting = 0

    def expire(self) -> None:
        """End it if its deadline has passed."""
        if self.kind < 0 and self.deadline and time.monotonic_ns() >= self.deadline:
            late = self._late(self.seconds)
            self._end(Kind.EXPIRED)
            if self.kind == Kind.EXPIRED:
                self.got = late
                self.client.withdraw(self)

    def _late(self, seconds: float | None) -> errors.AskTimeout:
        """Says who waits for whom, if that is why."""
        return errors.AskTimeout(f"{self._what}: no answer within {seconds:g} s{self.client.cycle(self.uid)}")

    def _end(self, kind: int) -> None:
        """End it from this side; the answer that may still come fills a stand-in (its slot stays reserved until then)."""
        table = self.client.endpoint.table
        if self.position != UNSENT:
            table[self.corr] = Unwanted(self.client)
        if self.kind >= 0:  # collected just before: there is nothing left to come
            table.pop(self.corr, None)
            return
        self._conclude(kind)

    def fail(self, error: BaseException) -> None:
        """It can't be sent: end it with this error."""
        if self.kind < 0:
            self.got = error
            self._conclude(Kind.DIED)

    def _conclude(self, kind: int) -> None:
        self.body, self.flags, self.kind = b"", 0, int(kind)
        if self.waitfd >= 0:
            os.eventfd_write(self.waitfd, 1)
        if self.cbs:
            self.run_callbacks()

    def _value(self) -> R_co:
        got = self.got
        if got is _MISSING:
            if self.flags & HANDLE:
                self._fetch()
            body, flags = self.body, self.flags
            assert body is not None
            got = self.got = decode(body, flags)
            self.body = None
        value: R_co = got
        return value

    def _fetch(self) -> None:
        """Take hold of an answer's parts, so that they are this reply's from now on."""
        client = self.client
        with client.fetching:
            body = self.body
            if not self.flags & HANDLE or body is None or isinstance(body, Parcel):
                return
            if self.sender == GUARDIAN:
                self.body = client.fetch_blob(body)
                self.flags &= ~HANDLE
            else:
                self.body = client.arena.open(body)
                client.arena.release(body)

    def _error(self) -> BaseException:
        if self.got is _MISSING:
            self.got = self._decode_error()
        error: BaseException = self.got
        return error

    def _decode_error(self) -> BaseException:
        if self.flags & HANDLE:
            self._fetch()
        body, kind = self.body or b"", self.kind
        if kind == Kind.ERROR:
            error = decode_error(body, self.flags)
            if type(error) is errors.RemoteError:
                error, error.__cause__ = errors.RemoteError(f"{self._what}: {error}"), error.__cause__
            return error
        if kind == Kind.DIED:
            return died(self._what, wire.loads(body))
        if kind == Kind.REFUSED:
            name, text = wire.loads(body)
            refusal: BaseException = getattr(errors, name, errors.ActorsError)(text)
            return refusal
        if kind == Kind.CANCELLED:
            return concurrent.futures.CancelledError(f"{self._what}: cancelled")
        return self._late(self.seconds)


class Unwanted(ReplyBase):
    """Stands where an answer may still come to a reply that has ended: a large one must be let go of."""

    __slots__ = ("client",)

    client: Client

    def __new__(cls, client: Client) -> Unwanted:
        self = super().__new__(cls)
        self.client, self.cbs = client, []
        return self

    def run_callbacks(self) -> None:
        if self.flags & HANDLE and self.body and self.sender != GUARDIAN:
            self.client.arena.release(self.body)


def died(label: str, wire: dict[str, Any]) -> errors.ActorDied:
    """The `ActorDied` that the guardian's word stands for."""
    if wire.get("system"):
        return errors.SystemDied(
            f"{label}: system {wire['system']!r} is gone ({wire.get('text', 'its guardian ended')})"
        )
    reason = ExitReason.from_wire(wire["reason"]) if wire.get("reason") else None
    restarting = bool(wire.get("restarting"))
    what = (
        f"its incarnation died ({reason}); the next one answers new calls"
        if restarting
        else f"the actor has ended ({reason or 'unknown'})"
    )
    return errors.ActorDied(f"{label}: {what}", reason, restarting)

"""`Mailbox`: a named queue that many processes share, with `queue.Queue`'s meaning.

Rule: a mailbox is a name. Whoever says it (the program, actors, programs that have attached) maps the same ring, and
puts and takes without a middleman; the guardian only makes it, and gives back what a dead consumer had in hand. A
message is in the mailbox when `put` returns, and stays there, whoever dies, until `get` has returned it or a `take`
block has ended well.

Two ways to take: `get` hands a message over, and with it all responsibility, as `queue.Queue` does. `take` keeps it in
the mailbox until the block ends; if the block raises, or its process dies before, the message is the next one to be
taken, and `redelivered` says how often that has happened.

Rejected: a message given back behind the others (work would change its order whenever something dies); acknowledging
with tokens (a block can't forget it); prefetching into consumers (faster, and a slow one would sit on work).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from typing import Any, Generic, NoReturn, TypeVar

from . import extensions
from .address import check_name
from .arena import WINDOW, to_actor
from .arrivals import pass_on, wait
from .client import SHORT, Client, goes_beside, made
from .codec import decode, encode, unpack, unreadable
from .errors import ActorsError, CodecError, SpecError
from .mailbox import LARGEST, SMALLEST
from .message import HANDLE, Kind
from .named_ring import MailboxClosed, NamedRing
from .taken import Got, Taken, TakenAsync
from .transports._ring import CLOSED, FULL, LEFT, NOMEM, STUCK, Corrupt, Ring

T = TypeVar("T")

ITEM = int(Kind.ITEM)
SLICE = 0.1  # seconds between an actor's looks whether it has been asked to stop
LOOK = 1.0  # seconds between a coroutine's looks, should a wake-up be lost with the process that owed it
SHORTEST, LONGEST = 0.0005, 0.02  # seconds between tries of coroutines for room, which has no descriptor


class Mailbox(NamedRing, Generic[T]):
    """A named mailbox, made by `ActorSystem.mailbox`; can be sent in messages and pickled.

    Methods and exceptions are those of `queue.Queue` (`queue.Empty`, `queue.Full`), across processes. In a coroutine
    use the awaitable forms: `get` and `take` would block its event loop and say so, `put` raises `queue.Full` rather
    than wait.
    """

    __slots__ = ()

    # --- putting

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put a message; it is in the mailbox when this returns.

        Waits for room, at most `timeout` seconds, unless `block` is false. Raises `queue.Full`: no room in time (in a
        coroutine at once); `MailboxClosed`; `CodecError` when the item can't be sent; `SystemDied`; ValueError for a
        negative timeout.
        """
        seconds = None if timeout is None and block else _seconds(block, timeout)
        body, flags = encode(item)
        ring = self._ring
        try:  # the short way: mapped, small, room, nothing to explain
            if (
                ring is None
                or flags & HANDLE
                or len(body) > SHORT
                or made
                or ring.push(body, ITEM, flags, 0, 0, 0, 0.0) < 0
            ):
                self._put_slowly(body, flags, seconds)
        except Corrupt as error:
            raise self._corrupt(error) from None

    def put_nowait(self, item: T) -> None:
        """`put(item, block=False)`."""
        self.put(item, False)

    async def put_async(self, item: T) -> None:
        """`put` that waits for room without blocking the event loop."""
        body, flags = encode(item)
        ring, client = self._opened()
        if made:
            client.define()
        pause, large = SHORTEST, bool(flags & HANDLE) or goes_beside(body, ring)
        while large and not client.arena.has_room(to_actor(self._uid)):
            self._still_open(ring)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST)
        body, flags = self._packed(ring, client, body, flags) if large else (body, flags)
        pause = SHORTEST
        try:
            while (said := self._push(ring, body, flags, 0.0)) < 0:
                if said not in (FULL, STUCK):
                    self._refuse(ring, said, None)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)
        except BaseException:
            if large:
                client.arena.release(body)
            raise

    def _put_slowly(self, body: bytes, flags: int, seconds: float | None) -> None:
        ring, client = self._opened()
        if made:
            client.define()
        patience = seconds if client.endpoint.may_block() else 0.0
        told = patience if patience == seconds else None
        end = None if patience is None else time.monotonic() + patience
        if large := bool(flags & HANDLE) or goes_beside(body, ring):
            self._await_window(ring, client, end, told)
            body, flags = self._packed(ring, client, body, flags)
        try:
            said = self._push(ring, body, flags, -1.0 if end is None else max(0.0, end - time.monotonic()))
            if said < 0:
                self._refuse(ring, said, told)
        except BaseException:
            if large:
                client.arena.release(body)
            raise

    def _packed(self, ring: Ring, client: Client, body: bytes, flags: int) -> tuple[bytes, int]:
        """A large message as it goes into the ring, with a lease of the mailbox on what lies beside it."""
        return client.arena.pack(body, to_actor(self._uid), goes_beside(body, ring)), flags | HANDLE

    def _await_window(self, ring: Ring, client: Client, end: float | None, told: float | None) -> None:
        """Large data does not fill a mailbox, so a producer waits here until enough of its own was taken."""
        pause = SHORTEST
        while not client.arena.has_room(to_actor(self._uid)):
            if end is not None and time.monotonic() >= end:
                raise queue.Full(f"{self!r}: {WINDOW:,} bytes of large data of this process wait in it{_waited(told)}")
            self._still_open(ring)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST)

    def _still_open(self, ring: Ring) -> None:
        self._opened()  # the system is there
        if ring.closed:
            self._refuse(ring, CLOSED, None)

    def _push(self, ring: Ring, body: bytes, flags: int, timeout: float) -> int:
        try:
            return ring.push(body, ITEM, flags, 0, 0, 0, timeout)
        except Corrupt as error:
            raise self._corrupt(error) from None

    def _refuse(self, ring: Ring, said: int, seconds: float | None) -> NoReturn:
        """Why a message was not put. seconds: that it was tried for; None: in a coroutine, which can't wait."""
        if said == CLOSED:
            raise MailboxClosed(f"{self!r} is closed; nothing can be put")
        if said == LEFT:
            raise self._left()
        if said == NOMEM:
            raise MemoryError(f"{self!r}: no memory for it (machine or cgroup limit)")
        if said == STUCK:
            raise queue.Full(f"{self!r}: process {ring.owner()} stopped (SIGSTOP?) in the middle of a put")
        if self._maxsize and ring.waits() >= self._maxsize:
            what = f"{self._maxsize} messages wait (maxsize)"
        else:
            what = (
                f"its {ring.capacity} bytes are in use, also by messages in hand and those put since the oldest of them"
            )
        raise queue.Full(f"{self!r}: {what}{_waited(seconds)}")

    # --- getting

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest message out of the mailbox. It is this process's own from then on; see `take`.

        Waits for one, at most `timeout` seconds, unless `block` is false. Raises `queue.Empty`: none in time;
        `MailboxClosed`: closed, and all that was in it is over (or this actor has been asked to stop, and nothing
        waits); RuntimeError: it would have to wait, in a coroutine; `CodecError`: it can't be read here, and is taken out all
        the same; `SystemDied`; ValueError for a negative timeout.
        """
        ring = self._ring
        seconds = None if timeout is None and block else _seconds(block, timeout)
        try:
            got = ring.get(0.0, False, None) if ring is not None else 0
        except Corrupt as error:
            raise self._corrupt(error) from None
        if not isinstance(got, tuple):
            got = self._get_slowly(seconds, None)
        if got[1]:
            return self._read(got)
        try:
            return unpack(got[0])  # type: ignore[no-any-return]
        except Exception as error:
            raise unreadable(error) from error

    def get_nowait(self) -> T:
        """`get(block=False)`."""
        return self.get(False)

    async def get_async(self) -> T:
        """`get` that waits without blocking the event loop. A task that is cancelled while it waits loses nothing."""
        return self._read(await self._get_async(None))

    def take(self, block: bool = True, timeout: float | None = None) -> Taken[T]:
        """`with box.take() as message:` takes the oldest message when the block begins, and out of the mailbox when it
        has ended well (which counts as a `task_done`).

        If the block raises, or the process dies, the message goes back: it is the next one to be taken, and
        `.redelivered` of what this returns is then one more. Waits and raises as `get`, at the beginning of the block.
        """
        return Taken(self, _seconds(block, timeout))

    def take_async(self) -> TakenAsync[T]:
        """`async with box.take_async() as message:`, the same for coroutines."""
        return TakenAsync(self, None)

    def __iter__(self) -> Mailbox[T]:
        return self

    def __next__(self) -> T:
        """The next message, waiting for it; the iteration ends when the mailbox is closed and everything in it is over."""
        try:
            return self.get()
        except MailboxClosed:
            raise StopIteration from None

    def __aiter__(self) -> Mailbox[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get_async()
        except MailboxClosed:
            raise StopAsyncIteration from None

    def _get_slowly(self, seconds: float | None, into: list[Got] | None) -> Got:
        """Take one, waiting so many seconds. into: it stays in hand, and lies there as soon as it is."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            ring, client = self._opened()
            waits = client.endpoint.may_block()
            left = -1.0 if end is None else max(0.0, end - time.monotonic())
            if client.uid and not 0.0 <= left < SLICE:
                left = SLICE
            got = self._take(ring, left if waits else 0.0, into)
            if isinstance(got, tuple):
                return got
            if got in (CLOSED, LEFT):
                raise self._over(ring, got)
            if end is not None and time.monotonic() >= end:
                raise queue.Empty(self._stuck(ring) if got == STUCK else f"{self!r} is empty")
            if not waits:
                raise RuntimeError(f"{self!r}: this would block the event loop; in a coroutine use the awaitable form")
            if client.endpoint.stopping():
                raise self._stopping()

    async def _get_async(self, into: list[Got] | None) -> Got:
        while True:
            ring, client = self._opened()
            got = self._take(ring, 0.0, into)
            if isinstance(got, tuple):
                pass_on(ring)
                return got
            if got in (CLOSED, LEFT):
                raise self._over(ring, got)
            if client.endpoint.stopping():
                raise self._stopping()
            await wait(ring, SLICE if client.uid else LOOK)

    def _take(self, ring: Ring, timeout: float, into: list[Got] | None) -> Got | int:
        try:
            return ring.get(timeout, into is not None, into)
        except Corrupt as error:
            raise self._corrupt(error) from None

    def _over(self, ring: Ring, said: int) -> ActorsError:
        """Nothing more will come."""
        client = self._client
        if said == LEFT or client is None:
            return self._left()
        if client.boxes.get(self.name) is ring and client.gone is None:
            del client.boxes[self.name]
            client.send("box_over", name=self.name)
        return MailboxClosed(f"{self!r} is closed, and nothing is left in it")

    def _stopping(self) -> ActorsError:
        return MailboxClosed(f"{self!r} is empty, and this actor has been asked to stop")

    def _read(self, got: Got) -> T:
        """What a message says that was taken out; one with large data is still in hand until that has been opened."""
        _, flags, _, position = got
        if not flags & HANDLE:
            return self._body(got)
        ring, client = self._opened()
        try:
            try:
                item = self._body(got)
            except BaseException as error:
                if isinstance(error, CodecError):  # nobody can read it: back in the mailbox, it would come first again
                    self._end(ring, client, got)
                else:
                    ring.give_back(position)
                raise
            over = self._end(ring, client, got)
        except Corrupt as error:
            raise self._corrupt(error) from None
        if not over:
            raise self._left()
        return item

    def _end(self, ring: Ring, client: Client, got: Got) -> bool:
        """False: it has come back, to others, and so have its parts."""
        if not ring.end(got[3], False):
            return False
        client.arena.release(got[0])
        return True

    def _body(self, got: Got) -> T:
        body, flags = got[:2]
        if flags & HANDLE:
            body = self._opened()[1].arena.open(body)
        return decode(body, flags)  # type: ignore[no-any-return]

    # --- looking

    def qsize(self) -> int:
        """How many messages wait; those in hand in a `take` block are not counted."""
        ring = self._ring_or_none()
        return 0 if ring is None else ring.waits()

    def empty(self) -> bool:
        """Does no message wait?"""
        return self.qsize() == 0

    def full(self) -> bool:
        """Do `maxsize` messages wait? (Whether its bytes have room for another one, only `put` can tell.)"""
        return 0 < self.maxsize <= self.qsize()

    @property
    def maxsize(self) -> int:
        """Messages that may wait at a time; 0: as many as its capacity holds."""
        self._ring_or_none()
        return self._maxsize

    # --- finishing

    def task_done(self) -> None:
        """A message that `get` returned is finished. ValueError: called more often than messages were put."""
        ring = self._ring_or_none()
        if ring is None or not ring.task_done():
            raise ValueError("task_done() called too many times")

    def join(self, timeout: float | None = None) -> None:
        """Wait until every message that was ever put is finished: by `task_done`, or by the end of its `take` block.

        TimeoutError: not within `timeout` seconds. RuntimeError: in a coroutine; see `join_async`.
        """
        ring = self._ring_or_none()
        if ring is None:
            return
        if timeout != 0 and self._client is not None and not self._client.endpoint.may_block():
            raise RuntimeError(f"{self!r}: this would block the event loop; in a coroutine use join_async")
        said = ring.finished(-1.0 if timeout is None else timeout)
        if said == LEFT:
            raise self._left()
        if not said:
            raise TimeoutError(f"{self!r}: not everything is finished within {timeout:g} s")

    async def join_async(self) -> None:
        """`join` for coroutines."""
        pause = SHORTEST
        while True:
            try:
                self.join(0)
                return
            except TimeoutError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)

    def close(self) -> None:
        """Refuse what is put from now on, also by those who wait for room: `MailboxClosed`. What is in it can be taken;
        then consumers end, likewise (iterations end). For good: the name stays closed. Calling it again is harmless.
        """
        if self._ring_or_none() is not None and self._client is not None:
            self._client.exchange("box_close", name=self.name)


def mailbox(system: str, name: str, maxsize: int, capacity: int) -> Mailbox[Any]:
    """`ActorSystem.mailbox`."""
    if not isinstance(maxsize, int) or maxsize >= 1 << 32:
        raise SpecError(f"maxsize of mailbox {name!r} is {maxsize!r}: give a number of messages, or 0 for any number")
    if not isinstance(capacity, int) or not SMALLEST <= capacity <= LARGEST:
        raise SpecError(f"capacity of mailbox {name!r} is {capacity!r}: give bytes from {SMALLEST} to {LARGEST}")
    box: Mailbox[Any] = Mailbox(system, check_name(name))
    with contextlib.suppress(MailboxClosed):
        box._open(max(0, maxsize), 1 << (capacity - 1).bit_length())
    return box


def _waited(seconds: float | None) -> str:
    return "; in a coroutine use put_async" if seconds is None else f" for {seconds:g} s" if seconds else ""


def _seconds(block: bool, timeout: float | None) -> float | None:
    """How long to wait; None: for ever."""
    if not block:
        return 0.0
    if timeout is not None and not timeout >= 0:  # NaN, too
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


extensions.BY_TYPE[Mailbox] = extensions.Extension(extensions.MAILBOX, lambda box: [box._system, box.name], False)

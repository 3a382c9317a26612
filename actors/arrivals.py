"""`Arrivals`: coroutines of one event loop that wait for the next message of one mailbox.

Rule: they never block the loop, and no message waits while one of them could take it. A waiter says so in the shared
words (`Ring.poll`) and sleeps on the mailbox's bell, which all processes share; whoever is woken says it again for the
others, takes, and passes the turn on if there is more. A waiter that is cancelled passes its turn on as well.

A process may be killed between the bell and its turn: the guardian then rings for the others, and every waiter looks
by itself now and then.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .transports._ring import Ring


class Arrivals:
    """One loop, one mailbox; there is one only while somebody waits."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.waiters: collections.deque[asyncio.Future[None]] = collections.deque()

    def turn(self) -> None:
        """Wake one if there is a message for it."""
        if self.waiters and self.ring.poll():
            self._wake_one()

    def rung(self) -> None:
        """The bell."""
        with contextlib.suppress(BlockingIOError):  # another process has read it
            os.eventfd_read(self.ring.bell)
        self.turn()
        while self.waiters and self.ring.closed:
            self._wake_one()

    def _wake_one(self) -> None:
        while self.waiters:
            future = self.waiters.popleft()
            if not future.done():
                future.set_result(None)
                return


_all: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Arrivals]] = weakref.WeakKeyDictionary()


async def wait(ring: Ring, seconds: float) -> None:
    """Until there may be a message, the mailbox was closed, or so many seconds have passed."""
    if ring.poll():
        return
    loop = asyncio.get_running_loop()
    here = _all.setdefault(loop, {})
    arrivals = here.get(ring.bell)
    if arrivals is None:
        arrivals = here[ring.bell] = Arrivals(ring)
        loop.add_reader(ring.bell, arrivals.rung)
    future = loop.create_future()
    arrivals.waiters.append(future)
    timer = loop.call_later(seconds, _wake, future)
    try:
        await future
    except asyncio.CancelledError:
        if future not in arrivals.waiters:  # it was woken before
            arrivals.turn()
        raise
    finally:
        timer.cancel()
        if future in arrivals.waiters:
            arrivals.waiters.remove(future)
        if not arrivals.waiters and here.get(ring.bell) is arrivals:
            del here[ring.bell]
            loop.remove_reader(ring.bell)


def pass_on(ring: Ring) -> None:
    """A coroutine of this loop has taken a message: is there one for another?"""
    here = _all.get(asyncio.get_running_loop())
    if here and ring.bell in here:
        here[ring.bell].turn()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""This process's receiving side: the answers to what it asked, whoever waits for them.

Rule: anybody may collect at any time; there are no locks and no roles. One C call (`Inbox.collect`), atomic under the
GIL, clears the bell, disarms, spins, puts each answer into its `Reply`, wakes the thread that blocks on it and arms
again before it returns. Blocking threads, asyncio loops and the reader thread all just call it; decoding happens in the
asker's frame.

Design: an endpoint has two bells. `bell` belongs to the reply lane and is cleared by anyone. `door` belongs to the
control lane (and to an actor's mail); its one owner clears it: the reader thread in a program, the event loop in an
actor.

Every open ask reserves one slot of the reply lane, so that a callee never has to wait to answer; `limit` is how many
fit.

A thread that waits for the guardian does not rely on the door's owner, which may be busy with a user's callback or
handler: it looks for itself every PATIENCE, and leaves the news that it finds to the owner (`alert`).

Rejected: a leader thread that reads for the others, and a gate lock with try-acquire; both lost wake-ups under
exceptions raised by signal handlers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .transports._ring import SLOT, Inbox, Ring

if TYPE_CHECKING:
    from .reply import Reply
    from .transports._ring import News

SPIN = 20.0  # microseconds: as good as 50 in measurements, and what the GIL may be held for
BUDGET = 32  # asks that a coroutine may await without a turn of its event loop
PATIENCE = 20.0  # milliseconds
LONGEST = 1e9  # milliseconds: more is too much for poll(2)

_own: LoopEndpoint | None = None  # of the actor that this process is: its handlers may wait for other systems, too


class Endpoint:
    """The receiving side of a program: many threads and event loops, none of them ours."""

    def __init__(self, me: int, replies: Ring, bell: int) -> None:
        self.me = me
        self.bell = bell
        self.replies = replies
        self.limit = replies.capacity // 2 // SLOT
        self.table: dict[int, Any] = {}
        self.fire: list[Any] = []
        self.news: list[News] = []
        self.ids = itertools.count((me << 32) + 1)
        self.inbox = Inbox(bell, replies, None, None)
        self.local = threading.local()
        self.budget = BUDGET
        self.loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def blocked(self) -> Ring | None:
        """The mailbox of the actor that handles nothing while this frame waits; its header tells others for whom."""
        return None

    def stopping(self) -> bool:
        """Has this process's actor been asked to end when its mail is handled?"""
        return False

    def watch(self, reply: Reply[Any]) -> None:
        """Somebody wants a callback and may never collect: make sure that somebody does, and that a deadline is kept."""

    def alert(self) -> None:
        """There is news, or there are callbacks, that this thread can't see to: tell the owner of the door."""

    def elsewhere(self, call: Callable[[], object]) -> bool:
        """Leave a call that takes locks of Python's own to a thread in which no signal handler can raise. False: this
        one will do.
        """
        return False

    def hand(self, call: Callable[[], object]) -> None:
        """Leave a call that may take long, or that this frame can't make, to the owner of the door."""
        call()

    def is_owner(self) -> bool:
        """Is this the thread that owns the door?"""
        return False

    def look(self) -> None:
        """Collect the guardian's answers from a thread that does not own the door."""
        self.pump()

    def may_block(self) -> bool:
        """False in a coroutine or callback of an event loop, where blocking would stop everything else."""
        return asyncio._get_running_loop() is None or _in_notebook() or (_own is not None and _own.in_handler())

    def pump(self, spin: float = 0.0, mine: Reply[Any] | None = None, clear: bool = False) -> None:
        """Collect what has come and run the callbacks that it sets off."""
        try:
            self.inbox.collect(self.table, self.fire, self.news, spin, mine, clear)
            self.run_fired()
        except BaseException:  # a signal handler raised: what it kept this thread from is not this thread's alone
            self.alert()
            raise

    def run_fired(self) -> None:
        """Run the callbacks of what was collected."""
        while self.fire:
            try:
                reply = self.fire[0]
                reply.run_callbacks()  # each runs once; taken off only afterwards, so that an exception loses none
                self.fire.remove(reply)
            except (IndexError, ValueError):  # another thread was faster
                continue

    def pollable(self) -> list[tuple[int, int]]:
        """Descriptors, with the events, that say that something may have come for this thread when it is blocked."""
        return [(self.bell, select.POLLIN)]

    def rung(self, fd: int, reply: Reply[Any] | None) -> None:
        """One of them did, while this thread waits for `reply`, or (None) for what its callbacks lead to."""
        if reply is None:
            self.pump(0.0, None, True)
        else:
            self.pump_for(reply, 0.0, True)

    def pump_for(self, reply: Reply[Any], spin: float, clear: bool = False) -> None:
        """`pump` by one who waits for this reply: that thread is not woken, others that wait for the same one are."""
        self.pump(spin, reply, clear)
        if reply.kind >= 0 and reply.waitfd >= 0 and reply.waitfd != self.own_fd():
            os.eventfd_write(reply.waitfd, 1)

    def own_fd(self) -> int:
        """What wakes this thread, if it has ever waited."""
        own: _Eventfd | None = getattr(self.local, "own", None)
        return own.fd if own is not None else -1

    def wait(self, reply: Reply[Any], seconds: float | None) -> bool:
        """Block this thread until the reply is there. False: the time is over."""
        self.pump_for(reply, SPIN)
        if reply.kind >= 0:
            return True
        end = None if seconds is None else time.monotonic() + seconds
        waiter, _ = self._waiter()
        if reply.waitfd < 0:
            reply.waitfd = waiter.fd  # published; whoever fills the reply from now on writes it, so look again
        else:
            reply.also(waiter.ring)  # another thread waits for it
        try:
            while reply.kind < 0:
                if not self._sleep(end, reply.uid == 0, reply):
                    return False
            return True
        finally:
            if reply.waitfd == waiter.fd:
                reply.waitfd = -1

    def block(
        self,
        is_over: Callable[[], bool],
        rings: list[int],
        lock: AbstractContextManager[object],
        end: float | None = None,
        is_restless: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Block this thread until `is_over()`; who makes it so then writes to all `rings`, under their lock. False: it
        is later than `end`. While `is_restless()`, what no bell tells of (the guardian's answers) is looked for, too.
        """
        own, _ = self._waiter()
        rings.append(own.fd)
        try:
            while not is_over():
                if not self._sleep(end, is_restless()):
                    return False
            return True
        finally:
            with lock:  # not while they are written to: this thread may end, and its descriptor with it
                rings.remove(own.fd)

    def _sleep(self, end: float | None, restless: bool, reply: Reply[Any] | None = None) -> bool:
        """Until something rings, or there may be something to look for. False: it is later than `end` already."""
        own, poll = self._waiter()
        left = LONGEST if end is None else min((end - time.monotonic()) * 1e3, LONGEST)
        if left <= 0:
            return False
        rung = poll.poll(min(left, PATIENCE) if restless else left)
        for fd, _ in rung:
            if fd == own.fd:
                os.eventfd_read(fd)
            else:
                self.rung(fd, reply)
        if restless and not rung:
            self.look()
        return True

    def _waiter(self) -> tuple[_Eventfd, select.poll]:
        local = self.local
        if getattr(local, "pid", 0) != os.getpid():
            local.pid = os.getpid()
            local.own = _Eventfd()
            local.poll = select.poll()
            local.poll.register(local.own.fd, select.POLLIN)
            for fd, events in self.pollable():
                local.poll.register(fd, events)
        return local.own, local.poll

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let this event loop collect from now on."""
        if loop not in self.loops:
            self.loops.add(loop)
            loop.add_reader(self.bell, self.pump, 0.0, None, True)

    def detach_all(self) -> None:
        for loop in list(self.loops):
            if not loop.is_closed():
                try:
                    loop.remove_reader(self.bell)
                except RuntimeError:
                    continue
        self.loops.clear()

    def spin_for(self, reply: Reply[Any]) -> None:
        """Called by `await`: the loop of a program isn't ours, so spin only while it has nothing else to do, as far as
        it lets us see, and let it turn every BUDGET asks, for its descriptors and timers.
        """
        self.budget -= 1
        if self.budget > 0:
            alone = not getattr(asyncio._get_running_loop(), "_ready", True)
            self.pump_for(reply, SPIN if alone else 0.0)
        else:
            self.budget = BUDGET

    def make_room(self, deadline: float | None) -> bool:
        """Wait until fewer than `limit` asks are open. False: not in time, or this thread must not block."""
        self.pump()
        while len(self.table) >= self.limit:
            if not self.may_block() or (deadline is not None and time.monotonic() >= deadline):
                return False
            poll = select.poll()
            for fd, events in self.pollable():
                poll.register(fd, events)
            if poll.poll(50):
                self.pump(0.0, None, True)
            else:
                self.pump()
        return True

    def fail_all(self, kind: int, body: bytes) -> None:
        """End every open ask with this outcome (the system is gone)."""
        while self.table:
            try:
                _, reply = self.table.popitem()
            except KeyError:
                break
            if reply.kind < 0:
                reply.body, reply.flags, reply.kind = body, 0, kind
                if reply.waitfd >= 0:
                    os.eventfd_write(reply.waitfd, 1)
                if reply.cbs:
                    reply.run_callbacks()

    def abandon(self, kind: int, body: bytes) -> None:
        """In a forked child: the lanes are its parent's, from which it must take nothing. Open asks end with this
        outcome here; callbacks and event loops are the parent's, too.
        """
        for reply in self.table.values():
            reply.cbs = None
            if reply.kind < 0:
                reply.body, reply.flags, reply.kind = body, 0, kind
        self.table.clear()
        self.fire.clear()
        self.news.clear()
        self.loops = weakref.WeakSet()
        os.close(self.bell)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.inbox = Inbox(self.bell, None, None, None)


class LoopEndpoint(Endpoint):
    """The receiving side of an actor: one event loop, ours, which owns the door; other threads of the actor may ask as
    well.
    """

    def __init__(self, me: int, replies: Ring, bell: int, control: Ring, mail: Ring, door: int) -> None:
        super().__init__(me, replies, bell)
        self.door = door
        self.main = Inbox(door, replies, control, mail)
        self.thread = threading.get_ident()
        self.loop: asyncio.AbstractEventLoop | None = None
        global _own
        _own = self
        self.in_sync = False  # true while the loop runs a sync handler: the one place where its thread may block
        self.mail = mail
        self.handler: asyncio.Task[Any] | None = None  # where one message is handled at a time: the task that does
        self.dispatch: Callable[[], object] = lambda: None  # what sees to the news
        self.alerted = False

    def abandon(self, kind: int, body: bytes) -> None:
        super().abandon(kind, body)
        self.main, self.loop = self.inbox, None

    def may_block(self) -> bool:
        return self.in_handler() or super().may_block()

    def in_handler(self) -> bool:
        """Does this thread run a sync handler?"""
        return self.in_sync and threading.get_ident() == self.thread

    def blocked(self) -> Ring | None:
        if threading.get_ident() != self.thread or not (self.in_sync or asyncio.current_task() is self.handler):
            return None
        return self.mail

    def stopping(self) -> bool:
        return self.mail.closed != 0

    def watch(self, reply: Reply[Any]) -> None:
        if reply.deadline and self.loop is not None:
            self.loop.call_soon_threadsafe(self._expire_later, self.loop, reply)

    def _expire_later(self, loop: asyncio.AbstractEventLoop, reply: Reply[Any]) -> None:
        loop.call_later(max(0.0, (reply.deadline - time.monotonic_ns()) / 1e9), reply.expire)

    def alert(self) -> None:
        if self.loop is not None and not self.alerted:
            self.alerted = True
            self.loop.call_soon_threadsafe(self._alerted)

    def hand(self, call: Callable[[], object]) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call)

    def is_owner(self) -> bool:
        return threading.get_ident() == self.thread

    def _alerted(self) -> None:
        self.alerted = False
        self.run_fired()
        self.dispatch()

    def look(self) -> None:
        self.main.collect(self.table, self.fire, self.news, 0.0, None, False)
        if self.fire or self.news:
            self.alert()

    def pump(self, spin: float = 0.0, mine: Reply[Any] | None = None, clear: bool = False) -> None:
        if threading.get_ident() != self.thread:
            super().pump(spin, mine, clear)
            return
        if clear:
            self.inbox.clear()
        self.main.collect(self.table, self.fire, self.news, spin, mine, clear)
        self.run_fired()
        if self.news:  # seen to at once by the loop, otherwise when the handler in hand has ended or suspends
            self.alert()

    def pollable(self) -> list[tuple[int, int]]:
        bells = [self.bell, self.door] if threading.get_ident() == self.thread else [self.bell]
        return [(fd, select.POLLIN) for fd in bells]

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self.loop:
            super().attach(loop)

    def spin_for(self, reply: Reply[Any]) -> None:
        """Alone in our own loop: spin right here, but let the loop turn every BUDGET asks."""
        self.budget -= 1
        if self.budget > 0 and threading.get_ident() == self.thread:
            self.pump_for(reply, SPIN)
        else:
            self.budget = BUDGET


def _in_notebook() -> bool:
    """The cells of a notebook run inside its kernel's event loop, and block it as they like."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())


class _Eventfd:
    """An eventfd that ends with its thread."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self, _: object) -> None:
        os.eventfd_write(self.fd, 1)

    def __del__(self) -> None:
        os.close(self.fd)

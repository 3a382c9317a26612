"""The one thread that a program gets: it owns the door of its control lane.

Rule: it hears the guardian (answers to requests, ends, events, log lines) and its end, so that no call waits for ever;
it collects answers only when somebody asked for a callback and may never look. Callbacks of monitors, events and
`add_done_callback` run here and must be short.

It stops before a fork and starts again after it, in the parent only, so that a program that forks forks with one thread
less: Python 3.12 warns of more than one, and what a thread has locked at that moment stays locked in the child. (Some
releases of 3.13 count the threads after they were started again: that warning is held back where there was but one.)
It can't stop while a callback runs: the fork waits PATIENCE for that, no longer, since the callback may itself wait for
the forking thread; and not at all if the callback is what forks.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import logging
import os
import select
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .endpoint import Endpoint
from .transports._ring import Inbox, Ring

if TYPE_CHECKING:
    from .client import Client
    from .reply import Reply

PATIENCE = 0.02  # seconds
SETTLING = 1.0  # seconds that whoever closes a stream waits for a callback that is under way


class ProgramEndpoint(Endpoint):
    """The receiving side of a program, with the door for the reader."""

    def __init__(self, me: int, replies: Ring, bell: int, control: Ring, door: int) -> None:
        super().__init__(me, replies, bell)
        self.door = door
        self.hearing = Inbox(
            door, replies, control, None
        )  # replies as well: an answer comes before the news of its sender's death
        self.poke = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.reader = 0  # the reader thread
        self.lifeline: tuple[int, Callable[[], object]] = (
            -1,
            lambda: None,
        )  # the socket that hangs up with the guardian, and what then
        self.due: list[
            tuple[int, int, Reply[Any]]
        ] = []  # deadlines of replies that nobody but a callback waits for: a heap
        self.handed: collections.deque[Callable[[], object]] = collections.deque()  # calls left to the reader
        self.watched = self.closed = False
        self.hears = False  # the reader runs, or will again after a fork

    def watch(self, reply: Reply[Any]) -> None:
        if reply.deadline:
            heapq.heappush(self.due, (reply.deadline, reply.corr, reply))
        if not self.watched or reply.deadline:
            self.watched = True
            self.alert()

    def attend(self) -> None:
        """Collect answers as they come, whether somebody waits for them or not: the system is about to end."""
        self.watched = True
        self.alert()

    def alert(self) -> None:
        if not self.closed:
            os.eventfd_write(self.poke, 1)

    def elsewhere(self, call: Callable[[], object]) -> bool:
        """Signal handlers run in the main thread; the reader is another."""
        if not self.hears or threading.current_thread() is not threading.main_thread():
            return False
        self.hand(call)
        return True

    def hand(self, call: Callable[[], object]) -> None:
        """Leave a call to the reader, whoever this is."""
        self.handed.append(call)  # append, then look: the reader says that it leaves, then empties the queue
        if self.hears:
            self.alert()
        else:
            self.run_handed()

    def is_owner(self) -> bool:
        return threading.get_ident() == self.reader

    def run_handed(self) -> None:
        """Make the calls that were left to the reader."""
        while self.handed:
            try:
                call = self.handed.popleft()
            except IndexError:  # another thread was faster
                return
            call()

    def leave(self) -> None:
        """The reader ends for good."""
        self.hears = False
        self.run_handed()

    def abandon(self, kind: int, body: bytes) -> None:
        super().abandon(kind, body)
        self.hearing = self.inbox
        self.hears = False
        self.handed.clear()
        if not self.closed:
            os.close(self.door)
            os.close(self.poke)
        self.closed = True

    def look(self) -> None:
        self.hearing.collect(self.table, self.fire, self.news, 0.0, None, False)
        if self.fire or self.news:
            self.alert()

    def pollable(self) -> list[tuple[int, int]]:
        """In the reader itself (a callback that waits) everything that the reader listens to."""
        if threading.get_ident() != self.reader:
            return super().pollable()
        return [*super().pollable(), (self.door, select.POLLIN), (self.lifeline[0], select.POLLRDHUP)]

    def rung(self, fd: int, reply: Reply[Any] | None) -> None:
        if fd == self.door:
            self.hear()
        elif fd == self.lifeline[0]:
            self.lifeline[1]()
        else:
            super().rung(fd, reply)

    def hear(self) -> None:
        """Collect the guardian's answers and news. By the reader only."""
        self.hearing.collect(self.table, self.fire, self.news, 0.0, None, True)
        self.run_fired()

    def next_deadline(self) -> float | None:
        """End what is due. Milliseconds until the next deadline, None when there is none."""
        while self.due:
            deadline, _, reply = self.due[0]
            left = deadline - time.monotonic_ns()
            if reply.kind < 0 and left > 0:
                return left / 1e6
            heapq.heappop(self.due)
            reply.expire()
        return None

    def close(self) -> None:
        self.closed = True
        for fd in (self.bell, self.door, self.poke):
            os.close(fd)


class Reader:
    """Runs until the guardian is gone or `stop` is called."""

    def __init__(self, client: Client, endpoint: ProgramEndpoint) -> None:
        self.client, self.endpoint = client, endpoint
        self.thread: threading.Thread | None = None
        self.late: threading.Thread | None = None  # it was to end for a fork, and is still in a callback
        self.turn: object = None  # the running thread's; it ends when it has lost it
        self.busy = False  # with what may wait for others: callbacks, or the end of the thread before it
        self.forks = 0  # under way
        self.stopped = False
        self.lock = threading.RLock()  # of the above

    def start(self) -> None:
        _readers.add(self)
        self.endpoint.lifeline = self.client.sock.fileno(), self._hung_up
        self.turn = turn = object()
        self.endpoint.hears = True
        late, self.late = self.late, None
        self.busy = late is not None
        name = f"actors: {self.client.system} reader"
        self.thread = threading.Thread(target=self._run, args=(turn, late), name=name, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Hear what was said to the last and end the thread. In the thread itself (a callback that closes its system)
        it ends after that.
        """
        self.stopped = True
        thread = self._dismiss()
        if thread is None:
            return
        if thread is not threading.current_thread():
            thread.join()
        self._hear()
        self.endpoint.leave()

    def settle(self) -> None:
        """Return when the news that had come before this call are seen to; in the thread itself, and when a callback takes
        SETTLING seconds, at once.
        """
        if self.is_current() or self.client.gone is not None:
            return
        seen = threading.Event()

        def see() -> None:
            self._hear()
            seen.set()

        self.endpoint.hand(see)
        seen.wait(SETTLING)

    def is_current(self) -> bool:
        """Is this its thread?"""
        return self.endpoint.is_owner()

    def _dismiss(self) -> threading.Thread | None:
        """Tell the thread to end."""
        with self.lock:
            thread, self.thread = self.thread, None
            self.turn = None
        if thread is not None:
            os.eventfd_write(self.endpoint.poke, 1)
        return thread

    # --- forks

    def before_fork(self) -> None:
        with self.lock:
            self.forks += 1
            if self.thread is threading.current_thread():
                return
            thread = self._dismiss()
        if thread is None:
            return
        end = time.monotonic() + PATIENCE
        while thread.is_alive() and (not self.busy or time.monotonic() < end):
            thread.join(PATIENCE)
        if thread.is_alive():
            self.late = thread
        else:
            _wait_until_gone(thread.native_id)

    def after_fork(self) -> None:
        with self.lock:
            self.forks -= 1
            if self.forks or self.thread is not None or self.stopped or self.client.gone is not None:
                return
            try:
                self.start()
            except RuntimeError as error:  # no more threads (a limit, or the interpreter is ending)
                self.thread = None
                self.client.lose(f"its reader could not start again after a fork: {error}")
                self.endpoint.leave()

    def in_child(self) -> None:
        """The thread is the parent's; if it is the one that forked, it ends when the callback returns."""
        self.lock = threading.RLock()
        self.turn = self.thread = self.late = None
        self.stopped = True

    # --- the thread

    def _run(self, turn: object, late: threading.Thread | None) -> None:
        if late is not None:
            late.join()
        endpoint = self.endpoint
        endpoint.reader = threading.get_ident()
        poll = select.poll()
        poll.register(endpoint.door, select.POLLIN)
        poll.register(endpoint.poke, select.POLLIN)
        poll.register(endpoint.lifeline[0], select.POLLRDHUP)
        os.eventfd_write(endpoint.poke, 1)
        while self.turn is turn and self.client.gone is None:
            try:
                milliseconds = endpoint.next_deadline()
                self.busy = False
                rung = poll.poll(milliseconds)
                self.busy = True
                for fd, _ in rung:
                    if self.turn is not turn:
                        return
                    self._rung(fd, poll)
            except BaseException:  # a callback's SystemExit must not end the hearing of all others
                logging.getLogger("actors").exception(
                    "a callback in the reader thread of system %r failed", self.client.system
                )

    def _rung(self, fd: int, poll: select.poll) -> None:
        endpoint = self.endpoint
        if fd == endpoint.door:
            self._hear()
        elif fd == endpoint.bell:
            endpoint.pump(0.0, None, True)
        elif fd == endpoint.poke:
            os.eventfd_read(endpoint.poke)
            endpoint.run_handed()
            if endpoint.watched:
                poll.register(endpoint.bell, select.POLLIN)
            endpoint.pump()
            self._hear()
        else:
            self._hung_up()

    def _hung_up(self) -> None:
        if self.client.gone is None:
            self._hear()
            self.client.lose("its guardian ended")
            self.endpoint.leave()

    def _hear(self) -> None:
        self.endpoint.hear()
        self.client.dispatch()


def _wait_until_gone(thread: int | None) -> None:
    """A joined thread has run its Python code; the kernel's part of it may take a few microseconds more."""
    entry, end = Path(f"/proc/self/task/{thread}"), time.monotonic() + PATIENCE
    while entry.exists() and time.monotonic() < end:
        time.sleep(0.00002)


_readers: weakref.WeakSet[Reader] = weakref.WeakSet()
_held_back: list[Any] = []  # filters of ours in `warnings`


def _before_fork() -> None:
    while _held_back:
        with contextlib.suppress(ValueError):
            warnings.filters.remove(_held_back.pop())  # type: ignore[attr-defined]
    readers = list(_readers)
    for reader in readers:
        reader.before_fork()
    if readers and sys.version_info >= (3, 13) and len(os.listdir("/proc/self/task")) == 1:
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
        _held_back.append(warnings.filters[0])


def _after_fork() -> None:
    for reader in list(_readers):
        reader.after_fork()


def _in_child() -> None:
    for reader in list(_readers):
        reader.in_child()
    _readers.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)

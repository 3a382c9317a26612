"""Locks, semaphores, barriers and events by name: their pages of memory, who has opened them, and the coroutines that wait.

Rule: a page lives from its name's first use to the end of the system. A process that opens it gets a slot in it; when
the process is gone, what its slot held is freed by compare-and-swap, everybody who sleeps there looks again, and the
slot is free for another. Coroutines can't sleep in the kernel: they wait in a queue here, in order of arrival; `doorman`
in the page says how many, and whoever changes it says so while there are any.

What is offered to a coroutine that does not take it (its process is stopped, or slow) is offered to the next after
SLICE, as sleepers have it. Rejected: a queue in shared memory, which somebody would have to repair.
"""

from __future__ import annotations

import collections
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import SpecError
from ..transports._ring import Sync, create_sync
from .peers import Peer, Peers

LOCK, SEMAPHORE, BARRIER, EVENT = 1, 2, 3, 4
PERMITS = (LOCK, SEMAPHORE)
SLOTS = 4096
SLICE = 0.1  # seconds
# A lock's numbers (47 bits) are fencing tokens: they begin at the time, so that those of a later system of this name are
# larger, unless this one makes more than 65,536 acquisitions a second for as long as it lives.
EPOCH = 1_767_225_600  # 2026, in Unix time


class Waiter(NamedTuple):
    """A coroutine: the endpoint of its process, and the request to answer."""

    endpoint: int
    corr: int


class Board:
    """One page, who has opened it, and the coroutines that wait."""

    def __init__(self, name: str, kind: int, what: str, limits: dict[str, Any]) -> None:
        self.name, self.kind, self.what, self.limits = name, kind, what, limits
        permits = 1 if kind == LOCK else int(limits.get("n", 0))
        first = max(1, int(time.time()) - EPOCH << 17) if kind == LOCK else 1
        self.fd = create_sync(kind, permits, bool(limits.get("bounded")), first)
        self.page = Sync()
        self.page.map(self.fd, 0)
        self.slots: dict[int, int] = {}  # endpoint -> slot
        self.free: list[int] = []
        self.waiters: collections.deque[Waiter] = collections.deque()
        self.looking = False

    def take_slot(self, endpoint: int) -> None:
        """Give it a slot. OSError: there are too many processes, or there is no memory."""
        slot = self.free[-1] if self.free else len(self.slots) + 1
        if slot >= SLOTS:
            raise OSError(f"{self.what} {self.name!r} is open in {SLOTS - 1} processes already")
        self.page.assign(slot, endpoint)
        if self.free:
            self.free.pop()
        self.slots[endpoint] = slot

    def give_up_slot(self, endpoint: int) -> None:
        """That process is gone: what it held is free, those who sleep look again, and its coroutines wait no more."""
        slot = self.slots.pop(endpoint)
        self.waiters = collections.deque(each for each in self.waiters if each.endpoint != endpoint)
        self.page.doorman = len(self.waiters)
        self.page.sweep(slot)
        self.free.append(slot)


class Coordination:
    """All of them."""

    def __init__(self, peers: Peers, after: Callable[[float, Callable[[], object]], object]) -> None:
        self.peers, self.after = peers, after
        self.boards: dict[str, Board] = {}
        self.opened: dict[int, list[Board]] = {}  # endpoint -> what it has opened
        peers.on_removed.append(self._gone)

    def open(self, endpoint: int, name: str, kind: int, what: str, limits: dict[str, Any]) -> tuple[int, int]:
        """(descriptor, slot). SpecError: the name stands for something else; OSError: no memory, no descriptors."""
        board = self.boards.get(name)
        if board is None:
            try:
                board = self.boards[name] = Board(name, kind, what, limits)
            except ValueError as error:
                raise SpecError(f"{what} {name!r}: {error}") from None
        elif (board.kind, board.limits) != (kind, limits):
            raise SpecError(
                f"{name!r} is {_described(board.what, board.limits)} already, not {_described(what, limits)}; "
                "use the same parameters everywhere, or another name"
            )
        if endpoint not in board.slots:
            board.take_slot(endpoint)
            self.opened.setdefault(endpoint, []).append(board)
        return board.fd, board.slots[endpoint]

    # --- coroutines

    def wait(self, peer: Peer, corr: int, name: str, seen: int) -> None:
        """Answer this request when the word is not `seen` any more; at once if it is not now."""
        board = self.boards.get(name)
        if board is None or peer.id not in board.slots:
            self.peers.refuse(peer.id, corr, "ActorsError", f"{name!r} was not opened by this process")
            return
        board.waiters.append(Waiter(peer.id, corr))
        board.page.doorman = len(board.waiters)
        if board.page.word != seen:  # after `doorman`: whoever changes it from now on says so
            board.waiters.pop()
            board.page.doorman = len(board.waiters)
            self.peers.answer(peer.id, corr)

    def leave(self, endpoint: int, corr: int, name: str) -> None:
        """That coroutine does not wait any more; if it was told already, the next one is."""
        board = self.boards.get(name)
        if board is None:
            return
        waiter = Waiter(endpoint, corr)
        if waiter in board.waiters:
            board.waiters.remove(waiter)
            board.page.doorman = len(board.waiters)
        elif board.kind in PERMITS:
            self._offer(board, min(1, board.page.count))

    def changed(self, name: str, changes: int) -> None:
        """Somebody has given so many permits back, or changed a barrier or an event."""
        board = self.boards.get(name)
        if board is not None:
            self._offer(board, changes if board.kind in PERMITS else len(board.waiters))

    def _offer(self, board: Board, changes: int) -> None:
        """Tell as many coroutines, first come first served; what they leave is for those who sleep."""
        told = min(changes, len(board.waiters))
        for waiter in [board.waiters.popleft() for _ in range(told)]:
            self.peers.answer(waiter.endpoint, waiter.corr)
        board.page.doorman = len(board.waiters)
        if board.kind in PERMITS:
            if changes > told:
                board.page.pass_on(changes - told)
            self._look_later(board)

    def _look_later(self, board: Board) -> None:
        if board.waiters and not board.looking:
            board.looking = True
            self.after(SLICE, lambda: self._look(board))

    def _look(self, board: Board) -> None:
        """Is something free that nobody has taken, while coroutines wait for it?"""
        board.looking = False
        if board.page.count:
            self._offer(board, board.page.count)

    # --- deaths

    def _gone(self, peer: Peer) -> None:
        for board in self.opened.pop(peer.id, ()):
            board.give_up_slot(peer.id)
            self._offer(board, board.page.count if board.kind in PERMITS else len(board.waiters))


def who(peer: Peer | None, address: str) -> str:
    """The process behind a connection, in words."""
    if peer is None:
        return "a process that has ended"
    pid = peer.pid or struct.unpack("3i", peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    state = _state(pid)
    return f"{address or 'a program'} (process {pid}{', stopped' if state in 'Tt' else ''})"


def _state(pid: int) -> str:
    """R, S, T, …; empty: not to be seen."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return " "
    try:
        return os.read(fd, 512).rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return " "
    finally:
        os.close(fd)


def _described(what: str, limits: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={value}" for key, value in sorted(limits.items()))
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}{f' ({given})' if given else ''}"

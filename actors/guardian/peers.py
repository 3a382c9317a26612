"""The connected processes: programs and actors, each with its socket, its reply lane and its control lane.

Rule: the guardian never blocks on a peer. What does not fit into a control lane or a socket now waits in a queue of the
guardian's own and goes out later; the order to one peer is kept.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import socket
from collections.abc import Callable
from typing import Any

from .. import wire
from ..message import GUARDIAN, HANDLE, Kind
from ..transports._ring import Corrupt, Ring, create

REPLIES = 4 << 20  # bytes of address space for answers; memory appears as it is used
CONTROL = 256 << 10
REMEMBERED = 100_000  # endpoints of actors
LONGEST = 10_000  # reports that wait for a process that does not read (stopped by Ctrl-Z, say)
LARGEST_NEWS = 32 << 10  # bytes of a record in a control lane; larger ones go by handle


class Peer:
    """One connected process."""

    def __init__(self, number: int, sock: socket.socket, door: int, uid: int) -> None:
        self.id, self.sock, self.door, self.uid = number, sock, door, uid
        self.owns_door = uid == 0
        self.pid = 0
        with contextlib.ExitStack() as undo:
            self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self.bell)
            self.replies_fd = create(REPLIES, "actors:replies")
            undo.callback(os.close, self.replies_fd)
            self.control_fd = create(CONTROL, "actors:control")
            undo.callback(os.close, self.control_fd)
            self.replies = Ring(self.replies_fd, self.bell)
            self.control = Ring(self.control_fd, door)
            undo.pop_all()
        self.news: collections.deque[tuple[bytes, int, int, int, int]] = collections.deque()
        self.outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self.mailboxes: set[int] = set()  # uids of those that it mapped, so at most these does it owe a bell
        self.answers: set[int] = set()  # endpoints whose reply lane it mapped
        self.missed = 0  # reports, because too many waited already
        self.closed = self.damaged = False

    def lanes(self) -> list[int]:
        """Descriptors that the process needs besides its socket (and mail): replies, control, bell, door."""
        return [self.replies_fd, self.control_fd, self.bell, self.door]

    def close(self) -> None:
        self.closed = True
        self.sock.close()
        for fd in (self.bell, self.replies_fd, *([self.door] if self.owns_door else [])):
            os.close(fd)
        if self.control_fd >= 0:
            os.close(self.control_fd)
        for _, fds in self.outbox:
            for fd in fds:
                os.close(fd)


class Peers:
    """All of them."""

    def __init__(
        self, want_write: Callable[[Peer], None], want_flush: Callable[[], None], deposit: Callable[[bytes, int], int]
    ) -> None:
        self.by_id: dict[int, Peer] = {}
        self._ids = itertools.count(GUARDIAN + 1)
        self._want_write, self._want_flush, self._deposit = want_write, want_flush, deposit
        self.on_removed: list[Callable[[Peer], None]] = []
        self.on_damaged: Callable[[Peer, Corrupt], None] = lambda peer, error: (
            None
        )  # somebody wrote over its control lane
        self.on_caught_up: Callable[[Peer], None] = lambda peer: None  # it has missed reports, and reads again
        self.actors: dict[
            int, int
        ] = {}  # endpoint -> uid of the actor that it was, also when it is gone: what it sent may still be in hand
        self.lane_users: dict[int, set[int]] = {}  # endpoint -> endpoints that mapped its reply lane
        self.backlog: set[int] = set()

    def add(self, sock: socket.socket, door: int = -1, uid: int = 0) -> Peer:
        """OSError: no descriptors, no memory; then the socket is closed."""
        sock.setblocking(False)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            if door < 0:
                door = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                undo.callback(os.close, door)
            peer = Peer(next(self._ids), sock, door, uid)
            undo.pop_all()
        self.by_id[peer.id] = peer
        if uid:
            if len(self.actors) >= REMEMBERED:
                del self.actors[next(iter(self.actors))]
            self.actors[peer.id] = uid
        return peer

    def remove(self, peer: Peer) -> None:
        """Forget a process; those that answer it are told to let go of its lane."""
        self.by_id.pop(peer.id, None)
        for user in self.lane_users.pop(peer.id, ()):
            if user in self.by_id:
                self.by_id[user].answers.discard(peer.id)
                self.tell(self.by_id[user], Kind.GONE, peer.id)
        for endpoint in peer.answers:
            self.lane_users.get(endpoint, set()).discard(peer.id)
        for hear in self.on_removed:
            hear(peer)
        peer.close()

    # --- control lane

    def tell(self, peer: Peer, kind: Kind, value: Any = None, sender: int = GUARDIAN, corr: int = 0) -> None:
        self.put(peer, b"" if value is None else wire.dumps(value), kind, 0, sender, corr)

    def put(self, peer: Peer, body: bytes, kind: int, flags: int, sender: int, corr: int) -> None:
        if peer.closed or peer.damaged:
            return
        if len(body) > LARGEST_NEWS:
            body, flags = self._deposit(body, peer.id).to_bytes(8, "little"), flags | HANDLE
        record = (body, int(kind), flags, sender, corr)
        if peer.news or not self._put(peer, record):
            peer.news.append(record)
            self.backlog.add(peer.id)
            self._want_flush()

    def _put(self, peer: Peer, record: tuple[bytes, int, int, int, int]) -> bool:
        """False: there is no room yet."""
        try:
            return peer.damaged or peer.control.put(*record)
        except Corrupt as error:
            peer.damaged = True
            self.on_damaged(peer, error)
            return True

    def report(self, peer: Peer, body: bytes, kind: int) -> None:
        """`put` of what is good to know: dropped and counted while too much of it waits."""
        if len(peer.news) >= LONGEST:
            peer.missed += 1
        else:
            self.put(peer, body, kind, 0, 0, 0)

    def flush(self) -> bool:
        """Move what waited into its lanes. True: some still waits."""
        for number in list(self.backlog):
            peer = self.by_id.get(number)
            while peer and peer.news and self._put(peer, peer.news[0]):
                peer.news.popleft()
            if peer is None or not peer.news:
                self.backlog.discard(number)
                if peer is not None and peer.missed:
                    self.on_caught_up(peer)
        return bool(self.backlog)

    def answer(self, endpoint: int, corr: int, value: Any = None, kind: Kind = Kind.VALUE) -> None:
        """Answer a request of an endpoint, if it is still there."""
        peer = self.by_id.get(endpoint)
        if peer is None or not corr:
            return
        self.put(peer, wire.dumps(value), kind, 0, GUARDIAN, corr)

    def refuse(self, endpoint: int, corr: int, error: str, text: str) -> None:
        self.answer(endpoint, corr, [error, text], Kind.REFUSED)

    # --- socket

    def send(self, peer: Peer, message: wire.Message, fds: list[int] | None = None) -> None:
        """Answer an exchange. The descriptors stay the caller's."""
        body, big = wire.pack(message)
        all_fds = [*(fds or ()), *([big] if big >= 0 else [])]
        try:
            if peer.outbox:
                raise BlockingIOError
            wire.send_packet(peer.sock, body, all_fds)
        except BlockingIOError:
            peer.outbox.append((body, [os.dup(fd) for fd in all_fds]))
            self._want_write(peer)
        except OSError:
            pass  # it is gone; its end is reported by the kernel
        finally:
            if big >= 0:
                os.close(big)

    def write_out(self, peer: Peer) -> bool:
        """The socket has room again. True: some still waits."""
        while peer.outbox:
            body, fds = peer.outbox[0]
            try:
                wire.send_packet(peer.sock, body, fds)
            except BlockingIOError:
                return True
            except OSError:
                pass
            peer.outbox.popleft()
            for fd in fds:
                os.close(fd)
        return False

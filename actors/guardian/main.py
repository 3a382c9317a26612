"""The guardian: composition, event loop, connections, and the end.

Design: two processes. The warden is the program's child, in a session of its own (Ctrl-C reaches the program alone) and
a subreaper; it forks the guardian before anything is imported, then only waits. Should the guardian die, all that it
had (actors by PDEATHSIG, and whatever they started) falls to the warden, which ends it; should the warden die, the
guardian ends itself and all that it has. The guardian is single-threaded; one epoll holds the sockets, SIGCHLD's
wake-up descriptor and pidfds of the program and the warden.

Rejected: asyncio (60 ms of start, nothing gained).
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .. import wire
from ..supervision.tree import Tree
from ..transports import KIND
from ..transports._ring import Corrupt, prctl
from .boxes import Boxes
from .coordination import Coordination
from .deaths import Deaths
from .desk import Desk
from .entry import PR_SET_PDEATHSIG, end_children
from .hands import Hands
from .mailroom import Mailroom
from .nursery import Nursery
from .oom import Oom
from .orphans import Orphans
from .peers import Peer, Peers
from .pools import Pools
from .registry import Record, Registry
from .segments import Segments
from .stacks import Stacks
from .timers import Timers
from .topics import Topics
from .vitals import Vitals
from .watch import Watch

if TYPE_CHECKING:
    from .virtual import VirtualTimers

PATIENCE = 5.0  # seconds that the program has at the end to fetch large answers


class Guardian:
    """Composition and event loop."""

    def __init__(
        self,
        sock: socket.socket,
        above: tuple[int, int],
        listener: socket.socket,
        config: dict[str, Any],
        signals: int,
        zygote: tuple[socket.socket, int],
    ) -> None:
        self.system: str = config["system"]
        self.program: int = config["program"]
        self.leaving = 0.0  # since when
        self.killing = False  # the program wants no more answers
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.epoll = select.epoll()
        self.timers = Timers()
        self.virtual = _virtual(self) if config.get("kit", {}).get("clock") else None
        self.alarms: Timers = self.virtual or self.timers  # the supervision tree's
        self.registry = Registry()
        self.peers = Peers(
            self._want_write, self._want_flush, lambda body, reader: self.mailroom.deposit(wire.store(body), reader)
        )
        self.peers.on_damaged = self._damaged
        self.owner = self.peers.add(sock)
        self.watch = Watch(self.peers, self.system, self.owner.id, self.timers.after)
        self.segments = Segments(self.peers, self.registry, self.timers, config.get("memory"))
        self.mailroom = Mailroom(self.peers, self.watch, self.segments)
        self.peers.on_removed.append(self.mailroom.peer_gone)
        self.peers.on_removed.append(lambda peer: self.segments.process_gone(peer.id))
        self.coordination = Coordination(self.peers, self.timers.after)
        self.boxes = Boxes(self.peers, self.watch, self.segments, self.registry.new_uid)
        self.topics = Topics(self.peers)
        self.tree = Tree(random.Random())
        self.pools = Pools(self)
        self.desk = Desk(self)
        self.nursery = Nursery(self, config)
        self.deaths = Deaths(self)
        self.hands = Hands(self)
        self.stacks = Stacks(self)
        self.vitals = Vitals(self)
        self.orphans = Orphans(self)
        self.oom = Oom()
        self.timers.after(0.2, self.oom.survey)
        self.flushing = False
        self.on(signals, lambda _: self.deaths.reap(signals))
        program, warden = above  # pidfds
        self.on(program, lambda _: self.die("the program ended"))
        self.on(warden, lambda _: self.die("the warden ended"))
        prctl(PR_SET_PDEATHSIG, 0)  # a death by it would leave what actors have started to nobody
        self.on(listener.fileno(), lambda _: self._accept(listener))
        self.listen(self.owner)
        self.nursery.adopt(*zygote)
        self._welcome(self.owner)

    # --- event loop

    def on(self, fd: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler
        self.epoll.register(fd, select.EPOLLIN)

    def off(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def run(self) -> NoReturn:
        while True:
            for fd, events in self.epoll.poll(self.timers.timeout()):
                handler = self.handlers.get(fd)  # a handler before it may have closed this one
                if handler is not None:
                    handler(events)
            self.timers.run()

    def _want_write(self, peer: Peer) -> None:
        self.epoll.modify(peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _want_flush(self) -> None:
        if not self.flushing:
            self.flushing = True
            self.timers.after(0.003, self._flush)

    def _flush(self) -> None:
        self.flushing = False
        if self.peers.flush():
            self._want_flush()

    # --- connections

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # gone again, or no descriptors left: the next one will tell
            return
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            sock.close()
            return
        try:
            peer = self.peers.add(sock)
        except OSError:  # no descriptors, no memory: it sees the end of its connection
            return
        self.listen(peer)
        self._welcome(peer)

    def _welcome(self, peer: Peer) -> None:
        welcome = {"op": "welcome", "endpoint": peer.id, "system": self.system, "pid": os.getpid(), "transport": KIND}
        self.peers.send(peer, {**welcome, "program": self.program}, peer.lanes())
        os.close(peer.control_fd)
        peer.control_fd = -1

    def listen(self, peer: Peer) -> None:
        self.on(peer.sock.fileno(), lambda events: self._hear(peer, events))

    def _hear(self, peer: Peer, events: int) -> None:
        if events & select.EPOLLOUT and not self.peers.write_out(peer):
            self.epoll.modify(peer.sock.fileno(), select.EPOLLIN)
        if events & ~select.EPOLLOUT:
            self.read(peer)

    def read(self, peer: Peer, rounds: int = 64) -> None:
        """Serve what this process has sent."""
        for _ in range(rounds):
            if peer.closed:
                return
            try:
                message, fds = wire.recv(peer.sock, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if message is None:
                self._hung_up(peer)
                return
            self.desk.serve(peer, message, fds)

    def _hung_up(self, peer: Peer) -> None:
        if peer is self.owner:
            self.die("the program closed its connection")
        self.off(peer.sock.fileno())
        record = self.registry.by_uid.get(peer.uid)
        if peer.uid == 0:
            self.deaths.ring_owed(peer)
            self.watch.forget_peer(peer)
            self.peers.remove(peer)
        elif record is not None and record.peer is peer and not record.pid:
            self.nursery.died_before_hello(record)

    def _damaged(self, peer: Peer, error: Corrupt) -> None:
        """Nothing can be said to this process any more: an actor's ends, a program's connection does."""
        record = self.registry.by_uid.get(peer.uid)
        if record is not None and record.pid and record.peer is peer:
            whose, record.killed = self.watch.address(record.name), True
            os.kill(record.pid, signal.SIGKILL)
        else:
            whose = f"the program with endpoint {peer.id}"
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)  # heard as its end, when this event is over
        self.watch.log("error", "its control lane is damaged, so it is let go of", whose=whose, error=str(error))

    # --- the end

    def close(self, how: str) -> None:
        """The program leaves: drain (no time limit), stop (shutdown times) or kill."""
        if self.virtual is not None:
            self.virtual.release()
        self.killing = self.killing or how == "kill"
        now = self.alarms.now()
        self.hands.perform(self.tree.kill_all(now) if how == "kill" else self.tree.stop_all(now, drain=how == "drain"))

    def give_up(self, why: str) -> None:
        self.watch.log("critical", f"system {self.system!r} ends: {why}")
        print(f"actors: system {self.system!r} ends: {why}", file=sys.stderr, flush=True)
        self.die(why)

    def die(self, why: str) -> NoReturn:
        """At once, and everything with it."""
        for pid in list(self.deaths.by_pid):
            os.killpg(pid, signal.SIGKILL) if os.getpgid(pid) == pid else os.kill(pid, signal.SIGKILL)
        end_children()
        os._exit(0)

    def leave(self) -> None:
        """Nothing is left to guard: say what is still to be said, then go."""
        self.watch.log_dead()
        self.boxes.log_left()
        self.leaving = self.leaving or time.monotonic()
        unread = self.mailroom.readers.get(self.owner.id) or (
            not self.killing and self.segments.answers_for(self.owner.id)
        )
        if self.peers.flush() or (unread and time.monotonic() < self.leaving + PATIENCE):
            self.timers.after(0.003, self.leave)
            return
        os._exit(0)

    # --- looking

    def info(self, record: Record) -> dict[str, Any]:
        """One node of `ActorSystem.tree()`."""
        tree, uid = self.tree, record.uid
        known = uid in tree
        stats = record.mail.stats() if record.mail is not None else {}
        return {
            "name": record.name,
            "address": self.watch.address(record.name),
            "uid": uid,
            "kind": record.kind,
            "pid": record.pid or None,
            "status": tree.status(uid) if known else "stopped",
            "incarnation": tree.incarnation(uid) if known else 0,
            "restarts": tree.restarts(uid) if known else 0,
            "mailbox": {
                "depth": stats.get("accepted", 0) - stats.get("handled", 0),
                "bytes": max(0, stats.get("tail", 0) - stats.get("head", 0)),
            },
            "handled": stats.get("handled", 0),
            "dropped": record.dropped,
            "busy_since": stats.get("busy_since") or None,
            "reason": record.last_reason,
            **({"pool": self.pools.by_uid[uid].to_wire()} if uid in self.pools.by_uid else {}),
            "children": [
                self.info(self.registry.by_uid[child])
                for child in (tree.children(uid) if known else ())
                if child in self.registry.by_uid
            ],
        }


def _virtual(guardian: Guardian) -> VirtualTimers:
    from .virtual import VirtualTimers

    return VirtualTimers(guardian)

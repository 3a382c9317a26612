"""The guardian's process: entry, warden, event loop, and what happens at a death.

Design: two processes. The warden is the program's child, in a session of its own (Ctrl-C reaches the program alone) and a subreaper; it forks the guardian before
anything is imported, then only waits. Should the guardian die, all that it had (actors by PDEATHSIG, and whatever they started) falls to the warden, which
ends it. The guardian is single-threaded; one epoll holds the sockets, SIGCHLD's wake-up descriptor and a pidfd of the program.

At an exit: peek (WNOWAIT), end the process group while its number is still taken, read what the process had said, reap, let the tree decide, settle what
was in hand, ring the bells that may be owed, carry out the decision.

Rejected: pidfds for the actors (parent and sole reaper: no number can be used twice before the reap), asyncio (60 ms of start, nothing gained).
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .. import wire
from ..exits import ExitReason
from ..message import Kind
from ..supervision import actions as act
from ..supervision.tree import Tree
from .desk import Desk
from .mailroom import ENDED, Mailroom
from .nursery import Nursery
from .peers import Peer, Peers
from .registry import Record, Registry
from .timers import Timers
from .watch import Watch

PATIENCE = 1.0  # seconds that a closed mailbox may stay unquiet (a sender stopped in the middle) before it is swept anyway


class Guardian:
    """Composition and event loop."""

    def __init__(
        self, sock: socket.socket, program: int, listener: socket.socket, config: dict[str, Any], signals: int, zygote: tuple[socket.socket, int],
    ) -> None:  # fmt: skip
        self.system: str = config["system"]
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.epoll = select.epoll()
        self.timers = Timers()
        self.registry = Registry()
        self.peers = Peers(self._want_write, self._want_flush, lambda body: self.mailroom.deposit(wire.store(body)))
        self.owner = self.peers.add(sock)
        self.watch = Watch(self.peers, self.system, self.owner.id)
        self.mailroom = Mailroom(self.peers, self.watch.dead_letter)
        self.peers.on_removed.append(self.mailroom.reader_gone)
        self.tree = Tree(random.Random())
        self.desk = Desk(self)
        self.nursery = Nursery(self, config)
        self.by_pid: dict[int, Record] = {}
        self.queue: deque[act.Action] = deque()
        self.performing = False
        self.flushing = False
        self.alarm: float | None = None
        self.on(signals, lambda _: self._reap(signals))
        self.on(program, lambda _: self.die("the program ended"))
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
        peer = self.peers.add(sock)
        self.listen(peer)
        self._welcome(peer)

    def _welcome(self, peer: Peer) -> None:
        self.peers.send(peer, {"op": "welcome", "endpoint": peer.id, "system": self.system, "pid": os.getpid()}, peer.lanes())
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
            self.watch.forget_peer(peer)
            self.peers.remove(peer)
        elif record is not None and record.peer is peer and not record.pid:
            self.nursery.died_before_hello(record)

    # --- deaths

    def _reap(self, signals: int) -> None:
        drain(signals)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            if found.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
                self._exited(pid, found.si_code, found.si_status)
            else:
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                if found.si_code == os.CLD_STOPPED:
                    self._nudge(pid, 20)

    def _exited(self, pid: int, code: int, status: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)  # what it started; its number is still taken, so no stranger can be hit
        except (ProcessLookupError, PermissionError):
            pass
        if pid not in self.by_pid:  # its hello may still be unread
            for record in list(self.nursery.sent.values()):
                if record.peer is not None:
                    self.read(record.peer)
        record = self.by_pid.pop(pid, None)
        if record is not None and record.peer is not None:
            self.read(record.peer, rounds=1_000_000)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        if record is not None:
            self.ended(record, self._reason(record, ExitReason.from_wait(code, status)))
        elif pid == os.getppid():
            os._exit(1)

    def _reason(self, record: Record, kernel: ExitReason) -> ExitReason:
        """The kernel's report decides; the process's own word explains it."""
        bye = record.bye
        if record.override is not None:
            override, record.override = record.override, None
            return ExitReason.from_wire(override)
        if bye and kernel.kind == "exit":
            if bye["kind"] == "exception" and kernel.code == 1:
                return ExitReason("exception", code=1, error=bye.get("error"))
            if bye["kind"] in ("normal", "shutdown") and kernel.code == 0:
                return ExitReason(bye["kind"])
        return kernel

    def ended(self, record: Record, reason: ExitReason) -> None:
        """This incarnation is over; whatever that leads to."""
        now, said = time.monotonic(), reason.to_wire()
        meant = record.uid in self.tree and self.tree.status(record.uid) == "stopping"
        if record.bye and not record.bye.get("started", True):
            self.perform(self.tree.start_failed(record.uid, reason, now))
        decided = self.tree.exited(record.uid, reason, now)
        final = any(isinstance(action, act.Ended | act.Failed | act.StartFailed) and action.uid == record.uid for action in decided)
        record.last_reason = said
        self.drop_incarnation(record)
        if record.mail is not None:
            self.mailroom.in_hand(record, said, not final)
        crashed = reason.abnormal and not meant
        if crashed and self._spawner_above(record) is None:
            details = {"exception": record.bye["traceback"]} if record.bye.get("traceback") else {}
            self.watch.log("warning", "crashed", actor=self.watch.address(record.name), reason=str(reason), **details)
        self.watch.event("crashed" if crashed else "exited", record, said)
        record.pid = 0
        if not final:
            self.watch.incarnation_died(record, said)
        for uid in self.watch.take_links(record.uid):
            self._kill_linked(uid, record, reason)
        self.ring_owed()
        self.perform(decided)

    def drop_incarnation(self, record: Record) -> None:
        """Let go of the connection of an incarnation that is no more."""
        peer, record.peer = record.peer, None
        if peer is not None:
            self.off(peer.sock.fileno())
            self.watch.forget_peer(peer)
            self.peers.remove(peer)

    def ring_owed(self) -> None:
        """A sender that died between publishing and ringing owes a bell."""
        for record in self.registry.by_uid.values():
            if record.mail is not None:
                record.mail.owed()
        for peer in self.peers.by_id.values():
            peer.replies.owed()

    def _nudge(self, pid: int, tries: int) -> None:
        """A sender was stopped; if it holds a lock, let it run until it has let go, then stop it again."""
        rings = [record.mail for record in self.registry.by_uid.values() if record.mail] + [peer.replies for peer in self.peers.by_id.values()]
        if tries and any(ring.owner() == pid for ring in rings):
            os.kill(pid, signal.SIGCONT)
            self.timers.after(0.0005, lambda: self._stop_again(pid, tries - 1))

    def _stop_again(self, pid: int, tries: int) -> None:
        if pid in self.by_pid:
            os.kill(pid, signal.SIGSTOP)  # its CLD_STOPPED leads to the next look

    # --- links

    def link(self, a: int, b: int) -> None:
        ended = self.registry.ended.get(a) or self.registry.ended.get(b)
        if ended is None:
            self.watch.link(a, b)
            return
        other = self.registry.by_uid.get(b if a in self.registry.ended else a)
        if other is not None and ExitReason.from_wire(ended["reason"]).abnormal:
            self._kill_linked(other.uid, None, ExitReason.from_wire(ended["reason"]), ended["name"])

    def _kill_linked(self, uid: int, source: Record | None, reason: ExitReason, name: str = "") -> None:
        other = self.registry.by_uid.get(uid)
        if other is None or not other.pid or not reason.abnormal:
            return
        said = reason.to_wire()
        said["error"] = f"linked to {source.name if source else name}, which {'was ' if reason.kind == 'signal' else ''}{reason}"
        other.override = said
        os.kill(other.pid, signal.SIGKILL)

    # --- births

    def born(self, record: Record, peer: Peer, pid: int) -> None:
        """A newborn said hello."""
        peer.pid = pid
        self.by_pid[pid] = record
        self.nursery.hello(record, pid)
        if record.doomed:
            os.kill(pid, record.doomed)

    def not_importable(self, record: Record, module: str, error: str) -> None:
        """The zygote can't import what this actor needs; at its first start the spawner ships it by value."""
        top = self._spawner_above(record)
        if top is not None:
            endpoint, corr = top.spawner  # type: ignore[misc]
            top.spawner = None
            self.peers.refuse(endpoint, corr, "ModuleUnavailable", module)
        self.perform(self.tree.start_failed(record.uid, ExitReason("exception", error=f"{module} can't be imported: {error}"), time.monotonic()))
        self.ended(record, ExitReason("exception", error=f"{module} can't be imported"))

    def _spawner_above(self, record: Record | None) -> Record | None:
        while record is not None and record.spawner is None:
            record = self.registry.by_uid.get(record.parent)
        return record

    def discard(self, record: Record) -> None:
        """Take back a record that never became part of the tree."""
        if record.mail is not None:
            self.mailroom.sweep(record, {"kind": "normal"})
        self.registry.by_uid.pop(record.uid, None)
        self.registry.by_name.pop(record.name, None)

    # --- carrying out

    def perform(self, actions: Iterable[act.Action]) -> None:
        """Carry out what the tree decided, in order; what that leads to comes after it."""
        self.queue.extend(actions)
        if self.performing:
            return
        self.performing = True
        try:
            while self.queue:
                action = self.queue.popleft()
                getattr(self, "_do_" + type(action).__name__.lower())(action)
        finally:
            self.performing = False
        deadline = self.tree.deadline
        if deadline is not None and (self.alarm is None or deadline < self.alarm):
            self.alarm = deadline
            self.timers.at(deadline, self._due)

    def _due(self) -> None:
        self.alarm = None
        self.perform(self.tree.due(time.monotonic()))

    def _do_spawn(self, action: act.Spawn) -> None:
        record = self.registry.by_uid[action.uid]
        record.doomed = 0
        self.nursery.begin(record)

    def _do_ask(self, action: act.Ask) -> None:
        record = self.registry.by_uid[action.uid]
        if self.nursery.cancel(record):
            self.ended(record, ExitReason("shutdown"))
            return
        if action.final and record.mail is not None:
            record.mail.close(ENDED)
        if record.peer is not None:
            self.peers.tell(record.peer, Kind.STOP, {"final": action.final})

    def _do_signal(self, action: act.Signal) -> None:
        record = self.registry.by_uid[action.uid]
        if self.nursery.cancel(record):
            self.ended(record, ExitReason("signal", signal=action.signum))
        elif record.pid:
            os.kill(record.pid, action.signum)
        else:
            record.doomed = int(action.signum)

    def _do_ready(self, action: act.Ready) -> None:
        record = self.registry.by_uid[action.uid]
        self.watch.event("started", record)
        if record.spawner is not None:
            (endpoint, corr), record.spawner = record.spawner, None
            self.peers.answer(endpoint, corr, {"uid": record.uid, "name": record.name, "pid": record.pid})

    def _do_startfailed(self, action: act.StartFailed) -> None:
        record = self.registry.by_uid[action.uid]
        cause = self.registry.by_uid.get(action.cause, record)
        if record.spawner is not None:
            (endpoint, corr), record.spawner = record.spawner, None
            text = f"{self.watch.address(cause.name)} did not start: {action.reason}"
            details = cause.bye.get("traceback")
            self.peers.refuse(endpoint, corr, "SpawnError", f"{text}\n\n{details}" if details else text)

    def _do_ended(self, action: act.Ended) -> None:
        record, reason = self.registry.by_uid[action.uid], action.reason.to_wire()
        record.last_reason = reason
        self.registry.forget(record, reason)
        if record.mail is not None:
            record.mail.close(ENDED)
            self._sweep(record, reason, time.monotonic() + PATIENCE)
        self.watch.actor_ended(record, reason)
        self.watch.event("stopped", record, reason)

    def _sweep(self, record: Record, reason: dict[str, Any], until: float) -> None:
        assert record.mail is not None
        if record.mail.quiet() or time.monotonic() >= until:
            self.mailroom.sweep(record, reason)
        else:
            self.timers.after(0.001, lambda: self._sweep(record, reason, until))

    def _do_failed(self, action: act.Failed) -> None:
        record, reason = self.registry.by_uid[action.uid], action.reason.to_wire()
        record.last_reason = reason
        if record.mail is not None:
            self.mailroom.fail(record, reason)
        self.watch.actor_ended(record, reason)
        self.watch.event("failed", record, reason)
        self.watch.log("error", "failed: its restarts are used up; resume() starts it again", actor=self.watch.address(record.name), reason=str(action.reason))

    def _do_restarting(self, action: act.Restarting) -> None:
        self.watch.event("restarting", self.registry.by_uid[action.uid], action.reason.to_wire(), delay=action.delay)

    def _do_restarted(self, action: act.Restarted) -> None:
        self.watch.event("restarted", self.registry.by_uid[action.uid])

    def _do_escalated(self, action: act.Escalated) -> None:
        record = self.registry.by_uid[action.uid]
        self.watch.event("escalated", record, action.reason.to_wire())
        self.watch.log("error", "escalated: too many restarts below it", actor=self.watch.address(record.name), reason=str(action.reason))

    def _do_allstopped(self, action: act.AllStopped) -> None:
        self.timers.after(0.0, self._leave)

    # --- the end

    def close(self, how: str) -> None:
        """The program leaves: drain (no time limit), stop (shutdown times) or kill."""
        now = time.monotonic()
        self.perform(self.tree.kill_all(now) if how == "kill" else self.tree.stop_all(now, drain=how == "drain"))

    def give_up(self, why: str) -> None:
        self.watch.log("critical", f"system {self.system!r} ends: {why}")
        print(f"actors: system {self.system!r} ends: {why}", file=sys.stderr, flush=True)
        self.die(why)

    def die(self, why: str) -> NoReturn:
        """At once: the warden ends whatever is left."""
        for pid in list(self.by_pid):
            os.killpg(pid, signal.SIGKILL) if os.getpgid(pid) == pid else os.kill(pid, signal.SIGKILL)
        os._exit(0)

    def _leave(self) -> None:
        if self.peers.flush():
            self.timers.after(0.003, self._leave)
            return
        os._exit(0)

    # --- looking

    def info(self, record: Record) -> dict[str, Any]:
        """One node of `ActorSystem.tree()`."""
        tree, uid = self.tree, record.uid
        known = uid in tree
        stats = record.mail.stats() if record.mail is not None else {}
        return {
            "name": record.name, "address": self.watch.address(record.name), "uid": uid, "kind": record.kind, "pid": record.pid or None,
            "status": tree.status(uid) if known else "stopped", "incarnation": tree.incarnation(uid) if known else 0,
            "restarts": tree.restarts(uid) if known else 0,
            "mailbox": {"depth": stats.get("accepted", 0) - stats.get("handled", 0), "bytes": stats.get("tail", 0) - stats.get("head", 0)},
            "handled": stats.get("handled", 0), "busy_since": stats.get("busy_since") or None, "reason": record.last_reason,
            "children": [self.info(self.registry.by_uid[child]) for child in (tree.children(uid) if known else ()) if child in self.registry.by_uid],
        }  # fmt: skip


def drain(fd: int) -> None:
    """Read all that a non-blocking descriptor holds."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass

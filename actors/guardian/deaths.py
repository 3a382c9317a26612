"""Deaths: what the kernel reports, why it was, and what follows at once.

Rule: the exit status decides, the process's last words explain. The order at an exit: peek (WNOWAIT), end the process
group while its number is still taken and what has left the group, read what the process had said, reap, see whether it
was killed for memory, let the tree decide, ring the bells that it may owe, settle what it had in hand, carry out the
decision.

Rejected: pidfds for the actors (parent and sole reaper: no number can be used twice before the reap).
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from ..exits import ExitReason
from ..supervision import actions as act
from .watch import UNKNOWN

if TYPE_CHECKING:
    from .main import Guardian
    from .peers import Peer
    from .registry import Record


class Deaths:
    """Reaps, reports, and ends what is linked."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.by_pid: dict[int, Record] = {}

    def born(self, record: Record, peer: Peer, pid: int) -> None:
        """A newborn said hello."""
        peer.pid = pid
        self.by_pid[pid] = record
        self.guardian.nursery.hello(record, pid)
        if record.doomed:
            record.killed = record.doomed == signal.SIGKILL
            os.kill(pid, record.doomed)

    def reap(self, signals: int) -> None:
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
                took = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                if took is not None and took.si_code == os.CLD_STOPPED:  # a stop may have come since the look
                    self._nudge(pid, 20)

    def _exited(self, pid: int, code: int, status: int) -> None:
        if pid not in self.by_pid:  # its hello may still be unread
            for unborn in list(self.guardian.nursery.sent.values()):
                if unborn.peer is not None:
                    self.guardian.read(unborn.peer)
        if pid in self.by_pid or not self.guardian.orphans.stranger(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it started; its number is still taken, so no stranger can be hit
        self.guardian.orphans.look(pid)
        record = self.by_pid.pop(pid) if pid in self.by_pid else None
        if record is not None and record.peer is not None:
            self.guardian.read(record.peer, rounds=1_000_000)
        oom, home = self.guardian.oom, self.guardian.oom.last(pid)
        _, _, used = os.wait4(pid, os.WNOHANG)
        if record is not None:
            kernel = ExitReason.from_wait(code, status)
            if kernel.signal == signal.SIGKILL and not record.killed and oom.killed(home, used.ru_maxrss << 10):
                kernel = replace(kernel, oom=True)
            self.ended(record, self._reason(record, kernel))

    def _reason(self, record: Record, kernel: ExitReason) -> ExitReason:
        """The kernel's report decides; the process's own word explains it."""
        bye = record.bye
        override, record.override = record.override, None
        record.by_link = override is not None and kernel.signal == signal.SIGKILL  # else it was dying already
        if override is not None and record.by_link:
            return ExitReason.from_wire(override)
        if record.hung is not None:
            return record.hung
        if bye and kernel.kind == "exit":
            if bye["kind"] == "exception" and kernel.code == 1:
                return ExitReason("exception", code=1, error=bye.get("error"))
            if bye["kind"] in ("normal", "shutdown") and kernel.code == 0:
                return ExitReason(bye["kind"])
        return kernel

    def ended(self, record: Record, reason: ExitReason) -> None:
        """This incarnation is over; whatever that leads to."""
        now, said = self.guardian.alarms.now(), reason.to_wire()
        stopping = record.uid in self.guardian.tree and self.guardian.tree.status(record.uid) == "stopping"
        meant = stopping and reason.kind != "hung"
        if record.bye and not record.bye.get("started", True):
            self.guardian.hands.perform(self.guardian.tree.start_failed(record.uid, reason, now))
        decided = self.guardian.tree.exited(record.uid, reason, now)
        final = any(
            isinstance(action, act.Ended | act.Failed | act.StartFailed) and action.uid == record.uid
            for action in decided
        )
        record.last_reason = said
        self.drop_incarnation(record)
        if record.mail is not None:
            self.guardian.mailroom.in_hand(record, said, not final)
        crashed = reason.abnormal and not meant
        top = self.guardian.hands.spawner_above(record)
        if top is not None:
            top.failures[record.uid] = record.name, record.bye.get("traceback") or ""
        elif crashed:
            details = {"exception": record.bye["traceback"]} if record.bye.get("traceback") else {}
            self.guardian.watch.log(
                "warning", "crashed", actor=self.guardian.watch.address(record.name), reason=str(reason), **details
            )
        self.guardian.watch.event("crashed" if crashed else "exited", record, said)
        record.pid = 0
        if not final:
            self.guardian.watch.incarnation_died(record, said)
        for uid in self.guardian.watch.take_links(record.uid):
            self._kill_linked(uid, reason, None if record.by_link else record.name)
        self.guardian.hands.perform(decided)
        if record.damaged:
            self.guardian.hands.perform(self.guardian.tree.stop(record.uid, now))

    def drop_incarnation(self, record: Record) -> None:
        """Let go of the connection of an incarnation that is no more."""
        peer, record.peer = record.peer, None
        if peer is not None:
            self.ring_owed(peer)
            self.guardian.off(peer.sock.fileno())
            self.guardian.stacks.close(peer)
            self.guardian.watch.forget_peer(peer)
            self.guardian.peers.remove(peer)

    def ring_owed(self, dead: Peer) -> None:
        """A sender that died between publishing and ringing owes a bell. Only what it could write to is looked at:
        with all there is, stopping n actors took n * n looks.
        """
        by_uid, by_id = self.guardian.registry.by_uid, self.guardian.peers.by_id
        for uid in dead.mailboxes:
            if uid in by_uid and (mail := by_uid[uid].mail) is not None:
                mail.owed()
        for endpoint in dead.answers:
            if endpoint in by_id:
                by_id[endpoint].replies.owed()

    def _nudge(self, pid: int, tries: int) -> None:
        """A sender was stopped; if it holds a lock, let it run until it has let go, then stop it again."""
        rings = [record.mail for record in self.guardian.registry.by_uid.values() if record.mail] + [
            peer.replies for peer in self.guardian.peers.by_id.values()
        ]
        owners = {owner for ring in rings if (owner := ring.owner())}  # threads
        owners |= self.guardian.boxes.lock_owners()
        if tries and any(os.path.exists(f"/proc/{pid}/task/{owner}") for owner in owners):  # noqa: PTH110
            os.kill(pid, signal.SIGCONT)
            self.guardian.timers.after(0.0005, lambda: self._stop_again(pid, tries - 1))

    def _stop_again(self, pid: int, tries: int) -> None:
        if pid in self.by_pid:
            os.kill(pid, signal.SIGSTOP)  # its CLD_STOPPED leads to the next look

    # --- links

    def link(self, record: Record, uid: int) -> None:
        """Tie the incarnation that asks to `uid`'s present or next one."""
        other = self.guardian.registry.by_uid.get(uid)
        if other is not None and self.guardian.tree.status(uid) != "failed":
            self.guardian.watch.link(record.uid, uid)
            return
        known = self.guardian.registry.ended.get(uid, {"name": "", "reason": UNKNOWN})
        name, reason = (other.name, other.last_reason) if other is not None else (known["name"], known["reason"])
        self._kill_linked(record.uid, ExitReason.from_wire(reason or UNKNOWN), name)

    def _kill_linked(self, uid: int, reason: ExitReason, name: str | None) -> None:
        """name: who died first; None: the reason says so already, and goes on unchanged."""
        other = self.guardian.registry.by_uid.get(uid)
        if other is None or not reason.abnormal:
            return
        if name is not None:
            reason = replace(reason, error=f"{reason.error or ''} (linked to {name})".lstrip())
        if other.pid:
            other.killed = True
            os.kill(other.pid, signal.SIGKILL)
        elif uid in self.guardian.tree and self.guardian.tree.status(uid) == "starting":
            other.doomed = int(signal.SIGKILL)
        else:  # in backoff: what was tied to its next incarnation is gone, and that one has not lived yet
            return
        other.override = reason.to_wire()


def drain(fd: int) -> None:
    """Read all that a non-blocking descriptor holds."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass

"""The hands of the supervision tree: each of its actions, carried out (`_do_…`).

Rule: in order, and what an action leads to comes after all that was decided before it. Nothing is decided here.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..exits import ExitReason
from ..message import Kind
from ..supervision import actions as act
from .mailroom import ENDED, FAILED

if TYPE_CHECKING:
    from .main import Guardian
    from .registry import Record

PATIENCE = (
    1.0  # seconds that a closed mailbox may stay unquiet (a sender stopped in the middle) before it is swept anyway
)


class Hands:
    """Performs actions."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.queue: deque[act.Action] = deque()
        self.performing = False
        self.alarm: float | None = None

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
        deadline = self.guardian.tree.deadline
        if deadline is not None and (self.alarm is None or deadline < self.alarm):
            self.alarm = deadline
            self.guardian.alarms.at(deadline, self._due)

    def _due(self) -> None:
        self.alarm = None
        self.perform(self.guardian.tree.due(self.guardian.alarms.now()))

    def _do_spawn(self, action: act.Spawn) -> None:
        record = self.guardian.registry.by_uid[action.uid]
        record.doomed, record.override = 0, None
        self.guardian.nursery.begin(record)

    def _do_ask(self, action: act.Ask) -> None:
        record = self.guardian.registry.by_uid[action.uid]
        if self.guardian.nursery.cancel(record):
            self.guardian.deaths.ended(record, ExitReason("shutdown"))
            return
        if action.final and record.mail is not None:
            record.mail.close(ENDED)
        if record.peer is not None:
            self.guardian.peers.tell(record.peer, Kind.STOP, {"final": action.final})

    def _do_signal(self, action: act.Signal) -> None:
        record = self.guardian.registry.by_uid[action.uid]
        if self.guardian.nursery.cancel(record):
            self.guardian.deaths.ended(record, ExitReason("signal", signal=action.signum))
        elif record.pid:
            record.killed = record.killed or action.signum == signal.SIGKILL
            os.kill(record.pid, action.signum)
        else:
            record.doomed = int(action.signum)

    def _do_ready(self, action: act.Ready) -> None:
        record = self.guardian.registry.by_uid[action.uid]
        self.guardian.pools.joined(record)
        self.guardian.watch.event("started", record)
        if record.spawner is not None:
            (endpoint, corr), record.spawner = record.spawner, None
            self.guardian.peers.answer(endpoint, corr, {"uid": record.uid, "name": record.name, "pid": record.pid})

    def _do_startfailed(self, action: act.StartFailed) -> None:
        record = self.guardian.registry.by_uid[action.uid]
        name, details = record.failures.pop(action.cause, (record.name, ""))
        record.failures.clear()
        if record.spawner is not None:
            (endpoint, corr), record.spawner = record.spawner, None
            text = f"{self.guardian.watch.address(name)} did not start: {action.reason}"
            self.guardian.peers.refuse(endpoint, corr, "SpawnError", f"{text}\n\n{details}" if details else text)

    def _do_ended(self, action: act.Ended) -> None:
        record, reason = self.guardian.registry.by_uid[action.uid], action.reason.to_wire()
        record.last_reason = reason
        self.guardian.registry.forget(record, reason)
        if record.mail is not None:
            record.mail.close(ENDED)
            self._sweep(record, reason, time.monotonic() + PATIENCE)
        self.guardian.pools.left(record)
        self.guardian.watch.actor_ended(record, reason)
        self.guardian.topics.ended(record.uid)
        self.guardian.watch.event("stopped", record, reason)

    def _sweep(self, record: Record, reason: dict[str, Any], until: float) -> None:
        assert record.mail is not None
        if record.mail.quiet() or time.monotonic() >= until:
            self.guardian.mailroom.sweep(record, reason)
        else:
            self.guardian.timers.after(0.001, lambda: self._sweep(record, reason, until))

    def _do_failed(self, action: act.Failed) -> None:
        record, reason = self.guardian.registry.by_uid[action.uid], action.reason.to_wire()
        record.last_reason = reason
        if record.mail is not None:
            self.guardian.mailroom.fail(record, reason)
        self.guardian.topics.failed(record.uid)
        self.guardian.pools.left(record)
        self.guardian.watch.actor_ended(record, reason)
        self.guardian.watch.event("failed", record, reason)
        self.guardian.watch.log(
            "error",
            "failed: its restarts are used up; resume() starts it again",
            actor=self.guardian.watch.address(record.name),
            reason=str(action.reason),
        )

    def _do_restarting(self, action: act.Restarting) -> None:
        self.guardian.watch.event(
            "restarting", self.guardian.registry.by_uid[action.uid], action.reason.to_wire(), delay=action.delay
        )

    def _do_restarted(self, action: act.Restarted) -> None:
        self.guardian.watch.event("restarted", self.guardian.registry.by_uid[action.uid])

    def _do_recycled(self, action: act.Recycled) -> None:
        self.guardian.watch.event("recycled", self.guardian.registry.by_uid[action.uid], action.reason.to_wire())

    def _do_escalated(self, action: act.Escalated) -> None:
        by_uid = self.guardian.registry.by_uid
        record = by_uid[action.uid]
        cause = by_uid[action.cause].name if action.cause in by_uid else record.name
        self.guardian.watch.event("escalated", record, action.reason.to_wire(), cause=cause)
        self.guardian.watch.log(
            "error",
            "escalated: too many restarts below it",
            actor=self.guardian.watch.address(record.name),
            cause=self.guardian.watch.address(cause),
            reason=str(action.reason),
        )

    def _do_allstopped(self, action: act.AllStopped) -> None:
        self.guardian.timers.after(0.0, self.guardian.leave)

    def reopen(self) -> None:
        """Something was resumed: mail is taken again by all of it, also by those whose turn to start comes later."""
        tree = self.guardian.tree
        for uid, record in self.guardian.registry.by_uid.items():
            mail = record.mail
            if mail is not None and mail.closed == FAILED and uid in tree and tree.status(uid) != "failed":
                mail.reopen()
                self.guardian.topics.resumed(uid)

    # --- starts that fail

    def not_importable(self, record: Record, module: str, error: str) -> None:
        """The zygote can't import what this actor needs; at its first start the spawner ships it by value."""
        top = self.spawner_above(record)
        if top is not None:
            endpoint, corr = top.spawner  # type: ignore[misc]
            top.spawner = None
            self.guardian.peers.refuse(endpoint, corr, "ModuleUnavailable", module)
        self.perform(
            self.guardian.tree.start_failed(
                record.uid,
                ExitReason("exception", error=f"{module} can't be imported: {error}"),
                self.guardian.alarms.now(),
            )
        )
        self.guardian.deaths.ended(record, ExitReason("exception", error=f"{module} can't be imported"))

    def spawner_above(self, record: Record | None) -> Record | None:
        while record is not None and record.spawner is None:
            record = self.guardian.registry.by_uid.get(record.parent)
        return record

    def discard(self, record: Record) -> None:
        """Take back a record that never became part of the tree."""
        if record.mail is not None:
            self.guardian.mailroom.sweep(record, {"kind": "normal"})
        self.guardian.registry.by_uid.pop(record.uid, None)
        self.guardian.registry.by_name.pop(record.name, None)

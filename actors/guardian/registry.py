"""Actors by uid and by name, and what is remembered of those that ended.

Rule: no I/O. A uid is never used twice, not even by a later system of the same name (the numbers of each begin somewhere
else), so that a reference that has outlived its system reaches nobody. A name is free again when its actor has ended. A
supervisor has a record, too, without a mailbox.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from ..message import ROOT

if TYPE_CHECKING:
    from ..exits import ExitReason
    from ..transports._ring import Ring
    from .peers import Peer

REMEMBERED = 10_000  # ended actors whose reason is still known; each takes some 700 bytes


class Record:
    """What the guardian knows of one actor (or supervisor)."""

    def __init__(self, uid: int, name: str, parent: int, wire: dict[str, Any]) -> None:
        self.uid, self.name, self.parent = uid, name, parent
        self.kind: str = wire["kind"]
        self.payload: bytes = wire.get("payload") or b""
        self.modules: list[str] = list(wire.get("modules") or ())
        self.options: dict[str, Any] = wire.get("options") or {}
        self.limits: dict[str, Any] = self.options.get("limits") or {}
        self.setting: dict[str, Any] = wire.get("setting") or {}
        self.mail: Ring | None = None
        self.mail_fd = self.door = -1
        self.slots: list[int] = []  # descriptors of its last snapshot
        self.owed: tuple[
            int, ...
        ] = ()  # (endpoint, corr) of an ask whose answer is in the snapshot, and was perhaps not sent
        self.peer: Peer | None = None  # the present incarnation's connection
        self.pid = 0  # 0: not known (yet, or no longer)
        self.attempt = 0
        self.cradle = 0  # number of the process that its present attempt was sent to
        self.sent = 0.0  # when (CLOCK_BOOTTIME); nothing that this incarnation has started is older
        self.births = 0  # attempts of the present incarnation that died before their hello
        self.bye: dict[str, Any] = {}
        self.damaged = False  # somebody wrote over its mailbox
        self.override: dict[str, Any] | None = None  # the reason, when the guardian killed it for another's death
        self.by_link = False  # that was the reason of its last end
        self.killed = False  # by the guardian's SIGKILL
        self.hung: ExitReason | None = None  # why the guardian ended it, if so
        self.doomed = 0  # signal to send at its hello
        self.spawner: tuple[int, int] | None = None  # (endpoint, corr) to be told when it is ready
        self.failures: dict[int, tuple[str, str]] = {}  # while it starts: uid below -> its name, its traceback
        self.dropped = 0  # messages, by a mailbox that was full
        self.last_reason: dict[str, Any] | None = None

    @property
    def is_worker(self) -> bool:
        return self.kind == "worker"


class Registry:
    """All records."""

    def __init__(self) -> None:
        self.by_uid: dict[int, Record] = {}
        self.by_name: dict[str, int] = {}
        self.ended: dict[int, dict[str, Any]] = {}  # uid -> {name, reason}
        self._uids = itertools.count(
            (int.from_bytes(os.urandom(4), "little") << 20) + ROOT + 1
        )  # below 2**53, as JSON asks
        self._numbers: dict[str, int] = {}

    def new_uid(self) -> int:
        return next(self._uids)

    def free_name(self, base: str) -> str:
        """`base-1`, `base-2`, …: the first that is free."""
        while True:
            number = self._numbers[base] = self._numbers.get(base, 0) + 1
            if f"{base}-{number}" not in self.by_name:
                return f"{base}-{number}"

    def add(self, record: Record) -> None:
        self.by_uid[record.uid] = record
        self.by_name[record.name] = record.uid

    def forget(self, record: Record, reason: dict[str, Any]) -> None:
        del self.by_uid[record.uid]
        if self.by_name.get(record.name) == record.uid:
            del self.by_name[record.name]
        if len(self.ended) >= REMEMBERED:
            del self.ended[next(iter(self.ended))]
        self.ended[record.uid] = {"uid": record.uid, "name": record.name, "reason": reason}

    def named(self, name: str) -> Record | None:
        uid = self.by_name.get(name)
        return None if uid is None else self.by_uid[uid]

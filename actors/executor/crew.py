"""An executor's workers: starts them, tells them to stop, waits until they are gone.

Rule: whom to start or to stop is decided elsewhere (scheduler.py); all but `wait` is done under the dispatcher's lock.
Workers are temporary actors: one that dies is replaced, when there is work, by a new one. A start may fail, as a worker
may be killed while it starts; `STARTS` that fail in a row mean that none can be started.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import SystemDied
from ..exits import ExitReason
from ..message import ROOT
from ..options import split_options
from .errors import WorkerDied
from .future import TaskFuture
from .scheduler import Worker
from .worker import Worker as WorkerActor

if TYPE_CHECKING:
    from ..ref import ActorRef
    from ..system import ActorSystem

STARTS = 3  # that may fail in a row
PRELOAD = 16  # modules

Task = TaskFuture[Any]


class Member(Worker[Task]):
    """A worker that is up."""

    def __init__(self, ref: ActorRef[Any]) -> None:
        super().__init__()
        self.ref = ref

    def death(self, said: dict[str, Any], task: Task) -> WorkerDied:
        """What a task ends with that it had begun when it died. said: the guardian's word of it."""
        reason = ExitReason.from_wire(said["reason"]) if said.get("reason") else None
        times = f" (it killed {task.deaths} workers)" if task.deaths > 1 else ""
        how = f"died while it ran this task: {reason or 'unknown'}{times}; other tasks are not concerned"
        return WorkerDied(f"{self.ref.address} {how}", reason, True)


class Crew:
    """The workers of one executor. initializer: encoded, called in each before its first task."""

    def __init__(self, system: ActorSystem, initializer: bytes) -> None:
        self.system, self.client, self.initializer = system, system._client, initializer
        self.preload: dict[str, Any] = {}  # a function of each module that tasks are of: from birth
        self.failed_starts = 0
        self.retired: list[ActorRef[Any]] = []  # told to stop
        self.rings: list[int] = []  # eventfds of the thread that waits for workers that still start

    def start(self, started: Callable[[ActorRef[Any] | BaseException], None]) -> None:
        """Start one; `started` is called, later, with what has come of it."""
        from ..steps import drive_later

        options = split_options({"restart": "temporary", "start_timeout": math.inf})
        arguments = (self.initializer, *list(self.preload.values())[:PRELOAD])
        drive_later(self.system._spawn_steps(ROOT, WorkerActor, arguments, *options), started)

    def came_up(self, ref: ActorRef[Any]) -> Member:
        self.failed_starts = 0
        return Member(ref)

    def start_failed(self, why: BaseException) -> bool:
        """True: so will the next one."""
        self.failed_starts += 1
        return self.failed_starts >= STARTS or isinstance(why, SystemDied)

    def stop(self, member: Member, kill: bool = False) -> None:
        if self.client.gone is None:
            member.ref.kill() if kill else member.ref.stop()
            self.retired.append(member.ref)

    def ring(self) -> None:
        """Have the one that waits for starts look again."""
        for fd in self.rings:
            os.eventfd_write(fd, 1)

    def wait(self, is_up: Callable[[], bool], lock: threading.RLock) -> None:
        """Until those that still start are up, or have failed, and all that were told to stop are gone."""
        self.client.endpoint.block(is_up, self.rings, lock)
        for ref in self.retired:
            ref.wait()

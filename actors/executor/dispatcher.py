"""The executor's edge: sends tasks to workers and hears of their ends.

Rule: the scheduler decides, under one lock, and what it decides is done under it, too: a push into a mailbox takes
microseconds. There is no thread of its own: whoever waits for a task collects what has come and sends what is next; the
reader does where nobody waits. Decoding, callbacks and waiting happen outside the lock.

Ctrl-C may raise anywhere in the main thread, also in the middle of a decision (`deciding`). So each task itself says
where it is (not sent, sent to whom, over), and the scheduler's lists are made anew from that (`_repair`). That a task
was pushed is noted in the same C call, in which no signal handler runs.

The task that a worker had begun when it died ends with `WorkerDied`, or is sent again while it has retries; one that it
had not begun is sent to another.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from .. import definitions, wire
from ..arena import to_actor
from ..client import ASK, SHORT, goes_beside
from ..codec import decode
from ..errors import ActorDied, ActorsError, SystemDied
from ..failures import decode_error
from ..message import HANDLE, Kind
from .crew import Crew, Member, Task
from .end import End
from .errors import InitializerFailed, PoolBroken
from .scheduler import Scheduler, Worker

if TYPE_CHECKING:
    from ..ref import ActorRef
    from ..reply import Reply
    from ..system import ActorSystem

DIED, ERROR = int(Kind.DIED), int(Kind.ERROR)
FAILED_INITIALIZER = f"{InitializerFailed.__module__}.{InitializerFailed.__qualname__}"


class Dispatcher:
    """Runs tasks on at most `limit` workers."""

    def __init__(
        self, system: ActorSystem, own: bool, limit: int, per_worker: int | None, retries: int, initializer: bytes
    ) -> None:
        self.system, self.own, self.retries = system, own, retries
        self.client = system._client
        self.scheduler: Scheduler[Task] = Scheduler(limit, per_worker)
        self.tasks: dict[Task, None] = {}  # that are not over, as submitted
        self.lock = threading.RLock()
        self.unsure = False  # an exception came in the middle of a decision
        self.broken: PoolBroken | None = None
        self.crew = Crew(system, initializer)
        self.end = End(self)
        self.pid = os.getpid()

    # --- what users do

    def submit(self, task: Task, failure: BaseException | None = None) -> Task:
        """Run a task, or end it with the `failure` that it met before it could be sent. RuntimeError: no more are taken."""
        self.check_process()
        scheduler = self.scheduler
        if scheduler.queue:
            self.client.endpoint.pump()  # this thread can do what the reader would have to
        with self.lock:  # as `deciding`, which costs too much here and in `ended`
            if self.unsure:
                self._repair()
            if self.broken is not None:
                raise PoolBroken(str(self.broken)) from self.broken.__cause__
            if self.end.closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if failure is not None:
                task.finish(failure)
                return task
            self.unsure = True
            self.tasks[task] = None
            scheduler.queue.append(task)
            self._advance()
            self.unsure = False
        return task

    def cancel(self, task: Task) -> None:
        """Take it back, if no worker has begun it."""
        with self.deciding():
            if task.is_over or not self._take_back(task):
                return
            self._end(task, CancelledError())
            self._advance()
        task.tell()
        self.end.finish_if_idle()

    def is_first(self, task: Task) -> bool:
        """Has its worker nothing before it?"""
        with self.lock:
            worker = task.worker
            return worker is not None and bool(worker.held) and worker.held[0] is task

    def attend(self, task: Task) -> None:
        """Somebody waits who will not collect: the reader shall."""
        reply = task.reply
        if reply is not None and not task.is_over:
            self.client.endpoint.watch(reply)

    def is_forked(self) -> bool:
        """Is this a child that was forked from the executor's process?"""
        return self.pid != os.getpid()

    def check_process(self) -> None:
        """RuntimeError: this is a forked child."""
        if self.pid != os.getpid():
            raise RuntimeError(
                f"this executor belongs to process {self.pid}, from which this one was forked; make one of its own here"
            )

    # --- answers

    def ended(self, task: Task, reply: Reply[Any]) -> None:
        """A worker has answered a task, or has died with it. Calling it again is harmless."""
        if self.pid != os.getpid():
            return
        with self.lock:
            if self.unsure:
                self._repair()
            if task.reply is not reply or task.is_over:
                return
            self.unsure = True
            if reply.kind in (DIED, ERROR):
                told = self._failed(task, reply)
            else:
                self.scheduler.over(task, task.worker, time.monotonic())  # type: ignore[arg-type]
                self._end(task, None)
                told = [task]
            self._advance()
            self.unsure = False
        for each in told:
            each.tell()
        if self.end.closing:
            self.end.finish_if_idle()

    def _failed(self, task: Task, reply: Reply[Any]) -> list[Task]:
        """What ends with an answer that is none."""
        worker = cast(Member, task.worker)
        if reply.kind == ERROR:
            failure = self._initializer_failure(reply)
            if failure is not None:
                return self._break(f"its initializer failed: {failure}", failure)
            self.scheduler.over(task, worker, time.monotonic())
            self._end(task, None)
            return [task]
        said: dict[str, Any] = wire.loads(reply.body) if reply.body else {}
        self.scheduler.lose(worker)
        if said.get("system"):
            return self._break(f"its system is gone ({said.get('text', 'its guardian ended')})", None)
        self.scheduler.over(task, worker, time.monotonic())
        task.worker, task.reply = None, None
        if said.get("begun") or self.end.killed:  # after `kill` nobody is left to begin it
            task.deaths += 1
            if task.deaths > self.retries or self.end.killed:
                self._end(task, worker.death(said, task))
                return [task]
        self.scheduler.queue.appendleft(task)
        return []

    def _initializer_failure(self, reply: Reply[Any]) -> BaseException | None:
        body = reply.body
        if body is None or reply.flags & HANDLE or decode(body, 0)[0] != FAILED_INITIALIZER:
            return None
        failure = decode_error(body, reply.flags)
        return decode_error(*failure.args) if isinstance(failure, InitializerFailed) else failure

    # --- deciding and doing, under the lock

    @contextmanager
    def deciding(self) -> Iterator[None]:  # a generator: what is raised in `with` itself ends it, and frees the lock
        with self.lock:
            if self.unsure:
                self._repair()
            self.unsure = True
            try:
                yield
            except (ActorsError, RuntimeError):  # ours: raised between decisions
                self.unsure = False
                raise
            self.unsure = False

    def _repair(self) -> None:
        """Make the scheduler's lists anew from what each task says of itself."""
        waiting, held = [], []
        for task in self.tasks:
            reply, worker = task.reply, task.worker
            if worker is not None and reply is not None and (task.pushed or reply.kind >= 0):
                held.append((task, cast("Worker[Task]", worker)))
                reply.position = task.pushed[0] if task.pushed else reply.position
            else:
                if reply is not None:
                    self.client.take_back(reply)
                task.worker, task.reply = None, None
                waiting.append(task)
        self.scheduler.rebuild(waiting, held)

    def _advance(self) -> None:
        """Do all that the scheduler has to do now."""
        scheduler = self.scheduler
        if scheduler.queue:
            self._send_all()
        if len(self.tasks) > 1:
            while (recall := scheduler.to_recall(time.monotonic())) is not None:
                self._recall(*recall)  # type: ignore[arg-type]
                self._send_all()
        if scheduler.per_worker is not None:
            for worker in scheduler.to_retire():
                self.crew.stop(cast(Member, worker))
        if len(self.tasks) > len(scheduler.workers) and not self.end.killed and not self.broken:
            for _ in range(scheduler.to_start()):
                self.crew.start(self._started)

    def _send_all(self) -> None:
        now = time.monotonic()
        while self.scheduler.queue and (found := self.scheduler.next(now)) is not None:
            self._send(*found)  # type: ignore[arg-type]

    def _send(self, task: Task, worker: Member) -> None:
        client, uid = self.client, worker.ref.uid
        made = definitions.made
        if made and len(client.defined) < len(made):
            client.define()
        task.pushed.clear()
        reply = client._new_reply(uid, (worker.ref.name, task.method), 0)
        reply.cbs = [[task.ended, None, True]]
        task.worker, task.reply = worker, reply
        body, flags = task.body, task.flags
        try:
            port = client.ports.get(uid) or client.map(uid, worker.ref.name)
            if flags & HANDLE or (len(body) > SHORT and goes_beside(body, port)):
                body, flags = client.arena.pack(body, to_actor(uid), goes_beside(body, port)), flags | HANDLE
                client.large[reply] = body
            record = (body, ASK, flags, client.me, reply.corr, 0)
            task.pushed.extend(itertools.starmap(port.push, [(*record, 0.0)]))  # done and noted in one C call
            if task.pushed[0] < 0:
                task.pushed[0] = client.push_slowly(port, uid, worker.ref.name, record, 1.0)
            reply.position = task.pushed[0]
        except ActorDied as error:
            client.take_back(reply)
            self.scheduler.lose(worker)
            self.scheduler.back(task, worker)
            task.worker = task.reply = None
            if isinstance(error, SystemDied):
                raise
        except (ActorsError, MemoryError, OSError) as error:
            client.take_back(reply)
            self.scheduler.over(task, worker, time.monotonic())
            task.reply = None
            self._end(task, error)
            client.endpoint.hand(task.tell)
        if self.scheduler.queue or self.end.closing or "_condition" in task.__dict__:
            client.endpoint.watch(reply)

    def _recall(self, task: Task, worker: Member) -> None:
        if self._take_back(task):
            self.scheduler.queue.appendleft(task)
        else:
            self.scheduler.begun(worker)

    def _take_back(self, task: Task) -> bool:
        """Out of a mailbox, or of the queue. False: it is begun."""
        reply, worker = task.reply, task.worker
        if reply is None or worker is None:
            self.scheduler.queue.remove(task)
            return True
        port = self.client.ports.get(worker.ref.uid)
        if port is None or reply.kind >= 0 or not port.cancel(reply.position, self.client.me, reply.corr):
            return False
        self.client.take_back(reply)
        self.scheduler.back(task, worker)
        self.scheduler.queue.popleft()
        task.worker = task.reply = None
        return True

    def _end(self, task: Task, failure: BaseException | None) -> None:
        self.tasks.pop(task, None)
        task.finish(failure)

    def _break(self, why: str, cause: BaseException | None) -> list[Task]:
        """The executor is of no use any more: the tasks that end with it."""
        self.broken = self.broken or PoolBroken(f"the executor of system {self.system.name!r} is broken: {why}")
        self.broken.__cause__ = cause
        ended = list(self.tasks)
        for task in ended:
            failure = PoolBroken(str(self.broken))
            failure.__cause__ = cause
            self._end(task, failure)
        self.scheduler.queue.clear()
        for worker in list(self.scheduler.workers):
            self.scheduler.lose(worker)
            self.crew.stop(cast(Member, worker), kill=True)
        return ended

    # --- workers

    def _started(self, outcome: ActorRef[Any] | BaseException) -> None:
        """A worker is up, or could not be started."""
        told: list[Task] = []
        if self.is_forked():
            return
        with self.deciding():
            self.scheduler.starting -= 1
            if isinstance(outcome, BaseException):
                if self.crew.start_failed(outcome):
                    told = self._break(f"no worker can be started: {outcome}", outcome)
            else:
                member = self.crew.came_up(outcome)
                if self.end.finishing or self.broken or self.end.killed:
                    self.crew.stop(member, kill=True)
                else:
                    self.scheduler.workers.append(member)
            self._advance()
            self.crew.ring()
        for each in told:
            each.tell()
        self.end.finish_if_idle()

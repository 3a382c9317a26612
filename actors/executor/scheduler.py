"""Who does which task next: pure decisions over tasks and workers.

Rule: no I/O and no clock. First come, first served. A worker holds one task and, when nobody is idle, one more in its
mailbox, so that it never waits for the next one; first with whoever came to its present task last. A task that waits
behind a long one is not stranded: it is called back as soon as another worker has nothing better to do, or when it has
waited for `patience` while others had their turn.

A worker that has had its `per_worker` tasks gets no more and retires when its last one is over. Workers are started when
tasks wait and nobody is idle, up to `limit`.

Rejected: one queue in shared memory that workers compete for: a task taken by a worker that dies must be found out
there, and a task can't be cancelled exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

DEPTH = 2  # tasks that a worker holds at most

T = TypeVar("T")


class Worker(Generic[T]):
    """One worker: what it holds, oldest first, since when each waits there, and how many it was given ever."""

    def __init__(self) -> None:
        self.held: deque[T] = deque()
        self.since: deque[float] = deque()
        self.given = 0
        self.began = 0.0  # when it came to its present task


class Scheduler(Generic[T]):
    """Tasks that wait, and workers that are up. patience: seconds."""

    def __init__(self, limit: int, per_worker: int | None = None, patience: float = 0.01) -> None:
        self.limit, self.per_worker, self.patience = limit, per_worker, patience
        self.queue: deque[T] = deque()
        self.workers: list[Worker[T]] = []
        self.starting = 0

    def next(self, now: float) -> tuple[T, Worker[T]] | None:
        """A task that is to be sent now, and to whom: it counts as held from here on. None: none."""
        if not self.queue:
            return None
        best, least = None, DEPTH
        for worker in self.workers:
            load = len(worker.held)
            if (
                (load < least or (best is not None and load == least and worker.began > best.began))
                and load < DEPTH
                and (self.per_worker is None or worker.given < self.per_worker)
            ):
                best, least = worker, load
                if load == 0:
                    break
        if best is None:
            return None
        if least == 0:
            best.began = now
        task = self.queue.popleft()
        best.held.append(task)
        best.since.append(now)
        best.given += 1
        return task, best

    def to_start(self) -> int:
        """How many workers to start now; they count as starting from here on."""
        idle = sum(not worker.held for worker in self.workers)
        waiting = len(self.queue) + sum(len(worker.held) > 1 for worker in self.workers)
        count = max(0, min(self.limit - len(self.workers) - self.starting, waiting - idle - self.starting))
        self.starting += count
        return count

    def to_recall(self, now: float) -> tuple[T, Worker[T]] | None:
        """A task that waits behind another and had better be called back, and from whom; `back` or `begun` must follow."""
        oldest, holder = now, None
        for worker in self.workers:
            if len(worker.held) > 1 and worker.since[-1] < oldest:
                oldest, holder = worker.since[-1], worker
        if holder is None:
            return None
        free = any(not worker.held for worker in self.workers)
        if (free and not self.queue) or oldest + self.patience <= now:
            return holder.held[-1], holder
        return None

    def to_retire(self) -> list[Worker[T]]:
        """Workers that have had their tasks; they are forgotten here."""
        if self.per_worker is None:
            return []
        done = [worker for worker in self.workers if worker.given >= self.per_worker and not worker.held]
        for worker in done:
            self.workers.remove(worker)
        return done

    def over(self, task: T, worker: Worker[T], now: float) -> None:
        """The worker has it no longer."""
        try:
            at = worker.held.index(task)
        except ValueError:
            return
        del worker.held[at], worker.since[at]
        if worker.since and at == 0:  # the next one is begun now
            worker.since[0], worker.began = float("inf"), now

    def back(self, task: T, worker: Worker[T]) -> None:
        """It was not begun there, and is first again."""
        self.over(task, worker, worker.began)
        worker.given -= 1
        self.queue.appendleft(task)

    def begun(self, worker: Worker[T]) -> None:
        """It can't be called back: the one before it is about to end."""
        worker.since[-1] = float("inf")

    def lose(self, worker: Worker[T]) -> None:
        """This one has died and gets nothing more; what becomes of what it holds is said apart."""
        if worker in self.workers:
            self.workers.remove(worker)

    def rebuild(self, queue: Iterable[T], held: Iterable[tuple[T, Worker[T]]]) -> None:
        """Begin again from what is known of each task; an exception came in the middle of a decision."""
        self.queue = deque(queue)
        for worker in self.workers:
            worker.held.clear()
            worker.since.clear()
        for task, worker in held:
            worker.held.append(task)
            worker.since.append(float("inf"))

"""One stage's bookkeeping: what waits, who works on what, what may be let go.

Rule: pure. Inputs are numbered without gaps as they come. An ordered stage lets results go in the order of the inputs
that they come from: those of the oldest input in hand at once, even while it still makes more; others when it is their
turn. What a dead or unwilling worker leaves goes to the next free one before anything new.

How much is a batch: as much as takes AIM seconds, by the latest measurements; but when a worker is idle it gets what
there is at once. A worker has a second batch in its mailbox while the first is short, so that it never waits for the
program; one that makes more and more of its inputs (an iterator) or takes long has one.

What is held back is bounded in bytes: WINDOW of inputs, WINDOW of results whose turn has not come (the oldest input is
always worked on), to which every worker may add one answer.
"""

from __future__ import annotations

import heapq
from collections import deque

from .batch import DONE, LOST, REFUSED, RETRIES, SKIPS, Answer, Batch, Failure
from .chunk import Chunk, part

AIM = 0.004  # seconds of work in a batch
SHORT = 0.02  # seconds: after batches of less, the next one waits at the worker already
GROWTH = 8  # a batch is at most so many times the one before
MOST = 4096  # inputs in a batch: beside so many it costs little itself, and longer ones leave others idle
WINDOW = 4 << 20  # bytes
LARGEST = 1 << 18  # bytes of inputs in a batch, unless one is larger
DEATHS = 3  # processes that die under one input, alone in their hands, before it counts as the cause


class Station:
    """One stage: `workers` of them, by number."""

    def __init__(
        self,
        index: int,
        workers: int = 1,
        *,
        ordered: bool = True,
        batch: int | None = None,
        finishes: bool = False,
        keeps: bool = False,
        on_error: str = "raise",
        retries: int = 3,
    ) -> None:
        self.index, self.ordered, self.fixed, self.on_error, self.retries = index, ordered, batch, on_error, retries
        self.finishes = finishes
        self.fragile = finishes and not keeps  # a death takes its state away
        self.inbox: deque[Chunk] = deque()
        self.items = self.bytes = 0  # in the inbox
        self.again: list[tuple[int, Batch]] = []  # a heap: what is to be done before anything new
        self.flights: list[list[Batch]] = [[] for _ in range(workers)]  # a worker's, in the order of its mailbox
        self.alive = [True] * workers
        self.progress = [0] * workers  # inputs that a worker's present incarnation has seen
        self.tokens = [0] * workers  # that incarnation, where it matters
        self.to_replace: set[int] = set()
        self.waiting: dict[int, Batch] = {}  # by first input; what is not let go entirely
        self.numbered = self.released = 0  # inputs: numbered so far; those before this one are let go
        self.held = 0  # bytes of results that wait for their turn
        self.closed = self.finishing = self.over = False
        self.seconds_an_item = self.weight = 0.0  # a mean over the latest `weight` items
        self.size = batch or 1
        self.short = True
        # counts for people
        self.done = self.made = self.let_go = self.skipped = self.deaths = 0
        self.busy = self.starved = self.blocked = 0.0  # seconds of all workers together
        self.drop = 0  # results that a run before this one has handed out already
        self.marks: deque[tuple[int, int]] | None = None  # (inputs, results of them), where positions are kept

    # --- inputs

    def accept(self, chunk: Chunk) -> None:
        self.inbox.append(chunk)
        self.items += chunk.items
        self.bytes += chunk.size

    @property
    def wanted(self) -> int:
        """Inputs that keep its workers busy for some batches."""
        return 4 * len(self.flights) * self.size

    @property
    def has_room(self) -> bool:
        return self.items < self.wanted and self.bytes < WINDOW

    @property
    def working(self) -> int:
        """How many workers have something in hand."""
        return sum(map(bool, self.flights))

    @property
    def empty(self) -> bool:
        return not (self.inbox or self.again or self.waiting or any(self.flights))

    def account(self, seconds: float) -> None:
        """So much time has passed."""
        idle = sum(1 for worker, flight in enumerate(self.flights) if self.alive[worker] and not flight)
        if self.inbox or self.again:
            self.blocked += idle * seconds
        else:
            self.starved += idle * seconds

    # --- who gets what

    def take(self, worker: int) -> Batch | None:
        """A batch for this worker, if it should have one now."""
        flight = self.flights[worker]
        if (
            not self.alive[worker]
            or worker in self.to_replace
            or any(batch.streams or batch.careful for batch in flight)
        ):
            return None
        if flight and (not self.short or len(flight) > 1 or self.again or self.items < self.size):
            return None
        if self.again:
            first, batch = self.again[0]
            if batch.finish or (self.held >= WINDOW and self.ordered and first != self.released):
                return None
            heapq.heappop(self.again)
        elif self.inbox and not (self.held >= WINDOW and self.ordered and self.waiting):
            batch = self._new_batch()
        else:
            return None
        flight.append(batch)
        return batch

    def may_go_on(self, batch: Batch) -> bool:
        """May an open batch make more of its inputs?"""
        if not self.ordered or self.held < WINDOW or batch.first == self.released:
            return True
        head = self.waiting.get(self.released)  # nobody works on the oldest: then this must end to make room for it
        return head is not None and not any(head in flight for flight in self.flights)

    def _new_batch(self) -> Batch:
        idle = sum(1 for worker, flight in enumerate(self.flights) if self.alive[worker] and not flight)
        count = min(self.size, -(-self.items // max(idle, 1)))
        if self.fixed is not None:
            count = min(self.fixed, self.items)
        chunks, got, size = list[Chunk](), 0, 0
        while got < count and self.inbox:
            chunk = self.inbox[0]
            some = min(chunk.items, count - got)
            if chunk.size > LARGEST:
                some = min(some, max(1, (LARGEST - size) * chunk.items // chunk.size))
            if chunks and size + chunk.size * some // chunk.items > LARGEST:
                break
            piece = chunk.part(0, some)
            if some == chunk.items:
                self.inbox.popleft()
            else:
                self.inbox[0] = chunk.part(some, chunk.items)
            self.bytes -= chunk.size - (0 if some == chunk.items else self.inbox[0].size)
            chunks.append(piece)
            got += some
            size += piece.size
        self.items -= got
        batch = Batch(self.numbered, chunks, got)
        self.numbered += got
        self.waiting[batch.first] = batch
        return batch

    def _rest(self, batch: Batch) -> Batch:
        """What is left of a batch that its worker has no more."""
        rest = batch.cut() if batch.done and not batch.finish else batch
        assert rest is not None, "a worker that has done all of a batch has said so"
        return rest

    def _repeat(self, batch: Batch) -> None:
        batch.open = False
        self.waiting[batch.first] = batch
        heapq.heappush(self.again, (batch.first, batch))

    # --- what came of it

    def answered(self, worker: int, batch: Batch, answer: Answer) -> None:
        """A worker has answered for a batch."""
        if answer.status == REFUSED:  # it is not its turn there: the worker died, or has not finished the one before
            self.flights[worker].remove(batch)
            self._repeat(self._rest(batch))
            return
        if answer.status == LOST:
            self.flights[worker].remove(batch)
            self.lost(worker, batch, "its process was replaced")
            return
        assert answer.status == DONE
        self.tokens[worker] = answer.token
        self._measure(batch, answer.done, answer.seconds)
        self.held += batch.take(answer)
        if not batch.finish:
            self.done += answer.done
        self.made += sum(count for _, _, count in answer.parts)
        self.progress[worker] += answer.done
        self.skipped += len(answer.skipped)
        if answer.full:
            self.to_replace.add(worker)
        if answer.open:
            return
        self.flights[worker].remove(batch)
        if answer.failed is not None:
            self._fail(batch, "raised", answer.failed[0], answer.failed[1:])
        elif batch.finish or batch.done:
            rest = None if batch.finish else batch.cut()
            batch.over = True
            if rest is not None:
                self._repeat(rest)
        else:
            self._repeat(batch)

    def died(self, worker: int, batch: Batch, in_hand: bool, late: bool, text: str) -> None:
        """A worker's process died before it answered for a batch; `in_hand`: it had begun with it."""
        self.flights[worker].remove(batch)
        if in_hand:
            self.deaths += 1
        if self.fragile and self.progress[worker]:
            self.lost(worker, batch, text)
            return
        self.progress[worker] = self.tokens[worker] = 0
        rest = self._rest(batch)
        if in_hand and self._to_blame(rest, late):
            self._poisonous(rest, "late" if late else "died", text)
        else:
            self._repeat(rest)

    def lost(self, worker: int, batch: Batch, text: str) -> None:
        """What a worker had gathered for its `finish` is gone."""
        seen, self.progress[worker], self.tokens[worker] = self.progress[worker], 0, 0
        if self.on_error in SKIPS:
            self.skipped += seen
            self._repeat(self._rest(batch))
        else:
            self._fail(batch, "lost", f"{text}, and with it what it had gathered from {seen} items")

    def _to_blame(self, batch: Batch, late: bool) -> bool:
        """Is it known by now that the first input of this batch kills who works on it?"""
        retries = self.retries if self.on_error in RETRIES else 0
        if batch.careful or batch.count == 1:
            batch.hits += 1
            return batch.hits > (retries if late else max(DEATHS - 1, retries))
        batch.careful = True
        return False

    def _poisonous(self, batch: Batch, trouble: str, text: str) -> None:
        if self.on_error not in SKIPS:
            self._fail(batch, trouble, text)
            return
        self.skipped += 1
        self.done += 1
        rest = batch.cut(without=1)
        if rest is not None:
            rest.hits = 0
            self._repeat(rest)

    def _fail(self, batch: Batch, trouble: str, text: str, error: tuple[bytes, int] | None = None) -> None:
        batch.failure = Failure(self.index, trouble, text, batch.item(), error)  # type: ignore[arg-type]
        batch.over, batch.open, batch.count = True, False, batch.done
        self.waiting[batch.first] = batch

    def _measure(self, batch: Batch, done: int, seconds: float) -> None:
        self.busy += seconds
        self.short = seconds < SHORT
        batch.seconds += seconds
        if done and not batch.finish:
            each, batch.seconds = batch.seconds / done, 0.0
            self.weight = self.weight / 2 + done
            self.seconds_an_item += (each - self.seconds_an_item) * done / self.weight
            fits = int(AIM / max(self.seconds_an_item, 1e-9))
            self.size = self.fixed or max(1, min(fits, self.size * GROWTH, MOST))
        elif not self.short:
            self.size = self.fixed or 1

    # --- results

    def release(self) -> tuple[list[Chunk], Failure | None]:
        """The results whose turn it is, and the failure after them, if there is one."""
        found: list[Chunk] = []
        if self.ordered:
            while (batch := self.waiting.get(self.released)) is not None:
                self._let_go(batch, found)
                if not batch.over:
                    break
                del self.waiting[self.released]
                self.released += batch.count
                self._mark()
                if batch.failure is not None:
                    return found, batch.failure
            return found, None
        for batch in list(self.waiting.values()):
            self._let_go(batch, found)
            if batch.over:
                del self.waiting[batch.first]
                self.released += batch.count
                if batch.failure is not None:
                    return found, batch.failure
        return found, None

    def _let_go(self, batch: Batch, found: list[Chunk]) -> None:
        for chunk in batch.outputs:
            self.held -= chunk.size
            self.let_go += chunk.items
            if self.drop:
                dropped = min(self.drop, chunk.items)
                self.drop -= dropped
                if dropped == chunk.items:
                    continue
                chunk = part([chunk], dropped, chunk.items)[0]
            found.append(chunk)
        batch.outputs.clear()

    def _mark(self) -> None:
        if self.marks is not None:
            self.marks.append((self.released, self.let_go))

    # --- the end

    def finish_batches(self) -> list[tuple[int, Batch]]:
        """At the end of the input, what is to be asked of each worker; and once more of those that died over it."""
        found = []
        if not self.finishing:
            self.finishing = True
            for worker, alive in enumerate(self.alive):
                if alive:
                    batch = Batch(self.numbered, [], 1, owner=worker)
                    self.numbered += 1
                    self.waiting[batch.first] = batch
                    found.append((worker, batch))
        else:
            found = [(batch.owner, batch) for _, batch in self.again]
            self.again.clear()
        for worker, batch in found:
            self.flights[worker].append(batch)
        return found

    def discard(self) -> None:
        """Nothing of it is wanted any more."""
        self.inbox.clear()
        self.again.clear()
        self.waiting.clear()
        self.flights = [[] for _ in self.flights]
        self.items = self.bytes = self.held = 0
        self.closed = self.over = True

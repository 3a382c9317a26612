"""What carries a run: events come from anywhere, one thread at a time lets the flow decide and does what it says.

Rule: nobody waits for a lock here. Events go into a queue, and whoever brings one tries to take the baton; who holds
it works until the queue is empty. So a callback in the reader thread is short, and Ctrl-C in the program's thread,
which may leave the baton taken for ever, can hang nobody: the run is then closed.

The engine knows nothing of the iterator that users hold (`Run`), so that one that is dropped is noticed and ends it.
"""

from __future__ import annotations

import collections
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import codec
from ..errors import ActorDied, CodecError
from ..message import ROOT
from ..parcels import Parcel
from .batch import Answer
from .chunk import Chunk, ease, unpack
from .crew import Crew
from .flow import Flow, More, Out, Over, Replace, Work
from .held import shown
from .source import Source
from .stage import Stage
from .station import Station

if TYPE_CHECKING:
    from ..exits import ExitReason
    from ..monitor import Down
    from ..reply import Reply
    from ..system import ActorSystem

FALLS = 5  # restarts of a worker in a row that come to nothing before its stage counts as broken
PATIENCE = 0.2  # seconds for whoever has the baton, unless Ctrl-C has taken it for ever
CHUNK = 16_384  # results a chunk at the end of the line
log = logging.getLogger("actors.pipeline")

Event = Callable[[], None]


class Wake:
    """In the queue of results: look again whether there is room for items of the source."""


WAKE = Wake()
Result = Chunk | Over | Wake | BaseException


class Engine:
    """A run's flow and crew."""

    def __init__(self, stages: Sequence[Stage], name: str, system: ActorSystem | None, parent: int = ROOT) -> None:
        self.stages = stages
        self.flow = Flow([station(index, stage) for index, stage in enumerate(stages)])
        self.crew = Crew(stages, name, system, self._heard, self._fell, parent)
        self.results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self.notify: Callable[[], None] | None = None  # told of results; for event loops
        self.hungry = False  # somebody waits who could bring items of the source
        self.restarts = [0] * len(stages)
        self.falls: dict[tuple[int, int], int] = {}
        self.source: Source | None = None
        self.begun = self.ended = self.looked = time.monotonic()
        self.consumer = 0.0  # seconds in the code of whoever iterates
        self.closed = self.over = False
        self._events: collections.deque[Event] = collections.deque()
        self._baton = threading.Lock()

    # --- what others bring

    def post(self, event: Event) -> None:
        """Let this happen, and what follows from it."""
        if self.closed:
            return
        self._events.append(event)
        while self._events and not self.closed and self._baton.acquire(blocking=False):
            try:
                self._pump()
            finally:
                self._baton.release()

    def feed(self, chunk: Chunk) -> None:
        self.post(lambda: self.flow.feed(chunk))

    def end_source(self, cut_short: bool = False) -> None:
        self.post(lambda: self.flow.end_source(cut_short))

    def taken(self, chunk: Chunk) -> None:
        self.post(lambda: self.flow.taken(chunk.items, chunk.size))

    def started(self) -> None:
        """The crew is there."""
        self.begun = self.looked = time.monotonic()
        assert self.source is not None
        self.source.arena = self.crew.arena

    def _heard(self, action: Work | More, reply: Reply[Any]) -> None:
        self.post(lambda: self._settled(action, reply))

    def _fell(self, stage: int, worker: int, down: Down) -> None:
        self.post(lambda: self._note_fall(stage, worker, down))

    def close(self) -> None:
        """Nothing is to be done any more."""
        self.closed = True
        self.notify = None
        self._events.clear()
        self._end()

    def forget(self) -> None:
        """After `close` and the end of all workers: let go of what was under way, and of the memory that it lies in."""
        if self._baton.acquire(timeout=PATIENCE):  # for good: nothing happens any more
            for station in self.flow.stations:
                station.discard()
        self._events.clear()
        while True:
            try:
                self.results.get_nowait()
            except queue.Empty:
                break
        self._say(WAKE)  # to a thread that waits while another has closed the run

    def _end(self) -> None:
        if not self.over:
            self.over, self.ended = True, time.monotonic()

    # --- one at a time

    def _pump(self) -> None:
        now = time.monotonic()
        self.flow.account(now - self.looked)
        self.looked = now
        try:
            while self._events:
                self._events.popleft()()
            for action in self.flow.step():
                self._carry_out(action)
        except Exception as error:
            self._say(error)
        if self.hungry and self.flow.wanted():
            self.hungry = False
            self._say(WAKE)

    def _carry_out(self, action: Any) -> None:
        match action:
            case Work(stage, worker):
                self.crew.work(action, self.flow.stations[stage].tokens[worker], self._want(stage))
            case More(stage):
                self.crew.more(action, self._want(stage))
            case Replace(stage, worker):
                self.crew.replace(stage, worker)
            case Out(chunk):
                self._say(chunk)
            case Over():
                self._end()
                self._say(action)

    def _want(self, stage: int) -> int:
        """How many results a chunk of this stage should hold: a batch of the next."""
        return self.flow.stations[stage + 1].size if stage + 1 < len(self.stages) else CHUNK

    def _say(self, result: Result) -> None:
        self.results.put(result)
        if self.notify is not None:
            self.notify()

    def _settled(self, action: Work | More, reply: Reply[Any]) -> None:
        """An ask of ours has ended."""
        stage, worker, batch = action[:3]
        error = reply.exception(0)
        if error is None:
            answer = Answer(*reply.result(0))
            if any(isinstance(body, Parcel) for body, _, _ in answer.parts):
                parts = [(ease(body, self.crew.arena), flags, count) for body, flags, count in answer.parts]
                answer = answer._replace(parts=parts)
            self.falls.pop((stage, worker), None)
            for _, item, why in answer.skipped:
                log.warning("stage %r skipped %s: %s", self.stages[stage].name, item, why)
            self.flow.answered(stage, worker, batch, answer)
        elif isinstance(error, ActorDied) and error.reason is not None:
            late = error.reason.signal == signal.SIGALRM and self.stages[stage].timeout is not None
            text = f"took longer than {self.stages[stage].timeout:g} s" if late else f"its process {_how(error.reason)}"
            before, failing, place = self.flow.stations[stage].skipped, batch.item(), batch.first + batch.done
            if error.restarting:
                self.falls.pop((stage, worker), None)
            self.flow.died(stage, worker, batch, gone=not error.restarting, begun=True, late=late, text=text)
            if (lost := self.flow.stations[stage].skipped - before) > 0:
                what = f"{lost} items" if lost > 1 or failing is None else _shown(failing, place)
                log.warning("stage %r skipped %s: %s", self.stages[stage].name, what, text)
        else:
            raise error

    def _note_fall(self, stage: int, worker: int, down: Down) -> None:
        if not down.restarting:
            return
        self.restarts[stage] += 1
        falls = self.falls[stage, worker] = self.falls.get((stage, worker), 0) + 1
        if falls > FALLS and self.flow.stations[stage].flights[worker]:
            self.flow.broken(stage, f"its worker does not start again ({down.reason}), after {falls} tries")


def station(index: int, stage: Stage) -> Station:
    return Station(
        index, stage.workers, ordered=stage.ordered, batch=1 if stage.timeout is not None else stage.batch,
        finishes=stage.finishes, keeps=stage.keeps, on_error=stage.on_error, retries=stage.retries,
    )  # fmt: skip


def _how(reason: ExitReason) -> str:
    return f"was {reason}" if reason.signal is not None else str(reason)


def _shown(item: Chunk, place: int) -> str:
    """In a message. A pickle is left alone: what it does when it is read may be what the process died of."""
    if item.flags & codec.PICKLED:
        return f"its input {place} (from 0)"
    try:
        return shown(unpack(item)[0])
    except CodecError:
        return "an item"

"""The whole line of stages: events in, actions out.

Rule: pure: no process, no clock, no I/O, nothing decoded. Whoever runs it says what has happened (`feed`, `answered`,
`died`, `taken`) and then carries out what `step` returns.

A stage begins something new only while the one after it (at the end: whoever iterates) has room for the results. A
failing item ends its stage: what comes after it is dropped, in that stage and those before; what came before it flows
on to the end, and only then the run fails. So the results are always those of the items before the failing one.
"""

from __future__ import annotations

from typing import NamedTuple

from .batch import Answer, Batch, Failure
from .chunk import Chunk
from .station import WINDOW, Station


class Work(NamedTuple):
    """Ask a worker to begin with a batch. after: first input of the one that it must have done before; -1: none."""

    stage: int
    worker: int
    batch: Batch
    after: int


class More(NamedTuple):
    """Ask a worker to go on with what it has in hand."""

    stage: int
    worker: int
    batch: Batch


class Replace(NamedTuple):
    """Give a worker a new process; it has nothing in hand."""

    stage: int
    worker: int


class Out(NamedTuple):
    """Hand results to whoever iterates."""

    chunk: Chunk


class Over(NamedTuple):
    """That was all; or all until a failure."""

    failure: Failure | None


Action = Work | More | Replace | Out | Over


class Flow:
    """The stations in a row."""

    def __init__(self, stations: list[Station]) -> None:
        self.stations = stations
        self.failure: Failure | None = None
        self.cut_short = False  # the input ended before its end: no stage finishes
        self.over = False
        self.out_items = self.out_bytes = 0  # handed out, and not taken yet

    # --- events

    def feed(self, chunk: Chunk) -> None:
        """Items of the source."""
        if not self.stations[0].closed:
            self.stations[0].accept(chunk)

    def end_source(self, cut_short: bool = False) -> None:
        """There are no more. cut_short: because it failed."""
        self.stations[0].closed = True
        self.cut_short = self.cut_short or cut_short

    def wanted(self) -> int:
        """How many items of the source there is room for."""
        station = self.stations[0]
        return 0 if station.closed or not station.has_room else station.wanted - station.items

    def answered(self, stage: int, worker: int, batch: Batch, answer: Answer) -> None:
        station = self.stations[stage]
        if batch in station.flights[worker]:
            station.answered(worker, batch, answer)

    def died(self, stage: int, worker: int, batch: Batch, *, gone: bool, begun: bool, late: bool, text: str) -> None:
        """A worker's process died before it answered. gone: it does not come back."""
        station = self.stations[stage]
        if batch not in station.flights[worker]:
            return
        if gone:
            station.alive[worker] = False
        station.died(worker, batch, begun and station.flights[worker][0] is batch, late, text)
        if not any(station.alive):
            self._fail(stage, Failure(stage, "died", f"no worker is left: {text}"))

    def broken(self, stage: int, text: str) -> None:
        """A stage can't work at all any more."""
        self._fail(stage, Failure(stage, "died", text))

    def taken(self, items: int, size: int) -> None:
        """Whoever iterates has taken results."""
        self.out_items -= items
        self.out_bytes -= size

    def account(self, seconds: float) -> None:
        for station in self.stations:
            if not station.over:
                station.account(seconds)

    # --- decisions

    def step(self) -> list[Action]:
        """What is to be done now."""
        actions: list[Action] = []
        if self.over:
            return actions
        for index in range(len(self.stations)):
            self._release(index, actions)
        for index in reversed(range(len(self.stations))):
            self._dispatch(index, actions)
        if self.stations[-1].over:
            self.over = True
            actions.append(Over(self.failure))
        return actions

    def _release(self, index: int, actions: list[Action]) -> None:
        station = self.stations[index]
        if station.over:
            return
        chunks, failure = station.release()
        for chunk in chunks:
            if index + 1 < len(self.stations):
                self.stations[index + 1].accept(chunk)
            else:
                self.out_items += chunk.items
                self.out_bytes += chunk.size
                actions.append(Out(chunk))
        if failure is not None:
            self._fail(index, failure)
        elif station.closed and station.empty and (station.finishing or not station.finishes or self.cut_short):
            self._end(index)

    def _end(self, index: int) -> None:
        self.stations[index].over = True
        if index + 1 < len(self.stations):
            self.stations[index + 1].closed = True

    def _fail(self, index: int, failure: Failure) -> None:
        self.failure, self.cut_short = failure, True
        for station in self.stations[: index + 1]:
            station.discard()
        self._end(index)

    def _dispatch(self, index: int, actions: list[Action]) -> None:
        station = self.stations[index]
        if station.over:
            return
        for worker in list(station.to_replace):
            if not station.flights[worker]:
                station.to_replace.discard(worker)
                actions.append(Replace(index, worker))
        room = self._room_after(index)
        for worker, flight in enumerate(station.flights):
            if room and flight and flight[0].open and station.may_go_on(flight[0]):
                flight[0].open = False
                actions.append(More(index, worker, flight[0]))
        if station.closed and station.finishes and not self.cut_short and (station.finishing or station.empty):
            actions += [Work(index, worker, batch, -1) for worker, batch in station.finish_batches()]
            return
        for depth in (0, 1):  # first those that have nothing in hand
            for worker, flight in enumerate(station.flights):
                while room and len(flight) == depth and (batch := station.take(worker)) is not None:
                    actions.append(Work(index, worker, batch, flight[-2].first if len(flight) > 1 else -1))

    def _room_after(self, index: int) -> bool:
        if index + 1 < len(self.stations):
            return self.stations[index + 1].has_room
        return self.out_bytes < WINDOW and self.out_items < 2 * self.stations[index].wanted

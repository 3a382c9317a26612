"""The flow of a pipeline against a simulation of workers that answer, die, refuse and dawdle in every order: what comes
out is always what a loop makes, memory stays within its windows, and it always ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.pipeline.batch import DONE, REFUSED, Answer, Batch
from actors.pipeline.chunk import pack, unpack
from actors.pipeline.flow import Flow, More, Out, Over, Work
from actors.pipeline.station import Station


class Fake:
    """A worker as the real one behaves: its mailbox survives, its hands do not."""

    def __init__(self, spread: int, poison: int) -> None:
        self.mail: list[Work] = []
        self.held: tuple[Batch, list[Any], int, int] | None = None
        self.last, self.token = -1, 1
        self.spread, self.poison = spread, poison

    def die(self) -> None:
        self.held, self.last = None, -1
        self.token += 1


class Line:
    """A flow with its workers and a source of `items` numbers."""

    def __init__(
        self, spreads: list[int], workers: int, items: int, ordered: bool, poison: int, chance: random.Random
    ) -> None:
        self.chance, self.items, self.given = chance, items, 0
        policy = "skip"
        self.flow = Flow([Station(i, workers, ordered=ordered, on_error=policy) for i in range(len(spreads))])
        self.fakes = [
            [Fake(spread, poison if i == 0 else -1) for _ in range(workers)] for i, spread in enumerate(spreads)
        ]
        self.pending: list[tuple[Work | More, Fake]] = []
        self.out: list[int] = []
        self.over = False

    def step(self) -> None:
        for action in self.flow.step():
            match action:
                case Work(stage, worker) | More(stage, worker):
                    self.pending.append((action, self.fakes[stage][worker]))
                case Out(chunk):
                    self.out += unpack(chunk)
                    self.flow.taken(chunk.items, chunk.size)
                case Over(failure):
                    assert failure is None
                    self.over = True

    def turn(self) -> None:
        """One thing happens."""
        wanted = self.flow.wanted()
        if wanted and self.given < self.items and (self.chance.random() < 0.5 or not self.pending):
            count = min(self.chance.randint(1, wanted), self.items - self.given)
            self.flow.feed(pack(list(range(self.given, self.given + count))))
            self.given += count
        elif self.given == self.items and not self.flow.stations[0].closed:
            self.flow.end_source()
        elif self.pending:
            self.answer()
        self.step()

    def answer(self) -> None:
        first = {id(fake): (action, fake) for action, fake in reversed(self.pending)}  # a mailbox is in order
        action, fake = self.chance.choice(list(first.values()))
        self.pending.remove((action, fake))
        batch = action.batch
        if self.chance.random() < 0.15 and not batch.hits:  # three in a row would count as the item's doing
            fake.die()
            self.died(action)
            return
        answer = self.begun(action, fake) if isinstance(action, Work) else self.gone_on(fake)
        if answer is None:
            fake.die()
            self.died(action)
        else:
            self.flow.answered(action.stage, action.worker, batch, answer)

    def died(self, action: Work | More) -> None:
        self.flow.died(action.stage, action.worker, action.batch, gone=False, begun=True, late=False, text="killed")

    def begun(self, action: Work, fake: Fake) -> Answer | None:
        batch = action.batch
        if fake.held is not None or (action.after >= 0 and action.after != fake.last):
            return Answer(REFUSED, [], 0, 0, False, 0.0, [], None, fake.token, False)
        items = [item for chunk in batch.chunks for item in unpack(chunk)]
        assert len(items) == batch.count
        fake.held = (batch, items, 0, batch.partial)
        return self.gone_on(fake)

    def gone_on(self, fake: Fake) -> Answer | None:
        if fake.held is None:  # it died meanwhile
            return Answer(REFUSED, [], 0, 0, False, 0.0, [], None, fake.token, False)
        batch, items, place, made = fake.held
        begin, values, budget = place, list[Any](), self.chance.randint(1, 12)
        while place < len(items) and budget > 0:
            if items[place] == fake.poison:
                return None
            results = list(results_of(items[place], fake.spread))
            some = results[made : made + budget]
            values += some
            budget -= len(some) + 1
            made += len(some)
            if made < len(results):
                break
            place, made = place + 1, 0
            if batch.careful:
                break
        open_ = (place < len(items) and made > 0) or (batch.careful and place < len(items))
        seconds = self.chance.choice([1e-6, 1e-4, 0.01, 0.1])
        chunk = pack(values) if values else None
        parts = [(chunk.body, chunk.flags, len(values))] if chunk else []
        fake.held = (batch, items, place, made) if open_ else None
        if not open_ and place == len(items):
            fake.last = batch.first
        return Answer(DONE, parts, place - begin, made, open_, seconds, [], None, fake.token, False)


def results_of(item: int, spread: int) -> Iterator[int]:
    """Of one item: itself, several (some none)."""
    return iter([item]) if spread == 0 else iter([item * 10 + each for each in range(item % spread)])


def expected(spreads: list[int], items: int, poison: int) -> list[int]:
    found = [item for item in range(items) if item != poison]
    for spread in spreads:
        found = [result for item in found for result in results_of(item, spread)]
    return found


@pytest.mark.parametrize("ordered", [True, False])
@settings(max_examples=60, deadline=None)
@given(
    spreads=st.lists(st.integers(0, 4), min_size=1, max_size=3), workers=st.integers(1, 3), items=st.integers(0, 60),
    poison=st.integers(-30, 60), seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_what_comes_out_is_what_a_loop_makes(
    ordered: bool, spreads: list[int], workers: int, items: int, poison: int, seed: int
) -> None:
    """Whatever dies and in whatever order answers come; a killing item is left out, and no other."""
    line = Line(spreads, workers, items, ordered, poison, random.Random(seed))
    turns = 0
    while not line.over:
        line.turn()
        turns += 1
        assert turns < 20_000, "it does not end"
    found = line.out if ordered else sorted(line.out)
    wanted = expected(spreads, items, poison)
    assert found == (wanted if ordered else sorted(wanted))
    assert line.flow.stations[0].skipped == (1 if 0 <= poison < items else 0)


def test_a_stage_takes_no_more_than_its_window() -> None:
    """Items of 100 kB, nobody takes the results: some windows of four megabytes lie in between, and no more."""
    flow = Flow([Station(0, 2), Station(1, 1)])
    fed = 0
    for _ in range(1000):
        if flow.wanted():
            flow.feed(pack([bytes(100_000)]))
            fed += 1
        for action in flow.step():
            if isinstance(action, Work):
                parts = [(chunk.body, chunk.flags, chunk.items) for chunk in action.batch.chunks]
                answer = Answer(DONE, parts, action.batch.count, 0, False, 0.004, [], None, 1, False)
                flow.answered(action.stage, action.worker, action.batch, answer)
    assert fed < 200

"""Workers of pipelines die at any moment: what comes out is, byte for byte, what a sequential run makes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import ActorSystem
from actors.errors import StageError
from actors.pipeline import Pipeline, Run, Stage
from kit import Journal, descendants, until

ITEMS = 1_500
DEATHS = ("SIGKILL", "SIGSEGV", "SIGTERM", "exit")


def triple(number: int) -> int:
    return number * 3


def spread(number: int) -> Iterator[str]:
    for each in range(number % 4):
        yield f"{number}/{each}"


def marked(text: str) -> str | None:
    time.sleep(0.00005)
    return None if text.endswith("2") else text + "!"


def sequential(items: int) -> list[str]:
    texts = (each for n in range(items) for each in spread(triple(n)))
    return [result for text in texts if (result := marked(text)) is not None]


class Sum:
    """Keeps its state over a crash; gives the running sum, and at the end what it has."""

    def __init__(self) -> None:
        self.total = self.count = 0

    def process(self, text: str) -> int:
        self.total += sum(text.encode())
        self.count += 1
        return self.total

    def finish(self) -> tuple[str, int, int]:
        return "end", self.count, self.total

    def snapshot(self) -> list[int]:
        return [self.total, self.count]

    def restore(self, state: list[int]) -> None:
        self.total, self.count = state


class Forgetful(Sum):
    """The same without the hooks."""

    snapshot = restore = None  # type: ignore[assignment]


def workers(system: ActorSystem) -> list[int]:
    """Pids of what works for it now."""
    mark = f"{system.name}/pipeline-"
    return [each.pid for each in descendants(os.getpid()) if mark in each.title and each.lives]


def kill_one(system: ActorSystem, rng: random.Random, how: str) -> bool:
    pids = workers(system)
    if not pids:
        return False
    number = signal.SIGTERM if how == "exit" else getattr(signal, how)
    try:
        os.kill(rng.choice(pids), number)
    except ProcessLookupError:
        return False
    return True


def killed_on_the_way(run: Run, system: ActorSystem, rng: random.Random, kills: int) -> list[Any]:
    """What comes out while somebody kills workers at random moments, and how often that was."""
    over = threading.Event()

    def killer() -> None:
        for _ in range(kills):
            if over.wait(rng.uniform(0, 0.06)):
                return
            kill_one(system, rng, rng.choice(DEATHS))

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        return list(run)
    finally:
        over.set()
        thread.join()


def repeated(system: ActorSystem, rng: random.Random, runs: int) -> None:
    expected = sequential(ITEMS)
    deaths = 0
    for number in range(runs):
        pipeline = Pipeline(Stage(triple, workers=2), spread, Stage(marked, workers=2), name="pipeline")
        run = pipeline.run(range(ITEMS), system=system)
        assert killed_on_the_way(run, system, rng, 1 + number % 3) == expected, f"run {number}"
        deaths += run.restarts
    assert deaths > runs // 4


def test_workers_killed_at_random_moments_lose_and_repeat_nothing(system: ActorSystem, rng: random.Random) -> None:
    """Functions, an iterator and a filter in a row; one to three kills a run."""
    repeated(system, rng, 15)


@pytest.mark.nightly
def test_workers_killed_at_random_moments_two_hundred_times(system: ActorSystem, rng: random.Random) -> None:
    repeated(system, rng, 200)


def counted(system: ActorSystem, rng: random.Random, runs: int) -> None:
    texts = [each for n in range(1000) for each in spread(n)]
    totals, total = [], 0
    for text in texts:
        total += sum(text.encode())
        totals.append(total)
    for number in range(runs):
        run = Pipeline(spread, Sum, name="pipeline").run(range(1000), system=system)
        found = killed_on_the_way(run, system, rng, 1 + number % 3)
        assert found[:-1] == totals, f"run {number}"
        assert found[-1] == ("end", len(texts), total), f"run {number}"


def test_a_state_that_is_kept_counts_every_item_once(system: ActorSystem, rng: random.Random) -> None:
    """A class with `finish`, `snapshot` and `restore` under kills: every running sum, and the last word."""
    counted(system, rng, 10)


@pytest.mark.nightly
def test_a_state_that_is_kept_counts_every_item_once_for_long(system: ActorSystem, rng: random.Random) -> None:
    counted(system, rng, 200)


@pytest.mark.parametrize("idle", [True, False])
def test_a_state_that_is_lost_is_an_error(system: ActorSystem, idle: bool) -> None:
    """A class with `finish` and without `snapshot`: whenever its process dies, the run never ends as if nothing were."""

    def source() -> Iterator[str]:
        for number in range(400):
            if number == 200 and not idle:
                kill_one(system, random.Random(0), "SIGKILL")
            yield str(number)
        if idle:
            until(lambda: run.profile().stages[0].items and not run.engine.flow.stations[0].working, "it to be idle")
            [pid] = workers(system)
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in workers(system), "its death")

    run = Pipeline(Forgetful, name="pipeline").run(source(), system=system)
    with pytest.raises(StageError, match="what it had gathered from"):
        for _ in run:
            pass


def test_a_worker_with_nothing_gathered_may_die(system: ActorSystem) -> None:
    """Then nothing is lost, and it goes on."""

    def source() -> Iterator[str]:
        kill_one(system, random.Random(0), "SIGKILL")
        yield "a"

    assert list(Pipeline(Forgetful, name="pipeline").run(source(), system=system)) == [97, ("end", 1, 97)]


class InOrder:
    """Writes down what it gets."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def process(self, number: int) -> int:
        self.journal.write(number)
        return number


def test_one_worker_sees_its_items_in_order_over_deaths(
    system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Whatever dies, an item is begun again only from where the work was broken off."""
    for _ in range(5):
        run = Pipeline(Stage(InOrder, journal), name="pipeline").run(range(2000), system=system)
        assert killed_on_the_way(run, system, rng, 3) == list(range(2000))
        seen = [int(line) for line in journal.lines()]
        journal_start = -1
        for number in seen:
            assert number <= journal_start + 1, f"{number} after {journal_start}"
            journal_start = number
        Path(journal.path).unlink()
        journal = Journal(journal.path)

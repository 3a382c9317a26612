"""The soak: actors under load, one killed every second for minutes; nothing is lost, nothing grows.

`ACTORS_SOAK=SECONDS` sets how long the nightly version runs (600). What it measures is printed.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem
from actors.supervision import Backoff
from kit import History, Journal, descendants, kill

SECONDS = float(os.environ.get("ACTORS_SOAK", "600"))
RECEIVERS, WIDE, SENDERS = 7, 3, 10  # 20 actors
CONCURRENCY = 3  # of the wide ones
WORK = 0.005  # seconds a message, which keeps the receivers busy half of the time
WARM_UP = 0.2  # of the time, not measured
PAUSE = 0.5  # seconds between two measurements
SLOPE = 10e6  # bytes an hour


class Receiver(Actor):
    """Writes down what it begins and ends."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def note(self, sender: str, number: int, padding: bytes = b"") -> int:
        self.journal.write("begin", sender, number)
        time.sleep(WORK)
        self.journal.write("end", sender, number)
        return number


class WideReceiver(Actor):
    """The same, with several in hand."""

    concurrency = CONCURRENCY

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def note(self, sender: str, number: int, padding: bytes = b"") -> int:
        import asyncio

        self.journal.write("begin", sender, number)
        await asyncio.sleep(CONCURRENCY * WORK)
        self.journal.write("end", sender, number)
        return number


class Numbered:
    """Sends numbered tells and asks, and writes down what became of them. Picklable."""

    def __init__(self, name: str, journal: Journal) -> None:
        self.name, self.journal = name, journal
        self.numbers = itertools.count()

    def send(self, target: ActorRef[Any]) -> None:
        """Three tells and an ask, some of them large."""
        sender = f"{self.name}>{target.name}"  # whose messages come in order
        for kind in ("tell", "tell", "tell", "ask"):
            number = next(self.numbers)
            padding = bytes(40_000 if number % 97 == 0 else number % 300)
            self.journal.write("try", sender, number)
            if kind == "tell":
                target.tell("note", sender, number, padding)
                self.journal.write("sent", sender, number)
                continue
            reply = target.ask("note", sender, number, padding)
            self.journal.write("sent", sender, number)
            try:
                assert reply.result(60) == number
            except ActorDied as died:
                assert died.restarting
                self.journal.write("told", sender, number)


class Sender(Actor):
    """A sender that may be killed itself."""

    def __init__(self, targets: list[ActorRef[Any]], journal: Journal) -> None:
        self.targets = itertools.cycle(targets)
        self.numbered = Numbered(f"{self.ref.name}.{os.getpid()}.{time.monotonic_ns()}", journal)
        self.every(0.05, self.send)

    def send(self) -> None:
        self.numbered.send(next(self.targets))


class Thread(threading.Thread):
    """A sender in the program."""

    def __init__(self, name: str, targets: list[ActorRef[Any]], journal: Journal) -> None:
        super().__init__(name=name)
        self.targets, self.numbered, self.over = itertools.cycle(targets), Numbered(name, journal), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.wait(0.05):
                self.numbered.send(next(self.targets))
        except BaseException as error:
            self.error = error


class Gauge:
    """Memory and descriptors of the whole system, by time."""

    def __init__(self, system: ActorSystem) -> None:
        self.warden = os.getpgid(system.guardian_pid)
        self.fixed = [os.getpid(), self.warden, system.guardian_pid]
        self.memory: list[tuple[float, float]] = []  # (seconds, bytes)
        self.descriptors: list[int] = []

    def measure(self) -> None:
        """Memory of the system's processes and of the program: anonymous and shared pages, each shared one counted once
        altogether (pages of files are others' as well). Descriptors of those that are not restarted."""
        total = 0
        for pid in (os.getpid(), self.warden, *(each.pid for each in descendants(self.warden))):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) << 10
        self.memory.append((time.monotonic(), total))
        self.descriptors.append(sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.fixed))

    def slope(self) -> float:
        """Bytes an hour, by least squares."""
        return statistics.linear_regression(*zip(*self.memory, strict=True)).slope * 3600


def run_load(
    system: ActorSystem, journal: Journal, seconds: float, pause: float, rng: random.Random
) -> tuple[int, Gauge]:
    """20 actors and two threads for so long, with a kill every `pause` seconds. The number of kills, and the gauge."""
    spawn = {"backoff": Backoff(0.0, 0.0)}
    narrow = [system.spawn(Receiver, journal, name=f"narrow{number}", **spawn) for number in range(RECEIVERS)]
    wide = [system.spawn(WideReceiver, journal, name=f"wide{number}", **spawn) for number in range(WIDE)]
    targets: list[ActorRef[Any]] = [*narrow, *wide]
    senders = [system.spawn(Sender, targets, journal, name=f"sender{number}", **spawn) for number in range(SENDERS)]
    threads = [Thread(f"thread{number}", targets, journal) for number in range(2)]
    for thread in threads:
        thread.start()
    gauge, kills = Gauge(system), 0
    begin = time.monotonic()
    next_kill, next_look = begin + pause, begin + WARM_UP * seconds
    while (now := time.monotonic()) < begin + seconds:
        if now >= next_kill:
            next_kill += pause
            pid = rng.choice([*targets, *senders]).info()["pid"]
            if pid:
                kill(pid)
                kills += 1
        if now >= next_look:
            next_look += min(PAUSE, seconds / 20)
            gauge.measure()
        time.sleep(max(0.0, min(next_kill, next_look) - time.monotonic()))
    for thread in threads:
        thread.over.set()
        thread.join()
        assert thread.error is None, thread.error
    for actor in [*senders, *targets]:
        actor.stop()
        actor.wait(60)
    return kills, gauge


def collect(letters: Any, journal: Journal) -> None:
    for letter in letters:
        sender, number = letter.message[1][:2]
        journal.write("told", sender, number)


@pytest.mark.parametrize(
    ("seconds", "pause"), [(5.0, 0.1), pytest.param(SECONDS, 1.0, marks=pytest.mark.nightly)], ids=["short", "long"]
)
def test_under_load_and_kills_nothing_is_lost_and_nothing_grows(
    seconds: float, pause: float, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """What was accepted was handled or reported; both, at most what was in hand at the kills; after the warm-up memory
    grows by less than 10 MB an hour (the short run is too short to say) and descriptors not at all."""
    letters = system.dead_letters()
    collector = threading.Thread(target=collect, args=[letters, journal])
    collector.start()
    kills, gauge = run_load(system, journal, seconds, pause, rng)
    system.close("stop")
    collector.join()
    history = History()
    history.read(journal)
    both = set(history.handled) & set(history.reported)
    first, last = (statistics.median(part) for part in halves(gauge.descriptors))
    sizes = [size / 1e6 for _, size in gauge.memory]
    print(
        f"{seconds:g} s, {kills} kills; {len(history.accepted)} accepted, {len(history.handled)} handled, "
        f"{len(history.reported)} reported, {len(both)} both; memory {min(sizes):.1f} to {max(sizes):.1f} MB, "
        f"slope {gauge.slope() / 1e6:+.2f} MB/h; descriptors {first:g}, then {last:g}"
    )
    assert kills > seconds / pause / 2
    history.check()
    assert history.reported, "no kill hit a message in hand: there was no load"
    assert len(both) <= kills * CONCURRENCY
    assert last <= first
    if seconds >= 300:
        assert gauge.slope() < SLOPE


def halves(values: list[int]) -> tuple[list[int], list[int]]:
    return values[: len(values) // 2], values[len(values) // 2 :]

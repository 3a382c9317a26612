"""The soak: actors under load, one killed every second for minutes; nothing is lost, nothing grows.

`ACTORS_SOAK=SECONDS` sets how long the nightly version runs (600). What it measures is printed.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem
from actors.supervision import Backoff
from kit import History, Journal, Script, descendants, kill, system_name

SECONDS = float(os.environ.get("ACTORS_SOAK", "600"))
RECEIVERS, WIDE, SENDERS = 7, 3, 10  # 20 actors
CONCURRENCY = 3  # of the wide ones
WORK = 0.005  # seconds a message, which keeps the receivers busy half of the time
WARM_UP = 0.2  # of the time, not measured
LONG = 2000  # bytes of the program's asks and answers: its lane for answers (4 MB) is in use as a whole by then
PAUSE = 0.5  # seconds between two measurements
SLOPE = 10e6  # bytes an hour
ROLES = ("program", "warden", "guardian", "zygote", "actors", "shared")  # whose memory; shared: mailboxes and lanes


class Receiver(Actor):
    """Writes down what it begins and ends."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def note(self, sender: str, number: int, padding: bytes = b"") -> int | bytes:
        self.journal.write("begin", sender, number)
        time.sleep(WORK)
        self.journal.write("end", sender, number)
        return number if len(padding) < LONG else padding


class WideReceiver(Actor):
    """The same, with several in hand."""

    concurrency = CONCURRENCY

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def note(self, sender: str, number: int, padding: bytes = b"") -> int | bytes:
        import asyncio

        self.journal.write("begin", sender, number)
        await asyncio.sleep(CONCURRENCY * WORK)
        self.journal.write("end", sender, number)
        return number if len(padding) < LONG else padding


class Numbered:
    """Sends numbered tells and asks, and writes down what became of them.

    padding: bytes of an ask and its answer, at least.
    """

    def __init__(self, name: str, journal: Journal, padding: int = 0) -> None:
        self.name, self.journal, self.padding = name, journal, padding
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
            padding += bytes(self.padding)
            reply = target.ask("note", sender, number, padding)
            self.journal.write("sent", sender, number)
            try:
                assert reply.result(60) in (number, padding)
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
        self.targets, self.numbered, self.over = (
            itertools.cycle(targets),
            Numbered(name, journal, LONG),
            threading.Event(),
        )
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.wait(0.05):
                self.numbered.send(next(self.targets))
        except BaseException as error:
            self.error = error


class Gauge(threading.Thread):
    """Memory and descriptors of a program and its system, by time. Taken by the test, so that taking them costs the
    program nothing."""

    def __init__(self, program: int, guardian: int, warm_up: float, pause: float) -> None:
        super().__init__(name="gauge")
        self.program, self.warden, self.guardian = program, os.getpgid(guardian), guardian
        self.warm_up, self.pause, self.over = warm_up, pause, threading.Event()
        self.times: list[float] = []  # seconds
        self.memory: dict[str, list[int]] = {role: [] for role in ROLES}
        self.descriptors: list[int] = []

    def run(self) -> None:
        wait = self.warm_up
        while not self.over.wait(wait):
            wait = self.pause
            self.measure()

    def measure(self) -> None:
        """Memory: anonymous and shared pages, each shared one counted once altogether (pages of files are others' as
        well). Descriptors of those that are not restarted."""
        totals = dict.fromkeys(self.memory, 0)
        for each in descendants(self.program):
            role = each.title.rpartition(" ")[2]
            own, shared = memory(each.pid)
            totals[role if role in totals else "actors"] += own
            totals["shared"] += shared
        own, shared = memory(self.program)
        totals["program"] += own
        totals["shared"] += shared
        self.times.append(time.monotonic())
        for role, total in totals.items():
            self.memory[role].append(total)
        self.descriptors.append(
            sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.program, self.warden, self.guardian))
        )

    @property
    def totals(self) -> list[int]:
        """Bytes of all of them."""
        return [sum(each) for each in zip(*self.memory.values(), strict=True)]

    def slope(self, sizes: list[int]) -> float:
        """Bytes an hour, by least squares."""
        return statistics.linear_regression(self.times, sizes).slope * 3600

    def __str__(self) -> str:
        slopes = ", ".join(f"{role} {self.slope(sizes) / 1e6:+.2f}" for role, sizes in self.memory.items())
        first, last = self.ends()
        return (
            f"memory {min(self.totals) / 1e6:.1f} to {max(self.totals) / 1e6:.1f} MB, slope in MB/h "
            f"{self.slope(self.totals) / 1e6:+.2f} ({slopes}); descriptors {first:g}, then {last:g}"
        )

    def ends(self) -> tuple[float, float]:
        """Descriptors in the first and in the second half of the time, as a rule."""
        middle = len(self.descriptors) // 2
        return statistics.median(self.descriptors[:middle]), statistics.median(self.descriptors[middle:])


def memory(pid: int) -> tuple[int, int]:
    """Bytes of one process: its own, and its part of what is shared; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    return sizes["Pss_Anon"], sizes["Pss_Shmem"]


def run_load(system: ActorSystem, journal: Journal, seconds: float, pause: float, rng: random.Random) -> int:
    """20 actors and two threads for so long, with a kill every `pause` seconds. The number of kills.

    Victims are drawn like cards: by chance, but nobody twice in a round, so that the actors are of all ages at any time
    and their memory, which grows in their first seconds, is as good as constant.
    """
    spawn = {"backoff": Backoff(0.0, 0.0)}
    narrow = [system.spawn(Receiver, journal, name=f"narrow{number}", **spawn) for number in range(RECEIVERS)]
    wide = [system.spawn(WideReceiver, journal, name=f"wide{number}", **spawn) for number in range(WIDE)]
    targets: list[ActorRef[Any]] = [*narrow, *wide]
    senders = [system.spawn(Sender, targets, journal, name=f"sender{number}", **spawn) for number in range(SENDERS)]
    threads = [Thread(f"thread{number}", targets, journal) for number in range(2)]
    for thread in threads:
        thread.start()
    kills, victims = 0, list[ActorRef[Any]]()
    begin = time.monotonic()
    for turn in range(1, int(seconds / pause) + 1):
        time.sleep(max(0.0, begin + turn * pause - time.monotonic()))
        victims = victims or rng.sample([*targets, *senders], RECEIVERS + WIDE + SENDERS)
        pid = victims.pop().info()["pid"]
        if pid:
            kill(pid)
            kills += 1
    print("over", flush=True)
    for thread in threads:
        thread.over.set()
        thread.join()
        assert thread.error is None, thread.error
    for actor in [*senders, *targets]:
        actor.stop()
        actor.wait(60)
    return kills


def collect(letters: Any, journal: Journal) -> None:
    for letter in letters:
        sender, number = letter.message[1][:2]
        journal.write("told", sender, number)


def main(name: str, path: str, seconds: str, pause: str, seed: str) -> None:
    """The program."""
    journal = Journal(path)
    with ActorSystem(name) as system:
        print("begin", system.guardian_pid, flush=True)
        collector = threading.Thread(target=collect, args=[system.dead_letters(), journal])
        collector.start()
        kills = run_load(system, journal, float(seconds), float(pause), random.Random(seed))
    collector.join()
    print("kills", kills, flush=True)


PROGRAM = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"


@pytest.mark.parametrize(
    ("seconds", "pause"), [(5.0, 0.1), pytest.param(SECONDS, 1.0, marks=pytest.mark.nightly)], ids=["short", "long"]
)
def test_under_load_and_kills_nothing_is_lost_and_nothing_grows(
    seconds: float, pause: float, journal: Journal, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted was handled or reported; both, at most what was in hand at the kills; after the warm-up memory
    grows by less than 10 MB an hour (the short run is too short to say) and descriptors not at all."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    with Script(PROGRAM, system_name("soak"), journal.path, seconds, pause, rng.random()) as script:
        gauge = Gauge(script.pid, int(script.expect("begin")), WARM_UP * seconds, min(PAUSE, seconds / 20))
        gauge.start()
        try:
            script.expect("over", 2 * seconds + 60)
        finally:
            gauge.over.set()
            gauge.join()
        kills = int(script.expect("kills", 120))
        assert script.process.wait(20) == 0
    history = History()
    history.read(journal)
    both = set(history.handled) & set(history.reported)
    print(
        f"{seconds:g} s, {kills} kills; {len(history.accepted)} accepted, {len(history.handled)} handled, "
        f"{len(history.reported)} reported, {len(both)} both; {gauge}"
    )
    assert kills > seconds / pause / 2
    history.check()
    assert history.reported, "no kill hit a message in hand: there was no load"
    assert len(both) <= kills * CONCURRENCY
    first, last = gauge.ends()
    assert last <= first
    if seconds >= 300:
        assert gauge.slope(gauge.totals) < SLOPE


if __name__ == "__main__":
    main(*sys.argv[1:])

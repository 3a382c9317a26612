"""Storms: many deaths at once or close together, and one without end; each is reported once, and all come back."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Down, Event
from actors.supervision import Backoff
from kit import descendants, kill, until

AT_ONCE = Backoff(0.0, 0.0)
TICKS = os.sysconf("SC_CLK_TCK")  # a second
SECONDS = 3.0  # that the crash loop is watched


class Mortal(Actor):
    """Tells where it is, or leaves as soon as it has come."""

    def __init__(self, leave: bool = False) -> None:
        if leave:
            self.after(0, self.leave)

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        os._exit(3)


def pids(mortals: list[ActorRef[Mortal]], old: list[int]) -> list[int]:
    """Of the next incarnations of those that had the old ones. (A killed process may still answer a little.)"""

    def ask(mortal: ActorRef[Mortal], before: int) -> int:
        try:
            pid = mortal.ask(Mortal.pid).result(60)
        except ActorDied as died:
            assert died.restarting
            return 0
        return pid if pid != before else 0

    return [
        until(lambda: ask(mortal, before), "it is back", 60)  # noqa: B023 - called here and now
        for mortal, before in zip(mortals, old, strict=True)
    ]


@pytest.mark.parametrize("storms", [50, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("size", [1, 2, 5, 13])
def test_actors_killed_together_or_within_a_millisecond_of_each_other_all_come_back(
    size: int, storms: int, system: ActorSystem, rng: random.Random
) -> None:
    """Half of the storms kill all at once, half one by one within a millisecond of its neighbour: every death is heard
    once, and whoever was not killed has the same process as before."""
    mortals = [system.spawn(Mortal, backoff=AT_ONCE) for _ in range(size)]
    bystander = system.spawn(Mortal)
    unharmed = bystander.ask(Mortal.pid).result(20)
    before = pids(mortals, [0] * size)
    crashes: list[Down] = []
    ends: list[Down] = []
    for mortal in mortals:
        mortal.monitor(crashes.append, incarnations=True)
        mortal.monitor(ends.append)
    for number in range(storms):
        for pid in rng.sample(before, size):
            kill(pid)
            if number % 2:
                time.sleep(rng.uniform(0.0, 0.001))
        before = pids(mortals, before)
    until(lambda: len(crashes) >= storms * size, "every death was heard")
    assert Counter(down.ref for down in crashes) == dict.fromkeys(mortals, storms)
    assert {str(down.reason) for down in crashes} == {"killed by SIGKILL"}
    assert ends == []
    assert bystander.ask(Mortal.pid).result(20) == unharmed


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.nightly)])
def test_two_hundred_children_killed_at_once_are_all_back_and_each_is_reported_once(
    times: int, system: ActorSystem
) -> None:
    """One crash and one restart each in the events, one Down for each monitor, and 200 new processes."""
    count = 200
    mortals = [system.spawn(Mortal) for _ in range(count)]
    crashes: list[Down] = []
    for mortal in mortals:
        mortal.monitor(crashes.append, incarnations=True)
    before = pids(mortals, [0] * count)
    events = system.events()
    for number in range(1, times + 1):
        for pid in before:
            kill(pid)
        after = pids(mortals, before)
        assert len({*before, *after}) == 2 * count
        heard: list[Event] = []
        while [event.kind for event in heard].count("restarted") < count:
            heard.append(events.get(20))
        for kind in ("crashed", "restarting", "restarted"):
            assert Counter(event.ref for event in heard if event.kind == kind) == dict.fromkeys(mortals, 1), kind
        assert {event.pid for event in heard if event.kind == "crashed"} == set(before)
        until(lambda: len(crashes) >= number * count, "every monitor heard")  # noqa: B023 - called here and now
        assert Counter(down.ref for down in crashes) == dict.fromkeys(mortals, number)
        before = after
    events.close()


def cpu_seconds(system: ActorSystem) -> float:
    """Of all processes of a system, and of those that they have reaped."""
    warden = os.getpgid(system.guardian_pid)
    ticks = 0
    for pid in (warden, *(each.pid for each in descendants(warden))):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def test_a_child_that_crashes_as_soon_as_it_runs_uses_less_than_a_twentieth_of_a_core(system: ActorSystem) -> None:
    """With the default backoff: CPU time of the whole system, its dead included, to wall time over some seconds."""
    looping = system.spawn(Mortal, True)
    until(lambda: looping.info()["restarts"] >= 5, "it loops")
    restarts, begin, used = looping.info()["restarts"], time.monotonic(), cpu_seconds(system)
    time.sleep(SECONDS)
    ratio = (cpu_seconds(system) - used) / (time.monotonic() - begin)
    restarts = looping.info()["restarts"] - restarts
    print(f"{ratio:.2%} of a core, {restarts} restarts in {SECONDS:g} s")
    assert restarts > 0
    assert ratio < 0.05
    looping.kill()

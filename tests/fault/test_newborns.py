"""Processes that are a few milliseconds old are killed: no actor is lost, none exists twice."""

from __future__ import annotations

import os
import random

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, SpawnError
from actors.supervision import Backoff
from kit import History, Journal, Script, children, kill, process, until

KILLER = """
import os, random, signal, sys, time

guardian, share, chance, known = int(sys.argv[1]), float(sys.argv[2]), random.Random(sys.argv[3]), set(sys.argv[4].split(","))
children = f"/proc/{guardian}/task/{guardian}/children"
while True:
    with open(children) as file:
        fresh = [pid for pid in file.read().split() if pid not in known]
    known.update(fresh)
    for pid in fresh:
        if chance.random() < share:
            end = time.perf_counter() + chance.uniform(0.0, 0.002)
            while time.perf_counter() < end:
                pass
            try:
                os.kill(int(pid), signal.SIGKILL)
                print("killed", pid, flush=True)
            except ProcessLookupError:
                pass
"""
AT_ONCE = Backoff(0.0, 0.0)


@pytest.fixture(params=["sibling", "double"], autouse=True)
def fork(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to make a process keep the same promises."""
    monkeypatch.setenv("ACTORS_FORK", request.param)


class Worker(Actor):
    """Writes down what it handles."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def note(self, sender: str, number: int) -> None:
        self.journal.write("begin", sender, number)
        self.journal.write("end", sender, number)

    def pid(self) -> int:
        return os.getpid()


def killer(system: ActorSystem, share: float, rng: random.Random) -> Script:
    """A program that kills this share of the guardian's new children within two milliseconds."""
    known = ",".join(map(str, children(system.guardian_pid)))
    return Script(KILLER, system.guardian_pid, share, rng.random(), known)


def titles(system: ActorSystem) -> list[str]:
    """Of the actors' living processes."""
    found = [process(pid) for pid in children(system.guardian_pid)]
    return sorted(each.title.split("/")[-1] for each in found if each and each.lives and "/" in each.title)


@pytest.mark.parametrize("spawns", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_every_spawn_gives_one_living_actor_or_an_error(
    spawns: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """A third of all newborns is killed within 2 ms: `spawn` returns an actor that answers (perhaps from its second
    process) or raises `SpawnError` that says why; there is one process for each actor and no other."""
    workers = {"first": system.spawn(Worker, journal, name="first")}
    with killer(system, 0.3, rng) as script:
        for name in [f"w{number}" for number in range(spawns)]:
            try:
                workers[name] = system.spawn(Worker, journal, name=name, backoff=AT_ONCE)
            except SpawnError as error:
                assert "SIGKILL" in str(error) or "hello" in str(error)
        script.expect("killed")
    pids = {name: worker.ask(Worker.pid).result(20) for name, worker in workers.items()}
    assert titles(system) == sorted(workers)
    assert sorted(pids.values()) == sorted(worker.info()["pid"] for worker in workers.values())
    print(f"{spawns + 1 - len(workers)} of {spawns} spawns refused")


@pytest.mark.parametrize("deaths", [60, pytest.param(2000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("redeliver", [0, 3])
def test_restarts_lose_and_double_nothing_when_newborns_die_too(
    redeliver: int, deaths: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Actors with mail are killed again and again, and half of their successors within 2 ms: every message is handled
    once and in order or reported, and each actor has one process."""
    letters = system.dead_letters()
    history = History()
    names = [f"w{number}" for number in range(4)]
    workers = {name: system.spawn(Worker, journal, name=name, backoff=AT_ONCE, redeliver=redeliver) for name in names}
    numbers = dict.fromkeys(names, 0)
    with killer(system, 0.5, rng):
        for _ in range(deaths):
            name = rng.choice(names)
            for _ in range(rng.choice([0, 5, 200])):
                workers[name].tell(Worker.note, name, numbers[name])
                history.sent(name, numbers[name])
                numbers[name] += 1
            if pid := workers[name].info()["pid"]:
                kill(pid)
    for worker in workers.values():
        asked = until(lambda: answer(worker), "it answers in the end")  # noqa: B023 - called here and now
        assert asked == worker.info()["pid"]
    assert titles(system) == names
    history.read(journal)
    system.close("stop")
    for letter in letters:
        history.report(*letter.message[1])
    history.check(redeliver)
    print(f"{len(history.accepted)} accepted, {len(history.handled)} handled, {len(history.reported)} reported")


def answer(worker: ActorRef[Worker]) -> int:
    """The pid of its process; 0 when that died of the question."""
    try:
        return worker.ask(Worker.pid).result(20)
    except ActorDied as died:
        assert died.restarting
        return 0

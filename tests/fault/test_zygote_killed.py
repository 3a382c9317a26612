"""The zygote, its candidates and the processes that wait for their birth are killed: no actor notices, no spawn is
lost.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem, Event, SpawnError
from actors.supervision import Backoff
from kit import children, family, kill, process, until


class Worker(Actor):
    """Answers."""

    def pid(self) -> int:
        return os.getpid()

    def echo(self, number: int) -> int:
        return number


@contextmanager
def running(*bodies: Callable[[], Any]) -> Iterator[threading.Event]:
    """Run each of these again and again in a thread of its own until the block ends; what one raises is raised at the
    end.
    """
    over, errors = threading.Event(), list[BaseException]()

    def again(body: Callable[[], Any]) -> None:
        try:
            while not over.is_set():
                body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=again, args=[body]) for body in bodies]
    for thread in threads:
        thread.start()
    try:
        yield over
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def newborns(system: ActorSystem) -> list[int]:
    """Children of the guardian that are neither zygote nor named actors yet: about to be born, or waiting for it."""
    found = [process(pid) for pid in children(system.guardian_pid)]
    return [each.pid for each in found if each and each.lives and each.title.endswith((" zygote", " spare"))]


AT_ONCE = Backoff(0.0, 0.0)
REPETITIONS = [10, pytest.param(200, marks=pytest.mark.nightly)]


@pytest.mark.parametrize("kills", REPETITIONS)
def test_a_killed_zygote_loses_no_spawn_and_disturbs_no_ask(
    system: ActorSystem, kills: int, rng: random.Random
) -> None:
    """Two threads spawn, one asks an old actor all the time, while the zygote is killed at random moments: every spawn
    gives one living actor, every ask its answer."""
    steady = system.spawn(Worker, name="steady")
    spawned: list[ActorRef[Worker]] = []
    asked = 0

    def spawn() -> None:
        spawned.append(worker := system.spawn(Worker, restart="temporary"))
        if len(spawned) > 20:
            worker.stop()

    def ask() -> None:
        nonlocal asked
        asked += 1
        assert steady.ask(Worker.echo, asked).result(30) == asked

    with running(spawn, spawn, ask):
        for _ in range(kills):
            before = len(spawned)
            until(lambda: len(spawned) > before, "spawning goes on")  # noqa: B023 - called here and now
            time.sleep(rng.uniform(0.0, 0.05))
            kill(family(system.guardian_pid).zygote)
        before = len(spawned)
        until(lambda: len(spawned) > before + 4, "spawning goes on to the end")
    assert asked > 0
    alive = [worker for worker in spawned[:20] if worker]
    pids = [worker.ask(Worker.pid).result(10) for worker in alive]
    assert len(set(pids)) == len(alive)
    assert set(pids) <= set(children(system.guardian_pid))


@pytest.mark.parametrize("kills", REPETITIONS)
def test_a_killed_zygote_loses_no_restart(system: ActorSystem, kills: int, rng: random.Random) -> None:
    """Actor and zygote are killed at about the same moment: the actor comes back each time, in one process."""
    worker = system.spawn(Worker, backoff=AT_ONCE)
    events = system.events()
    for _ in range(kills):
        victims = [worker.ask(Worker.pid).result(20), family(system.guardian_pid).zygote]
        for pid in rng.sample(victims, 2):
            kill(pid)
            time.sleep(rng.choice([0.0, 0.001, 0.01]))
        assert worker.ask(Worker.echo, 1).result(20) == 1
    events.close()
    assert kinds(events).count("crashed") == kills
    titles = [each.title for pid in children(system.guardian_pid) if (each := process(pid)) and each.lives]
    assert titles.count(f"actors: {system.name}/worker-1") == 1


def kinds(events: Any) -> list[str]:
    found: list[Event] = list(events)
    return [event.kind for event in found]


@pytest.mark.parametrize("kills", REPETITIONS)
def test_processes_killed_before_they_know_who_they_will_be_are_replaced(
    system: ActorSystem, kills: int, rng: random.Random
) -> None:
    """Whatever the guardian holds ready for the next birth (zygote, spare) is killed just before a spawn."""
    for number in range(kills):
        until(lambda: newborns(system), "a zygote is there")
        for pid in rng.sample(found := newborns(system), rng.randint(1, len(found))):
            kill(pid)
        worker = system.spawn(Worker)
        assert worker.ask(Worker.echo, number).result(20) == number
        worker.kill()


def test_a_zygote_killed_while_it_is_still_starting_is_replaced(system: ActorSystem, rng: random.Random) -> None:
    """Three times in a row before it is ready; the first spawn waits and then works."""
    for _ in range(3):
        (victim,) = until(lambda: children(system.guardian_pid), "a zygote process")
        time.sleep(rng.uniform(0.0, 0.03))
        kill(victim)
        until(lambda: victim not in children(system.guardian_pid), "it is gone")  # noqa: B023 - called here and now
    assert system.spawn(Worker).ask(Worker.echo, 7).result(20) == 7


def test_an_import_that_kills_its_process_harms_only_its_own_spawn(system: ActorSystem, tmp_path: Any) -> None:
    """The module of a factory ends the importing process by SIGKILL: `SpawnError`, and others still spawn."""
    import sys

    (tmp_path / "deadly_module.py").write_text(
        "import os, signal\nif os.environ.get('ACTORS_SYSTEM'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "from actors import Actor\nclass Deadly(Actor):\n    pass\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import deadly_module  # type: ignore[import-not-found]

        steady = system.spawn(Worker)
        with contextlib.suppress(SpawnError):
            system.spawn(deadly_module.Deadly)  # by value, once the guardian knows that it can't be imported
        assert steady.ask(Worker.echo, 1).result(10) == 1
        assert system.spawn(Worker).ask(Worker.echo, 2).result(10) == 2
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("deadly_module", None)

"""Faults on purpose: each point of an actor's life, hit by a real signal, has the outcome that its place promises."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, ExitReason, SpawnError, SpecError
from actors.supervision import Backoff
from actors.testing import Probe, TestSystem, freeze, kill, kill_at, thaw, wait_restarted
from actors.testing.points import Point
from kit import Journal, process

AT_ONCE = Backoff(0.0, 0.0, jitter=0.0)


class Worker(Actor):
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_start(self) -> None:
        self.journal.write("on_start")

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("on_stop")

    def work(self, number: int) -> int:
        self.journal.write("work", number)
        return number

    async def work_later(self, number: int) -> int:
        await asyncio.sleep(0)
        self.journal.write("work", number)
        return number

    def nothing(self, number: int) -> None:
        self.journal.write("work", number)

    def fail(self) -> None:
        self.journal.write("fail")
        raise ValueError("as told")


class Wide(Worker):
    concurrency = 4


@pytest.fixture
def worker(system: TestSystem, journal: Journal) -> ActorRef[Worker]:
    return system.spawn(Worker, journal, name="worker", backoff=AT_ONCE)


def outcome(reply: Any) -> str:
    try:
        return str(reply.result(10))
    except Exception as error:
        return f"{type(error).__name__}{' restarting' if isinstance(error, ActorDied) and error.restarting else ''}"


HANDLER: list[tuple[Point, str, list[str]]] = [
    ("before_handler", "1", ["work 1", "work 2"]),  # never taken, so the next incarnation handles it
    ("in_handler", "ActorDied restarting", ["work 2"]),
    ("after_handler", "ActorDied restarting", ["work 1", "work 2"]),
    ("after_reply", "1", ["work 1", "work 2"]),
]


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (Worker, Worker.work),
        (Worker, Worker.nothing),
        (Worker, Worker.work_later),
        (Wide, Wide.work),
        (Wide, Wide.work_later),
    ],
)
@pytest.mark.parametrize(("point", "answer", "done"), HANDLER)
def test_a_kill_in_the_life_of_an_ask(
    system: TestSystem,
    journal: Journal,
    cls: type[Worker],
    method: Callable[..., Any],
    point: Point,
    answer: str,
    done: list[str],
) -> None:
    """It is answered as its point says, and the next incarnation goes on."""
    worker = system.spawn(cls, journal, backoff=AT_ONCE)
    fault = kill_at(worker, point)
    assert outcome(worker.ask(method, 1)) == ("None" if method is Worker.nothing and answer == "1" else answer)
    assert outcome(worker.ask(method, 2)) in ("2", "None")
    assert fault.happened
    assert [line for line in journal.lines() if line.startswith("work")] == done
    assert worker.info()["incarnation"] == 2


@pytest.mark.parametrize(
    ("point", "dead", "done"),
    [("before_handler", 0, 1), ("in_handler", 1, 0), ("after_handler", 1, 1)],
)
def test_a_kill_in_the_life_of_a_tell(
    system: TestSystem, worker: ActorRef[Worker], journal: Journal, point: Point, dead: int, done: int
) -> None:
    letters = system.dead_letters()
    kill_at(worker, point)
    worker.tell(Worker.work, 1)
    assert worker.ask(Worker.work, 2).result(10) == 2
    assert journal.lines().count("work 1") == done
    assert [letters.get(5).message[0] for _ in range(dead)] == ["work"] * dead
    letters.close()


def test_a_fault_may_wait_for_a_method(worker: ActorRef[Worker], journal: Journal) -> None:
    fault = kill_at(worker, "in_handler", method=Worker.fail)
    assert worker.ask(Worker.work, 1).result(10) == 1
    assert not fault.happened
    assert outcome(worker.ask(Worker.fail)) == "ActorDied restarting"
    assert "fail" not in journal.lines()


def test_a_failing_handler_passes_the_points_as_well(worker: ActorRef[Worker], journal: Journal) -> None:
    kill_at(worker, "after_handler", method="fail")
    assert outcome(worker.ask(Worker.fail)) == "ActorDied restarting"
    kill_at(worker, "after_reply", method="fail")
    assert outcome(worker.ask(Worker.fail)) == "ValueError"
    wait_restarted(worker, 2)
    assert journal.lines().count("fail") == 2


def test_a_fault_in_on_start_hits_the_next_incarnation(
    system: TestSystem, worker: ActorRef[Worker], journal: Journal
) -> None:
    fault = kill_at(worker, "in_on_start")
    wait_restarted(worker, kill(worker) + 1)
    assert fault.happened
    assert journal.lines() == ["on_start", "on_start"]  # of the first and the third
    system.kill_at("unborn", "in_on_start")
    with pytest.raises(SpawnError, match="SIGKILL"):
        system.spawn(Worker, journal, name="unborn")


def test_a_fault_in_on_stop(worker: ActorRef[Worker], journal: Journal) -> None:
    kill_at(worker, "in_on_stop", signal.SIGSEGV)
    worker.stop()
    assert worker.wait(10).signal == signal.SIGSEGV
    assert "on_stop" not in journal.lines()


def test_a_stop_at_a_point_and_on(worker: ActorRef[Worker]) -> None:
    fault = kill_at(worker, "after_handler", signal.SIGSTOP)
    reply = worker.ask(Worker.work, 1)
    fault.wait()
    with pytest.raises(TimeoutError):
        reply.result(0.05)
    thaw(worker)
    assert reply.result(10) == 1


def test_kill_is_a_crash_of_the_present_incarnation(worker: ActorRef[Worker]) -> None:
    for number in (1, 2, 3):
        assert kill(worker, signal.SIGTERM if number == 2 else signal.SIGKILL) == number
        assert wait_restarted(worker, number) == number + 1


def test_a_frozen_actor_answers_when_it_is_thawed(worker: ActorRef[Worker]) -> None:
    freeze(worker)
    found = process(worker.info()["pid"])
    assert found is not None and found.state == "T"
    reply = worker.ask(Worker.work, 1)
    with pytest.raises(TimeoutError):
        reply.result(0.05)
    thaw(worker)
    assert reply.result(10) == 1


def test_waiting_for_a_restart_that_will_not_come_says_why(system: TestSystem, journal: Journal) -> None:
    worker = system.spawn(Worker, journal, max_restarts=0)
    with pytest.raises(AssertionError, match=r"no incarnation after number 1 .* it is running"):
        wait_restarted(worker, 1, timeout=0.05)
    kill(worker)
    with pytest.raises(AssertionError, match="it has failed"):
        wait_restarted(worker, 1)
    with pytest.raises(ActorsError, match="no process to be killed now: it is failed"):
        kill(worker)
    worker.kill()
    worker.wait(10)
    with pytest.raises(ActorDied):
        kill(worker)
    with pytest.raises(ActorDied):
        wait_restarted(worker, 1)


def test_wrong_faults_are_refused(worker: ActorRef[Worker]) -> None:
    with pytest.raises(SpecError, match="no point 'somewhere'; use one of before_handler"):
        kill_at(worker, "somewhere")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="not read yet"):
        kill_at(worker, "before_handler", method=Worker.work)
    with pytest.raises(SpecError, match="no message is in hand in_on_start"):
        kill_at(worker, "in_on_start", method=Worker.work)


def test_a_cancelled_fault_does_not_happen(worker: ActorRef[Worker]) -> None:
    kill_at(worker, "in_handler").cancel()
    assert worker.ask(Worker.work, 1).result(10) == 1


@pytest.mark.usefixtures("leak_guard")
def test_an_ordinary_system_has_signals_and_no_points(journal: Journal) -> None:
    with ActorSystem() as system:
        worker = system.spawn(Worker, journal, backoff=AT_ONCE)
        wait_restarted(worker, kill(worker))
        with pytest.raises(ActorsError, match="use TestSystem"):
            kill_at(worker, "in_handler")


def test_what_an_ordinary_system_loads(system: TestSystem, probe: Probe[Any]) -> None:
    """Nothing of the kit, in guardian or actors; a system of the kit does load it."""

    class Looker(Actor):
        def loaded(self) -> bool:
            import sys

            return any(name.startswith("actors.testing") for name in sys.modules)

    with ActorSystem() as plain:
        assert not plain.spawn(Looker).ask(Looker.loaded).result(10)
    assert system.spawn(Looker).ask(Looker.loaded).result(10)

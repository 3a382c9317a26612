"""The guardian, or the warden above it, is killed: the system is over, and everybody who waits hears of it; the program
lives on.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, Down, SystemDied
from kit import Journal, LeakGuard, alive, family, kill, system_name, until

GONE = 2.0  # seconds after which nothing may be left


class Worker(Actor):
    """Has programs of its own, and a handler that never ends."""

    def pid(self) -> int:
        return os.getpid()

    async def hang(self, journal: Journal) -> None:
        journal.write("hangs")
        await asyncio.Event().wait()

    def sleep(self) -> None:
        time.sleep(60)

    def run(self, own_session: bool) -> int:
        self.process = subprocess.Popen(["sleep", "60"], start_new_session=own_session)
        return self.process.pid

    def daemonize(self) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "60"])
            os._exit(0)


@pytest.fixture
def name() -> str:
    return system_name()


def victims(system: ActorSystem) -> dict[str, list[int]]:
    """Whom to kill, in this order."""
    warden, guardian, zygote = family(system.guardian_pid)
    return {"guardian": [guardian], "warden": [warden], "zygote and guardian": [zygote, guardian]}


VICTIMS = ["guardian", "warden", "zygote and guardian"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_actors_and_their_programs_are_gone_after_the_death_of(
    victim: str, name: str, nothing_is_left: LeakGuard
) -> None:
    """Actors, a program of theirs, one in a session of its own and a daemon: gone within two seconds; a new system of
    the same name starts."""
    system = ActorSystem(name)
    workers = [system.spawn(Worker) for _ in range(3)]
    programs = [workers[0].ask(Worker.run, own).result(10) for own in (False, True)]
    workers[1].ask(Worker.daemonize).result(10)
    pids = [worker.ask(Worker.pid).result(10) for worker in workers]
    for pid in victims(system)[victim]:
        kill(pid)
    until(lambda: not any(map(alive, [*pids, *programs, system.guardian_pid])), "actors and programs are gone", GONE)
    with ActorSystem(name) as again:
        assert again.spawn(Worker).ask(Worker.pid).result(10)
    system.close()


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_the_death_of_the_cleaner_is_cleaned_up_after(times: int, name: str, nothing_is_left: LeakGuard) -> None:
    """The warden, which ends what a dead guardian leaves, is killed itself: the guardian ends the system in its place,
    daemons included; whoever waits hears of it, and the next system of the same name starts."""
    for _ in range(times):
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        worker.ask(Worker.daemonize).result(10)
        pending = worker.ask(Worker.sleep)
        kill(family(system.guardian_pid).warden)
        assert isinstance(pending.exception(10), SystemDied)
        system.close()
        until(lambda: not nothing_is_left.processes_left(), "no process is left", GONE)


@pytest.mark.parametrize("victim", VICTIMS)
def test_every_pending_call_ends_with_system_died_after_the_death_of(victim: str, name: str, journal: Journal) -> None:
    """Blocking asks of several threads, awaited ones, callbacks, futures, waits and timeouts: all hear it."""
    system = ActorSystem(name)
    worker = system.spawn(Worker)
    outcomes: list[Any] = []

    def collect(call: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                outcomes.append(call())
            except BaseException as error:
                outcomes.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    async def awaiting() -> list[Any]:
        pending = (worker.ask(Worker.hang, journal), worker.ask(Worker.hang, journal), worker.wait_async())
        return list(await asyncio.gather(*pending, return_exceptions=True))

    called: Future[Any] = Future()
    worker.ask(Worker.hang, journal).add_done_callback(lambda reply: called.set_result(reply.exception(0)))
    future = worker.ask(Worker.hang, journal).future()
    threads = [
        collect(lambda: worker.ask(Worker.hang, journal).result()),
        collect(lambda: worker.ask(Worker.hang, journal).result(30)),
        collect(lambda: worker.using(timeout=30).ask(Worker.hang, journal).result()),
        collect(lambda: worker.wait()),
        collect(lambda: asyncio.run(awaiting())),
    ]
    journal.until("hangs")
    until(lambda: worker.info()["mailbox"]["depth"] == 7, "all calls are in the mailbox")
    for pid in victims(system)[victim]:
        kill(pid)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    awaited = next(outcome for outcome in outcomes if isinstance(outcome, list))
    outcomes.remove(awaited)
    found = [*outcomes, *awaited, called.result(10), future.exception(10)]
    assert len(found) == 9
    assert [type(outcome) for outcome in found] == [SystemDied] * 9
    assert all(name in str(outcome) and isinstance(outcome, ActorDied) for outcome in found)
    system.close()


def test_every_later_call_raises_system_died_at_once(name: str, nothing_is_left: LeakGuard) -> None:
    """After the guardian's death: ask, tell, spawn, lookup, tree, info, wait, monitor, stop all say so."""
    system = ActorSystem(name)
    worker = system.spawn(Worker)
    events = system.events()
    kill(system.guardian_pid)
    with pytest.raises(SystemDied):
        worker.wait(10)
    calls: list[Callable[[], object]] = [
        lambda: worker.ask(Worker.pid).result(10),
        lambda: worker.tell(Worker.pid),
        lambda: system.spawn(Worker),
        lambda: system.lookup("worker-1"),
        lambda: system.tree(),
        lambda: worker.info(),
        lambda: worker.wait(10),
        lambda: worker.stop(),
        lambda: worker.monitor(print),
        lambda: asyncio.run(async_ask(worker)),
    ]
    for call in calls:
        with pytest.raises(SystemDied, match=name):
            call()
    assert [event.kind for event in events] == []
    system.close()
    system.close()


async def async_ask(worker: ActorRef[Worker]) -> None:
    await worker.ask(Worker.pid)


def test_monitors_and_streams_end_with_the_system(name: str) -> None:
    """A monitor hears that its actor is unreachable now, once; `for event in events` ends."""
    system = ActorSystem(name)
    worker = system.spawn(Worker)
    downs: list[Down] = []
    worker.monitor(downs.append)
    events, letters = system.events(), system.dead_letters()
    kill(system.guardian_pid)
    assert list(events) == []
    assert list(letters) == []
    until(lambda: downs, "the monitor heard")
    assert [(down.ref, down.reason.kind) for down in downs] == [(worker, "unreachable")]
    system.close()
    assert len(downs) == 1


def test_an_actor_of_a_dead_system_does_not_linger_in_a_handler_that_never_returns(
    name: str, journal: Journal, nothing_is_left: LeakGuard
) -> None:
    """A handler that loops in C or ignores every signal that can be ignored dies all the same."""
    system = ActorSystem(name)
    stubborn = system.spawn(Stubborn)
    stubborn.tell(Stubborn.spin, journal)
    journal.until("spins")
    kill(system.guardian_pid)
    with pytest.raises(SystemDied):
        stubborn.wait(10)
    system.close()
    until(lambda: not nothing_is_left.processes_left(), "no process is left", GONE)


class Stubborn(Actor):
    """Blocks all signals and the interpreter."""

    def spin(self, journal: Journal) -> None:
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        journal.write("spins")
        sum(iter(int, 1))


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_a_reference_that_outlives_its_system_reaches_nobody_in_a_later_one_of_the_same_name(
    how: str, name: str
) -> None:
    """The first actor of the second system has the same name, but an old reference raises instead of reaching it; the
    first system's `close` leaves the second alone."""
    first = ActorSystem(name)
    old = first.spawn(Worker, name="worker")
    if how == "killed":
        kill(first.guardian_pid)
        with pytest.raises(SystemDied):
            old.wait(10)
    else:
        first.close()
    with ActorSystem(name) as second:
        new = second.spawn(Worker, name="worker")
        for ref in (old, pickle.loads(pickle.dumps(old))):
            with pytest.raises(ActorsError):
                ref.ask(Worker.pid).result(10)
            with pytest.raises(ActorsError):
                ref.tell(Worker.pid)
        old.kill() if how == "closed" else first.close()
        assert new.ask(Worker.pid).result(10)
        assert new != old

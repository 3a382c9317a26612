"""How actors and systems are stopped: in order, in time, and by force where asking does not help."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, ExitReason
from actors.supervision import Child, Supervisor
from kit import Gate, Journal, LeakGuard, alive, system_name, until

KILLED = ExitReason("signal", signal=signal.SIGKILL)
TERMINATED = ExitReason("signal", signal=signal.SIGTERM)


class Worker(Actor):
    """Writes down its end."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def ok(self) -> int:
        return os.getpid()

    def note(self, number: int) -> None:
        self.journal.write("note", number)

    def wait(self, gate: Gate) -> None:
        self.journal.write("waits")
        gate.wait()

    def block(self, ignore: bool) -> None:
        """A handler that does not come back; `ignore`: not even for SIGTERM."""
        if ignore:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.journal.write("blocks")
        while True:
            time.sleep(60)

    async def hang(self) -> None:
        self.journal.write("blocks")
        await asyncio.Event().wait()

    def run(self) -> int:
        self.process = subprocess.Popen(["sleep", "60"])
        return self.process.pid

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("stopped", self.ref.name, reason.kind)


class Hanging(Worker):
    """Its `on_stop` does not come back."""

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("blocks")
        time.sleep(60)


@pytest.mark.parametrize(("ignores", "expected"), [(False, TERMINATED), (True, KILLED)])
def test_a_handler_that_does_not_come_back_is_ended_after_the_shutdown_time(
    ignores: bool, expected: ExitReason, system: ActorSystem, journal: Journal
) -> None:
    """`stop()` asks, waits `shutdown` seconds, sends SIGTERM, and SIGKILL to those that ignore it; the asker in hand and
    those behind hear `ActorDied`."""
    worker = system.spawn(Worker, journal, shutdown=0.2)
    in_hand, behind = worker.ask(Worker.block, ignores), worker.ask(Worker.ok)
    journal.until("blocks")
    began = time.monotonic()
    worker.stop()
    assert worker.wait(20) == expected
    assert time.monotonic() - began >= 0.2  # never before its time
    for reply in (in_hand, behind):
        with pytest.raises(ActorDied) as died:
            reply.result(10)
        assert (died.value.reason, died.value.restarting) == (expected, False)


def test_a_suspended_handler_is_ended_after_the_shutdown_time(system: ActorSystem, journal: Journal) -> None:
    """An async handler that waits for ever is no reason to wait for ever."""
    worker = system.spawn(Worker, journal, shutdown=0.2)
    worker.tell(Worker.hang)
    journal.until("blocks")
    worker.stop()
    assert worker.wait(20).kind in ("signal", "shutdown")


def test_an_on_stop_that_does_not_come_back_is_ended_after_the_shutdown_time(
    system: ActorSystem, journal: Journal
) -> None:
    """The shutdown time covers `on_stop`."""
    worker = system.spawn(Hanging, journal, shutdown=0.2)
    worker.stop()
    journal.until("blocks")
    assert worker.wait(20) == TERMINATED


def test_shutdown_zero_kills_at_once(system: ActorSystem, journal: Journal) -> None:
    """OTP's brutal_kill."""
    worker = system.spawn(Worker, journal, shutdown=0.0)
    worker.tell(Worker.block, True)
    journal.until("blocks")
    worker.stop()
    assert worker.wait(20) == KILLED


def test_stop_handles_what_was_accepted_and_kill_does_not(
    system: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """Behind a slow message, 100 tells: `stop` handles them and then calls `on_stop`; after `kill` they are dead letters."""
    letters = system.dead_letters()
    for how in ("stop", "kill"):
        worker = system.spawn(Worker, journal, name=how)
        gate = Gate(tmp_path / how)
        before = len(journal.lines())
        worker.tell(Worker.wait, gate)
        until(lambda: len(journal.lines()) > before, "it is busy")  # noqa: B023 - called here and now
        for number in range(100):
            worker.tell(Worker.note, number)
        getattr(worker, how)()
        if how == "stop":
            gate.open()
        worker.wait(20)
        lines = journal.lines()[before + 1 :]
        if how == "stop":
            assert lines == [*(f"note {number}" for number in range(100)), "stopped stop shutdown"]
            with pytest.raises(TimeoutError):
                letters.get(0)
        else:
            assert lines == []
            found = [letters.get(10).message for _ in range(101)]
            assert found[0][0] == "wait"
            assert found[1:] == [("note", (number,), {}) for number in range(100)]


def test_what_a_killed_actor_has_started_is_killed_with_it(system: ActorSystem, journal: Journal) -> None:
    """Programs in the actor's process group end with it, however it ends."""
    for end in (ActorRef.kill, ActorRef.stop):
        worker = system.spawn(Worker, journal)
        program = worker.ask(Worker.run).result(10)
        end(worker)
        worker.wait(10)
        until(lambda: not alive(program), "its program is gone")  # noqa: B023 - called here and now


def test_a_tree_is_stopped_in_reverse_order_of_its_start(journal: Journal, nothing_is_left: LeakGuard) -> None:
    """Leaves of three levels: each `on_stop` has returned before the next actor is asked."""
    tree = Supervisor(
        Child(Worker, journal, name="a"),
        Supervisor(Child(Worker, journal, name="b1"), Child(Worker, journal, name="b2", count=2), name="b"),
        Child(Worker, journal, name="c"),
        name="tree",
    )
    with ActorSystem(system_name()) as system:
        system.start(tree)
        system.spawn(Worker, journal, name="last")
    order = [row[1] for row in journal.rows()]
    assert order[0] == "last"
    assert order[1:] == ["tree/c", "tree/b/b2/2", "tree/b/b2/1", "tree/b/b1", "tree/a"]


def test_leaving_with_handles_all_that_was_accepted(journal: Journal, nothing_is_left: LeakGuard) -> None:
    """As an executor does: the block ends when 1,000 tells are handled, though `shutdown` would not have been enough."""
    with ActorSystem(system_name()) as system:
        worker = system.spawn(Slow, journal, shutdown=0.0)
        for number in range(100):
            worker.tell(Slow.note, number)
    assert [row[1] for row in journal.rows() if row[0] == "note"] == [str(number) for number in range(100)]


class Slow(Worker):
    """Takes a while for each message."""

    def note(self, number: int) -> None:
        time.sleep(0.002)
        self.journal.write("note", number)


def test_leaving_with_by_an_exception_applies_the_shutdown_times(journal: Journal, nothing_is_left: LeakGuard) -> None:
    """A handler that blocks does not keep the exception from getting out."""
    with pytest.raises(ZeroDivisionError), ActorSystem(system_name()) as system:
        worker = system.spawn(Worker, journal, shutdown=0.1)
        worker.tell(Worker.block, True)
        journal.until("blocks")
        raise ZeroDivisionError


@pytest.mark.parametrize("how", ["drain", "stop", "kill"])
def test_close_ends_pending_calls_of_every_kind(how: Any, journal: Journal, nothing_is_left: LeakGuard) -> None:
    """Threads that ask, wait and spawn while the system closes come back, with an answer or an error of the library."""
    system = ActorSystem(system_name())
    worker = system.spawn(Worker, journal, shutdown=0.1)
    outcomes: list[object] = []

    def again(call: Any) -> None:
        while True:
            try:
                call()
            except Exception as error:
                outcomes.append(error)
                return

    calls = [
        lambda: worker.ask(Worker.ok).result(),
        lambda: worker.tell(Worker.ok),
        lambda: system.spawn(Worker, journal, restart="temporary").kill(),
        lambda: system.tree(),
        lambda: worker.info() and None,
        lambda: worker.wait() and 1 / 0,
    ]
    threads = [threading.Thread(target=again, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    until(lambda: worker.info()["handled"] > 50, "they are at it")
    system.close(how)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    strange = [
        each
        for each in outcomes
        if not isinstance(each, (ActorDied, ZeroDivisionError)) and "actors" not in type(each).__module__
    ]
    assert strange == []


def test_closing_by_kill_asks_nobody(journal: Journal, nothing_is_left: LeakGuard) -> None:
    """Twenty actors with a shutdown time of five seconds that ignore everything are gone at once."""
    system = ActorSystem(system_name())
    for _ in range(20):
        system.spawn(Worker, journal).tell(Worker.block, True)
    journal.until("blocks", times=20)
    system.close("kill")

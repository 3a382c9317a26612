"""Actors that hang, in every way that there is: they are found by counters alone, shown, ended and replaced; those that
are only busy are left alone.

Timeouts are short and waits long: what is promised is that it happens and in which order, not when to the millisecond.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, AskTimeout, Backoff, ExitReason
from kit import Gate, Journal, kill, process, until

AT_ONCE = Backoff(0.0, 0.0)
LIMIT = 0.3  # seconds


class Worker(Actor):
    """Hangs on request."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def pid(self) -> int:
        return os.getpid()

    def note(self, sender: str, number: int) -> None:
        self.journal.write("begin", sender, number)
        self.journal.write("end", sender, number)

    def spin(self) -> None:
        """In Python code."""
        while True:
            pass

    def sleep(self, seconds: float = 3600.0) -> str:
        """In the kernel."""
        time.sleep(seconds)
        return "slept"

    def hold(self) -> None:
        """In C code that never lets go of the GIL."""
        re.match("(a+)+$", "a" * 80 + "b")

    def deafly(self) -> None:
        """Nothing but SIGKILL helps."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        self.journal.write("deaf", os.getpid())
        while True:
            time.sleep(3600)

    def blindly(self) -> None:
        """It can't show its stacks either."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        time.sleep(3600)

    async def await_nothing(self) -> None:
        await asyncio.Event().wait()

    def on_term(self) -> None:
        """Has something to put in order at SIGTERM."""

        def leave(number: int, frame: Any) -> None:
            self.journal.write("terminated")
            os._exit(0)

        signal.signal(signal.SIGTERM, leave)
        time.sleep(3600)

    def freeze(self) -> str:
        os.kill(os.getpid(), signal.SIGSTOP)
        return "thawed"


WAYS: dict[str, tuple[Callable[..., Any], str]] = {
    "a loop in Python": (Worker.spin, "in spin"),
    "a call that waits": (Worker.sleep, "in sleep"),
    "a call that holds the GIL": (Worker.hold, "in hold"),
    "deaf to SIGTERM": (Worker.deafly, "in deafly"),
    "deaf to SIGUSR1": (Worker.blindly, "takes no signals"),
    "a coroutine that waits": (Worker.await_nothing, "in select"),
    "stopped": (Worker.freeze, "it is stopped"),
}


def hung(what: str, seconds: float = LIMIT) -> ExitReason:
    return ExitReason("hung", error=f"no progress for {seconds:g} s: {what}")


def stopped(pid: int) -> bool:
    found = process(pid)
    return found is not None and found.state == "T"


@pytest.mark.parametrize("way", WAYS)
def test_a_message_that_hangs_ends_its_process_and_the_next_one_goes_on(
    way: str, system: ActorSystem, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    """The asker hears why, the log shows where, the process is reaped before the next one starts, and what waited
    behind is handled by that."""
    method, shown = WAYS[way]
    worker = system.spawn(Worker, journal, progress_timeout=LIMIT, shutdown=1.0, backoff=AT_ONCE)
    events = system.events()
    old = worker.ask(Worker.pid).result(10)
    asked = worker.ask(method)
    new = worker.ask(Worker.pid)
    with pytest.raises(ActorDied) as died:
        asked.result(20)
    assert died.value.reason == hung("a message in hand")
    assert died.value.restarting
    assert process(old) is None  # reaped
    assert new.result(20) != old
    events.close()
    told = [(event.kind, event.reason) for event in events if event.ref == worker]
    assert told.count(("crashed", hung("a message in hand"))) == 1
    assert worker.info()["restarts"] == 1
    until(lambda: shown in log(capsys), f"the log shows {shown!r}: {LOG}")


LOG: list[str] = []


def log(capsys: pytest.CaptureFixture[str]) -> str:
    """Everything that was logged so far in this test."""
    LOG.append(capsys.readouterr().err)
    return "".join(LOG)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    LOG.clear()


def test_sigterm_comes_first_so_that_it_can_be_used(system: ActorSystem, journal: Journal) -> None:
    """A handler of the user's own is called; the reason stays."""
    worker = system.spawn(Worker, journal, progress_timeout=LIMIT, shutdown=60.0, restart="temporary")
    worker.tell(Worker.on_term)
    assert worker.wait(20) == hung("a message in hand")
    assert journal.lines() == ["terminated"]


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("idle", [False, True])
def test_a_stopped_actor_is_hung_once_and_can_never_answer_again(
    idle: bool, count: int, system: ActorSystem, journal: Journal
) -> None:
    """So many at once: SIGSTOP with a message in hand, or idle with mail that comes later; SIGCONT after three times
    the limit."""
    workers = [system.spawn(Worker, journal, progress_timeout=LIMIT, backoff=AT_ONCE) for _ in range(count)]
    downs: list[Any] = []
    for worker in workers:
        worker.monitor(downs.append, incarnations=True)
    pids = [worker.ask(Worker.pid).result(20) for worker in workers]
    if idle:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(map(stopped, pids)), "they are stopped")
        asked = [worker.ask(Worker.pid) for worker in workers]
    else:
        asked = [worker.ask(Worker.freeze) for worker in workers]
    time.sleep(3 * LIMIT)
    for pid in pids:
        kill(pid, signal.SIGCONT)
    for worker, pid, reply in zip(workers, pids, asked, strict=True):
        if idle:
            assert reply.result(30) != pid  # by the next one
        else:
            with pytest.raises(ActorDied) as died:
                reply.result(30)
            assert died.value.reason == hung("a message in hand")
        assert worker.ask(Worker.pid).result(30) != pid
        assert worker.info()["restarts"] == 1
        assert process(pid) is None
    until(lambda: len(downs) >= count, "all are reported")
    assert [down.reason.kind for down in downs] == ["hung"] * count


class Timed(Worker):
    """Hangs where no message asked for it."""

    def after_this(self) -> None:
        self.after(0, self.sleep)

    def after_this_async(self) -> None:
        self.after(0, self.await_nothing)

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        time.sleep(3600)

    def watch(self, other: ActorRef[Any]) -> None:
        self.monitor(other)

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("stopping")
        time.sleep(3600)


def test_a_timers_call_and_a_hook_that_hang_are_found(system: ActorSystem, journal: Journal) -> None:
    """Sync and async, and on_down."""
    for call in (Timed.after_this, Timed.after_this_async):
        timed = system.spawn(Timed, journal, progress_timeout=LIMIT, restart="temporary")
        timed.tell(call)
        assert timed.wait(20) == hung("a timer's call or a hook")
    timed = system.spawn(Timed, journal, progress_timeout=LIMIT, restart="temporary")
    other = system.spawn(Worker, journal)
    timed.ask(Timed.watch, other).result(10)
    other.kill()
    assert timed.wait(20) == hung("a timer's call or a hook")


def test_a_hook_that_hangs_does_not_hold_up_a_stop_without_a_limit(journal: Journal) -> None:
    """Leaving `with` handles what was accepted, for as long as that takes; on_stop hangs and is ended."""
    with ActorSystem() as system:
        timed = system.spawn(Timed, journal, progress_timeout=LIMIT)
        for number in range(10):
            timed.tell(Timed.note, "program", number)
    assert journal.lines()[-1] == "stopping"
    assert len(journal.lines()) == 21


def test_a_busy_actor_is_never_taken_for_dead(system: ActorSystem, journal: Journal) -> None:
    """Without the option for as long as it likes; with it as long as each message is done in time."""
    slow = system.spawn(Worker, journal)
    quick = system.spawn(Worker, journal, progress_timeout=1.5)
    slept = slow.ask(Worker.sleep, 1.0)
    many = [quick.ask(Worker.sleep, 0.1) for _ in range(18)]
    assert [reply.result(30) for reply in many] == ["slept"] * 18
    assert slept.result(10) == "slept"
    assert (slow.info()["restarts"], quick.info()["restarts"]) == (0, 0)


def test_an_idle_actor_lives_on(system: ActorSystem, journal: Journal) -> None:
    """Nothing to do for many times the limit is no hang."""
    worker = system.spawn(Worker, journal, progress_timeout=0.1)
    pid = worker.ask(Worker.pid).result(10)
    time.sleep(1.0)
    assert worker.ask(Worker.pid).result(10) == pid


class Wide(Worker):
    """Handlers that overlap."""

    concurrency = 4


def test_one_of_several_messages_in_hand_hangs_and_all_hear_of_it(system: ActorSystem, journal: Journal) -> None:
    """While others are handled beside it all the time."""
    wide = system.spawn(Wide, journal, progress_timeout=LIMIT, backoff=AT_ONCE)
    stuck = wide.ask(Wide.await_nothing)
    handled = 0
    while not stuck.done():
        try:
            wide.ask(Wide.pid).result(10)
            handled += 1
        except ActorDied as error:
            assert error.reason is not None and error.reason.kind == "hung"
    with pytest.raises(ActorDied):
        stuck.result(1)
    assert handled > 10


def test_a_message_that_hangs_goes_where_redeliver_says(system: ActorSystem, journal: Journal, tmp_path: Any) -> None:
    """Once more in the next process, and then it is reported."""
    gate = Gate(tmp_path / "gate")
    hanging = system.spawn(Waiting, journal, gate, progress_timeout=LIMIT, redeliver=1, backoff=AT_ONCE)
    letters = system.dead_letters()
    hanging.tell(Waiting.wait)
    letter = next(iter(letters))
    assert letter.reason.kind == "hung"
    assert journal.lines() == ["waiting", "waiting"]
    letters.close()


class Waiting(Actor):
    def __init__(self, journal: Journal, gate: Gate) -> None:
        self.journal, self.gate = journal, gate

    def wait(self) -> None:
        self.journal.write("waiting")
        self.gate.wait()


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_actors_that_ignore_all_signals_are_killed_after_their_shutdown_time(
    count: int, system: ActorSystem, journal: Journal
) -> None:
    """OTP's sup_stop_timeout: asked, SIGTERM, SIGKILL; without `progress_timeout`, at a stop."""
    workers = [system.spawn(Worker, journal, shutdown=0.5) for _ in range(count)]
    asked = [worker.ask(Worker.deafly) for worker in workers]
    for worker in workers:
        journal.until("deaf", worker.info()["pid"])
    start = time.monotonic()
    for worker in workers:
        worker.stop()
    for worker, reply in zip(workers, asked, strict=True):
        assert worker.wait(20) == ExitReason("signal", signal=signal.SIGKILL)
        with pytest.raises(ActorDied):
            reply.result(10)
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=pytest.mark.nightly)])
def test_stops_of_random_length_lose_nothing_and_nobody_answers_twice(
    rounds: int, system: ActorSystem, journal: Journal, rng: Any
) -> None:
    """SIGSTOP and SIGCONT around the limit: each ask ends once, with an answer or as hung, and each death is reported."""
    worker = system.spawn(Worker, journal, progress_timeout=0.2, backoff=AT_ONCE)
    deaths = 0
    for _ in range(rounds):
        pid = worker.ask(Worker.pid).result(20)
        asked = [worker.ask(Worker.sleep, 0.0) for _ in range(3)]
        kill(pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.5, 2.0) * 0.2)
        kill(pid, signal.SIGCONT)
        for reply in asked:
            error = reply.exception(20)
            assert error is None or (isinstance(error, ActorDied) and error.reason is not None)
            assert error is None or error.reason.kind == "hung"  # type: ignore[attr-defined]
        deaths += worker.ask(Worker.pid).result(20) != pid
    assert worker.info()["restarts"] == deaths


def test_an_ask_with_a_deadline_is_not_prolonged_by_a_hang(system: ActorSystem, journal: Journal) -> None:
    """AskTimeout at its own time; the hang is found all the same."""
    worker = system.spawn(Worker, journal, progress_timeout=LIMIT, restart="temporary")
    with pytest.raises(AskTimeout):
        worker.using(timeout=0.05).ask(Worker.spin).result()
    assert worker.wait(20).kind == "hung"

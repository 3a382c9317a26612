"""Virtual time: what waits for time happens when the test says so, in the order of its times, and at no other moment."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorsError, SpawnError, SpecError, Timer
from actors.supervision import Backoff, Child, Supervisor
from actors.testing import Clock, TestSystem, kill, wait_restarted
from actors.testing.rest import Busy, look, wait_for_rest
from kit import Gate, Journal

FIXED = Backoff(1.0, 60.0, jitter=0.0)


class Ticker(Actor):
    """Notes when its timers ran, in its own time."""

    def __init__(self, period: float = 1.0, fails_at: int = 0) -> None:
        self.period, self.fails_at = period, fails_at
        self.ticks = 0

    def on_start(self) -> None:
        self.timer = self.every(self.period, self.tick)

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.fails_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(self) -> int:
        return self.ticks

    def cancel(self) -> None:
        self.timer.cancel()


class Chain(Actor):
    """Each message is sent on, and comes back by a timer."""

    def __init__(self, journal: Journal, other: ActorRef[Any] | None = None) -> None:
        self.journal, self.other = journal, other

    def start(self, hops: int) -> None:
        self.after(1.0, self.hop, hops)

    def hop(self, hops: int) -> None:
        self.journal.write("hop", hops)
        if hops and self.other is not None:
            self.other.ask(Chain.bounce, self.ref, hops - 1).result()

    async def bounce(self, to: ActorRef[Chain], hops: int) -> None:
        to.tell(Chain.start, hops)


class Stubborn(Actor):
    """Takes its time, as it is told."""

    def __init__(self, journal: Journal, ignore: tuple[int, ...] = (), start: Gate | None = None) -> None:
        self.journal, self.gate = journal, start
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    def on_start(self) -> None:
        self.journal.write("on_start", os.getpid())
        if self.gate is not None:
            self.gate.wait()

    def hang(self) -> None:
        self.journal.write("hangs")
        while True:
            signal.pause()

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_timers_run_in_advance_and_only_there(system: TestSystem, clock: Clock) -> None:
    ticker = system.spawn(Ticker)
    clock.advance(0.5)
    assert ticker.ask(Ticker.count).result(5) == 0
    clock.advance(2.5)
    assert ticker.ask(Ticker.count).result(5) == 3
    assert clock.now() == 3.0
    ticker.ask(Ticker.cancel).result(5)
    clock.advance(100)
    assert ticker.ask(Ticker.count).result(5) == 3


def test_an_hour_takes_no_hour(system: TestSystem, clock: Clock) -> None:
    tickers = [system.spawn(Ticker, 60.0) for _ in range(3)]
    clock.advance(3600)
    assert [ticker.ask(Ticker.count).result(5) for ticker in tickers] == [60, 60, 60]


def test_ten_small_steps_are_one_large_one(system: TestSystem, clock: Clock) -> None:
    ticker = system.spawn(Ticker)
    for _ in range(10):
        clock.advance(0.1)
    assert ticker.ask(Ticker.count).result(5) == 1


def test_what_follows_from_a_timer_is_done_when_advance_returns(
    system: TestSystem, clock: Clock, journal: Journal
) -> None:
    """Each hop goes through two processes, an async handler and a new timer, at its own second."""
    other = system.spawn(Chain, journal)
    first = system.spawn(Chain, journal, other)
    first.tell(Chain.start, 5)
    clock.advance(1.0)
    assert journal.lines() == ["hop 5"]
    clock.advance(3.0)
    assert journal.lines() == ["hop 5", "hop 4", "hop 3", "hop 2"]
    clock.advance(10.0)
    assert journal.lines()[-2:] == ["hop 1", "hop 0"]


def test_a_timer_of_no_seconds_needs_no_advance(system: TestSystem, clock: Clock) -> None:
    class Eager(Actor):
        seen = False

        def begin(self) -> None:
            self.after(0, self.note)

        def note(self) -> None:
            self.seen = True

        def look(self) -> bool:
            return self.seen

    eager = system.spawn(Eager)
    eager.ask(Eager.begin).result(5)
    clock.settle()
    assert eager.ask(Eager.look).result(5)


def test_backoff_ends_at_its_second(system: TestSystem, clock: Clock) -> None:
    """It grows with each crash and is reset after a stable time, as always."""
    ticker = system.spawn(Ticker, 1e6, backoff=FIXED)
    incarnation = 1
    for delay in (0, 1, 2, 4):
        assert kill(ticker) == incarnation
        clock.settle()
        if delay:
            assert ticker.info()["status"] == "backoff"
            clock.advance(delay - 0.001)
            assert ticker.info()["status"] == "backoff"
            clock.advance(0.001)
        incarnation = wait_restarted(ticker, incarnation)
    clock.advance(FIXED.stable)
    kill(ticker)
    clock.settle()
    assert ticker.info()["status"] == "running"  # at once again


@pytest.mark.parametrize(("pause", "status"), [(4.9, "failed"), (5.1, "running")])
def test_intensity_counts_in_virtual_time(system: TestSystem, clock: Clock, pause: float, status: str) -> None:
    """Two restarts in five seconds are allowed, the third within them is one too many."""
    ticker = system.spawn(Ticker, 1e6, max_restarts=2, within=5.0, backoff=Backoff(0.0, 0.0, jitter=0.0))
    for _ in range(2):
        kill(ticker)
        clock.settle()
    clock.advance(pause)
    kill(ticker)
    clock.settle()
    assert ticker.info()["status"] == status


def test_time_stops_at_each_event_on_the_way(system: TestSystem, clock: Clock) -> None:
    """It dies in its third tick, comes back half a second later, and its new ticks count from there."""
    ticker = system.spawn(Ticker, 1.0, 3, backoff=Backoff(0.5, 0.5, jitter=0.0))
    clock.advance(6.4)  # it dies at 3 and is back at once, dies at 6 and waits
    assert (ticker.info()["status"], ticker.info()["incarnation"]) == ("backoff", 2)
    clock.advance(1.0)
    assert (ticker.info()["incarnation"], ticker.ask(Ticker.count).result(5)) == (3, 0)
    clock.advance(0.1)
    assert ticker.ask(Ticker.count).result(5) == 1


def test_a_long_advance_is_many_events_in_order(system: TestSystem, clock: Clock) -> None:
    """At 3, 6, 9.5, 13 and so on it dies."""
    ticker = system.spawn(Ticker, 1.0, 3, backoff=Backoff(0.5, 0.5, jitter=0.0))
    clock.advance(20.4)
    assert ticker.info()["restarts"] == 6


def test_the_start_timeout_passes_in_virtual_time(
    system: TestSystem, clock: Clock, journal: Journal, tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    async def run() -> None:
        start = asyncio.create_task(
            system.spawn_async(Stubborn, journal, (), Gate(tmp_path / "gate"), start_timeout=30.0)
        )
        await asyncio.to_thread(lambda: _until_begun(journal))
        await clock.advance_async(29)
        assert not start.done()
        await clock.advance_async(1)
        with pytest.raises(SpawnError, match="not ready within 30 s"):
            await start

    loop.run_until_complete(run())
    loop.run_until_complete(loop.shutdown_default_executor())


def _until_begun(journal: Journal) -> None:
    from kit import until

    until(lambda: any(line.startswith("on_start") for line in journal.lines()), "it starts")


@pytest.mark.parametrize(("ignore", "number"), [((), signal.SIGTERM), ((signal.SIGTERM,), signal.SIGKILL)])
def test_shutdown_times_pass_in_virtual_time(
    system: TestSystem, clock: Clock, journal: Journal, ignore: tuple[int, ...], number: int
) -> None:
    """Asked at once, SIGTERM after `shutdown`, SIGKILL a tenth of it later; a long advance does not mix them up."""
    actor = system.spawn(Stubborn, journal, ignore, shutdown=5.0)
    actor.tell(Stubborn.hang)
    journal.until("hangs")
    actor.stop()
    clock.advance(4.9)
    assert actor.info()["status"] == "stopping"
    clock.advance(60)
    reason = actor.wait(5)
    assert reason.signal == number


def test_a_tree_restarts_in_virtual_time(system: TestSystem, clock: Clock) -> None:
    tree = Supervisor(
        Child(Ticker, name="first"),
        Child(Ticker, name="second"),
        name="tree",
        strategy="one_for_all",
        backoff=Backoff(2.0, 2.0, jitter=0.0),
    )
    running = system.start(tree)
    for _ in range(2):  # the first restart is at once
        kill(running["second"])
        clock.settle()
    clock.advance(1.9)
    assert [ref.info()["status"] for ref in running.children().values()] != ["running", "running"]
    clock.advance(0.1)
    assert [ref.info()["status"] for ref in running.children().values()] == ["running", "running"]


def test_time_goes_on_when_the_system_closes(journal: Journal, leak_guard: object) -> None:
    """Or an actor that hangs would keep its end for ever."""
    with TestSystem(clock="fake") as system:
        actor = system.spawn(Stubborn, journal, shutdown=0.2)
        actor.tell(Stubborn.hang)
        journal.until("hangs")
        system.close("stop")
    assert actor.uid


def test_who_does_not_come_to_rest_is_named(system: TestSystem, clock: Clock, journal: Journal) -> None:
    actor = system.spawn(Stubborn, journal, name="busy")
    actor.tell(Stubborn.spin, 0.5)
    with pytest.raises(AssertionError, match=rf"not at rest: actors: {system.name}/busy \(pid \d+\) is R"):
        clock.advance(1.0, patience=0.1)
    clock.advance(1.0)  # waits for it


def test_a_real_clock_is_no_clock_to_be_advanced(system: TestSystem) -> None:
    with pytest.raises(ActorsError, match="real time"):
        assert system.clock


def test_time_goes_forward_only(clock: Clock) -> None:
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1.0)
    with pytest.raises(SpecError, match="use 'real' or 'fake'"):
        TestSystem(clock="slow")  # type: ignore[arg-type]


def test_rest_is_seen_in_processes_and_so_is_work(system: TestSystem, journal: Journal) -> None:
    actor = system.spawn(Stubborn, journal)
    wait_for_rest(system.guardian_pid, 10)
    counts = look([actor.info()["pid"]])
    assert look([actor.info()["pid"]]) == counts
    actor.ask(Stubborn.spin, 0.0).result(5)
    wait_for_rest(system.guardian_pid, 10)
    assert look([actor.info()["pid"]]) != counts
    actor.tell(Stubborn.spin, 0.5)
    with pytest.raises(Busy):
        wait_for_rest(system.guardian_pid, 0.05)
    with pytest.raises(Busy, match="ends"):
        look([1 << 22])


def test_the_type_of_a_timer_is_that_of_any_timer(system: TestSystem, clock: Clock) -> None:
    class Asker(Actor):
        def kind(self) -> bool:
            return type(self.after(1.0, self.kind)) is Timer

    assert system.spawn(Asker).ask(Asker.kind).result(5)

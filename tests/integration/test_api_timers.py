"""Timers: calls of an actor to itself, in time and in turn."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, Timer
from kit import Gate, Journal, until


class Clock(Actor):
    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.timers: dict[str, Timer] = {}
        self.after(0.001, self.note, "constructor")

    def on_start(self) -> None:
        self.after(0.001, self.note, "on_start")

    def note(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append((*args, *kwargs.items()) if len(args) != 1 or kwargs else args[0])

    async def note_later(self, what: str) -> None:
        await asyncio.sleep(0)
        self.seen.append(what)

    def notes(self) -> list[Any]:
        return self.seen

    def clear(self) -> None:
        self.seen.clear()

    def set_after(self, seconds: float, *args: Any, **kwargs: Any) -> None:
        self.timers["after"] = self.after(seconds, self.note, *args, **kwargs)

    async def set_after_async(self, seconds: float, what: str) -> None:
        self.after(seconds, self.note_later, what)

    def set_every(self, seconds: float, what: str) -> None:
        self.timers[what] = self.every(seconds, self.note, what)

    def cancel(self, what: str) -> bool:
        self.timers[what].cancel()
        self.timers[what].cancel()  # twice is harmless
        return self.timers[what].cancelled

    def set_and_cancel(self) -> None:
        timer = self.after(0, self.note, "cancelled")
        timer.cancel()

    def cancel_from_within(self) -> None:
        def once() -> None:
            self.seen.append("once")
            self.timers["self"].cancel()

        self.timers["self"] = self.every(0.001, once)

    def sender_in_a_timer(self) -> None:
        self.after(0, self.note_sender)

    def note_sender(self) -> None:
        self.seen.append(self.sender)

    def set_wrongly(self, seconds: float, every: bool) -> None:
        (self.every if every else self.after)(seconds, self.note)

    def block(self, seconds: float) -> None:
        time.sleep(seconds)

    def hold(self, gate: Gate) -> None:
        gate.wait()

    def fail_soon(self) -> None:
        self.after(0, self._fail)

    def _fail(self) -> None:
        raise ValueError("in a timer")

    def pid(self) -> int:
        return os.getpid()

    async def set_in_a_thread(self) -> str:
        try:
            await asyncio.to_thread(self.after, 0, self.note, "thread")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "set"


def noted(clock: ActorRef[Clock], *what: Any) -> list[Any]:
    """All notes, once those of `what` are among them."""
    return until(lambda: set(what) <= set(notes := clock.ask(Clock.notes).result(5)) and notes, f"notes of {what}")


def test_after_calls_once_from_constructor_and_on_start(spawn) -> None:
    clock = spawn(Clock)
    assert sorted(noted(clock, "constructor", "on_start")) == ["constructor", "on_start"]


def test_after_calls_once_from_handlers_with_its_arguments(spawn) -> None:
    clock = spawn(Clock)
    clock.ask(Clock.set_after, 0.001, "a", 1, key="k").result(5)
    clock.ask(Clock.set_after_async, 0.001, "b").result(5)
    notes = noted(clock, ("a", 1, ("key", "k")), "b")
    assert notes.count(("a", 1, ("key", "k"))) == 1
    assert notes.count("b") == 1


def test_after_0_seconds_comes_after_the_message_in_hand(spawn) -> None:
    class Eager(Clock):
        def begin(self) -> None:
            self.after(0, self.note, "timer")
            self.seen.append("handler")

    eager = spawn(Eager)
    noted(eager, "constructor", "on_start")
    eager.ask(Clock.clear).result(5)
    eager.ask(Eager.begin).result(5)
    assert noted(eager, "timer") == ["handler", "timer"]


def test_every_calls_again_and_again_until_cancelled(spawn) -> None:
    clock = spawn(Clock)
    clock.ask(Clock.set_every, 0.001, "tick").result(5)
    until(lambda: clock.ask(Clock.notes).result(5).count("tick") >= 5, "five ticks")
    assert clock.ask(Clock.cancel, "tick").result(5) is True
    after = clock.ask(Clock.notes).result(5).count("tick")
    clock.ask(Clock.set_after, 0.02, "later").result(5)
    assert noted(clock, "later").count("tick") == after


def test_a_cancelled_timer_never_calls(spawn) -> None:
    """Also if it was due already: no call begins after `cancel` returns."""
    clock = spawn(Clock)
    for _ in range(20):
        clock.ask(Clock.set_and_cancel).result(5)
    clock.ask(Clock.set_after, 0.01, "later").result(5)
    assert "cancelled" not in noted(clock, "later")


def test_a_timer_may_cancel_itself(spawn) -> None:
    clock = spawn(Clock)
    clock.ask(Clock.cancel_from_within).result(5)
    clock.ask(Clock.set_after, 0.02, "later").result(5)
    assert noted(clock, "later", "once").count("once") == 1


def test_ticks_that_come_while_the_last_one_waits_are_left_out(spawn) -> None:
    """A handler that blocks for 50 intervals is followed by one tick, not fifty."""
    clock = spawn(Clock)
    clock.ask(Clock.set_every, 0.002, "tick").result(5)
    noted(clock, "tick")
    blocked, cleared, counted = clock.ask(Clock.block, 0.1), clock.ask(Clock.clear), clock.ask(Clock.notes)
    blocked.result(5)
    cleared.result(5)
    assert counted.result(5).count("tick") <= 2


def test_timers_run_while_the_mailbox_is_busy(spawn) -> None:
    clock = spawn(Clock)
    clock.ask(Clock.set_every, 0.001, "tick").result(5)
    noted(clock, "tick")
    clock.ask(Clock.clear).result(5)
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        clock.tell(Clock.note, "mail")
    notes = clock.ask(Clock.notes).result(20)
    assert notes.count("tick") >= 3


def test_sender_is_none_in_a_timer(spawn) -> None:
    class Setter(Actor):
        def set_it(self, clock: ActorRef[Clock]) -> None:
            clock.ask(Clock.sender_in_a_timer).result(5)

    clock, setter = spawn(Clock), spawn(Setter)
    noted(clock, "constructor", "on_start")
    clock.ask(Clock.clear).result(5)
    setter.ask(Setter.set_it, clock).result(5)
    assert noted(clock, None) == [None]


@pytest.mark.parametrize(("seconds", "every"), [(-1, False), (-1, True), (0, True)])
def test_seconds_that_make_no_sense_are_refused(spawn, seconds: float, every: bool) -> None:
    with pytest.raises(ValueError, match="a timer's seconds must be"):
        spawn(Clock).ask(Clock.set_wrongly, seconds, every).result(5)


def test_an_exception_in_a_timer_crashes_the_actor(spawn) -> None:
    clock = spawn(Clock, restart="temporary")
    clock.tell(Clock.fail_soon)
    assert clock.wait(5).error == "ValueError: in a timer"


def test_an_actor_whose_timers_never_rest_stops_all_the_same(spawn) -> None:
    class Restless(Clock):
        def on_start(self) -> None:
            self.every(0.0001, time.sleep, 0.001)

    restless = spawn(Restless, shutdown=30.0)
    restless.stop()
    assert restless.wait(10).kind == "shutdown"


def test_timers_end_with_their_incarnation(spawn, tmp_path: Path) -> None:
    class Writing(Clock):
        def __init__(self, journal: Journal) -> None:
            super().__init__()
            self.journal = journal

        def begin(self) -> None:
            self.every(0.002, self.write)

        def write(self) -> None:
            self.journal.write(os.getpid())

    journal = Journal(tmp_path / "journal")
    writing = spawn(Writing, journal)
    writing.ask(Writing.begin).result(5)
    first = writing.ask(Clock.pid).result(5)
    journal.until(first)
    os.kill(first, signal.SIGKILL)
    assert writing.ask(Clock.pid).result(5) != first
    writing.ask(Clock.set_after, 0.02, "later").result(5)
    noted(writing, "later")
    assert set(journal.lines()) == {str(first)}


def test_one_message_at_a_time_includes_timers(spawn, tmp_path: Path) -> None:
    class Careful(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        async def on_start(self) -> None:
            self.every(0.001, self.slow, "timer")

        async def slow(self, who: str) -> None:
            self.journal.write("begin")
            await asyncio.sleep(0.003)
            self.journal.write("end")

    journal = Journal(tmp_path / "journal")
    careful = spawn(Careful, journal)
    for reply in [careful.ask(Careful.slow, "mail") for _ in range(5)]:
        reply.result(5)
    careful.kill()
    careful.wait(5)
    lines = journal.lines()[:10]
    assert lines == ["begin", "end"] * 5


def test_a_timer_is_set_in_the_actors_own_thread(spawn) -> None:
    assert "the actor's own thread" in spawn(Clock).ask(Clock.set_in_a_thread).result(5)

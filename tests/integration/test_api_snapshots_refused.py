"""State that can't be given back or taken, and classes that say it wrongly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, ExitReason, SpawnError
from actors.supervision import Backoff
from kit import until
from kit.keeper import Counter, Keeper, crash
from kit.lines import Lines

Spawn = Callable[..., ActorRef[Any]]
AT_ONCE = Backoff(0.0, 0.0)


@pytest.fixture
def counter(spawn: Spawn) -> ActorRef[Counter]:
    return spawn(Counter, backoff=AT_ONCE)


# --- what can't be given back


class Picky(Counter):
    """Does not take back what is over a limit."""

    def restore(self, state: Any) -> None:
        self.value = -1
        if state["value"] > 10:
            raise LookupError("too much")
        super().restore(state)


class PickyLater(Picky):
    async def restore(self, state: Any) -> None:
        await asyncio.sleep(0)
        Picky.restore(self, state)


@pytest.mark.parametrize("kind", [Picky, PickyLater])
def test_a_failing_restore_is_reported_and_the_actor_starts_afresh(
    own: ActorSystem, lines: Lines, kind: type[Picky]
) -> None:
    """A line with the traceback, one event; the snapshot is gone, and the next ones count."""
    events = own.events()
    picky = own.spawn(kind, name="picky", backoff=AT_ONCE)
    assert picky.ask(Picky.add, 11).result(10) == 11
    crash(picky)
    assert picky.ask(Picky.add, 2).result(10) == 2
    crash(picky)
    assert picky.ask(Picky.look).result(10) == 2
    (line,) = until(lambda: lines.of("restore() failed"), "the line")
    assert (line["log_level"], line["actor"]) == ("error", picky.address)
    assert "LookupError: too much" in line["exception"]
    own.close("stop")
    found = [event for event in events if event.kind == "unrestored"]
    assert [(event.ref, event.reason) for event in found] == [
        (picky, ExitReason("exception", error="LookupError: too much"))
    ]


class Broken:
    """Can be pickled, not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_a_snapshot_that_can_not_be_read_is_a_failing_restore(own: ActorSystem, lines: Lines) -> None:
    class Making(Keeper):
        def make(self) -> None:
            self.state = Broken()

    making = own.spawn(Making, backoff=AT_ONCE)
    making.tell(Making.make)
    crash(making)
    assert making.ask(Making.get).result(10) == "fresh"
    (line,) = until(lambda: lines.of("restore() failed"), "the line")
    assert "CodecError" in line["exception"]


# --- what can't be taken


class Unsendable(Counter):
    """Its state has a lock in it, on request."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: list[Any] = []

    def lock(self) -> str:
        self.locks = [{"guard": threading.Lock()}]
        return "locked"

    def unlock(self) -> None:
        self.locks = []

    def snapshot(self) -> Any:
        return {"value": self.value, "locks": self.locks}


def test_an_unsendable_state_crashes_the_actor_which_goes_back_to_its_last_good_one(
    own: ActorSystem, lines: Lines
) -> None:
    """The reason names actor and attribute; the message is a dead letter, though its handler came to its end."""
    letters = own.dead_letters()
    ref = own.spawn(Unsendable, name="unsendable", backoff=AT_ONCE)
    assert ref.ask(Unsendable.add, 4).result(10) == 4
    ref.tell(Unsendable.lock)
    assert ref.ask(Unsendable.look).result(10) == 4
    letter = letters.get(10)
    assert letter.message[0] == "lock"
    for part in (ref.address, "['locks'][0]['guard']", "lock"):
        assert part in str(letter.reason.error)
    with pytest.raises(TimeoutError):
        letters.get(0)
    assert len(until(lambda: lines.of("crashed"), "the line")) == 1


def test_whoever_asks_for_what_can_not_be_saved_hears_that_it_died(own: ActorSystem) -> None:
    ref = own.spawn(Unsendable, backoff=AT_ONCE)
    with pytest.raises(ActorDied, match=r"\['locks'\]\[0\]\['guard'\]") as died:
        ref.ask(Unsendable.lock).result(10)
    assert died.value.restarting


def test_with_redeliver_a_message_whose_state_can_not_be_saved_is_tried_again_and_then_reported(
    own: ActorSystem,
) -> None:
    letters = own.dead_letters()
    ref = own.spawn(Unsendable, redeliver=2, backoff=AT_ONCE)
    ref.tell(Unsendable.lock)
    assert ref.ask(Unsendable.look).result(10) == 0
    assert letters.get(10).message[0] == "lock"
    assert ref.info()["restarts"] == 3


class Raising(Unsendable):
    def snapshot(self) -> Any:
        if self.locks:
            raise RuntimeError("not now")
        return super().snapshot()


@pytest.mark.parametrize(("kind", "text"), [(Unsendable, "['locks'][0]['guard']"), (Raising, "not now")])
def test_an_actor_that_continues_on_errors_reports_that_once_and_keeps_the_last_good_one(
    own: ActorSystem, lines: Lines, kind: type[Unsendable], text: str
) -> None:
    """It goes on, also with its answers; once a snapshot succeeds again, it is the last one."""
    ref = own.spawn(kind, name="continues", on_error="continue", backoff=AT_ONCE)
    assert ref.ask(Counter.add, 4).result(10) == 4
    assert ref.ask(Unsendable.lock).result(10) == "locked"
    assert [ref.ask(Counter.add).result(10) for _ in range(3)] == [5, 6, 7]
    (line,) = until(lambda: lines.of("no snapshot could be taken"), "the line")
    assert (line["log_level"], line["actor"]) == ("error", ref.address)
    assert text in line["exception"]
    crash(ref)
    assert ref.ask(Counter.look).result(10) == 4
    ref.tell(Unsendable.lock)
    ref.tell(Counter.add)
    ref.tell(Unsendable.unlock)
    crash(ref)
    assert ref.ask(Counter.look).result(10) == 5
    assert len(until(lambda: lines.of("no snapshot could be taken")[1:], "the second line")) == 1


# --- how a class says it


def test_the_hooks_are_no_messages(counter: ActorRef[Counter]) -> None:
    for name in ("snapshot", "restore", "snapshot_every"):
        with pytest.raises(AttributeError, match=name):
            counter.ask(name).result(10)


class OnlySnapshot(Actor):
    def snapshot(self) -> Any:
        return 1


class OnlyRestore(Actor):
    def restore(self, state: Any) -> None:
        pass


class Never(Counter):
    snapshot_every: ClassVar[int] = 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (OnlySnapshot, r"OnlySnapshot has snapshot\(\), but no restore\(\)"),
        (OnlyRestore, r"OnlyRestore has restore\(\), but no snapshot\(\)"),
        (Never, "Never.snapshot_every must be a whole number from 1 on, not 0"),
    ],
)
def test_a_class_that_says_it_wrongly_does_not_start(spawn: Spawn, kind: type[Actor], text: str) -> None:
    with pytest.raises(SpawnError, match=text):
        spawn(kind)

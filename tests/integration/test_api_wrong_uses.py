"""Wrong uses, as a newcomer makes them: said at once, where the line stands, and nothing is lost or left waiting."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, Backoff, MailboxFull, MailboxOptions, SpecError
from kit import Gate

NAN = math.nan


class Plain(Actor):
    def pid(self) -> int:
        return os.getpid()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def take(self, data: bytes) -> None: ...

    def fill(self, other: ActorRef[Plain], messages: int, gate: Gate) -> None:
        """Tells with a deadline: where both sides do this, each waits for room that only the other can make."""
        gate.wait()
        for _ in range(messages):
            other.using(timeout=0.5).tell(Plain.take, bytes(500))

    def timer(self, seconds: Any, method: Any = None) -> None:
        self.after(seconds, method or self.pid)

    def tie(self, how: str, whom: Any) -> None:
        getattr(self, how)(whom)

    def ask_another_system(self, name: str) -> int:
        with ActorSystem.attach(name) as other:
            return other.lookup("other", Plain).ask(Plain.pid).result(10)


@pytest.fixture
def plain(system: ActorSystem) -> ActorRef[Plain]:
    return system.spawn(Plain)


@pytest.mark.parametrize(("seconds", "error"), [(NAN, ValueError), ("2", TypeError)])
def test_a_time_that_is_none_is_refused_wherever_one_waits(
    system: ActorSystem, plain: ActorRef[Plain], seconds: Any, error: type[Exception]
) -> None:
    box = system.mailbox("empty")
    waits: list[Callable[[], object]] = [
        lambda: plain.ask(Plain.sleep, 0.05).result(seconds),
        lambda: plain.using(timeout=seconds),
        lambda: plain.wait(seconds),
        lambda: box.get(timeout=seconds),
        lambda: box.put(1, timeout=seconds),
        lambda: plain.ask(Plain.timer, seconds).result(10),
    ]
    for wait in waits:
        with pytest.raises(error):
            wait()


def test_any_time_however_long_can_be_waited(plain: ActorRef[Plain]) -> None:
    for seconds in (3e6, 1e12, 1e300, math.inf):
        assert plain.ask(Plain.sleep, 0.01).result(seconds) is None
        assert plain.using(timeout=seconds).ask(Plain.sleep, 0.01).result() is None


def test_wait_says_that_an_actor_has_ended_however_short_its_time(plain: ActorRef[Plain]) -> None:
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        plain.wait(0)
    plain.stop()
    assert plain.wait(10) == plain.wait(0) == plain.wait(-1)


def test_what_has_ended_is_not_restarted_without_a_word(plain: ActorRef[Plain]) -> None:
    plain.stop()
    plain.wait(10)
    for act in (plain.restart, plain.resume):
        with pytest.raises(ActorDied, match=f"{plain.address}: the actor has ended"):
            act()


def test_who_asks_after_a_restart_by_hand_asks_the_next_incarnation(plain: ActorRef[Plain]) -> None:
    pids = []
    for _ in range(20):
        pids.append(plain.ask(Plain.pid).result(10))
        plain.restart()
    assert len(set(pids)) == 20


def test_two_actors_that_fill_each_others_mailboxes_end_by_their_deadlines(system: ActorSystem, tmp_path: Path) -> None:
    gates = Gate(tmp_path / "one"), Gate(tmp_path / "other")
    options = MailboxOptions(capacity=4096)
    one, other = (system.spawn(Plain, mailbox=options, on_error="continue") for _ in range(2))
    letters = system.dead_letters()
    one.tell(Plain.fill, other, 100, gates[0])
    other.tell(Plain.fill, one, 100, gates[1])
    for gate in gates:  # opens when its actor is in its handler, and takes no mail
        gate.open()
    assert "is full for 0.5 s" in str(next(letters).reason)
    assert one.ask(Plain.pid).result(20) != other.ask(Plain.pid).result(20)


def test_a_tell_waits_for_room_until_its_deadline(system: ActorSystem) -> None:
    busy = system.spawn(Plain, mailbox=MailboxOptions(capacity=4096), shutdown=0.0)
    busy.tell(Plain.sleep, 60)
    with pytest.raises(MailboxFull, match=r"is full for 0\.2 s"):
        for _ in range(100):
            busy.using(timeout=0.2).tell(Plain.take, bytes(500))
    busy.kill()


def test_so_does_one_in_a_coroutine(system: ActorSystem) -> None:
    busy = system.spawn(Plain, mailbox=MailboxOptions(capacity=4096), shutdown=0.0)
    busy.tell(Plain.sleep, 60)

    async def fill() -> None:
        for _ in range(100):
            await busy.using(timeout=0.2).tell_async(Plain.take, bytes(500))

    with pytest.raises(MailboxFull, match=r"is full for 0\.2 s"):
        asyncio.run(fill())
    busy.kill()


@pytest.mark.parametrize("how", ["link", "unlink", "monitor"])
def test_only_references_can_be_linked_and_monitored(plain: ActorRef[Plain], how: str) -> None:
    with pytest.raises(TypeError, match="'me' is no reference of an actor"):
        plain.ask(Plain.tie, how, "me").result(10)


def test_what_is_to_be_called_must_be_callable(system: ActorSystem, plain: ActorRef[Plain]) -> None:
    with pytest.raises(TypeError, match="not 3"):
        plain.monitor(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 3"):
        plain.ask(Plain.timer, 1, 3).result(10)
    with pytest.raises(TypeError, match="3 is no reference of an actor"):
        system.topic("ticks").subscribe(3, Plain.pid)  # type: ignore[arg-type]


def test_a_closed_system_is_not_entered_again() -> None:
    with ActorSystem() as system:
        pass
    with pytest.raises(ActorsError, match=f"system '{system.name}' is closed; start a new ActorSystem"), system:
        pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: ActorSystem(memory="1G"),  # type: ignore[arg-type]
        lambda: ActorSystem(ask_timeout="2"),  # type: ignore[arg-type]
        lambda: Backoff("0.1"),  # type: ignore[arg-type]
    ],
)
def test_options_of_the_wrong_type_are_specification_errors(make: Callable[[], object]) -> None:
    with pytest.raises(SpecError):
        make()


def test_a_name_to_look_up_is_text(system: ActorSystem) -> None:
    with pytest.raises(SpecError, match="name 3: give the name of an actor"):
        system.lookup(3)  # type: ignore[call-overload]


def test_a_sync_handler_may_wait_for_an_actor_of_another_system(plain: ActorRef[Plain]) -> None:
    with ActorSystem() as another:
        other = another.spawn(Plain, name="other")
        assert plain.ask(Plain.ask_another_system, another.name).result(20) == other.ask(Plain.pid).result(10)

"""Actors from inside: what they can reach, whom they may ask and spawn, their process, asyncio in it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, SpawnError
from kit import Gate, process, until


class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


class Recorder(Actor):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, item: Any) -> None:
        self.seen.append(item)

    def notes(self) -> list[Any]:
        return self.seen


class Insider(Actor):
    """Uses everything from the constructor on, without super().__init__()."""

    def __init__(self, other: ActorRef[Counter] | None = None) -> None:
        self.early: dict[str, Any] = {
            "ref": self.ref,
            "system": self.system.name,
            "sender": self.sender,
            "child": self.spawn(Counter, 5, name="child"),
        }
        self.log.debug("constructed")
        self.early["answer"] = other.ask(Counter.add, 1).result(5) if other else None
        self.early["found"] = self.system.lookup(self.ref.name)

    def found(self) -> dict[str, Any]:
        return self.early

    def who(self) -> ActorRef[Any] | None:
        return self.sender

    def ask_who(self, other: ActorRef[Insider]) -> ActorRef[Any] | None:
        return other.ask(Insider.who).result(5)

    async def ask_who_async(self, other: ActorRef[Insider]) -> ActorRef[Any] | None:
        return await other.ask(Insider.who)

    def tell_back(self, to: ActorRef[Recorder]) -> None:
        to.tell(Recorder.note, self.ref)

    def reply_to_sender(self, text: str) -> None:
        assert self.sender is not None
        self.sender.tell("note", text)

    def blocking_from_async(self, other: ActorRef[Counter]) -> int:
        return other.ask(Counter.add, 1).result(5)

    async def block_in_a_coroutine(self, other: ActorRef[Counter]) -> str:
        reply = other.ask(Counter.add, 1)
        try:
            reply.result(5)
        except RuntimeError as error:
            return f"{error} / {await reply}"
        return "it blocked"

    async def from_a_thread(self, other: ActorRef[Counter]) -> int:
        return await asyncio.to_thread(lambda: other.ask(Counter.add, 1).result(5))

    def from_own_threads(self, other: ActorRef[Counter]) -> int:
        got: list[int] = []
        threads = [threading.Thread(target=lambda: got.append(other.ask(Counter.add, 1).result(5))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(got)

    def spawn_from_a_thread(self) -> int:
        got: list[int] = []
        thread = threading.Thread(target=lambda: got.append(self.spawn(Counter, 7).ask(Counter.add, 1).result(5)))
        thread.start()
        thread.join()
        return got[0]

    async def spawn_in_a_coroutine(self) -> int:
        blocking = self.spawn(Counter, 1)
        awaited = await self.spawn_async(Counter, 2, name="awaited")
        return await blocking.ask(Counter.add, 0) + await awaited.ask(Counter.add, 0)


def test_ref_system_log_and_children_are_there_from_the_constructor_on(spawn, system: ActorSystem) -> None:
    other = spawn(Counter)
    insider = spawn(Insider, other)
    early = insider.ask(Insider.found).result(5)
    assert early["ref"] == insider
    assert early["system"] == system.name
    assert early["sender"] is None
    assert early["child"].name == f"{insider.name}/child"
    assert early["child"].ask(Counter.add, 1).result(5) == 6
    assert early["answer"] == 1
    assert early["found"] == insider


def test_sender_is_the_actor_that_sent_the_message(spawn) -> None:
    first, second = spawn(Insider), spawn(Insider)
    assert first.ask(Insider.ask_who, second).result(5) == first
    assert first.ask(Insider.ask_who_async, second).result(5) == first


def test_sender_is_none_for_a_message_from_the_program(spawn) -> None:
    assert spawn(Insider).ask(Insider.who).result(5) is None


def test_sender_can_be_answered_with_a_tell(spawn) -> None:
    class Friend(Recorder):
        def greet(self, other: ActorRef[Insider]) -> None:
            other.tell(Insider.reply_to_sender, "hello back")

    friend, insider = spawn(Friend), spawn(Insider)
    friend.ask(Friend.greet, insider).result(5)
    until(lambda: friend.ask(Recorder.notes).result(5) == ["hello back"], "the answer came")


def test_sender_names_an_actor_also_when_its_process_has_ended(spawn, tmp_path: Path) -> None:
    class Waiter(Actor):
        def hold(self, gate: Gate) -> None:
            gate.wait()

        def who(self) -> ActorRef[Any] | None:
            return self.sender

        def note(self) -> None:
            self.last = self.sender

        def noted(self) -> ActorRef[Any] | None:
            return self.last

    class Brief(Actor):
        def tell_and_leave(self, to: ActorRef[Waiter]) -> None:
            to.tell(Waiter.note)
            self.stop()

    gate = Gate(tmp_path / "gate")
    waiter, brief = spawn(Waiter), spawn(Brief)
    waiter.tell(Waiter.hold, gate)
    brief.tell(Brief.tell_and_leave, waiter)
    brief.wait(5)
    gate.open()
    assert waiter.ask(Waiter.noted).result(5) == brief


def test_the_own_reference_can_be_sent_to_others(spawn) -> None:
    insider, recorder = spawn(Insider), spawn(Recorder)
    insider.ask(Insider.tell_back, recorder).result(5)
    assert recorder.ask(Recorder.notes).result(5) == [insider]


def test_a_sync_handler_may_block_on_an_answer(spawn) -> None:
    assert spawn(Insider).ask(Insider.blocking_from_async, spawn(Counter, 5)).result(5) == 6


def test_result_in_a_coroutine_raises_await_it_and_the_reply_stays_good(spawn) -> None:
    said = spawn(Insider).ask(Insider.block_in_a_coroutine, spawn(Counter, 5)).result(5)
    assert "await it" in said
    assert said.endswith("/ 6")


def test_threads_of_an_actor_may_ask_too(spawn) -> None:
    insider, counter = spawn(Insider), spawn(Counter)
    assert insider.ask(Insider.from_a_thread, counter).result(5) == 1
    assert insider.ask(Insider.from_own_threads, counter).result(5) == 4


def test_a_thread_of_an_actor_may_spawn_while_the_handler_waits_for_it(spawn) -> None:
    assert spawn(Insider).ask(Insider.spawn_from_a_thread).result(10) == 8


def test_an_async_handler_may_spawn_blocking_or_awaiting(spawn) -> None:
    insider = spawn(Insider)
    assert insider.ask(Insider.spawn_in_a_coroutine).result(10) == 3


def test_an_actor_can_tell_itself(spawn) -> None:
    class Looping(Recorder):
        def begin(self) -> None:
            self.ref.tell(Recorder.note, "later")
            self.seen.append("first")

    looping = spawn(Looping)
    looping.tell(Looping.begin)
    until(lambda: looping.ask(Recorder.notes).result(5) == ["first", "later"], "both were noted")


def test_an_actor_that_asks_itself_in_a_sync_handler_hears_of_the_cycle_at_its_deadline(spawn) -> None:
    class Narcissus(Actor):
        def look(self) -> str:
            try:
                return str(self.ref.using(timeout=0.05).ask(Narcissus.look).result())
            except TimeoutError as error:
                return str(error)

    narcissus = spawn(Narcissus, name="narcissus")
    said = narcissus.ask(Narcissus.look).result(5)
    assert "deadlock" in said
    assert f"{narcissus.address} waits for {narcissus.address}" in said


def test_children_are_named_below_their_parent_and_stop_with_it(spawn, system: ActorSystem) -> None:
    insider = spawn(Insider, name="parent")
    child = system.lookup("parent/child", Counter)
    assert child.address == f"actor://{system.name}/parent/child"
    insider.stop()
    insider.wait(5)
    assert child.wait(5).kind == "shutdown"
    with pytest.raises(ActorDied):
        child.tell(Counter.add, 1)


def test_children_stop_when_their_parent_is_killed_and_the_next_incarnation_may_use_their_names(
    spawn, system: ActorSystem
) -> None:
    insider = spawn(Insider, name="mother")
    first = insider.ask(Insider.found).result(5)["child"]
    os.kill(insider.info()["pid"], 9)
    second = insider.ask(Insider.found).result(5)["child"]
    assert first.wait(5).kind == "shutdown"
    assert second != first
    assert second.name == "mother/child"


def test_grandchildren_stop_too(spawn, system: ActorSystem) -> None:
    class Parent(Actor):
        def __init__(self, depth: int) -> None:
            self.child = self.spawn(Parent, depth - 1, name="next") if depth else None

    parent = spawn(Parent, 2, name="deep")
    leaf = system.lookup("deep/next/next")
    parent.stop()
    parent.wait(5)
    assert leaf.wait(5).kind == "shutdown"


def test_an_actors_process_is_named_in_ps(spawn, system: ActorSystem) -> None:
    counter = spawn(Counter, name="shown/here")
    found = process(counter.info()["pid"])
    assert found is not None
    assert found.title == f"actors: {system.name}/shown/here"
    guardian = process(system.guardian_pid)
    assert guardian is not None
    assert guardian.title == f"actors: {system.name} guardian"


def test_an_actors_random_numbers_are_its_own(spawn) -> None:
    class Dice(Actor):
        def roll(self) -> float:
            import random

            return random.random()

    assert len({spawn(Dice).ask(Dice.roll).result(5) for _ in range(3)}) == 3


def test_working_directory_environment_and_path_are_those_at_spawn(
    spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Surroundings(Actor):
        def look(self) -> tuple[str, str | None, str | None, bool]:
            import sys

            return (
                str(Path.cwd()),
                os.environ.get("ACTORS_API_NEW"),
                os.environ.get("ACTORS_API_OLD"),
                str(self.folder) in sys.path,
            )

        def __init__(self, folder: Path) -> None:
            self.folder = folder

    monkeypatch.setenv("ACTORS_API_OLD", "old")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACTORS_API_NEW", "new")
    monkeypatch.delenv("ACTORS_API_OLD")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert spawn(Surroundings, tmp_path).ask(Surroundings.look).result(5) == (str(tmp_path), "new", None, True)


def test_an_actor_may_use_asyncio_freely(spawn) -> None:
    """Timeouts, task groups, background tasks and subprocess-free I/O belong to its loop."""

    class Modern(Actor):
        async def work(self) -> list[str]:
            done: list[str] = []

            async def part(name: str) -> None:
                await asyncio.sleep(0)
                done.append(name)

            async with asyncio.TaskGroup() as group:
                group.create_task(part("a"))
                group.create_task(part("b"))
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(10)
            except TimeoutError:
                done.append("timeout")
            return done

    modern = spawn(Modern)
    for _ in range(3):
        assert modern.ask(Modern.work).result(5) == ["a", "b", "timeout"]


def test_a_background_task_runs_between_messages(spawn) -> None:
    class Background(Actor):
        async def on_start(self) -> None:
            self.ticks = 0
            self.task = asyncio.create_task(self._tick())

        async def _tick(self) -> None:
            while True:
                self.ticks += 1
                await asyncio.sleep(0.001)

        def count(self) -> int:
            return self.ticks

    background = spawn(Background)
    until(lambda: background.ask(Background.count).result(5) >= 3, "the task ticks")


def test_a_busy_mailbox_does_not_starve_background_tasks(spawn) -> None:
    class Busy(Actor):
        async def on_start(self) -> None:
            self.handled = 0
            self.turns = 0
            self.task = asyncio.create_task(self._turn())

        async def _turn(self) -> None:
            while True:
                self.turns += 1
                await asyncio.sleep(0)

        def work(self) -> None:
            self.handled += 1

        def counts(self) -> tuple[int, int]:
            return self.handled, self.turns

    busy = spawn(Busy)
    for _ in range(5000):
        busy.tell(Busy.work)
    handled, turns = busy.ask(Busy.counts).result(20)
    assert handled == 5000
    assert turns >= 10


def test_a_cancelled_error_that_a_handler_raises_itself_reaches_the_asker_and_the_actor_lives(spawn) -> None:
    class Canceller(Actor):
        async def cancelled(self) -> None:
            task = asyncio.create_task(asyncio.sleep(10))
            task.cancel()
            await task

        def alive(self) -> int:
            return os.getpid()

    from concurrent.futures import CancelledError

    canceller = spawn(Canceller)
    pid = canceller.ask(Canceller.alive).result(5)
    with pytest.raises(CancelledError):
        canceller.ask(Canceller.cancelled).result(5)
    assert canceller.ask(Canceller.alive).result(5) == pid


def test_a_factory_that_makes_nothing_is_refused(system: ActorSystem) -> None:
    with pytest.raises(SpawnError, match="made None"):
        system.spawn(print, "hello")  # type: ignore[type-var]


def test_time_spent_waiting_for_an_answer_does_not_lose_mail(spawn) -> None:
    """A sync handler that blocks on an answer while its own mailbox fills up handles all of it afterwards."""

    class Blocking(Recorder):
        def wait_for(self, other: ActorRef[Any]) -> float:
            return other.ask("sleep", 0.05).result(5)

    class Sleeper(Actor):
        def sleep(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

    blocking, sleeper = spawn(Blocking), spawn(Sleeper)
    waiting = blocking.ask(Blocking.wait_for, sleeper)
    for number in range(100):
        blocking.tell(Recorder.note, number)
    assert waiting.result(5) == 0.05
    assert blocking.ask(Recorder.notes).result(5) == list(range(100))

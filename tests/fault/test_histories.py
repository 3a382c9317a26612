"""Histories: under load, with processes killed at marked points and at random, every accepted message is handled or
reported, in order.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Down
from actors.supervision import Backoff
from kit import History, Journal, Script, Trap, kill, until

AT_ONCE = Backoff(0.0, 0.0)


class Answer:
    """An answer that passes a marked point while it is encoded."""

    def __init__(self, trap: Trap) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        self.trap.passing("reply")
        return str, ("answer",)


class Marked(Actor):
    """Writes down what it handles and passes marked points."""

    def __init__(self, journal: Journal, trap: Trap) -> None:
        self.journal, self.trap = journal, trap
        trap.passing("constructor")

    def on_start(self) -> None:
        self.trap.passing("on_start")

    def on_stop(self, reason: object) -> None:
        self.trap.passing("on_stop")

    def note(self, sender: str, number: int) -> Answer:
        self.journal.write("begin", sender, number)
        self.trap.passing("sync_handler")
        self.journal.write("end", sender, number)
        return Answer(self.trap)

    async def note_async(self, sender: str, number: int) -> Answer:
        self.journal.write("begin", sender, number)
        await self.trap.passing_async("async_handler")
        self.journal.write("end", sender, number)
        return Answer(self.trap)


class Wide(Marked):
    """The same with several messages in hand."""

    concurrency = 3


class Sender(Actor):
    """Sends on and on, to itself as well, which keeps it going."""

    def __init__(self, target: ActorRef[Any], journal: Journal) -> None:
        self.target, self.journal = target, journal
        self.name = f"{self.ref.name}.{os.getpid()}"
        self.number = 0

    def on_start(self) -> None:
        self.every(0.001, self.send, 5)

    def send(self, count: int) -> None:
        for _ in range(count):
            self.journal.write("try", self.name, self.number)
            self.target.tell("note", self.name, self.number)
            self.journal.write("sent", self.name, self.number)
            self.number += 1


class Load:
    """Threads of the program that tell and ask until it is over; whoever is told of a death reports it."""

    def __init__(self, target: ActorRef[Any], history: History, threads: int = 2) -> None:
        self.target, self.history = target, history
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=[f"thread{number}"]) for number in range(threads)]
        self.errors: list[BaseException] = []

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert self.errors == []

    def _run(self, name: str) -> None:
        number = 0
        try:
            while not self.over.is_set():
                method = "note_async" if number % 3 == 0 else "note"
                self.history.sent(name, number)
                if number % 4:
                    self.target.tell(method, name, number)
                else:
                    self._ask(method, name, number)
                number += 1
        except BaseException as error:
            self.errors.append(error)

    def _ask(self, method: str, name: str, number: int) -> None:
        try:
            assert self.target.ask(method, name, number).result(30) == "answer"
        except ActorDied as died:
            assert died.restarting
            self.history.report(name, number)


def judged(
    system: ActorSystem, target: ActorRef[Any], history: History, journal: Journal, letters: Any, redeliver: int
) -> None:
    """End the target when all is handled, and check the history."""
    target.stop()
    target.wait(30)
    system.close("stop")
    history.read(journal)
    for letter in letters:
        history.report(*letter.message[1])
    print(f"{len(history.accepted)} accepted, {len(history.handled)} handled, {len(history.reported)} reported")
    assert len(history.handled) > 0
    history.check(redeliver)


POINTS = ["constructor", "on_start", "idle", "sync_handler", "async_handler", "reply", "on_stop"]


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("redeliver", [0, 2])
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_doubled_or_reordered_when_an_actor_dies_at(
    point: str, redeliver: int, rounds: int, system: ActorSystem, journal: Journal, tmp_path: Any
) -> None:
    """Two threads and an actor send all the time; the receiver is killed at this point of its life, several times."""
    letters, history, trap = system.dead_letters(), History(), Trap(tmp_path)
    target = system.spawn(Marked, journal, trap, redeliver=redeliver, backoff=AT_ONCE)
    sender = system.spawn(Sender, target, journal)
    with Load(target, history):
        for number in range(1, rounds + 1):
            if point == "idle":
                kill(until(lambda: target.info()["pid"], "it has a process"))
                continue
            trap.set(point)
            if point in ("constructor", "on_start"):
                kill(until(lambda: target.info()["pid"], "it has a process"))
            elif point == "on_stop":
                target.restart()
            victim = trap.wait(point, number)
            kill(victim)
            until(lambda: (info := target.info())["pid"] != victim and info["status"] == "running", "it is back")  # noqa: B023
    sender.stop()
    sender.wait(30)
    judged(system, target, history, journal, letters, redeliver)


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_restarts_while_messages_flow_are_heard_once_each_and_hand_over_only_what_was_not_begun(
    rounds: int, system: ActorSystem, journal: Journal, tmp_path: Any, rng: random.Random
) -> None:
    """Killed at random moments under load: a monitor of incarnations hears each death once, a plain one the end alone;
    what an incarnation had begun is not begun by the next, and no answer of the dead reaches a later ask."""
    letters, history, trap = system.dead_letters(), History(), Trap(tmp_path)
    target = system.spawn(Marked, journal, trap, backoff=AT_ONCE)
    crashes: list[Down] = []
    ends: list[Down] = []
    target.monitor(crashes.append, incarnations=True)
    target.monitor(ends.append)
    with Load(target, history):
        for _ in range(rounds):
            time.sleep(rng.uniform(0.0, 0.01))
            victim = until(lambda: target.info()["pid"], "it has a process")
            kill(victim)
            until(lambda: target.info()["pid"] not in (None, victim), "the next one is there")  # noqa: B023
    judged(system, target, history, journal, letters, 0)
    assert [down.restarting for down in crashes] == [True] * rounds + [False]
    assert [down.restarting for down in ends] == [False]


@pytest.mark.parametrize("rounds", [10, pytest.param(300, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("redeliver", [0, 2])
def test_nothing_is_lost_or_doubled_when_a_concurrent_actor_dies_at_random(
    redeliver: int, rounds: int, system: ActorSystem, journal: Journal, tmp_path: Any, rng: random.Random
) -> None:
    """The same for an actor with several messages in hand, killed at random moments."""
    letters, history, trap = system.dead_letters(), History(), Trap(tmp_path)
    target = system.spawn(Wide, journal, trap, redeliver=redeliver, backoff=AT_ONCE)
    with Load(target, history, 3):
        for _ in range(rounds):
            time.sleep(rng.uniform(0.0, 0.02))
            kill(until(lambda: target.info()["pid"], "it has a process"))
    judged(system, target, history, journal, letters, redeliver)


ATTACHED = """
import os, sys
from kit import Journal
from actors import ActorSystem

system = ActorSystem.attach(sys.argv[1])
print("attached", flush=True)
target, journal, name, number = system.lookup("target"), Journal(sys.argv[2]), f"program.{os.getpid()}", 0
while True:
    journal.write("try", name, number)
    target.tell("note", name, number)
    journal.write("sent", name, number)
    number += 1
"""


@pytest.mark.parametrize("deaths", [25, pytest.param(1000, marks=pytest.mark.nightly)])
def test_producers_that_are_killed_while_they_push_leave_the_others_in_peace(
    deaths: int,
    system: ActorSystem,
    journal: Journal,
    tmp_path: Any,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four actors, an attached program and a thread push to one actor, and actors and program are killed at random:
    the receiver goes on answering, what was accepted is handled once and in order."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    letters, history, trap = system.dead_letters(), History(), Trap(tmp_path)
    target = system.spawn(Marked, journal, trap, name="target")
    senders = [system.spawn(Sender, target, journal, backoff=AT_ONCE) for _ in range(4)]
    program = Script(ATTACHED, system.name, journal.path)
    with Load(target, history, 1):
        for death in range(deaths):
            time.sleep(rng.uniform(0.0, 0.02))
            if death % 5:
                kill(until(lambda: rng.choice(senders).info()["pid"], "it has a process"))
            else:
                with program:  # its end kills it
                    program.expect("attached")
                    time.sleep(rng.uniform(0.0, 0.02))
                program = Script(ATTACHED, system.name, journal.path)
            with pytest.raises(AttributeError):
                target.ask("nothing").result(30)  # it is awake and gets to the end of its mail
    with program:
        pass
    for sender in senders:
        sender.stop()
        sender.wait(30)
    judged(system, target, history, journal, letters, 0)

"""Processes that are replaced because they reached a limit: no message is lost, none is handled twice, no more than
`max_messages` by one process.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem, Backoff
from actors.supervision import Child, Supervisor
from kit import Gate, History, Journal, alive, kill, system_name, until

AT_ONCE = Backoff(0.0, 0.0)


class Worker(Actor):
    """Writes down what it handles, and in which process."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.kept: list[bytes] = []

    def on_stop(self, reason: object) -> None:
        self.journal.write("stopped", os.getpid(), 0, 0)

    def pid(self) -> int:
        return os.getpid()

    def note(self, sender: str, number: int) -> int:
        self.journal.write("begin", sender, number)
        self.journal.write("in", os.getpid(), sender, number)
        self.journal.write("end", sender, number)
        return os.getpid()

    def eat(self, size: int) -> int:
        self.kept.append(b"x" * size)
        return os.getpid()

    def eat_by_timer(self, size: int) -> int:
        self.every(0.05, self.eat, size)
        return os.getpid()

    def take_long(self, seconds: float) -> int:
        import time

        self.eat(100 << 20)
        self.journal.write("begun", os.getpid(), 0, 0)
        time.sleep(seconds)
        return os.getpid()


class Wide(Worker):
    """Handlers overlap."""

    concurrency = 5

    async def note(self, sender: str, number: int) -> int:  # type: ignore[override]
        self.journal.write("in", os.getpid(), sender, number)
        await asyncio.sleep(0.001)
        self.journal.write("end", sender, number)
        return os.getpid()


class Sender(Actor):
    """Sends its numbers, in order."""

    def send(self, target: ActorRef[Worker], name: str, count: int, journal: Journal) -> None:
        for number in range(count):
            journal.write("try", name, number)
            target.tell(Worker.note, name, number)
            journal.write("sent", name, number)


def by_process(journal: Journal) -> Counter[str]:
    """How many messages each process has begun."""
    return Counter(row[1] for row in journal.rows() if row[0] == "in")


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
def test_each_process_handles_exactly_as_many_messages_as_it_may(
    restart: Any, system: ActorSystem, journal: Journal
) -> None:
    """400 asks and tells by 10 each; in order, and none of it counts as a restart."""
    events = system.events()
    worker = system.spawn(Worker, journal, name="worker", max_messages=10, restart=restart, max_restarts=0)
    replies = []
    for number in range(200):
        worker.tell(Worker.note, "program", 2 * number)
        replies.append(worker.ask(Worker.note, "program", 2 * number + 1))
    for reply in replies:
        reply.result(60)
    assert set(by_process(journal).values()) == {10}
    assert [int(row[2]) for row in journal.rows() if row[0] == "end"] == list(range(400))
    until(
        lambda: (worker.info()["incarnation"], worker.info()["status"]) == (41, "running"),
        "the last one is replaced, too",
    )
    info = worker.info()
    assert (info["restarts"], info["incarnation"]) == (0, 41)
    events.close()
    told = [event for event in events if event.ref == worker]
    assert Counter(event.kind for event in told)["recycled"] == 40
    assert "crashed" not in {event.kind for event in told}
    assert "max_messages=10" in str(next(event.reason for event in told if event.kind == "recycled"))
    assert len([row for row in journal.rows() if row[0] == "stopped"]) == 40  # on_stop was called


def test_handlers_that_overlap_are_counted_together(system: ActorSystem, journal: Journal) -> None:
    """No more than 7 by one process although 5 at a time are in hand, and those are finished."""
    wide = system.spawn(Wide, journal, max_messages=7)
    replies = [wide.ask(Wide.note, "program", number) for number in range(100)]
    pids = Counter(reply.result(60) for reply in replies)
    assert max(pids.values()) == 7
    assert len(pids) == 15
    assert sorted(int(row[2]) for row in journal.rows() if row[0] == "end") == list(range(100))


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.nightly)])
def test_senders_and_kills_meanwhile_lose_nothing(
    rounds: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Four senders, one target that is recycled every 20 messages and killed at random: the history is clean."""
    letters = system.dead_letters()
    worker = system.spawn(Worker, journal, max_messages=20, backoff=AT_ONCE, redeliver=100)
    senders = [system.spawn(Sender) for _ in range(4)]
    for turn in range(rounds):
        sent = [each.ask(Sender.send, worker, f"s{turn}.{k}", 200, journal) for k, each in enumerate(senders)]
        while not all(reply.done() for reply in sent):
            pid = worker.info()["pid"]
            if pid and rng.random() < 0.5:
                kill(pid)
            until(lambda: worker.info()["pid"] not in (pid, None), "it is back")  # noqa: B023
        last = worker.ask(Worker.pid)
        assert last.result(60)
    letters.close()
    history = History()
    history.read(journal)
    history.check(redeliver=100)
    assert list(letters) == []
    assert max(by_process(journal).values()) <= 20


@pytest.mark.parametrize("kind", [Worker, Wide])
@pytest.mark.parametrize("how", ["drain", "stop", "ref"])
def test_what_was_accepted_is_handled_although_it_takes_many_processes(
    how: Any, kind: type[Worker], journal: Journal
) -> None:
    """The end of `with`, and a stop within its time: 50 messages, 7 by each process."""
    with ActorSystem(system_name()) as system:
        worker = system.spawn(kind, journal, max_messages=7, shutdown=60.0)
        for number in range(50):
            worker.tell(Worker.note, "program", number)
        if how == "ref":
            worker.stop()
            assert worker.wait(60).kind == "shutdown"
        elif how == "stop":
            system.close("stop")
    ended = [int(row[2]) for row in journal.rows() if row[0] == "end"]
    assert (ended if kind is Worker else sorted(ended)) == list(range(50))
    assert sorted(by_process(journal).values()) == [1, *[7] * 7]


def test_a_process_that_has_grown_too_large_is_replaced_between_two_messages(
    system: ActorSystem, journal: Journal
) -> None:
    """By messages and by timers; a message in hand is finished, however long that takes; mail stays."""
    limit = 50 << 20
    events = system.events()
    worker = system.spawn(Worker, journal, name="worker", max_memory=limit, max_restarts=0, shutdown=0.1)
    pid = worker.ask(Worker.take_long, 2.0)
    later = [worker.ask(Worker.pid) for _ in range(20)]
    assert {reply.result(30) for reply in later} != {pid.result(30)}
    leaking = system.spawn(Worker, journal, name="leaking", max_memory=limit, max_restarts=0)
    old = leaking.ask(Worker.eat_by_timer, 20 << 20).result(10)
    until(lambda: not alive(old), "it is replaced", 20.0)
    assert leaking.ask(Worker.pid).result(20) != old
    events.close()
    recycled = [event for event in events if event.kind == "recycled"]
    assert [event.ref.name for event in recycled] == ["worker", "leaking"]
    assert all("max_memory=52428800: it uses" in str(event.reason) for event in recycled)
    assert (worker.info()["restarts"], leaking.info()["restarts"]) == (0, 0)


def test_a_process_that_is_large_enough_lives_on(system: ActorSystem, journal: Journal) -> None:
    """Below its limit, and what it shares with others does not count."""
    worker = system.spawn(Worker, journal, max_memory=200 << 20)
    pid = worker.ask(Worker.eat, 100 << 20).result(10)
    asyncio.run(asyncio.sleep(2.5))  # two looks
    assert worker.ask(Worker.pid).result(10) == pid


def test_a_limit_below_what_a_fresh_process_needs_is_no_endless_loop(system: ActorSystem, journal: Journal) -> None:
    """An idle one is left alone: another would be no smaller."""
    worker = system.spawn(Worker, journal, max_memory=1)
    pid = worker.info()["pid"]
    asyncio.run(asyncio.sleep(2.5))
    assert worker.info()["pid"] == pid


def test_a_child_of_a_group_is_recycled_without_the_others(system: ActorSystem, journal: Journal) -> None:
    """one_for_all is about failures."""
    tree = Supervisor(
        Child(Worker, journal, name="a"), Child(Worker, journal, name="b", max_messages=2), Child(Worker, journal, name="c"),
        name="tree", strategy="one_for_all", max_restarts=0,
    )  # fmt: skip
    group = system.start(tree)
    before = {name: group[name].info()["pid"] for name in "abc"}
    for _ in range(4):
        group["b"].ask(Worker.pid).result(20)
    until(lambda: group["b"].info()["incarnation"] == 3 and group["b"].info()["status"] == "running", "it was recycled")
    assert [group[name].info()["pid"] == before[name] for name in "abc"] == [True, False, True]


class Keeping(Actor):
    """Its state survives, saved after every third message only."""

    snapshot_every = 3

    def __init__(self, journal: Journal) -> None:
        self.journal, self.count = journal, 0

    def snapshot(self) -> int:
        return self.count

    def restore(self, state: int) -> None:
        self.count = state

    def add(self) -> None:
        self.count += 1

    def add_behind(self, gate: Gate) -> None:
        gate.wait()
        self.add()

    def on_stop(self, reason: object) -> None:
        self.journal.write("total", self.count)


def test_state_that_is_kept_goes_through_every_replacement_also_in_a_drain(journal: Journal) -> None:
    """7 messages a process and a snapshot after every third: nothing of the state is taken back."""
    with ActorSystem(system_name()) as system:
        keeping = system.spawn(Keeping, journal, max_messages=7)
        for _ in range(50):
            keeping.tell(Keeping.add)
    assert [int(total) for _, total in journal.rows()] == [7, 14, 21, 28, 35, 42, 49, 50]


def test_a_limit_that_is_reached_as_the_drain_begins_takes_nothing_back(journal: Journal, tmp_path: Path) -> None:
    """The word that the system ends comes when the process has already said that it is to be replaced."""
    gate = Gate(tmp_path / "gate")
    with ActorSystem(system_name()) as system:
        keeping = system.spawn(Keeping, journal, max_messages=2)
        keeping.tell(Keeping.add)
        keeping.tell(Keeping.add_behind, gate)
        for _ in range(3):
            keeping.tell(Keeping.add)

        def let_go() -> None:
            until(lambda: keeping.info()["status"] == "stopping", "the system ends")
            gate.open()

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
    letting_go.join()
    assert [int(total) for _, total in journal.rows()] == [2, 4, 5]

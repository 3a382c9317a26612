"""State under kills: at every step from the handler to the commit, and at random, it is exactly the effect of what was
handled.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Reply
from actors.slots import Slots
from actors.supervision import Backoff
from kit import History, Journal, Trap, kill, until

AT_ONCE = Backoff(0.0, 0.0)
EVER = 1_000_000


class Passing:
    """Passes a marked point while it is encoded; arrives as a text."""

    def __init__(self, trap: Trap, point: str) -> None:
        self.trap, self.point = trap, point

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        self.trap.passing(self.point)
        return str, (self.point,)


def mark_publication(trap: Trap) -> None:
    """In an actor's process: points before and after the store that publishes a snapshot."""
    publish = Slots.publish

    def marked(slots: Slots, word: int) -> None:
        trap.passing("written")
        publish(slots, word)
        trap.passing("published")

    Slots.publish = marked  # type: ignore[method-assign]


class Marked(Actor):
    """Its state is what it has handled, in order; it passes a marked point at every step."""

    def __init__(self, journal: Journal, trap: Trap) -> None:
        self.journal, self.trap = journal, trap
        self.seen: list[int] = []
        mark_publication(trap)
        trap.passing("constructor")

    def restore(self, state: Any) -> Any:
        self.trap.passing("restore")
        self.seen = state[0]

    def on_start(self) -> None:
        self.trap.passing("on_start")

    def note(self, sender: str, number: int) -> Passing:
        self.journal.write("begin", sender, number)
        self.trap.passing("before")
        self.seen.append(number)
        self.trap.passing("after")
        self.journal.write("end", sender, number)
        return Passing(self.trap, "answer")

    async def note_async(self, sender: str, number: int) -> Passing:
        self.journal.write("begin", sender, number)
        await self.trap.passing_async("async_before")
        self.seen.append(number)
        await asyncio.sleep(0)
        self.journal.write("end", sender, number)
        return Passing(self.trap, "answer")

    def state(self) -> list[int]:
        return self.seen

    def snapshot(self) -> Any:
        self.trap.passing("snapshot")
        return self.seen, Passing(self.trap, "encoding")

    def on_stop(self, reason: object) -> None:
        self.trap.passing("on_stop")


class MarkedAsync(Marked):
    """The same with async hooks."""

    async def restore(self, state: Any) -> None:
        await asyncio.sleep(0)
        Marked.restore(self, state)

    async def snapshot(self) -> Any:
        await self.trap.passing_async("async_snapshot")
        return Marked.snapshot(self)


class Run:
    """One sender, numbers from 0 on, asks and tells by turns; what became of each."""

    def __init__(self, target: ActorRef[Any]) -> None:
        self.target, self.history = target, History()
        self.number = 0
        self.replies: dict[int, Any] = {}

    def send(self, count: int, ask: bool = False) -> None:
        """ask: the first of them is one."""
        for _ in range(count):
            method = "note_async" if self.number % 4 == 3 else "note"
            self.history.sent("test", self.number)
            if ask:
                self.replies[self.number] = self.target.ask(method, "test", self.number)
            else:
                self.target.tell(method, "test", self.number)
            self.number += 1
            ask = not ask

    def judge(self, system: ActorSystem, journal: Journal, letters: Any, redeliver: int) -> None:
        """With `redeliver` the state is all of it, once and in order; without, all but what was reported, and an ask
        that was answered is in it."""
        state = self.target.ask("state").result(60)
        answered, died = set(), set()
        for number, reply in self.replies.items():
            try:
                assert reply.result(30) == "answer"
                answered.add(number)
            except ActorDied as error:
                assert error.restarting
                self.history.report("test", number)
                died.add(number)
        system.close("stop")
        self.history.read(journal)
        lost = set()
        for letter in letters:
            self.history.report(*letter.message[1])
            lost.add(letter.message[1][1])
        everything = set(range(self.number))
        print(f"{self.number} sent, {len(state)} in the state, {len(lost)} dead letters, {len(died)} asks died")
        assert state == sorted(set(state)), "in order, and nothing twice"
        assert answered <= set(state), "what was answered is in the state"
        assert set(state) == everything - lost - (died - set(state)), "the rest was reported"
        if redeliver:
            assert state == sorted(everything)
        self.history.check(redeliver)


STEPS = ["before", "after", "async_before", "answer", "snapshot", "encoding", "written", "published"]
OUTSIDE = ["constructor", "restore", "on_start", "idle", "on_stop"]  # nothing is in hand: redeliver changes little
CASES = [
    *((Marked, step, redeliver) for step in STEPS for redeliver in (0, 3)),
    *((MarkedAsync, step, redeliver) for step in ("async_snapshot", "published") for redeliver in (0, 3)),
    *((Marked, step, 3) for step in OUTSIDE),
]
NIGHTLY = [*CASES, *((Marked, step, 0) for step in OUTSIDE)]


@pytest.mark.parametrize(
    ("kind", "step", "redeliver", "rounds"),
    [*((*case, 2) for case in CASES), *(pytest.param(*case, 40, marks=pytest.mark.nightly) for case in NIGHTLY)],
)
def test_the_state_is_the_effect_of_what_was_handled_when_the_process_dies_at(
    kind: type[Marked], step: str, redeliver: int, rounds: int, system: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """Killed at this step, several times, while messages come."""
    letters, trap = system.dead_letters(), Trap(tmp_path)
    run = Run(system.spawn(kind, journal, trap, redeliver=redeliver, backoff=AT_ONCE))
    target = run.target
    run.send(10)
    for number in range(1, rounds + 1):
        target.ask("state").result(10)  # all of it is handled, and there is a snapshot
        victim = until(lambda: target.info()["pid"], "it has a process")
        if step != "idle":
            trap.set(step)
        run.send(20, ask=number % 2 == 0)
        if step in ("constructor", "restore", "on_start"):
            kill(victim)
        elif step == "on_stop":
            target.restart()
        if step != "idle":
            victim = trap.wait(step, number)
        kill(victim)
        run.send(5)
        until(lambda: (info := target.info())["pid"] != victim and info["status"] == "running", "it is back")  # noqa: B023
    run.judge(system, journal, letters, redeliver)


def killed_before_its_answer(target: ActorRef[Any], trap: Trap, then: str = "") -> Reply[Any]:
    """An ask whose effect is in the snapshot, by a process that was killed before it answered. then: the next one's trap."""
    target.ask("state").result(10)  # the first snapshot is handed over
    trap.set("published")
    reply = target.ask("note", "test", 1)
    victim = trap.wait("published", 1)
    if then:
        trap.set(then)
    kill(victim)
    return reply


@pytest.mark.parametrize("then", ["constructor", "restore", "on_start"])
def test_an_answer_that_could_not_be_sent_is_sent_by_the_next_incarnation_that_can(
    then: str, system: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """redeliver=1 and two deaths, the second at this step of the next incarnation: the asker hears of neither."""
    trap = Trap(tmp_path)
    target = system.spawn(Marked, journal, trap, redeliver=1, backoff=AT_ONCE)
    reply = killed_before_its_answer(target, trap, then)
    kill(trap.wait(then, 1))
    assert reply.result(30) == "answer"
    assert target.ask("state").result(30) == [1]
    assert journal.lines() == ["begin test 1", "end test 1"]


def test_an_answer_that_nobody_will_send_is_actor_died(system: ActorSystem, journal: Journal, tmp_path: Path) -> None:
    """The actor does not come back, or not with its state, or was never to hide its deaths."""
    for number, (kind, options) in enumerate(
        [(Marked, {"redeliver": 3, "max_restarts": 0}), (Marked, {"redeliver": 0}), (Spoiled, {"redeliver": 3})]
    ):
        trap = Trap(tmp_path / str(number))
        trap.folder.mkdir()
        with pytest.raises(ActorDied) as died:
            killed_before_its_answer(system.spawn(kind, journal, trap, backoff=AT_ONCE, **options), trap).result(30)
        assert died.value.reason is not None
        assert died.value.reason.kind == ("exception" if kind is Spoiled else "signal")


class Spoiled(Marked):
    """Takes nothing back."""

    def restore(self, state: Any) -> Any:
        raise LookupError("not that")


class Adding(Actor):
    """A sum, and the number of additions."""

    def __init__(self) -> None:
        self.count = self.sum = 0

    def add(self, number: int) -> None:
        self.count += 1
        self.sum += number

    async def add_async(self, number: int) -> None:
        self.count += 1
        await asyncio.sleep(0)
        self.sum += number

    def totals(self) -> tuple[int, int]:
        return self.count, self.sum

    def snapshot(self) -> Any:
        return self.count, self.sum

    def restore(self, state: Any) -> None:
        self.count, self.sum = state


@pytest.mark.parametrize(("total", "pause"), [(10_000, 0.02), pytest.param(300_000, 0.05, marks=pytest.mark.nightly)])
def test_with_redeliver_ten_thousand_increments_under_kills_are_ten_thousand(
    total: int, pause: float, system: ActorSystem, rng: random.Random
) -> None:
    """Killed at random while they come; each has its effect exactly once, and no one hears of the deaths."""
    letters = system.dead_letters()
    adding = system.spawn(Adding, redeliver=20, backoff=AT_ONCE)
    sent = kills = 0
    while sent < total:
        burst = min(total - sent, rng.randrange(1, 800))
        for _ in range(burst):
            adding.tell(Adding.add_async if sent % 10 == 0 else Adding.add, sent)
            sent += 1
        time.sleep(rng.uniform(0, pause))  # the kill comes at a moment by chance
        kill(until(lambda: adding.info()["pid"], "it has a process"))
        kills += 1
    assert adding.ask(Adding.totals).result(60) == (total, total * (total - 1) // 2)
    assert adding.info()["restarts"] >= min(kills, 5)
    system.close("stop")
    assert list(letters) == []


@pytest.mark.parametrize("kills", [20, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("redeliver", [0, 3])
def test_the_state_is_the_effect_of_what_was_handled_when_the_process_dies_at_random(
    redeliver: int, kills: int, system: ActorSystem, journal: Journal, tmp_path: Path, rng: random.Random
) -> None:
    letters = system.dead_letters()
    run = Run(system.spawn(Marked, journal, Trap(tmp_path), redeliver=redeliver, backoff=AT_ONCE))
    for _ in range(kills):
        run.send(rng.randrange(1, 60))
        time.sleep(rng.uniform(0, 0.01))
        kill(until(lambda: run.target.info()["pid"], "it has a process"))
    run.judge(system, journal, letters, redeliver)


class Large(Actor):
    """A state of megabytes, every byte of which says the same number."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.number, self.state = 0, b""

    def fill(self, number: int, size: int) -> None:
        self.number, self.state = number, bytes([number & 0xFF]) * size

    def last(self) -> int:
        return self.number

    def snapshot(self) -> Any:
        self.journal.write("snapshot", self.number)
        return self.number, self.state

    def restore(self, state: Any) -> None:
        number, body = state
        whole = set(body) <= {number & 0xFF}
        self.journal.write("restored" if whole else "torn", number, len(body))
        self.number, self.state = number, body


@pytest.mark.parametrize("kills", [12, pytest.param(500, marks=pytest.mark.nightly)])
def test_a_large_state_is_whole_after_kills_in_the_middle_of_its_snapshots(
    kills: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """States from 0 to 16 MB, killed at random after a snapshot has begun; each is restored whole, and numbers never go
    back behind what was done."""
    large = system.spawn(Large, journal, redeliver=EVER, backoff=AT_ONCE)
    number = 0
    for _ in range(kills):
        for _ in range(4):
            number += 1
            large.tell(Large.fill, number, rng.choice([0, 1000, 1 << 16, 1 << 20, 16 << 20]))
        journal.until("snapshot", rng.randrange(number - 3, number + 1))
        time.sleep(rng.uniform(0, 0.01))
        kill(until(lambda: large.info()["pid"], "it has a process"))
        assert large.ask(Large.last).result(60) == number
    rows = journal.rows()
    assert not [row for row in rows if row[0] == "torn"]
    restored = [int(row[1]) for row in rows if row[0] == "restored"]
    assert restored == sorted(restored)
    assert len(restored) >= kills // 2


class Wide(Actor):
    """Handlers overlap; its state is what they have done."""

    concurrency = 3

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.seen: list[int] = []

    async def note(self, number: int) -> None:
        self.journal.write("begin", "test", number)
        self.seen.append(number)
        await asyncio.sleep(0 if number % 2 else 0.0005)
        self.seen.append(-number)
        self.journal.write("end", "test", number)

    def state(self) -> list[int]:
        return self.seen

    async def snapshot(self) -> Any:
        before = list(self.seen)
        await asyncio.sleep(0)
        assert before == self.seen, "something was handled meanwhile"
        return before

    def restore(self, state: Any) -> None:
        assert sorted(number for number in state if number > 0) == sorted(-number for number in state if number < 0)
        self.journal.write("restored", len(state))
        self.seen = state


@pytest.mark.parametrize("kills", [15, pytest.param(500, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("redeliver", [0, 3])
def test_a_concurrent_actors_state_holds_whole_messages_once(
    redeliver: int, kills: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """No snapshot has a message in it that was in hand (it would be there half), nor one twice; nothing is lost."""
    letters, events, history, number = system.dead_letters(), system.events(), History(), 0
    wide = system.spawn(Wide, journal, redeliver=redeliver, backoff=AT_ONCE)
    for _ in range(kills):
        for _ in range(rng.randrange(1, 20)):
            number += 1
            wide.tell(Wide.note, number)
            history.sent("test", number)
        time.sleep(rng.uniform(0, 0.02))
        kill(until(lambda: wide.info()["pid"], "it has a process"))
    state = wide.ask(Wide.state).result(60)
    assert len(state) == len(set(state)), "nothing twice"
    until(lambda: wide.info()["mailbox"]["depth"] == 0, "all is handled")
    before = wide.ask(Wide.state).result(60)
    kill(wide.info()["pid"])
    assert wide.ask(Wide.state).result(60) == before, "nothing was in hand, so all of it was in the snapshot"
    system.close("stop")
    for letter in letters:
        history.report("test", letter.message[1][0])
    history.read(journal)
    history.check(redeliver)
    assert {event.reason.kind for event in events if event.kind == "crashed"} == {"signal"}
    assert [row for row in journal.rows() if row[0] == "restored"]

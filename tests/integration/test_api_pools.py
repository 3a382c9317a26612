"""Pools: one reference, many workers."""

from __future__ import annotations

import asyncio
import collections
import os
import pickle
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, BroadcastRef, PoolRef, SpawnError, SpecError
from kit import Gate, Journal, until


class Worker(Actor):
    """Says who it is, and writes down what it does."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal
        self.handled = 0

    def who(self, key: object = None) -> str:
        self.handled += 1
        return self.ref.name

    async def who_later(self, key: object = None) -> str:
        await asyncio.sleep(0)
        return self.ref.name

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return self.ref.name

    def note(self, number: int) -> int:
        assert self.journal is not None
        self.journal.write("did", number, self.ref.name)
        return number

    def fail(self) -> None:
        raise KeyError(self.ref.name)

    def leave(self) -> None:
        self.stop()

    def pid(self) -> int:
        return os.getpid()


class Above(Actor):
    """Has a pool of its own, and uses what it is sent."""

    def start(self) -> PoolRef[Worker]:
        self.mine = self.pool(Worker, size=2, name="mine")
        return self.mine

    async def start_async(self) -> BroadcastRef[Worker]:
        return await self.pool_async(Worker, size=2, routing="broadcast")  # type: ignore[return-value]

    async def use(self, pool: PoolRef[Worker], count: int) -> list[str]:
        return await asyncio.gather(*(pool.ask(Worker.who, n) for n in range(count)))


@pytest.fixture
def pool(spawn: Any, system: ActorSystem, request: pytest.FixtureRequest) -> Any:
    """`system.pool` for pools that end with the test."""
    made: list[PoolRef[Any]] = []

    def pooled(*args: Any, **options: Any) -> PoolRef[Any]:
        made.append(system.pool(*args, **options))
        return made[-1]

    yield pooled
    for ref in made:
        ref.kill()
    for ref in made:
        ref.wait(10)


def short(names: list[str]) -> list[str]:
    return sorted({name.rsplit("/", 1)[1] for name in names})


# --- routing


def test_round_robin_gives_each_member_its_turn(pool: Any) -> None:
    ref = pool(Worker, size=3, routing="round-robin")
    counts = collections.Counter(ref.ask(Worker.who).result() for _ in range(30))
    assert list(counts.values()) == [10, 10, 10]


def test_least_busy_leaves_a_busy_member_in_peace(pool: Any, gate: Gate) -> None:
    ref = pool(Worker, size=3)
    held = ref.ask(Worker.hold, gate)
    names = [ref.ask(Worker.who).result(10) for _ in range(50)]
    gate.open()
    assert held.result(10) not in names
    assert len(set(names)) == 2


def test_least_busy_spreads_a_backlog_evenly(pool: Any, gate: Gate) -> None:
    ref = pool(Worker, size=2)
    gates = [gate, Gate(f"{gate.path}-2")]
    held = [ref.ask(Worker.hold, each) for each in gates]
    queued = [ref.ask(Worker.who) for _ in range(40)]
    depths = [member.info()["mailbox"]["depth"] for member in ref.members()]
    for each in gates:
        each.open()
    assert depths == [21, 21]
    assert collections.Counter(each.result(10) for each in [*held, *queued]).most_common()[0][1] == 21


def test_hash_is_stable_in_every_process_and_moves_few_keys(pool: Any, spawn: Any) -> None:
    ref = pool(Worker, size=4, routing="hash")
    before = {key: ref.ask(Worker.who, key).result(10) for key in range(200)}
    assert {key: ref.ask(Worker.who, key).result(10) for key in range(200)} == before
    assert min(collections.Counter(before.values()).values()) > 20
    other = spawn(Above)
    assert other.ask(Above.use, ref, 200).result(20) == list(before.values())
    ref.resize(5)
    until(lambda: len(ref.members()) == 5, "the new one is ready")
    after = {key: ref.ask(Worker.who, key).result(10) for key in range(200)}
    moved = [key for key in before if after[key] != before[key]]
    assert 0 < len(moved) < 100
    assert {after[key] for key in moved} == {ref.members()[-1].name}
    ref.resize(4)
    assert {key: ref.ask(Worker.who, key).result(10) for key in range(200)} == before


def test_hash_by_a_function_of_the_arguments(pool: Any) -> None:
    ref = pool(Worker, size=4, routing="hash", key=lambda key: key["user"])
    names = {ref.ask(Worker.who, {"user": "ada", "n": n}).result(10) for n in range(20)}
    assert len(names) == 1
    assert len({ref.ask(Worker.who, {"user": str(n)}).result(10) for n in range(50)}) > 1
    by_first = pool(Worker, size=2, routing="hash")
    with pytest.raises(TypeError, match="no argument to route by"):
        by_first.ask(Worker.who)


def test_broadcast_reaches_all_and_answers_with_all_answers(pool: Any, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=3, routing="broadcast")
    assert isinstance(ref, BroadcastRef)
    names = [member.name for member in ref.members()]
    assert ref.ask(Worker.who).result(10) == names
    assert asyncio.run(awaited(ref)) == names
    ref.tell(Worker.note, 7)
    until(lambda: len(journal.lines()) == 3, "all were told")
    assert short([row[2] for row in journal.rows()]) == ["1", "2", "3"]
    with pytest.raises(KeyError, match=names[0]):
        ref.ask(Worker.fail).result(10)
    called: list[Any] = []
    ref.ask(Worker.who).add_done_callback(lambda reply: called.append(reply.result(0)))
    until(lambda: called, "the callback was called")
    assert called == [names]


async def awaited(ref: BroadcastRef[Worker]) -> list[str]:
    return await ref.ask(Worker.who_later)


def test_a_broadcast_can_be_given_up(pool: Any, gate: Gate) -> None:
    ref = pool(Worker, size=2, routing="broadcast")
    reply = ref.ask(Worker.hold, gate)
    with pytest.raises(TimeoutError):
        reply.result(0.05)
    assert reply.cancel() and reply.cancelled()
    until(lambda: all(member.info()["busy_since"] for member in ref.members()), "both are at the gate")
    gate.open()
    assert len(ref.ask(Worker.who).result(10)) == 2


# --- a reference like any other


def test_a_pools_reference_is_an_actors(pool: Any, system: ActorSystem, spawn: Any) -> None:
    ref = pool(Worker, size=2, name="etl/parsers")
    assert isinstance(ref, ActorRef) and ref.name == "etl/parsers"
    assert ref == pickle.loads(pickle.dumps(ref)) and len({ref, pickle.loads(pickle.dumps(ref))}) == 1
    assert [member.name for member in ref.members()] == ["etl/parsers/1", "etl/parsers/2"]
    assert isinstance(pickle.loads(pickle.dumps(ref)), PoolRef)
    info = ref.info()
    assert [child["name"] for child in info["children"]] == ["etl/parsers/1", "etl/parsers/2"]
    assert (info["pool"]["routing"], info["status"]) == ("least-busy", "running")
    found = system.lookup("etl/parsers", Worker)
    assert isinstance(found, PoolRef) and found == ref
    assert found.ask(Worker.who).result(10).startswith("etl/parsers/")
    assert len(set(spawn(Above).ask(Above.use, ref, 20).result(10))) == 2
    with ActorSystem.attach(system.name) as attached:
        assert attached.lookup("etl/parsers", Worker).ask(Worker.who).result(10)


def test_deadlines_async_tells_and_errors_are_as_ever(pool: Any, gate: Gate, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=2)
    with pytest.raises(KeyError):
        ref.ask(Worker.fail).result(10)
    held = ref.ask(Worker.hold, gate)
    other = Gate(f"{gate.path}-2")
    with pytest.raises(TimeoutError):
        ref.using(timeout=0.05).ask(Worker.hold, other).result()
    gate.open()
    held.result(10)
    other.open()
    asyncio.run(tell_async(ref))
    until(lambda: len(journal.lines()) == 20, "all were handled")
    with pytest.raises(AttributeError):
        ref.ask("_private")
    with pytest.raises(TypeError):
        ref.tell(Worker.note, threading.Lock())


async def tell_async(ref: PoolRef[Worker]) -> None:
    for number in range(20):
        await ref.tell_async(Worker.note, number)


def test_an_actor_has_pools_of_its_own(spawn: Any) -> None:
    above = spawn(Above, name="above")
    mine = above.ask(Above.start).result(20)
    assert mine.name == "above/mine" and mine.ask(Worker.who).result(10).startswith("above/mine/")
    assert len(above.ask(Above.start_async).result(20).ask(Worker.who).result(10)) == 2
    above.kill()
    mine.wait(10)
    with pytest.raises(ActorDied):
        mine.ask(Worker.who).result(10)


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": (3, 2)}, {"size": "two"}, {"size": (1, 2, 3)}, {"routing": "random"}, {"key": len}],
    ids=str,
)
def test_senseless_options_are_refused(system: ActorSystem, options: dict[str, Any]) -> None:
    before = system.tree()["children"]
    with pytest.raises(SpecError):
        system.pool(Worker, **options)
    assert system.tree()["children"] == before


def test_a_pool_whose_member_does_not_start_does_not_start(system: ActorSystem) -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise ValueError("no")

    before = len(system.tree()["children"])
    with pytest.raises(SpawnError, match="no"):
        system.pool(Broken, size=2)
    until(lambda: len(system.tree()["children"]) == before, "nothing of it is left")


# --- members


def test_a_killed_member_comes_back_and_its_mail_is_not_lost(pool: Any, gate: Gate) -> None:
    ref = pool(Worker, size=2, routing="round-robin")
    for _ in range(5):
        victim = ref.members()[0].info()["pid"]
        os.kill(victim, signal.SIGKILL)
        replies = [ref.ask(Worker.pid) for _ in range(20)]
        failures = [error for error in (reply.exception(20) for reply in replies) if error is not None]
        assert len(failures) <= 1 and all(isinstance(error, ActorDied) for error in failures)
        until(lambda: ref.members()[0].info()["pid"] not in (victim, None), "it is back")  # noqa: B023
    assert len(ref.members()) == 2


def test_a_member_that_ends_for_good_leaves(pool: Any) -> None:
    ref = pool(Worker, size=3)
    first = ref.members()[0]
    first.ask(Worker.leave).result(10)
    first.wait(10)
    until(lambda: len(ref.members()) == 2, "it has left")
    assert first.name not in {ref.ask(Worker.who).result(10) for _ in range(20)}
    for member in ref.members():
        member.kill()
        member.wait(10)
    with pytest.raises(ActorDied, match="no member"):
        ref.tell(Worker.who)
    ref.resize(2)
    until(lambda: len(ref.members()) == 2, "it has members again")
    assert ref.ask(Worker.who).result(10)


def test_a_stopped_pool_handles_what_it_has_accepted_and_is_gone(pool: Any, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=2)
    for number in range(200):
        ref.tell(Worker.note, number)
    ref.stop()
    assert ref.wait(20).kind in ("shutdown", "normal")
    assert sorted(int(row[1]) for row in journal.rows()) == list(range(200))
    with pytest.raises(ActorDied, match="shut down"):
        ref.tell(Worker.note, 1)
    with pytest.raises(ActorDied):
        ref.ask(Worker.note, 1).result(10)
    with pytest.raises(ActorDied):
        ref.resize(3)
    with pytest.raises(ActorDied):
        ref.members()


def test_shrinking_loses_nothing_that_was_accepted(pool: Any, tmp_path: Path, gate: Gate) -> None:
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=3, routing="round-robin")
    gates = [Gate(f"{gate.path}-{number}") for number in range(3)]
    held = [ref.ask(Worker.hold, each) for each in gates]
    replies = [ref.ask(Worker.note, number) for number in range(30)]
    leaving = ref.members()[1:]
    ref.resize(1)
    assert len(ref.members()) == 1
    assert {ref.ask(Worker.note, 100 + number).position >= 0 for number in range(10)} == {True}
    for each in gates:
        each.open()
    assert len({reply.result(20) for reply in held}) == 3
    assert [reply.result(20) for reply in replies] == list(range(30))
    for member in leaving:
        assert not member.wait(20).abnormal
    until(lambda: len(journal.lines()) == 40, "what came later was handled by the one that stays")
    late = {row[2] for row in journal.rows() if int(row[1]) >= 100}
    assert late == {ref.members()[0].name}


@pytest.mark.parametrize("routing", ["least-busy", "round-robin"])
def test_what_waits_is_shared_with_new_members(pool: Any, tmp_path: Path, gate: Gate, routing: str) -> None:
    """A burst comes before the pool has grown: the new members take their part of it, each in the order of asking."""
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=1, routing=routing)
    held = ref.ask(Worker.hold, gate)
    [first] = ref.members()
    replies = [ref.ask(Worker.note, number) for number in range(41)]
    ref.resize(4)
    until(lambda: len({row[2] for row in journal.rows()}) == 3, "the new ones do what waited at the first")
    gate.open()
    assert held.result(20) == first.name
    assert [reply.result(20) for reply in replies] == list(range(41))
    did: dict[str, list[int]] = {}
    for _, number, name in journal.rows():
        did.setdefault(name, []).append(int(number))
    assert all(numbers == sorted(numbers) for numbers in did.values())
    assert 1 <= len(did[first.name]) <= 20


def test_what_is_routed_by_key_stays_where_it_is(pool: Any, tmp_path: Path, gate: Gate) -> None:
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=1, routing="hash")
    held = ref.ask(Worker.hold, gate)
    [first] = ref.members()
    replies = [ref.ask(Worker.note, number) for number in range(20)]
    ref.resize(3)
    until(lambda: len(ref.members()) == 3, "it has grown")
    gate.open()
    assert held.result(20) == first.name
    assert [reply.result(20) for reply in replies] == list(range(20))
    assert {row[2] for row in journal.rows()} == {first.name}


def test_over_changes_of_size_nothing_is_lost_or_done_twice(
    pool: Any, system: ActorSystem, tmp_path: Path, rng: random.Random
) -> None:
    """Asks of several threads are under way, and some are given up, while members come and go."""
    journal = Journal(tmp_path / "journal")
    ref = pool(Worker, journal, size=1)
    done, given_up = set[int](), set[int]()

    def ask(start: int, chance: random.Random) -> None:
        for first in range(start, start + 600, 40):
            replies = {number: ref.ask(Worker.note, number) for number in range(first, first + 40)}
            for number, reply in replies.items():
                if chance.random() < 0.1 and reply.cancel():
                    given_up.add(number)
                else:
                    done.add(reply.result(30))

    threads = [threading.Thread(target=ask, args=(n * 1000, random.Random(rng.random()))) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ref.resize(rng.randint(1, 4))
    for thread in threads:
        thread.join()
    assert done | given_up == {n * 1000 + number for n in range(3) for number in range(600)}
    noted = [int(row[1]) for row in journal.rows()]
    assert len(noted) == len(set(noted))
    assert done <= set(noted)
    until(lambda: not system._client.endpoint.table, "no ask is open")


def test_a_pool_with_bounds_grows_under_load_and_shrinks_when_idle(pool: Any, gate: Gate) -> None:
    ref = pool(Worker, size=(1, 2))
    assert len(ref.members()) == 1
    gates = [Gate(f"{gate.path}-{number}") for number in range(12)]
    held = [ref.ask(Worker.hold, each) for each in gates]
    until(lambda: len(ref.members()) == 2, "it has grown to its bound")
    for each in gates:
        each.open()
    assert all(reply.result(20) for reply in held)
    until(lambda: len(ref.members()) == 1, "it has shrunk again", 40)
    assert ref.ask(Worker.who).result(10)

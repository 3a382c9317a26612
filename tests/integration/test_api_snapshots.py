"""State over a restart: `snapshot()`, `restore(state)` and `snapshot_every`, as a program sees them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem
from actors.supervision import Backoff, Child, Supervisor
from kit import Gate, Journal, until
from kit.keeper import Counter, Keeper, crash

AT_ONCE = Backoff(0.0, 0.0)
Spawn = Callable[..., ActorRef[Any]]


@pytest.fixture
def counter(spawn: Spawn) -> ActorRef[Counter]:
    return spawn(Counter, backoff=AT_ONCE)


# --- what survives


def test_state_survives_one_kill_after_the_other(counter: ActorRef[Counter]) -> None:
    for number in range(1, 6):
        assert counter.ask(Counter.add).result(10) == number
        crash(counter)
    assert counter.ask(Counter.look).result(10) == 5


@pytest.mark.parametrize("method", ["add", "add_later", "add_by_timer"])
def test_every_way_to_change_state_is_followed_by_a_snapshot(counter: ActorRef[Counter], method: str) -> None:
    counter.tell(method, 7)
    until(lambda: counter.ask(Counter.look).result(10) == 7, "it is handled")
    crash(counter)
    assert counter.ask(Counter.look).result(10) == 7


@dataclasses.dataclass
class Point:
    """Goes by its definition: other processes can't import this module."""

    x: int
    tags: set[str]


class Thing:
    """Goes by pickle."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "state", [None, 0, "", [], {}, (1, (2,)), {1, 2}, {"a": [1.5, None]}, 2**80, Point(1, {"a"}), Thing([Thing(1)])]
)
def test_a_state_comes_back_as_what_it_was(spawn: Spawn, state: Any) -> None:
    keeper = spawn(Keeper, backoff=AT_ONCE)
    keeper.tell(Keeper.put, state)
    crash(keeper)
    found = keeper.ask(Keeper.get).result(10)
    assert (type(found), found) == (type(state), state)


def test_classes_of_a_function_survive_as_well(spawn: Spawn) -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    class Own(Keeper):
        def make(self, x: int) -> None:
            self.state = Local(x)

        def x(self) -> int:
            assert type(self.state) is Local
            return self.state.x

    own = spawn(Own, backoff=AT_ONCE)
    own.tell(Own.make, 5)
    crash(own)
    assert own.ask(Own.x).result(10) == 5


class Arrays(Keeper):
    """Works on in its arrays."""

    def fill(self, size: int) -> None:
        import numpy

        self.state = {"small": numpy.arange(3), "large": numpy.arange(size)}

    def add(self) -> int:
        for array in self.state.values():
            array += 1
        return int(self.state["small"].sum() + self.state["large"][-1])


def test_arrays_of_a_state_can_be_written_to(spawn: Spawn) -> None:
    arrays = spawn(Arrays, backoff=AT_ONCE)
    arrays.tell(Arrays.fill, 100_000)
    crash(arrays)
    assert arrays.ask(Arrays.add).result(10) == 6 + 100_000
    crash(arrays)
    assert arrays.ask(Arrays.add).result(10) == 9 + 100_001


def test_a_snapshot_is_a_copy(spawn: Spawn) -> None:
    """What changes after `snapshot` returned it is not in it."""

    class Growing(Keeper):
        def grow(self) -> None:
            self.state = [1] if self.state == "fresh" else [*self.state, 1]

        def snapshot(self) -> Any:
            given = list(self.state)
            asyncio.get_running_loop().call_soon(given.append, "later")
            return given

    growing = spawn(Growing, backoff=AT_ONCE)
    growing.tell(Growing.grow)
    growing.ask(Growing.grow).result(10)
    crash(growing)
    assert growing.ask(Growing.get).result(10) == [1, 1]


@pytest.mark.parametrize("sizes", [[0, 1 << 10, 1 << 16, 1 << 20, 64 << 20, 1 << 12, 0]])
def test_states_grow_and_shrink(spawn: Spawn, sizes: list[int]) -> None:
    class Sized(Actor):
        def __init__(self) -> None:
            self.state = b""

        def size(self, size: int) -> int:
            self.state = os.urandom(min(size, 64)) * (size // 64) if size >= 64 else b"x" * size
            return len(self.state)

        def look(self) -> tuple[int, bytes]:
            return len(self.state), self.state[-64:]

        def snapshot(self) -> Any:
            return self.state

        def restore(self, state: Any) -> None:
            self.state = state

    sized = spawn(Sized, backoff=AT_ONCE)
    for size in sizes:
        assert sized.ask(Sized.size, size).result(20) == size
        before = sized.ask(Sized.look).result(20)
        crash(sized)
        assert sized.ask(Sized.look).result(20) == before


# --- when it is taken, given back and kept


def test_restore_comes_after_the_constructor_and_before_on_start_and_not_at_the_first_start(
    spawn: Spawn, tmp_path: Path
) -> None:
    class Noting(Counter):
        def __init__(self, journal: Journal) -> None:
            super().__init__()
            self.journal = journal
            journal.write("constructor")

        def on_start(self) -> None:
            self.journal.write("on_start", self.value)

        def restore(self, state: Any) -> None:
            self.journal.write("restore", state["value"], self.ref.name)
            super().restore(state)

    journal = Journal(tmp_path / "journal")
    noting = spawn(Noting, journal, name="noting", backoff=AT_ONCE)
    assert noting.ask(Noting.add, 3).result(10) == 3
    crash(noting)
    assert noting.ask(Noting.look).result(10) == 3
    assert journal.lines() == ["constructor", "on_start 0", "constructor", "restore 3 noting", "on_start 3"]


class Third(Counter):
    snapshot_every = 3


def test_snapshot_every_says_how_many_messages_a_crash_may_take_back(spawn: Spawn) -> None:
    third = spawn(Third, backoff=AT_ONCE)
    for _ in range(7):
        third.tell(Third.add)
    crash(third)
    assert third.ask(Third.look).result(10) == 6


@pytest.mark.parametrize("kind", [Counter, Third])
def test_a_restart_by_hand_takes_nothing_back(spawn: Spawn, kind: type[Counter]) -> None:
    """What no snapshot includes yet is saved before the process leaves."""
    ref = spawn(kind, backoff=AT_ONCE)
    for number in range(1, 6):
        assert ref.ask(Counter.add).result(10) == number
        pid = ref.info()["pid"]
        ref.restart()
        until(lambda: ref.info()["pid"] not in (None, pid), "the next incarnation")  # noqa: B023
    assert ref.ask(Counter.look).result(10) == 5


def test_a_restart_of_the_group_takes_nothing_back(own: ActorSystem) -> None:
    children = [Child(Third, name=name) for name in "ab"]
    etl = own.start(Supervisor(*children, name="etl", strategy="one_for_all", backoff=AT_ONCE))
    first, second = etl["a"], etl["b"]
    for ref in (first, second):
        assert [ref.ask(Third.add).result(10) for _ in range(4)] == [1, 2, 3, 4]
    crash(first)
    assert first.ask(Third.look).result(10) == 3
    assert second.ask(Third.look).result(10) == 4


def test_a_permanent_child_that_stops_itself_goes_on_with_its_state(own: ActorSystem) -> None:
    third = own.start(Supervisor(Child(Third, name="third"), name="etl", backoff=AT_ONCE))["third"]
    assert third.ask(Third.add, 4).result(10) == 4
    third.tell(Third.leave)
    assert third.ask(Third.add).result(10) == 5


def test_a_failed_actor_is_resumed_with_its_state(spawn: Spawn) -> None:
    counter = spawn(Counter, max_restarts=0, backoff=AT_ONCE)
    assert counter.ask(Counter.add, 4).result(10) == 4
    counter.tell(Counter.fail)
    assert "told to" in str(counter.wait(10))
    counter.resume()
    until(lambda: counter.info()["status"] == "running", "it runs again")
    assert counter.ask(Counter.look).result(10) == 4


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_snapshot_ends_with_its_actor(spawn: Spawn, end: str) -> None:
    counter = spawn(Counter, name="ending")
    assert counter.ask(Counter.add, 4).result(10) == 4
    getattr(counter, end)()
    counter.wait(10)
    assert spawn(Counter, name="ending").ask(Counter.look).result(10) == 0


def test_stops_and_starts_leave_no_descriptor_in_the_guardian(own: ActorSystem) -> None:
    def descriptors() -> int:
        links = (os.readlink(f"/proc/{own.guardian_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{own.guardian_pid}/fd"))
        return sum("actors:snapshot" in link for link in links)

    counters = [own.spawn(Counter, backoff=AT_ONCE) for _ in range(3)]
    for counter in counters:
        counter.ask(Counter.add).result(10)
        crash(counter)
        counter.ask(Counter.add).result(10)
    assert descriptors() == 6
    for counter in counters:
        counter.stop()
        counter.wait(10)
    until(lambda: descriptors() == 0, "they are closed")


# --- failing handlers


def test_a_message_that_crashed_the_actor_is_not_in_its_state(counter: ActorRef[Counter]) -> None:
    assert counter.ask(Counter.add, 4).result(10) == 4
    counter.tell(Counter.fail, 100)
    assert counter.ask(Counter.look).result(10) == 4


def test_what_an_ask_did_before_it_raised_stays_as_in_the_living_actor(counter: ActorRef[Counter]) -> None:
    with pytest.raises(ValueError, match="told to"):
        counter.ask(Counter.fail, 4).result(10)
    assert counter.ask(Counter.look).result(10) == 4
    crash(counter)
    assert counter.ask(Counter.look).result(10) == 4


# --- async hooks, overlapping handlers


class AsyncHooks(Counter):
    async def snapshot(self) -> Any:
        before = self.value
        await asyncio.sleep(0.002)
        assert self.value == before, "something was handled meanwhile"
        return {"value": before}

    async def restore(self, state: Any) -> None:
        await asyncio.sleep(0)
        self.value = state["value"]


class WideAsyncHooks(AsyncHooks):
    concurrency = 4


@pytest.mark.parametrize("kind", [AsyncHooks, WideAsyncHooks])
def test_nothing_is_handled_while_an_async_snapshot_is_taken(spawn: Spawn, kind: type[AsyncHooks]) -> None:
    """Sync and async messages, timers' calls: the hook itself would crash the actor."""
    ref = spawn(kind, max_restarts=0)
    total = 0
    for number in range(30):
        ref.tell(("add", "add_later", "add_by_timer")[number % 3], number)
        total += number
    until(lambda: ref.ask(Counter.look).result(10) == total, "all of it")
    info = ref.info()
    assert info["restarts"] == 0
    ref.restart()
    until(lambda: ref.info()["pid"] not in (None, info["pid"]), "the next incarnation")
    assert ref.ask(Counter.look).result(10) == total


class Wide(Counter):
    """Its snapshot tells whether anything was in hand."""

    concurrency = 3

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal, self.open = journal, 0

    async def held(self, gate: Gate) -> None:
        self.open += 1
        await asyncio.to_thread(gate.wait)
        self.open -= 1
        self.value += 1

    def snapshot(self) -> Any:
        self.journal.write("snapshot", self.value, self.open)
        return super().snapshot()


def test_with_concurrency_a_snapshot_is_taken_only_when_nothing_is_in_hand(spawn: Spawn, tmp_path: Path) -> None:
    journal, gate = Journal(tmp_path / "journal"), Gate(tmp_path / "gate")
    wide = spawn(Wide, journal, backoff=AT_ONCE)
    assert wide.ask(Wide.add).result(10) == 1
    held = wide.ask(Wide.held, gate)
    assert [wide.ask(Wide.add).result(10) for _ in range(3)] == [2, 3, 4]
    gate.open()
    held.result(10)
    journal.until("snapshot", 5, 0)
    assert journal.lines() == ["snapshot 1 0", "snapshot 5 0"]
    crash(wide)
    assert wide.ask(Wide.look).result(10) == 5

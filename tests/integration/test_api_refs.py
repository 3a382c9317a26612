"""References: values that name an actor, and the calls that they offer."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, AskTimeout, ExitReason
from actors.supervision import Backoff
from kit import Gate, Journal, system_name, until


class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    async def add_later(self, amount: int) -> int:
        await asyncio.sleep(0)
        return self.add(amount)

    def pid(self) -> int:
        return os.getpid()

    def hold(self, gate: Gate) -> None:
        gate.wait()

    def fail(self) -> None:
        raise ValueError("told to")

    def echo(self, value: Any) -> Any:
        return value

    def leave(self) -> None:
        self.stop()

    def address_of(self, ref: ActorRef[Any]) -> tuple[str, str]:
        return type(ref).__name__, ref.address

    def ask_other(self, ref: ActorRef[Counter], amount: int) -> int:
        return ref.ask(Counter.add, amount).result(5)


# --- values


def test_a_reference_is_immutable(spawn) -> None:
    ref = spawn(Counter)
    for change in (
        lambda: setattr(ref, "name", "other"),
        lambda: setattr(ref, "uid", 7),
        lambda: setattr(ref, "extra", 1),
        lambda: delattr(ref, "name"),
    ):
        with pytest.raises(AttributeError):
            change()
    assert ref.ask(Counter.add, 1).result(5) == 1


def test_references_are_equal_and_hash_alike_if_they_name_the_same_actor(system: ActorSystem, spawn) -> None:
    ref, other = spawn(Counter, name="equal"), spawn(Counter)
    found = system.lookup("equal", Counter)
    assert ref == found
    assert ref is not found
    assert hash(ref) == hash(found)
    assert ref != other
    assert ref != "equal"
    assert {ref: 1}[found] == 1
    assert ref == ref.using(timeout=1.0)


def test_a_reference_is_picklable_and_copyable(spawn) -> None:
    ref = spawn(Counter, 4)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(ref, protocol)) == ref
    for twin in (pickle.loads(pickle.dumps(ref)), copy.copy(ref), copy.deepcopy(ref)):
        assert twin.ask(Counter.add, 1).result(5) > 4


def test_a_reference_is_small(spawn) -> None:
    assert len(pickle.dumps(spawn(Counter))) < 200
    assert not hasattr(spawn(Counter), "__dict__")


def test_a_reference_shows_its_address(system: ActorSystem, spawn) -> None:
    ref = spawn(Counter, name="shown")
    assert ref.address == f"actor://{system.name}/shown"
    assert repr(ref) == f"<ActorRef actor://{system.name}/shown>"


def test_a_reference_goes_in_any_message_and_is_usable_there(spawn) -> None:
    first, second = spawn(Counter), spawn(Counter)
    assert first.ask(Counter.ask_other, second, 5).result(5) == 5
    assert second.ask(Counter.add, 0).result(5) == 5
    nested = {"deep": [second, (first,)]}
    assert first.ask(Counter.echo, nested).result(5) == nested
    assert first.ask(Counter.address_of, second).result(5) == ("ActorRef", second.address)


def test_a_deadline_goes_with_the_reference_that_carries_it(spawn, tmp_path: Path) -> None:
    first, second, gate = spawn(Counter), spawn(Counter), Gate(tmp_path / "gate")
    held = second.ask(Counter.hold, gate)

    class Asker(Actor):
        def ask_it(self, ref: ActorRef[Counter]) -> str:
            try:
                return str(ref.ask(Counter.add, 1).result())
            except AskTimeout:
                return "timeout"

    assert spawn(Asker).ask(Asker.ask_it, second.using(timeout=0.02)).result(5) == "timeout"
    gate.open()
    held.result(5)
    assert first.ask(Counter.add, 1).result(5) == 1


# --- identity over time


def test_a_reference_held_across_a_restart_reaches_the_next_incarnation(spawn) -> None:
    ref = spawn(Counter)
    first = ref.ask(Counter.pid).result(5)
    os.kill(first, signal.SIGKILL)
    assert ref.ask(Counter.pid).result(10) != first
    assert ref.info()["uid"] == ref.uid
    assert ref.info()["incarnation"] == 2


def test_actors_keep_working_with_references_across_a_restart_of_the_other(spawn) -> None:
    first, second = spawn(Counter), spawn(Counter)
    first.ask(Counter.ask_other, second, 1).result(5)
    os.kill(second.ask(Counter.pid).result(5), signal.SIGKILL)
    assert first.ask(Counter.ask_other, second, 1).result(10) == 1


def test_tell_in_backoff_queues(spawn) -> None:
    """The actor is down, its mailbox takes messages; the next incarnation handles them in order."""
    ref = spawn(Counter, backoff=Backoff(60.0, 60.0))
    ref.tell(Counter.fail)  # the first restart is immediate
    until(lambda: ref.info()["restarts"] == 1 and ref.info()["status"] == "running", "it was restarted")
    ref.tell(Counter.fail)
    until(lambda: ref.info()["status"] == "backoff", "it waits for its restart")
    for amount in (1, 2, 3):
        ref.tell(Counter.add, amount)
    asked = ref.ask(Counter.add, 0)
    assert not asked.done()
    assert ref.info()["mailbox"]["depth"] == 4
    ref.restart()  # by hand: at once
    assert asked.result(5) == 6


def test_tell_to_an_actor_that_has_ended_raises_actor_died_with_the_reason(spawn) -> None:
    ref = spawn(Counter, name="gone")
    ref.tell(Counter.leave)
    ref.wait(5)
    with pytest.raises(ActorDied, match=f"{ref.address}: the actor has ended \\(stopped itself\\)") as died:
        ref.tell(Counter.add, 1)
    assert died.value.reason == ExitReason("normal")
    assert not died.value.restarting


def test_tell_async_to_an_actor_that_has_ended_raises_actor_died(spawn) -> None:
    ref = spawn(Counter)
    ref.kill()
    ref.wait(5)
    with pytest.raises(ActorDied, match="SIGKILL"):
        asyncio.run(ref.tell_async(Counter.add, 1))


# --- calls


def test_tell_returns_none_and_loses_nothing(spawn) -> None:
    ref = spawn(Counter)
    assert [ref.tell(Counter.add, 1) for _ in range(1000)] == [None] * 1000
    assert ref.ask(Counter.add, 0).result(5) == 1000


def test_tell_async_does_the_same_in_a_coroutine(spawn) -> None:
    ref = spawn(Counter)

    async def main() -> int:
        for _ in range(100):
            assert await ref.tell_async(Counter.add, 1) is None
        await ref.tell_async("add", 1)
        return await ref.ask(Counter.add, 0)

    assert asyncio.run(main()) == 101


def test_by_name_where_the_class_is_not_at_hand(spawn) -> None:
    ref = spawn(Counter)
    ref.tell("add", 2)
    ref.tell("add", amount=2)
    assert ref.ask("add", amount=1).result(5) == 5
    assert ref.ask("add_later", 1).result(5) == 6


def test_proxy_asks_by_attribute_and_tells_by_tell(spawn) -> None:
    proxy = spawn(Counter).proxy()
    assert proxy.add(5).result(5) == 5
    assert proxy.add.tell(5) is None
    assert proxy.add_later(amount=1).result(5) == 11

    async def main() -> int:
        return await proxy.add(1)

    assert asyncio.run(main()) == 12


def test_proxy_refuses_private_names_as_the_reference_does(spawn) -> None:
    proxy = spawn(Counter).proxy()
    with pytest.raises(AttributeError, match="'_hidden' is private"):
        _ = proxy._hidden
    with pytest.raises(AttributeError, match="'stop' is one of Actor itself"):
        _ = proxy.stop
    assert not hasattr(proxy, "__len__")
    assert "Proxy" in repr(proxy)


# --- stop, kill, wait


def test_stop_handles_what_was_accepted_then_on_stop(spawn, tmp_path: Path) -> None:
    class Orderly(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def hold(self, gate: Gate) -> None:
            gate.wait()

        def note(self, number: int) -> None:
            self.journal.write(number)

        def on_stop(self, reason: ExitReason) -> None:
            self.journal.write(reason.kind)

    journal, gate = Journal(tmp_path / "journal"), Gate(tmp_path / "gate")
    ref = spawn(Orderly, journal)
    held = ref.ask(Orderly.hold, gate)
    for number in range(50):
        ref.tell(Orderly.note, number)
    last = ref.ask(Orderly.note, 50)
    ref.stop()
    gate.open()
    assert held.result(5) is None
    assert last.result(5) is None
    assert ref.wait(5) == ExitReason("shutdown")
    assert journal.lines() == [*map(str, range(51)), "shutdown"]


def test_stop_closes_the_mailbox_at_once(spawn, tmp_path: Path) -> None:
    ref, gate = spawn(Counter), Gate(tmp_path / "gate")
    held = ref.ask(Counter.hold, gate)
    ref.stop()
    until(lambda: ref.info()["status"] == "stopping", "it stops")
    with pytest.raises(ActorDied, match=f"{ref.address}: the actor has ended \\(shut down\\)"):
        ref.tell(Counter.add, 1)
    with pytest.raises(ActorDied) as died:
        ref.ask(Counter.add, 1).result(5)
    assert died.value.reason == ExitReason("shutdown")
    gate.open()
    held.result(5)
    ref.wait(5)


def test_kill_ends_it_at_once_and_leftovers_become_actor_died_and_dead_letters(
    own: ActorSystem, tmp_path: Path
) -> None:
    letters = own.dead_letters()
    gate = Gate(tmp_path / "gate")
    ref = own.spawn(Counter)
    held = ref.ask(Counter.hold, gate)
    told = [ref.tell(Counter.add, number) for number in (1, 2)]
    queued = ref.ask(Counter.add, 3)
    ref.kill()
    assert ref.wait(5) == ExitReason("signal", signal=signal.SIGKILL)
    assert told == [None, None]
    for reply in (held, queued):
        with pytest.raises(ActorDied) as died:
            reply.result(5)
        assert not died.value.restarting
        assert died.value.reason == ExitReason("signal", signal=signal.SIGKILL)
        assert ref.address in str(died.value)
    got = [letters.get(5) for _ in range(2)]
    assert [(letter.message, letter.target) for letter in got] == [(("add", (1,), {}), ref), (("add", (2,), {}), ref)]


def test_neither_stop_nor_kill_restarts(spawn) -> None:
    for end in (ActorRef.stop, ActorRef.kill):
        ref = spawn(Counter, restart="permanent")
        end(ref)
        ref.wait(5)
        with pytest.raises(ActorsError):
            ref.info()


def test_self_stop_ends_after_this_message_and_leftovers_are_reported(own: ActorSystem, tmp_path: Path) -> None:
    class Leaver(Counter):
        def hold_and_leave(self, gate: Gate) -> str:
            gate.wait()
            self.stop()
            return "left"

    letters, gate = own.dead_letters(), Gate(tmp_path / "gate")
    ref = own.spawn(Leaver)
    leaving = ref.ask(Leaver.hold_and_leave, gate)
    ref.tell(Counter.add, 1)
    queued = ref.ask(Counter.add, 2)
    gate.open()
    assert leaving.result(5) == "left"
    assert ref.wait(5) == ExitReason("normal")
    with pytest.raises(ActorDied) as died:
        queued.result(5)
    assert died.value.reason == ExitReason("normal")
    assert letters.get(5).message == ("add", (1,), {})


def test_wait_blocks_until_it_has_ended_for_good_not_until_a_restart(spawn) -> None:
    ref = spawn(Counter)
    ref.tell(Counter.fail)
    with pytest.raises(AskTimeout, match=f"{ref.address} has not ended within 0.05 s") as timeout:
        ref.wait(0.05)
    assert isinstance(timeout.value, TimeoutError)
    ref.stop()
    assert ref.wait(5).kind == "shutdown"
    assert ref.wait(5).kind == "shutdown"  # also afterwards


def test_wait_many_times_with_a_timeout_leaves_nothing_open(system: ActorSystem, spawn) -> None:
    ref = spawn(Counter)
    before = len(system._client.endpoint.table)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            ref.wait(0)
    assert len(system._client.endpoint.table) == before


def test_wait_async_waits_in_a_coroutine(spawn) -> None:
    ref = spawn(Counter)

    async def main() -> ExitReason:
        waiting = asyncio.ensure_future(ref.wait_async())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref.wait_async(), 0.02)
        assert not waiting.done()
        ref.stop()
        return await waiting

    assert asyncio.run(main()).kind == "shutdown"


def test_actors_can_stop_kill_wait_for_and_inform_themselves_of_others(spawn) -> None:
    class Boss(Actor):
        def info_of(self, ref: ActorRef[Any]) -> dict[str, Any]:
            return ref.info()

        def end(self, ref: ActorRef[Any]) -> ExitReason:
            ref.stop()
            return ref.wait(5)

        async def end_async(self, ref: ActorRef[Any]) -> ExitReason:
            ref.kill()
            return await ref.wait_async()

    boss, first, second = spawn(Boss), spawn(Counter), spawn(Counter)
    assert boss.ask(Boss.info_of, first).result(5)["status"] == "running"
    assert boss.ask(Boss.end, first).result(5).kind == "shutdown"
    assert boss.ask(Boss.end_async, second).result(5).signal == signal.SIGKILL


def test_info_is_the_actors_part_of_the_tree(spawn) -> None:
    ref = spawn(Counter)
    ref.ask(Counter.add, 1).result(5)
    info = ref.info()
    assert {
        "name", "address", "pid", "status", "incarnation", "restarts", "mailbox", "handled", "busy_since", "children",
    } <= set(info)  # fmt: skip
    assert info["name"] == ref.name
    assert info["address"] == ref.address
    assert info["pid"] == ref.ask(Counter.pid).result(5)
    assert info["status"] == "running"
    assert (info["incarnation"], info["restarts"], info["children"]) == (1, 0, [])


def test_info_counts_what_waits_and_since_when_it_is_busy(spawn, tmp_path: Path) -> None:
    gate, journal = Gate(tmp_path / "gate"), Journal(tmp_path / "journal")

    class Busy(Actor):
        def hold(self, gate: Gate, journal: Journal) -> None:
            journal.write("in hand")
            gate.wait()

        def nothing(self) -> None:
            pass

    ref = spawn(Busy)
    held = ref.ask(Busy.hold, gate, journal)
    journal.until("in hand")
    for _ in range(3):
        ref.tell(Busy.nothing)
    info = ref.info()
    assert info["busy_since"] is not None
    assert info["mailbox"]["depth"] == 4  # the one in hand and three that wait
    assert info["mailbox"]["bytes"] > 0
    gate.open()
    held.result(5)
    ref.ask(Busy.nothing).result(5)
    info = until(lambda: (now := ref.info())["busy_since"] is None and now, "it is idle again")
    assert info["mailbox"] == {"depth": 0, "bytes": 0}
    assert info["handled"] == 5


def test_info_of_an_ended_actor_says_why_it_ended(spawn) -> None:
    ref = spawn(Counter, name="informed")
    ref.stop()
    ref.wait(5)
    with pytest.raises(ActorDied, match=f"{ref.address}: the actor has ended \\(shut down\\)"):
        ref.info()


def test_a_reference_of_another_system_says_how_to_reach_it(leak_guard) -> None:
    with ActorSystem(system_name("other")) as other:
        packed = pickle.dumps(other.spawn(Counter, name="there"))
        name = other.name
    ref = pickle.loads(packed)
    with pytest.raises(ActorsError, match=f"not connected to system '{name}'.*ActorSystem.attach"):
        ref.tell(Counter.add, 1)


def test_calls_after_the_system_is_closed_say_so(leak_guard) -> None:
    with ActorSystem(system_name("closed")) as closed:
        ref = closed.spawn(Counter)
    for call in (
        lambda: ref.tell(Counter.add, 1),
        lambda: ref.ask(Counter.add, 1).result(5),
        lambda: ref.wait(5),
        lambda: ref.stop(),
        lambda: ref.info(),
        lambda: closed.spawn(Counter),
        lambda: closed.lookup("x"),
        lambda: closed.tree(),
        lambda: closed.events(),
    ):
        with pytest.raises(ActorsError, match=f"system '{closed.name}' is (closed|gone)"):
            call()

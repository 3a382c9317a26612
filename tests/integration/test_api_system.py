"""Systems: their names, their ends, several at once."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, ExitReason, SpecError
from kit import Gate, Journal, LeakGuard, Script, alive, system_name, until


class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

    def hang(self, journal: Journal) -> None:
        journal.write("hanging")
        time.sleep(3600)

    def note(self, journal: Journal, number: int) -> None:
        journal.write(number)

    def pid(self) -> int:
        return os.getpid()


class Parting(Actor):
    """Writes down when it stops."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.journal, self.me = journal, name

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write(self.me, reason.kind)


@pytest.fixture(autouse=True)
def nothing_is_left(leak_guard: LeakGuard) -> LeakGuard:
    return leak_guard


# --- names


def test_a_system_without_a_name_gets_one_of_its_own() -> None:
    with ActorSystem() as first, ActorSystem() as second:
        assert first.name != second.name
        with ActorSystem.attach(first.name) as guest:
            assert guest.name == first.name


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 65, "ä", 7])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(SpecError, match="system name"):
        ActorSystem(name)
    with pytest.raises(SpecError, match="system name"):
        ActorSystem.attach(name)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"log_level": "loud"}, "log_level 'loud': use one of debug, info"),
        ({"ask_timeout": 0}, "ask_timeout 0"),
        ({"ask_timeout": -1}, "ask_timeout -1"),
    ],
)
def test_options_of_a_system_that_make_no_sense_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        ActorSystem(**options)


def test_a_second_system_of_a_name_is_refused_with_the_pid_of_the_first() -> None:
    """Both pids: the program's, whom a user knows, and the guardian's, which `ps` shows."""
    with ActorSystem(system_name()) as first:
        with pytest.raises(ActorsError, match=f"system '{first.name}' runs already") as error:
            ActorSystem(first.name)
        assert f"program {os.getpid()}" in str(error.value)
        assert f"guardian {first.guardian_pid}" in str(error.value)
        assert first.spawn(Counter).ask(Counter.add, 1).result(5) == 1


def test_a_second_system_of_a_name_is_refused_from_another_program_too() -> None:
    with (
        ActorSystem(system_name()) as first,
        Script(
            """
        import sys
        from actors import ActorSystem, ActorsError
        try:
            ActorSystem(sys.argv[1])
        except ActorsError as error:
            print("refused", error)
        """,
            first.name,
        ) as script,
    ):
        assert str(os.getpid()) in script.expect("refused")


def test_a_name_is_free_again_when_its_system_has_ended() -> None:
    name = system_name()
    for number in range(3):
        with ActorSystem(name) as system:
            assert system.spawn(Counter, number).ask(Counter.add, 1).result(5) == number + 1


def test_repr_shows_name_and_end() -> None:
    with ActorSystem(system_name()) as system:
        assert repr(system) == f"<ActorSystem '{system.name}'>"
    assert repr(system) == f"<ActorSystem '{system.name}' closed>"


# --- the end


def test_leaving_with_handles_what_was_accepted(journal: Journal) -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter)
        for number in range(200):
            counter.tell(Counter.note, journal, number)
    assert journal.lines() == [str(number) for number in range(200)]


def test_leaving_with_handles_what_was_accepted_however_long_that_takes(journal: Journal) -> None:
    """Longer than the shutdown time."""

    class Slow(Actor):
        def work(self, journal: Journal, number: int) -> None:
            time.sleep(0.02)
            journal.write(number)

    with ActorSystem(system_name()) as system:
        slow = system.spawn(Slow, shutdown=0.01)
        for number in range(10):
            slow.tell(Slow.work, journal, number)
    assert journal.lines() == [str(number) for number in range(10)]


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000, 5_000_000])
def test_answers_can_be_read_after_the_end_as_an_executors_can(size: int) -> None:
    class Maker(Actor):
        def make(self, size: int) -> bytes:
            return bytes(size)

    with ActorSystem(system_name()) as system:
        maker = system.spawn(Maker)
        replies = [maker.ask(Maker.make, size) for _ in range(10)]
    assert [len(reply.result(0)) for reply in replies] == [size] * 10


def test_large_answers_are_not_lost_when_the_program_is_slow_to_collect_them() -> None:
    """The guardian outlives the last actor until the program has taken hold of them: its reader is kept busy meanwhile."""

    class Maker(Actor):
        def make(self, size: int) -> bytes:
            return bytes(size)

        def pid(self) -> int:
            return os.getpid()

    with ActorSystem(system_name()) as system:
        maker = system.spawn(Maker)
        pid = maker.ask(Maker.pid).result(10)

        def dally(_: object) -> None:
            until(lambda: not alive(pid), "the maker has ended", 20.0)
            time.sleep(0.2)  # long after the guardian would have gone, which can't be seen from here

        replies = [maker.ask(Maker.make, 1_000_000)]
        replies[0].add_done_callback(dally)  # by the reader
        replies += [maker.ask(Maker.make, 1_000_000 + number) for number in (1, 2)]
    assert [len(reply.result(0)) for reply in replies] == [1_000_000, 1_000_001, 1_000_002]


def test_leaving_with_by_an_exception_applies_the_shutdown_times(journal: Journal) -> None:
    with pytest.raises(RuntimeError, match="in the block"), ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, shutdown=0.05)
        counter.tell(Counter.hang, journal)
        journal.until("hanging")
        raise RuntimeError("in the block")


def test_on_stop_runs_in_reverse_order(journal: Journal) -> None:
    with ActorSystem(system_name()) as system:
        for name in ("a", "b", "c"):
            system.spawn(Parting, journal, name)
    assert journal.lines() == ["c shutdown", "b shutdown", "a shutdown"]


def test_close_where_with_does_not_fit_and_twice_is_harmless(journal: Journal) -> None:
    system = ActorSystem(system_name())
    counter = system.spawn(Counter)
    counter.tell(Counter.note, journal, 1)
    system.close()
    system.close()
    assert journal.lines() == ["1"]
    with pytest.raises(ActorsError, match="is closed"), system:
        pass


def test_close_from_several_threads_at_once() -> None:
    system = ActorSystem(system_name())
    system.spawn(Counter)
    threads = [threading.Thread(target=system.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def test_close_from_a_monitors_callback(journal: Journal) -> None:
    system = ActorSystem(system_name())
    counter = system.spawn(Counter)
    closed = threading.Event()

    def close(down: Any) -> None:
        system.close()
        closed.set()

    counter.monitor(close)
    counter.stop()
    assert closed.wait(10)
    until(lambda: not any("reader" in thread.name for thread in threading.enumerate()), "the reader has ended")


def test_pending_asks_end_when_the_system_is_closed(tmp_path: Path) -> None:
    system = ActorSystem(system_name())
    reply = system.spawn(Counter).ask(Counter.hold, Gate(tmp_path / "gate"))
    system.close("kill")
    with pytest.raises(ActorDied):
        reply.result(5)


def test_async_with_and_aclose(journal: Journal) -> None:
    async def main() -> None:
        async with ActorSystem(system_name()) as system:
            counter = await system.spawn_async(Counter, 10)
            assert await counter.ask(Counter.add, 1) == 11
            counter.tell(Counter.note, journal, 1)
        await system.aclose()  # harmless
        other = ActorSystem(system_name())
        other.spawn(Counter).tell(Counter.note, journal, 2)
        await other.aclose()
        await other.aclose()

    asyncio.run(main())
    assert journal.lines() == ["1", "2"]


def test_aclose_lets_the_loop_run_while_it_drains(tmp_path: Path) -> None:
    async def main() -> str:
        gate = Gate(tmp_path / "gate")
        async with ActorSystem(system_name()) as system:
            reply = system.spawn(Counter).ask(Counter.hold, gate)
            opening = asyncio.ensure_future(asyncio.to_thread(gate.open))
        await opening
        return await reply

    assert asyncio.run(main()) == "held"


def test_a_cancelled_aclose_goes_on_with_the_shutdown_times(journal: Journal) -> None:
    async def main() -> None:
        system = ActorSystem(system_name())
        system.spawn(Counter, shutdown=0.05).tell(Counter.hang, journal)
        journal.until("hanging")
        closing = asyncio.ensure_future(system.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()  # draining
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ActorsError, match="closed"):
            system.tree()

    asyncio.run(main())


def test_async_with_left_by_an_exception_applies_the_shutdown_times(journal: Journal) -> None:
    async def main() -> None:
        async with ActorSystem(system_name()) as system:
            system.spawn(Counter, shutdown=0.05).tell(Counter.hang, journal)
            await asyncio.to_thread(journal.until, "hanging")
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        asyncio.run(main())


def test_a_system_that_nobody_closes_ends_with_its_program() -> None:
    with Script("""
        from actors import Actor, ActorSystem
        class Idle(Actor):
            pass
        system = ActorSystem()
        print("guardian", system.guardian_pid)
        print("actor", system.spawn(Idle).info()["pid"])
    """) as script:
        pids = [int(script.expect(word)) for word in ("guardian", "actor")]
        assert script.process.wait(20) == 0
    until(lambda: not any(alive(pid) for pid in pids), "all are gone")


def test_an_actor_cannot_close_the_system_that_it_lives_in() -> None:
    class Rebel(Actor):
        def close(self) -> None:
            self.system.close()

    with ActorSystem(system_name()) as system:
        rebel = system.spawn(Rebel)
        with pytest.raises(ActorsError, match=r"an actor can't close the system that it lives in; use self\.stop"):
            rebel.ask(Rebel.close).result(5)


def test_the_library_starts_one_thread_and_installs_no_signal_handler() -> None:
    before = (
        threading.active_count(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    )
    with ActorSystem(system_name()) as system:
        system.spawn(Counter).ask(Counter.add, 1).result(5)
        assert threading.active_count() <= before[0] + 1
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before[1]
    assert threading.active_count() == before[0]


def test_ctrl_c_while_the_system_closes_goes_one_step_further_and_is_raised_when_all_is_done() -> None:
    with Script("""
        import time
        from actors import Actor, ActorSystem
        class Busy(Actor):
            def hang(self):
                print("hanging", flush=True)
                time.sleep(3600)
        try:
            with ActorSystem() as system:
                system.spawn(Busy, shutdown=0.1).tell(Busy.hang)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """) as script:
        script.expect("hanging")
        time.sleep(0.1)  # by now it drains, which would take for ever
        script.interrupt()
        script.expect("interrupted")
        assert script.process.wait(20) == 0


# --- several systems


def test_nested_systems_in_one_program_do_not_mix() -> None:
    with ActorSystem(system_name()) as outer:
        first = outer.spawn(Counter, 10, name="counter")
        with ActorSystem(system_name()) as inner:
            second = inner.spawn(Counter, 20, name="counter")
            assert first != second
            assert first.ask(Counter.add, 1).result(5) == 11
            assert second.ask(Counter.add, 1).result(5) == 21
            assert inner.lookup("counter") == second
            assert outer.lookup("counter") == first
        assert first.ask(Counter.add, 1).result(5) == 12
        with pytest.raises(ActorsError, match="closed"):
            second.tell(Counter.add, 1)


def test_a_reference_of_another_system_can_be_carried_but_not_used_by_an_actor() -> None:
    class Carrier(Actor):
        def carry(self, ref: ActorRef[Any]) -> ActorRef[Any]:
            return ref

        def use(self, ref: ActorRef[Counter]) -> int:
            return ref.ask(Counter.add, 1).result(5)

    with ActorSystem(system_name()) as outer, ActorSystem(system_name()) as inner:
        counter, carrier = outer.spawn(Counter), inner.spawn(Carrier)
        assert carrier.ask(Carrier.carry, counter).result(5) == counter
        assert carrier.ask(Carrier.carry, counter).result(5).ask(Counter.add, 1).result(5) == 1
        with pytest.raises(ActorsError, match=f"not connected to system '{outer.name}'"):
            carrier.ask(Carrier.use, counter).result(5)


def test_many_systems_one_after_the_other() -> None:
    for _ in range(4):
        with ActorSystem(system_name()) as system:
            assert system.spawn(Counter).ask(Counter.add, 1).result(5) == 1


def test_a_system_is_freed_when_it_is_closed() -> None:
    import weakref

    system = ActorSystem(system_name())
    system.spawn(Counter).ask(Counter.add, 1).result(5)
    system.close()
    gone = weakref.ref(system)
    del system
    gc.collect()
    assert gone() is None


# --- the tree


def test_tree_is_the_system_as_data() -> None:
    class Parent(Actor):
        def on_start(self) -> None:
            self.child = self.spawn(Counter, name="child")

    with ActorSystem(system_name()) as system:
        parent = system.spawn(Parent, name="parent")
        tree = system.tree()
        assert (tree["system"], tree["pid"]) == (system.name, system.guardian_pid)
        (top,) = tree["children"]
        assert top == parent.info()
        (child,) = top["children"]
        assert (child["name"], child["status"], child["restarts"]) == ("parent/child", "running", 0)
        assert child["address"] == f"actor://{system.name}/parent/child"
        assert alive(child["pid"])


@pytest.mark.usefixtures("leak_guard")
def test_a_guardian_that_ends_at_once_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it has ended before it is sent its configuration, or after."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in range(20):
        with pytest.raises(ActorsError, match="its guardian did not start"):
            ActorSystem(system_name("never"))

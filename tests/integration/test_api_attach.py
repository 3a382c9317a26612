"""How other programs and forked children join a system."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorNotFound, ActorsError, ActorSystem
from kit import Gate, LeakGuard, Script, system_name, until


@pytest.fixture(autouse=True)
def nothing_is_left(leak_guard: LeakGuard) -> LeakGuard:
    return leak_guard


class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

    def pid(self) -> int:
        return os.getpid()


# --- attach


def test_attach_joins_a_running_system_from_another_program() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, 5, name="counter")
        with Script(
            """
            import sys
            from actors import Actor, ActorSystem
            class Guest(Actor):
                def hello(self):
                    return "hello from a guest"
            system = ActorSystem.attach(sys.argv[1])
            counter = system.lookup("counter")
            print("asked", counter.ask("add", 1).result(10))
            print("spawned", system.spawn(Guest, name="guest").ask(Guest.hello).result(10))
            system.close()
            system.close()
            print("left")
            """,
            system.name,
        ) as script:
            assert script.expect("asked") == "6"
            assert script.expect("spawned") == "hello from a guest"
            script.expect("left")
        assert counter.ask(Counter.add, 1).result(5) == 7  # the system goes on
        assert system.lookup("guest").ask("hello").result(5) == "hello from a guest"


def test_attach_to_what_does_not_run_says_so() -> None:
    with pytest.raises(ActorNotFound, match="no system 'nobody-here' of this user runs"):
        ActorSystem.attach("nobody-here")


def test_attach_as_a_context_manager_and_async() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, name="counter")
        with ActorSystem.attach(system.name) as guest:
            assert guest.lookup("counter", Counter).ask(Counter.add, 1).result(5) == 1

        async def main() -> int:
            async with ActorSystem.attach(system.name) as guest:
                return await guest.lookup("counter", Counter).ask(Counter.add, 1)

        assert asyncio.run(main()) == 2
        assert counter.ask(Counter.add, 1).result(5) == 3


def test_attaching_in_the_program_itself_disturbs_nobody() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, name="counter")
        guests = [ActorSystem.attach(system.name) for _ in range(3)]
        assert [guest.lookup("counter", Counter).ask(Counter.add, 1).result(5) for guest in guests] == [1, 2, 3]
        guests[0].close()
        assert counter.ask(Counter.add, 1).result(5) == 4
        assert system.spawn(Counter, 1).ask(Counter.add, 1).result(5) == 2
        assert guests[1].lookup("counter", Counter).ask(Counter.add, 1).result(5) == 5
        guests[2].close()
        assert system.lookup("counter", Counter).ask(Counter.add, 1).result(5) == 6
        guests[1].close()
        guests[1].close()
        assert counter.ask(Counter.add, 1).result(5) == 7


def test_guests_of_one_program_share_their_connection_until_the_last_has_left() -> None:
    with ActorSystem(system_name()) as system:
        system.spawn(Counter, name="counter")
        with Script(
            """
            import sys, threading
            from actors import ActorSystem
            first, second = [ActorSystem.attach(sys.argv[1]) for _ in range(2)]
            mine, yours = first.lookup("counter"), second.lookup("counter")
            print("equal", mine == yours)
            first.close()
            first.close()
            print("still", mine.ask("add", 1).result(10), yours.ask("add", 1).result(10))
            second.close()
            try:
                mine.ask("add", 1)
            except Exception as error:
                print("error", error)
            print("threads", threading.active_count())
            third = ActorSystem.attach(sys.argv[1])
            print("again", third.lookup("counter").ask("add", 1).result(10))
            """,
            system.name,
        ) as script:
            assert script.expect("equal") == "True"
            assert script.expect("still") == "1 2"
            assert f"system '{system.name}' is closed" in script.expect("error")
            assert script.expect("threads") == "1"
            assert script.expect("again") == "3"


def test_streams_of_guests_and_owner_all_hear() -> None:
    with ActorSystem(system_name()) as system, ActorSystem.attach(system.name) as guest:
        streams = [system.events(), guest.events(), guest.events()]
        system.spawn(Counter)
        assert [stream.get(5).kind for stream in streams] == ["started"] * 3
        streams[1].close()
        system.spawn(Counter)
        assert [streams[0].get(5).kind, streams[2].get(5).kind] == ["started"] * 2
        assert list(streams[1]) == []


def test_a_guest_hears_that_the_system_has_ended(tmp_path: Path) -> None:
    system = ActorSystem(system_name())
    counter = system.spawn(Counter, name="counter")
    with Script(
        """
        import sys
        sys.path.append(sys.argv[3])
        from actors import ActorDied, ActorSystem, SystemDied
        from kit import Gate
        guest = ActorSystem.attach(sys.argv[1])
        events = guest.events()
        reply = guest.lookup("counter").ask("hold", Gate(sys.argv[2]))
        print("asked")
        try:
            reply.result(20)
        except ActorDied as error:
            print("reply", error)
        print("events", [event.kind for event in events])
        try:
            guest.tree()
        except SystemDied as error:
            print("tree", error)
        guest.close()
        print("left")
        """,
        system.name,
        tmp_path / "gate",
        Path(__file__).parents[1],
    ) as script:
        script.expect("asked")
        until(lambda: counter.info()["busy_since"], "it is in hand")
        system.close("kill")
        assert counter.address in script.expect("reply")
        assert "stopped" in script.expect("events")
        assert f"system '{system.name}' is gone" in script.expect("tree")
        script.expect("left")


def test_a_guest_that_is_killed_disturbs_nobody() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, name="counter")
        with Script(
            """
            import sys, time
            from actors import ActorSystem
            system = ActorSystem.attach(sys.argv[1])
            counter = system.lookup("counter")
            for _ in range(100):
                counter.tell("add", 1)
            print("told")
            time.sleep(60)
            """,
            system.name,
        ) as script:
            script.expect("told")
            script.kill()
        assert counter.ask(Counter.add, 0).result(5) == 100


# --- forks


def child_result(work: Callable[[], Any]) -> Any:
    """Do it in a forked child; what it returned, or the error that it raised."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            sending.send(work())
        except BaseException as error:
            sending.send(error)
        finally:
            os._exit(0)
    try:
        assert receiving.poll(20), "the child says nothing"
        return receiving.recv()
    finally:
        os.waitpid(pid, 0)
        receiving.close()
        sending.close()


def test_a_forked_child_is_outside_the_system_until_it_attaches() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, 10)
        assert counter.ask(Counter.add, 1).result(5) == 11

        def before() -> str:
            texts = []
            for call in (
                lambda: counter.tell(Counter.add, 1),
                lambda: counter.ask(Counter.add, 1).result(5),
                lambda: system.spawn(Counter),
                lambda: counter.info(),
            ):
                try:
                    call()
                    texts.append("it worked")
                except ActorsError as error:
                    texts.append(str(error))
            return "\n".join(texts)

        said = child_result(before)
        assert said.count("forked from a program of system") == 4
        assert said.count(f"ActorSystem.attach('{system.name}')") == 4
        assert counter.ask(Counter.add, 1).result(5) == 12


def test_inherited_references_work_after_attach() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, 10)

        def after() -> list[int]:
            joined = ActorSystem.attach(system.name)
            got = [counter.ask(Counter.add, 1).result(10), joined.spawn(Counter, 5).ask(Counter.add, 1).result(10)]
            joined.close()
            return got

        assert child_result(after) == [11, 6]
        assert child_result(after) == [12, 6]
        assert counter.ask(Counter.add, 1).result(5) == 13


def test_closing_an_inherited_system_in_the_child_leaves_it_alone() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, 10)
        assert child_result(lambda: system.close()) is None
        assert counter.ask(Counter.add, 1).result(5) == 11


def test_a_forked_child_may_start_a_system_of_its_own() -> None:
    with ActorSystem(system_name()) as system:
        counter = system.spawn(Counter, 10)

        def own() -> int:
            with ActorSystem() as other:
                return other.spawn(Counter, 1).ask(Counter.add, 1).result(10)

        assert child_result(own) == 2
        assert counter.ask(Counter.add, 1).result(5) == 11

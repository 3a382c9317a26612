"""Spawning: readiness, names, options and what is said when it fails."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Actor,
    ActorDied,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorSystem,
    CodecError,
    ExitReason,
    MailboxOptions,
    SpawnError,
    SpecError,
)
from actors.supervision import Backoff
from kit import Gate, Journal, Script, until


class Plain(Actor):
    def hello(self) -> str:
        return "hello"

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError("told to")

    def hold(self, gate: Gate) -> None:
        gate.wait()


class BadConstructor(Actor):
    def __init__(self, text: str) -> None:
        raise RuntimeError(f"constructor failed: {text}")


class BadStart(Actor):
    def on_start(self) -> None:
        raise RuntimeError("on_start failed")


class BadAsyncStart(Actor):
    async def on_start(self) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("async on_start failed")


class Exits(Actor):
    def __init__(self, how: str) -> None:
        if how == "exit":
            raise SystemExit(3)
        if how == "kill":
            os.kill(os.getpid(), 9)


# --- readiness


def test_spawn_gives_a_reference_of_the_actor(system: ActorSystem, spawn) -> None:
    plain = spawn(Plain, name="plain")
    assert isinstance(plain, ActorRef)
    assert (plain.name, plain.address) == ("plain", f"actor://{system.name}/plain")
    assert plain.ask(Plain.hello).result(5) == "hello"


def in_loop(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def test_spawn_async_lets_the_event_loop_run_meanwhile(system: ActorSystem, tmp_path: Path) -> None:
    class Slow(Plain):
        def __init__(self, gate: Gate) -> None:
            gate.wait()

    async def main() -> str:
        gate = Gate(tmp_path / "gate")
        spawning = asyncio.ensure_future(system.spawn_async(Slow, gate, name="slow-start"))
        await asyncio.to_thread(gate.open)  # this could not be reached if the loop were blocked
        slow = await spawning
        try:
            return await slow.ask(Plain.hello)
        finally:
            slow.kill()
            await slow.wait_async()

    assert in_loop(main) == "hello"


def test_cancelling_spawn_async_leaves_no_actor(system: ActorSystem, tmp_path: Path) -> None:
    class Slow(Plain):
        def __init__(self, journal: Journal) -> None:
            journal.write("constructing")
            time.sleep(60)

    journal = Journal(tmp_path / "journal")

    async def main() -> None:
        spawning = asyncio.ensure_future(system.spawn_async(Slow, journal, name="unwanted"))
        await asyncio.to_thread(journal.until, "constructing")
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning

    in_loop(main)
    until(lambda: "unwanted" not in {each["name"] for each in system.tree()["children"]}, "it is gone")


def test_spawn_in_a_coroutine_blocks_and_works(spawn) -> None:
    """As in a notebook's cell, whose loop runs: blocking is allowed where nothing depends on it."""

    async def main() -> str:
        return await spawn(Plain).ask(Plain.hello)

    assert in_loop(main) == "hello"


# --- failing to start


@pytest.mark.parametrize(
    ("factory", "args", "text"),
    [
        (BadConstructor, ("why",), "RuntimeError: constructor failed: why"),
        (BadStart, (), "RuntimeError: on_start failed"),
        (BadAsyncStart, (), "RuntimeError: async on_start failed"),
    ],
)
def test_a_start_that_raises_is_a_spawn_error_with_the_childs_traceback(
    system: ActorSystem, factory: Any, args: Any, text: str
) -> None:
    with pytest.raises(SpawnError) as error:
        system.spawn(factory, *args, name="broken")
    said = str(error.value)
    assert f"actor://{system.name}/broken did not start: raised {text}" in said
    assert "Traceback (most recent call last)" in said
    assert "test_api_spawn.py" in said
    assert said.rstrip().endswith(text)


def test_wrong_arguments_of_the_constructor_are_a_spawn_error(system: ActorSystem) -> None:
    with pytest.raises(SpawnError, match=r"missing 1 required positional argument: 'text'"):
        system.spawn(BadConstructor)  # type: ignore[call-arg]
    with pytest.raises(SpawnError, match=r"takes 1 positional argument but 2 were given|takes no arguments"):
        system.spawn(Plain, 1)  # type: ignore[call-arg]


@pytest.mark.parametrize(("how", "text"), [("exit", "exited with code 3"), ("kill", "killed by SIGKILL")])
def test_a_process_that_ends_before_it_is_ready_is_a_spawn_error(system: ActorSystem, how: str, text: str) -> None:
    with pytest.raises(SpawnError, match=text):
        system.spawn(Exits, how)


def test_after_a_failed_start_nothing_is_left_and_the_name_is_free(system: ActorSystem, spawn) -> None:
    for _ in range(2):
        with pytest.raises(SpawnError):
            system.spawn(BadStart, name="again")
    assert spawn(Plain, name="again").ask(Plain.hello).result(5) == "hello"


def test_start_timeout_ends_a_start_that_hangs(system: ActorSystem) -> None:
    class Hangs(Actor):
        def __init__(self) -> None:
            time.sleep(60)

    with pytest.raises(SpawnError, match=r"not ready within 0\.2 s"):
        system.spawn(Hangs, start_timeout=0.2)


def test_an_argument_that_cannot_be_sent_is_named_in_the_callers_frame(system: ActorSystem) -> None:
    with pytest.raises(CodecError, match=r"argument 2 \(\['log'\]\)"), open(os.devnull) as file:  # noqa: PTH123
        system.spawn(Plain, 1, {"log": file})  # type: ignore[call-arg]


def test_a_spawn_that_failed_from_an_actor_reaches_its_handler(spawn) -> None:
    class Parent(Actor):
        def try_it(self) -> str:
            try:
                self.spawn(BadConstructor, "below")
            except SpawnError as error:
                return str(error)
            return "it started"

    assert "constructor failed: below" in spawn(Parent).ask(Parent.try_it).result(5)


# --- names


def test_names_are_unique_in_a_system_and_the_refusal_is_clear(system: ActorSystem, spawn) -> None:
    spawn(Plain, name="taken")
    with pytest.raises(SpawnError, match=r"the name 'taken' is taken by a running actor.*choose another name"):
        system.spawn(Plain, name="taken")


def test_a_name_is_free_again_when_its_actor_has_ended(spawn) -> None:
    first = spawn(Plain, name="reused")
    first.stop()
    first.wait(5)
    second = spawn(Plain, name="reused")
    assert second.ask(Plain.hello).result(5) == "hello"
    assert first != second


def test_old_references_raise_actor_died_when_another_actor_has_taken_the_name(spawn) -> None:
    first = spawn(Plain, name="heir")
    first.stop()
    first.wait(5)
    second = spawn(Plain, name="heir")
    with pytest.raises(ActorDied, match="the actor has ended"):
        first.tell(Plain.hello)
    with pytest.raises(ActorDied):
        first.ask(Plain.hello).result(5)
    assert second.ask(Plain.hello).result(5) == "hello"


def test_without_a_name_actors_are_numbered_by_their_class(spawn) -> None:
    class LogParser(Plain):
        pass

    names = [spawn(LogParser).name for _ in range(3)]
    assert names == ["log_parser-1", "log_parser-2", "log_parser-3"]


def test_automatic_names_avoid_those_taken(spawn) -> None:
    class Evasive(Plain):
        pass

    spawn(Evasive, name="evasive-1")
    assert spawn(Evasive).name == "evasive-2"


def test_names_are_path_like(system: ActorSystem, spawn) -> None:
    parser = spawn(Plain, name="etl/parser/2")
    assert parser.address == f"actor://{system.name}/etl/parser/2"
    assert system.lookup("etl/parser/2", Plain) == parser


@pytest.mark.parametrize("name", ["", "/", "a//b", "a b", "a/", "ä", "a:b", "x" * 256, "a\nb", 7])
def test_a_name_that_is_none_is_refused_with_the_rule(system: ActorSystem, name: Any) -> None:
    with pytest.raises(SpecError, match="letters, digits") as error:
        system.spawn(Plain, name=name)
    assert isinstance(error.value, ValueError)


def test_lookup_finds_by_name_and_by_address(system: ActorSystem, spawn) -> None:
    plain = spawn(Plain, name="findable")
    assert system.lookup("findable", Plain) == plain
    assert system.lookup("findable") == plain
    assert system.lookup(plain.address, Plain) == plain
    assert in_loop(lambda: system.lookup_async("findable", Plain)) == plain


def test_lookup_of_what_never_existed_says_what_runs(system: ActorSystem, spawn) -> None:
    spawn(Plain, name="existing")
    with pytest.raises(ActorNotFound, match=rf"actor://{system.name}/missing does not exist; running: .*existing"):
        system.lookup("missing")


def test_lookup_of_what_has_ended_is_not_found(system: ActorSystem, spawn) -> None:
    plain = spawn(Plain, name="ended")
    plain.kill()
    plain.wait(5)
    with pytest.raises(ActorNotFound, match=r"ended does not exist"):
        system.lookup("ended")


def test_lookup_on_an_unknown_node_says_so(system: ActorSystem) -> None:
    with pytest.raises(ActorNotFound, match="no connection to node 'elsewhere'"):
        system.lookup("actor://elsewhere/plain")


def test_lookup_of_nonsense_is_refused(system: ActorSystem) -> None:
    with pytest.raises(SpecError):
        system.lookup("actor://nothing")
    with pytest.raises(SpecError):
        system.lookup("not a name")


# --- options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"restart": "always"}, r"restart must be one of permanent, transient, temporary, not 'always'"),
        ({"shutdown": -1}, r"shutdown must be 0 or more seconds.*not -1"),
        ({"shutdown": "5"}, r"shutdown must be 0 or more seconds.*not '5'"),
        ({"start_timeout": 0}, r"start_timeout must be more than 0 seconds.*not 0"),
        ({"max_restarts": -1}, r"max_restarts must be None or a whole number from 0 on, not -1"),
        ({"within": 0}, r"within must be more than 0 seconds, not 0"),
        ({"backoff": 0.1}, r"backoff must be a Backoff, not 0\.1"),
        ({"on_error": "ignore"}, r"on_error is 'ignore': use 'crash' or 'continue'"),
        ({"redeliver": -1}, r"redeliver is -1"),
        ({"redeliver": True}, r"redeliver is True"),
        ({"mailbox": 1 << 20}, r"mailbox is 1048576: give MailboxOptions"),
    ],
)
def test_options_that_make_no_sense_are_named_before_anything_starts(
    system: ActorSystem, options: dict[str, Any], text: str
) -> None:
    before = len(system.tree()["children"])
    with pytest.raises(SpecError, match=text) as error:
        system.spawn(Plain, **options)
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, ActorsError)
    with pytest.raises(SpecError, match=text):
        in_loop(lambda: system.spawn_async(Plain, **options))
    assert len(system.tree()["children"]) == before


def test_what_cannot_be_called_is_no_factory(system: ActorSystem) -> None:
    with pytest.raises(SpecError, match="the factory must be a class or another callable, not 42"):
        system.spawn(42)  # type: ignore[arg-type]


def test_an_unknown_option_says_how_keywords_reach_the_factory(system: ActorSystem, spawn) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'start'"):
        system.spawn(Plain, start=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'start'.*functools\.partial"):
        in_loop(lambda: system.spawn_async(Plain, start=3))  # type: ignore[call-arg]

    class Parent(Actor):
        def child(self) -> None:
            self.spawn(Plain, start=3)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match=r"unexpected keyword argument 'start'.*functools\.partial"):
        spawn(Parent).ask(Parent.child).result(5)


def test_all_options_together_are_taken(spawn) -> None:
    plain = spawn(
        Plain,
        name="full",
        restart="permanent",
        shutdown=1.0,
        start_timeout=5.0,
        max_restarts=3,
        within=10.0,
        backoff=Backoff(0.0, 0.1),
        on_error="continue",
        redeliver=1,
        mailbox=MailboxOptions(capacity=1 << 16, overflow="raise"),
    )
    assert plain.ask(Plain.hello).result(5) == "hello"


# --- restart


def test_transient_is_the_default_a_crash_restarts_a_stop_does_not(spawn) -> None:
    plain = spawn(Plain)
    first = plain.ask(Plain.pid).result(5)
    plain.tell(Plain.fail)
    assert plain.ask(Plain.pid).result(5) != first
    plain.stop()
    assert plain.wait(5).kind == "shutdown"


def test_temporary_is_never_restarted(spawn) -> None:
    plain = spawn(Plain, restart="temporary")
    plain.tell(Plain.fail)
    assert plain.wait(5) == ExitReason("exception", code=1, error="ValueError: told to")


def test_permanent_is_restarted_also_after_it_stopped_itself(spawn) -> None:
    class Leaver(Plain):
        def leave(self) -> None:
            self.stop()

    leaver = spawn(Leaver, restart="permanent")
    first = leaver.ask(Plain.pid).result(5)
    leaver.tell(Leaver.leave)
    assert leaver.ask(Plain.pid).result(5) != first


@pytest.mark.parametrize(("restart", "returns"), [("transient", False), ("permanent", True)])
def test_exit_code_0_counts_as_normal_for_transient(spawn, restart: str, returns: bool) -> None:
    class Exiting(Plain):
        def leave(self) -> None:
            raise SystemExit(0)

    exiting = spawn(Exiting, restart=restart)
    first = exiting.ask(Plain.pid).result(5)
    exiting.tell(Exiting.leave)
    if returns:
        assert exiting.ask(Plain.pid).result(5) != first
    else:
        assert exiting.wait(5) == ExitReason("exit", code=0)


def test_outside_a_tree_a_crashed_actor_is_restarted_for_ever(spawn) -> None:
    """Far more often than a supervisor's default would allow."""
    plain = spawn(Plain, backoff=Backoff(0.0, 0.0))
    for count in range(1, 9):
        plain.tell(Plain.fail)
        assert plain.ask(Plain.hello).result(5) == "hello"
        assert plain.info()["restarts"] == count


def test_past_max_restarts_it_has_failed_and_resume_brings_it_back(spawn) -> None:
    plain = spawn(Plain, max_restarts=1, within=60.0, backoff=Backoff(0.0, 0.0))
    plain.tell(Plain.fail)
    plain.ask(Plain.hello).result(5)
    plain.tell(Plain.fail)
    reason = plain.wait(5)
    assert reason.kind == "exception"
    assert "told to" in str(reason)
    assert plain.info()["status"] == "failed"
    with pytest.raises(ActorDied):
        plain.tell(Plain.hello)
    with pytest.raises(ActorDied):
        plain.ask(Plain.hello).result(5)
    plain.resume()
    until(lambda: plain.info()["status"] == "running", "it runs again")
    assert plain.ask(Plain.hello).result(5) == "hello"


def test_restart_by_hand_replaces_the_process_and_is_no_crash(spawn) -> None:
    plain = spawn(Plain)
    first = plain.ask(Plain.pid).result(5)
    plain.restart()
    second = until(lambda: (pid := plain.ask(Plain.pid).result(5)) != first and pid, "another process answers")
    assert second != first
    assert plain.info()["restarts"] == 0


def test_shutdown_is_the_time_between_the_request_to_stop_and_sigterm(spawn, tmp_path: Path) -> None:
    class Stubborn(Actor):
        def hang(self, journal: Journal) -> None:
            journal.write("hanging")
            time.sleep(60)

    journal = Journal(tmp_path / "journal")
    stubborn = spawn(Stubborn, shutdown=0.05)
    stubborn.tell(Stubborn.hang, journal)
    journal.until("hanging")
    stubborn.stop()
    assert stubborn.wait(10) == ExitReason("signal", signal=signal.SIGTERM)


# --- where classes come from


def test_a_class_of_a_function_a_partial_and_a_dataclass_message_are_shipped(spawn) -> None:
    @dataclasses.dataclass(frozen=True)
    class Order:
        item: str
        count: int

    class Shop(Actor):
        def __init__(self, *, price: int) -> None:
            self.price = price

        def total(self, order: Order) -> tuple[int, Order]:
            return self.price * order.count, order

    shop = spawn(functools.partial(Shop, price=3))
    assert shop.ask(Shop.total, Order("apple", 4)).result(5) == (12, Order("apple", 4))


def test_a_class_of_a_bare_exec_as_in_a_notebook_is_shipped(spawn) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "from actors import Actor\n"
        "import dataclasses\n"
        "@dataclasses.dataclass\n"
        "class Point:\n    x: int\n    y: int\n"
        "SCALE = 10\n"
        "def helper(v):\n    return v * SCALE\n"
        "class Cell(Actor):\n"
        "    def scaled(self, point):\n        return Point(helper(point.x), helper(point.y))\n",
        names,
    )
    cell = spawn(names["Cell"])
    assert cell.ask("scaled", names["Point"](1, 2)).result(5) == names["Point"](10, 20)


def test_a_program_without_a_main_guard_spawns_its_own_classes() -> None:
    """The program itself is never imported again: it prints its line once."""
    with Script("""
        print("top level")
        from actors import Actor, ActorSystem

        class Hello(Actor):
            def hello(self, name: str) -> str:
                return f"hello {name}"

        with ActorSystem() as system:
            print("said", system.spawn(Hello).ask(Hello.hello, "main").result(10))
    """) as script:
        assert script.expect("said") == "hello main"
        assert script.drain().count("top level") == 1

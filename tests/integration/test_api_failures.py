"""What goes wrong ends at once, with an error that says what happened, to which actor."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

import actors
from actors import (
    Actor,
    ActorDied,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorSystem,
    AskTimeout,
    CodecError,
    ExitReason,
    MailboxOptions,
    RemoteError,
    SpawnError,
    errors,
)
from actors.supervision import Backoff
from kit import Gate, Journal, until


class NeedsTwo(Exception):
    """Can't be unpickled: its constructor wants more than it passes on."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


class Holds(Exception):
    """Can't be pickled: it holds a lock."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class OwnError(Exception):
    """An error of the program's own, with an attribute."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.code = code


class Faulty(Actor):
    def fail(self, kind: str = "ValueError") -> None:
        match kind:
            case "ValueError":
                raise ValueError("told to")
            case "own":
                raise OwnError("own", 7)
            case "chain":
                try:
                    raise KeyError("first")
                except KeyError as error:
                    raise ValueError("second") from error
            case "needs two":
                raise NeedsTwo("one", "two")
            case "holds":
                raise Holds("can't be sent")
            case "group":
                raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])
            case "actors":
                raise ActorNotFound("nobody of that name")
            case "stop":
                raise StopIteration("s")

    async def fail_later(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    def unsendable(self) -> Any:
        return {"result": threading.Lock()}

    def unsendable_deep(self) -> Any:
        return {"rows": [1, socket.socket]}, [{"lock": threading.Lock()}]

    def die(self, how: str) -> None:
        match how:
            case "exit 0":
                os._exit(0)
            case "exit 3":
                os._exit(3)
            case "SystemExit":
                raise SystemExit(4)
            case "KeyboardInterrupt":
                raise KeyboardInterrupt("in the handler")
            case _:
                os.kill(os.getpid(), getattr(signal, how))

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()


# --- exceptions of handlers


def test_the_root_of_all_errors_and_their_namesakes() -> None:
    for name in (
        "ActorDied", "ActorNotFound", "SpawnError", "MailboxFull", "CodecError", "SpecError", "AskTimeout", "Unreachable",
    ):  # fmt: skip
        kind = getattr(actors, name)
        assert issubclass(kind, actors.ActorsError)
        assert getattr(errors, name) is kind
    assert issubclass(actors.AskTimeout, TimeoutError)
    assert issubclass(actors.SpecError, ValueError)
    assert issubclass(actors.SystemDied, actors.ActorDied)


@pytest.mark.parametrize("kind", ["ActorDied", "AskTimeout", "CodecError", "MailboxFull", "SpawnError", "SpecError"])
def test_errors_of_the_library_survive_pickling(kind: str) -> None:
    error = getattr(actors, kind)("what happened")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (type(error), "what happened")


def test_actor_died_keeps_its_reason_over_pickling() -> None:
    twin = pickle.loads(pickle.dumps(ActorDied("x", ExitReason("exit", code=3), True)))
    assert (twin.reason, twin.restarting, str(twin)) == (ExitReason("exit", code=3), True, "x")


def test_the_original_type_and_attributes_arrive(spawn) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(OwnError) as own:
        faulty.ask(Faulty.fail, "own").result(5)
    assert (own.value.args, own.value.code) == (("own", 7), 7)
    with pytest.raises(ExceptionGroup) as group:
        faulty.ask(Faulty.fail, "group").result(5)
    assert [type(each) for each in group.value.exceptions] == [ValueError, KeyError]
    with pytest.raises(ActorNotFound, match="nobody of that name"):
        faulty.ask(Faulty.fail, "actors").result(5)


def test_the_remote_traceback_is_attached_with_its_chain(spawn) -> None:
    with pytest.raises(ValueError, match="second") as error:
        spawn(Faulty).ask(Faulty.fail, "chain").result(5)
    shown = "".join(traceback.format_exception(error.value))
    assert 'raise KeyError("first")' in shown
    assert 'raise ValueError("second") from error' in shown


def test_an_exception_of_an_async_handler_arrives_too(spawn) -> None:
    with pytest.raises(ValueError, match="later"):
        spawn(Faulty).ask(Faulty.fail_later).result(5)


@pytest.mark.parametrize(("kind", "text"), [("needs two", "NeedsTwo: one"), ("holds", "Holds: can't be sent")])
def test_an_exception_that_cannot_be_sent_arrives_as_a_remote_error_with_its_text(spawn, kind: str, text: str) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(RemoteError) as error:
        faulty.ask(Faulty.fail, kind).result(5)
    assert f"{faulty.address}: fail: " in str(error.value)
    assert text in str(error.value)
    assert "in fail" in str(error.value)
    assert faulty.ask(Faulty.echo, 1).result(5) == 1


def test_a_stop_iteration_is_an_exception_like_any_other(spawn) -> None:
    with pytest.raises(StopIteration):
        spawn(Faulty).ask(Faulty.fail, "stop").result(5)

    async def main() -> None:
        await spawn(Faulty).ask(Faulty.fail, "stop")

    with pytest.raises((StopIteration, RuntimeError)):
        asyncio.run(main())


def test_in_a_tell_it_crashes_the_actor(spawn) -> None:
    faulty = spawn(Faulty, restart="temporary")
    faulty.tell(Faulty.fail)
    assert faulty.wait(5) == ExitReason("exception", code=1, error="ValueError: told to")


def test_in_a_tell_an_unknown_method_crashes_the_actor(spawn) -> None:
    faulty = spawn(Faulty, restart="temporary")
    faulty.tell("no_such_method")
    assert faulty.wait(5).error == "AttributeError: Faulty has no public method 'no_such_method'"


@pytest.mark.parametrize("text", ["x" * 3_000_000, "caf\udce9.txt", "\ud800", "line\n" * 100_000])
def test_an_error_with_a_strange_text_harms_nobody(own: ActorSystem, text: str) -> None:
    """Very long, or not UTF-8 (a file's name, for instance), in a tell, an ask, a constructor and on_start."""

    class Strange(Faulty):
        def fail_with(self, text: str) -> None:
            raise ValueError(text)

    class NoStart(Actor):
        def on_start(self) -> None:
            raise ValueError(text)

    events, downs = own.events(), list[Any]()
    ref = own.spawn(Strange, restart="temporary")
    ref.monitor(downs.append)
    with pytest.raises(ValueError) as error:
        ref.ask(Strange.fail_with, text).result(10)
    assert error.value.args == (text,)
    ref.tell(Strange.fail_with, text)
    reason = ref.wait(10)
    assert reason.kind == "exception"
    assert reason.error is not None
    assert reason.error.startswith("ValueError: ")
    assert len(reason.error) < 10_000
    until(lambda: downs, "the monitor")
    assert [events.get(5).kind for _ in range(3)] == ["started", "crashed", "stopped"]
    with pytest.raises(SpawnError, match="ValueError: "):
        own.spawn(NoStart)
    with pytest.raises(ActorDied):
        ref.tell(Strange.echo, 1)


def test_a_large_dead_letter_harms_nobody(own: ActorSystem, tmp_path: Path) -> None:
    letters, gate = own.dead_letters(), Gate(tmp_path / "gate")
    faulty = own.spawn(Faulty, mailbox=MailboxOptions(capacity=1 << 24))
    faulty.ask(Faulty.hold, gate)
    bodies = ["y" * size for size in (100_000, 262_000, 1_000_000, 3_000_000)]
    for body in bodies:
        faulty.tell(Faulty.echo, body)
    faulty.kill()
    for body in bodies:
        assert letters.get(10).message == ("echo", (body,), {})


def test_on_error_continue_lets_the_actor_live_and_reports(own: ActorSystem) -> None:
    letters = own.dead_letters()
    faulty = own.spawn(Faulty, on_error="continue")
    before = faulty.ask(Faulty.pid).result(5)
    faulty.tell(Faulty.fail)
    faulty.tell(Faulty.fail_later)
    assert faulty.ask(Faulty.pid).result(5) == before
    got = [letters.get(5), letters.get(5)]
    assert [letter.message for letter in got] == [("fail", (), {}), ("fail_later", (), {})]
    assert [letter.reason for letter in got] == [
        ExitReason("exception", error="ValueError: told to"),
        ExitReason("exception", error="ValueError: later"),
    ]
    assert {letter.target for letter in got} == {faulty}


def test_on_error_continue_covers_timers(spawn) -> None:
    class Ticking(Actor):
        def on_start(self) -> None:
            self.ticks = 0
            self.every(0.002, self.tick)

        def tick(self) -> None:
            self.ticks += 1
            raise ValueError("tick")

        def count(self) -> int:
            return self.ticks

    ticking = spawn(Ticking, on_error="continue")
    until(lambda: ticking.ask(Ticking.count).result(5) >= 3, "it goes on ticking")


# --- dying


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("exit 0", ExitReason("exit", code=0)),
        ("exit 3", ExitReason("exit", code=3)),
        ("SystemExit", ExitReason("exit", code=4)),
        ("SIGKILL", ExitReason("signal", signal=signal.SIGKILL)),
        ("SIGABRT", ExitReason("signal", signal=signal.SIGABRT)),
        ("SIGSEGV", ExitReason("signal", signal=signal.SIGSEGV)),
    ],
)
def test_the_ask_in_hand_when_the_process_dies_ends_with_actor_died(spawn, how: str, reason: ExitReason) -> None:
    faulty = spawn(Faulty, restart="permanent")
    with pytest.raises(ActorDied) as died:
        faulty.ask(Faulty.die, how).result(5)
    assert died.value.reason == reason
    assert died.value.restarting
    assert f"{faulty.address}: die: its incarnation died ({reason})" in str(died.value)
    assert faulty.ask(Faulty.echo, 1).result(10) == 1


def test_keyboard_interrupt_in_a_handler_ends_the_process_as_an_exception(spawn) -> None:
    faulty = spawn(Faulty, restart="temporary")
    with pytest.raises(ActorDied) as died:
        faulty.ask(Faulty.die, "KeyboardInterrupt").result(5)
    assert died.value.reason is not None
    assert died.value.reason.error == "KeyboardInterrupt: in the handler"
    assert not died.value.restarting


def test_asks_that_wait_behind_the_one_in_hand_are_answered_by_the_next_incarnation(spawn) -> None:
    faulty = spawn(Faulty)
    dying = faulty.ask(Faulty.die, "SIGKILL")
    behind = [faulty.ask(Faulty.echo, number) for number in range(20)]
    with pytest.raises(ActorDied):
        dying.result(5)
    assert [reply.result(10) for reply in behind] == list(range(20))


def test_asks_that_wait_when_it_ends_for_good_end_with_actor_died(spawn, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    faulty = spawn(Faulty, restart="temporary")
    held = faulty.ask(Faulty.hold, gate)
    queued = [faulty.ask(Faulty.echo, number) for number in range(5)]
    os.kill(faulty.info()["pid"], signal.SIGKILL)
    for reply in [held, *queued]:
        with pytest.raises(ActorDied) as died:
            reply.result(5)
        assert not died.value.restarting
        assert died.value.reason == ExitReason("signal", signal=signal.SIGKILL)


def test_an_ask_awaited_when_the_process_dies_ends_too(spawn) -> None:
    faulty = spawn(Faulty)

    async def main() -> None:
        with pytest.raises(ActorDied) as died:
            await faulty.ask(Faulty.die, "SIGKILL")
        assert died.value.restarting

    asyncio.run(main())


def test_asks_between_actors_end_with_actor_died_too(spawn) -> None:
    class Asker(Actor):
        def ask_it(self, ref: ActorRef[Faulty]) -> tuple[str, bool]:
            try:
                return str(ref.ask(Faulty.die, "SIGKILL").result()), False
            except ActorDied as died:
                return str(died.reason), died.restarting

        async def ask_it_async(self, ref: ActorRef[Faulty]) -> tuple[str, bool]:
            try:
                return str(await ref.ask(Faulty.die, "SIGKILL")), False
            except ActorDied as died:
                return str(died.reason), died.restarting

    asker, faulty = spawn(Asker), spawn(Faulty)
    assert asker.ask(Asker.ask_it, faulty).result(5) == ("killed by SIGKILL", True)
    assert asker.ask(Asker.ask_it_async, faulty).result(5) == ("killed by SIGKILL", True)


def test_an_ask_to_one_that_has_died_ends_at_once_with_its_address(spawn) -> None:
    faulty = spawn(Faulty, name="dead")
    faulty.kill()
    faulty.wait(5)
    for reply in (faulty.ask(Faulty.echo, 1), faulty.ask(Faulty.echo, 2)):
        assert reply.done()
        with pytest.raises(ActorDied, match=f"{faulty.address}: .*the actor has ended \\(killed by SIGKILL\\)"):
            reply.result()

    async def main() -> None:
        with pytest.raises(ActorDied, match=faulty.address):
            await faulty.ask(Faulty.echo, 1)

    asyncio.run(main())


def test_an_ask_to_a_failed_actor_ends_at_once(spawn) -> None:
    faulty = spawn(Faulty, max_restarts=0, backoff=Backoff(0.0, 0.0))
    faulty.tell(Faulty.fail)
    faulty.wait(5)
    with pytest.raises(ActorDied, match="told to"):
        faulty.ask(Faulty.echo, 1).result(5)


def test_queued_asks_of_an_actor_that_fails_end_and_queued_tells_stay_for_resume(spawn, tmp_path: Path) -> None:
    class Keeper(Faulty):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def note(self, text: str) -> None:
            self.journal.write(text)

        def hold_and_fail(self, gate: Gate) -> None:
            gate.wait()
            raise ValueError("told to")

    journal, gate = Journal(tmp_path / "journal"), Gate(tmp_path / "gate")
    keeper = spawn(Keeper, journal, max_restarts=0)
    keeper.tell(Keeper.hold_and_fail, gate)
    keeper.tell(Keeper.note, "kept")
    asked = keeper.ask(Keeper.echo, 1)
    gate.open()
    with pytest.raises(ActorDied):
        asked.result(5)
    assert keeper.wait(5).kind == "exception"
    assert journal.lines() == []
    keeper.resume()
    journal.until("kept")


# --- what can't be sent


@pytest.mark.parametrize("call", ["tell", "ask"])
def test_an_argument_that_cannot_be_sent_raises_in_the_callers_frame_and_names_it(spawn, call: str) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(CodecError, match=r"argument 1 \(\['lock'\]\) is a _thread.lock") as error:
        getattr(faulty, call)(Faulty.echo, {"lock": threading.Lock()})
    assert f"{faulty.address}: the call echo() can't be sent" in str(error.value)
    assert isinstance(error.value, TypeError)
    assert faulty.ask(Faulty.echo, 1).result(5) == 1


def test_tell_async_raises_for_an_argument_that_cannot_be_sent(spawn) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(CodecError, match="argument 1"):
        asyncio.run(faulty.tell_async(Faulty.echo, threading.Lock()))


def test_a_reply_cannot_be_sent_and_the_error_says_what_to_do(spawn) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(CodecError, match=r"argument 1 .*a Reply can't be sent; await it, or take its result\(\)"):
        faulty.ask(Faulty.echo, faulty.ask(Faulty.echo, 1))


@pytest.mark.parametrize("method", ["unsendable", "unsendable_deep"])
def test_a_result_that_cannot_be_sent_is_an_error_for_the_asker_alone(spawn, method: str) -> None:
    faulty = spawn(Faulty)
    with pytest.raises(CodecError, match=f"{faulty.address}: the result: .*lock"):
        faulty.ask(method).result(5)
    assert faulty.ask(Faulty.echo, 1).result(5) == 1
    assert faulty.info()["incarnation"] == 1


def test_an_argument_whose_class_cannot_be_rebuilt_there_is_an_error_for_the_asker(spawn) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return _explode, ()

    with pytest.raises(CodecError, match="a message can't be read: RuntimeError: not here"):
        spawn(Faulty).ask(Faulty.echo, Trap()).result(5)


def _explode() -> None:
    raise RuntimeError("not here")


# --- cycles


class Circular(Actor):
    """Asks the next one, which asks the next one; only the last ask has a deadline."""

    def ask_next(self, others: list[ActorRef[Circular]]) -> str:
        try:
            return self._next(others).ask(Circular.ask_next, others[1:]).result()
        except AskTimeout as error:
            return str(error)

    async def ask_next_async(self, others: list[ActorRef[Circular]]) -> str:
        try:
            return await self._next(others).ask(Circular.ask_next_async, others[1:])
        except AskTimeout as error:
            return str(error)

    def _next(self, others: list[ActorRef[Circular]]) -> ActorRef[Circular]:
        return others[0] if len(others) > 1 else others[0].using(timeout=0.05)


@pytest.mark.parametrize("method", ["ask_next", "ask_next_async"])
@pytest.mark.parametrize("count", [2, 3])
def test_actors_that_ask_each_other_in_a_circle_end_at_the_deadline_and_the_error_names_the_cycle(
    spawn, count: int, method: str
) -> None:
    """a asks b, b asks c, c asks a: each is busy with its own ask, so nothing but a deadline ends it, and it says who
    waits for whom."""
    ring = [spawn(Circular) for _ in range(count)]
    said = ring[0].ask(method, [*ring[1:], ring[0]]).result(10)
    cycle = " waits for ".join(each.address for each in [ring[-1], *ring])
    assert said == f"{ring[0].address}: {method}: no answer within 0.05 s; deadlock: {cycle}"


def test_a_slow_callee_is_not_called_a_deadlock(spawn, tmp_path: Path) -> None:
    class Asker(Actor):
        def ask_it(self, ref: ActorRef[Faulty]) -> str:
            try:
                return str(ref.using(timeout=0.05).ask(Faulty.echo, 1).result())
            except AskTimeout as error:
                return str(error)

    gate, faulty = Gate(tmp_path / "gate"), spawn(Faulty)
    held = faulty.ask(Faulty.hold, gate)
    said = spawn(Asker).ask(Asker.ask_it, faulty).result(5)
    assert "no answer within 0.05 s" in said
    assert "deadlock" not in said
    gate.open()
    held.result(5)


# --- the guardian's end


def test_pending_calls_raise_system_died_when_the_guardian_is_killed_and_the_program_lives(
    own: ActorSystem, tmp_path: Path
) -> None:
    faulty = own.spawn(Faulty)
    held = faulty.ask(Faulty.hold, Gate(tmp_path / "gate"))
    future = faulty.ask(Faulty.echo, 1).future()
    os.kill(own.guardian_pid, signal.SIGKILL)
    with pytest.raises(errors.SystemDied, match=f"system '{own.name}' is gone"):
        held.result(5)
    with pytest.raises(errors.SystemDied):
        future.result(5)
    for call in (
        lambda: faulty.ask(Faulty.echo, 1).result(5),
        lambda: faulty.tell(Faulty.echo, 1),
        lambda: own.spawn(Faulty),
    ):
        with pytest.raises(ActorsError, match=own.name):
            call()


def test_spawn_error_is_raised_for_a_module_that_only_the_program_has(system: ActorSystem, spawn) -> None:
    """A module that was made at run time can't be imported elsewhere: its classes go by value."""
    import sys
    import types

    module = types.ModuleType("made_at_run_time")
    exec("from actors import Actor\nclass Made(Actor):\n    def hi(self):\n        return 'hi'\n", module.__dict__)
    module.Made.__module__ = "made_at_run_time"
    sys.modules["made_at_run_time"] = module
    try:
        assert spawn(module.Made).ask("hi").result(5) == "hi"
    finally:
        del sys.modules["made_at_run_time"]


def test_a_module_that_cannot_be_imported_there_is_a_clear_spawn_error(
    system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "only_once.py").write_text(
        "import os\nfrom actors import Actor\n"
        f"if os.getpid() != {os.getpid()}:\n    raise RuntimeError('imported elsewhere')\n"
        "class Once(Actor):\n    def hi(self):\n        return 'hi'\n"
    )
    import importlib

    module = importlib.import_module("only_once")
    ref = system.spawn(module.Once)  # it goes by value then
    assert ref.ask("hi").result(5) == "hi"
    ref.kill()
    assert issubclass(SpawnError, ActorsError)


def test_every_exception_is_at_the_top_and_in_errors() -> None:
    found = {
        name for name in actors.__all__ if isinstance(it := getattr(actors, name), type) and issubclass(it, Exception)
    }
    assert {"ActorsError", "ActorDied", "MailboxClosed", "WorkerDied", "PoolBroken"} <= found
    assert all(getattr(errors, name) is getattr(actors, name) for name in found)
    assert all(issubclass(getattr(actors, name), errors.ActorsError) for name in found)
    with pytest.raises(AttributeError):
        _ = errors.NoSuchError

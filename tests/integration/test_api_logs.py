"""Logs: every line of every process reaches the program's log, with the actor's address; what actors print is not lost."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from actors import Actor, ActorSystem, ExitReason
from actors.supervision import Child, Supervisor
from kit import LeakGuard, Script, system_name, until
from kit.lines import Lines


class Talker(Actor):
    def say(self, level: str, text: str, **fields: Any) -> None:
        getattr(self.log, level)(text, **fields)

    def say_bound(self) -> None:
        log = self.log.bind(request=7)
        log.info("bound")
        log.new(other=8, actor="kept?").info("new")

    def say_exception(self) -> None:
        try:
            raise ValueError("caught")
        except ValueError:
            self.log.exception("it failed")

    def say_much(self, count: int) -> None:
        for number in range(count):
            self.log.info("line", number=number)

    def say_strange(self) -> None:
        self.log.info("strange", what=object(), when={1, 2}, text="ä\n€", broken="\udce9")

    def standard(self, level: str, text: str) -> None:
        logging.getLogger("some.package").log(getattr(logging, level), text)

    def standard_exception(self) -> None:
        try:
            raise KeyError("caught")
        except KeyError:
            logging.getLogger("some.package").exception("it failed")

    def warn(self) -> None:
        warnings.warn("beware", stacklevel=1)

    def context_line(self) -> None:
        with structlog.contextvars.bound_contextvars(task="t"):
            self.log.info("in context")

    def fail(self) -> None:
        raise ValueError("told to")

    def print(self, text: str, end: str = "\n", err: bool = False) -> None:
        print(text, end=end, file=sys.stderr if err else sys.stdout)

    def print_and_die(self, text: str) -> None:
        print(text)
        os.kill(os.getpid(), signal.SIGKILL)

    def echo(self, value: Any) -> Any:
        return value


class LastWords(Actor):
    def on_start(self) -> None:
        self.log.info("first words")

    def on_stop(self, reason: ExitReason) -> None:
        self.log.info("last words", reason=reason.kind)
        print("printed last words")


@pytest.fixture
def quiet(leak_guard: LeakGuard, lines: Lines) -> Iterator[ActorSystem]:
    """A system whose lines `lines` gets."""
    with ActorSystem(system_name("logs"), log_level="debug") as system:
        yield system


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_a_line_reaches_the_programs_structlog_with_level_address_and_fields(
    quiet: ActorSystem, lines: Lines, level: str
) -> None:
    talker = quiet.spawn(Talker, name="talker")
    talker.tell(Talker.say, level, "hello", number=5, items=[1, "two"])
    (line,) = lines.until("hello")
    assert line["actor"] == talker.address
    assert line["log_level"] == level
    assert (line["number"], line["items"]) == (5, [1, "two"])
    assert isinstance(line["timestamp"], str)


def test_capture_logs_of_structlog_sees_them_too(leak_guard: LeakGuard) -> None:
    with structlog.testing.capture_logs() as captured, ActorSystem(system_name("logs")) as system:
        system.spawn(Talker).tell(Talker.say, "info", "captured", x=1)
        until(lambda: any(line["event"] == "captured" and line["x"] == 1 for line in captured), "it was captured")
    structlog.reset_defaults()


def test_lines_of_one_actor_keep_their_order_and_none_is_lost(quiet: ActorSystem, lines: Lines) -> None:
    quiet.spawn(Talker).tell(Talker.say_much, 2000)
    assert [line["number"] for line in lines.until("line", 2000)] == list(range(2000))


def test_lines_of_constructor_on_start_and_on_stop_arrive_before_the_system_is_closed(
    leak_guard: LeakGuard, lines: Lines
) -> None:
    for _ in range(5):
        lines.all.clear()
        with ActorSystem(system_name("logs")) as system:
            system.spawn(LastWords)
        assert [line["event"] for line in lines.all] == ["first words", "last words"]


def test_a_bound_logger_keeps_the_address(quiet: ActorSystem, lines: Lines) -> None:
    talker = quiet.spawn(Talker)
    talker.tell(Talker.say_bound)
    (line,) = lines.until("bound")
    assert (line["request"], line["actor"]) == (7, talker.address)
    talker.tell(Talker.context_line)
    (line,) = lines.until("in context")
    assert (line["task"], line["actor"]) == ("t", talker.address)


def test_an_exception_is_shown_with_its_traceback(quiet: ActorSystem, lines: Lines) -> None:
    quiet.spawn(Talker).tell(Talker.say_exception)
    (line,) = lines.until("it failed")
    assert "ValueError: caught" in line["exception"]
    assert line["log_level"] == "error"


def test_values_that_cannot_be_sent_are_shown_by_their_repr(quiet: ActorSystem, lines: Lines) -> None:
    quiet.spawn(Talker).tell(Talker.say_strange)
    (line,) = lines.until("strange")
    assert "object object" in line["what"]
    assert line["text"] == "ä\n€"
    assert line["broken"] == "\\udce9"


def test_a_large_line_arrives(quiet: ActorSystem, lines: Lines) -> None:
    quiet.spawn(Talker).tell(Talker.say, "info", "large", body="x" * 1_000_000)
    (line,) = lines.until("large")
    assert len(line["body"]) == 1_000_000


def test_standard_logging_of_an_actor_takes_the_same_way(quiet: ActorSystem, lines: Lines) -> None:
    talker = quiet.spawn(Talker)
    talker.tell(Talker.standard, "WARNING", "from a library")
    (line,) = lines.until("from a library")
    assert (line["logger"], line["actor"], line["log_level"]) == ("some.package", talker.address, "warning")
    talker.tell(Talker.standard_exception)
    (line,) = lines.until("it failed")
    assert "KeyError: 'caught'" in line["exception"]


def test_log_level_of_the_system_says_what_comes_through(leak_guard: LeakGuard, lines: Lines) -> None:
    with ActorSystem(system_name("logs"), log_level="warning") as system:
        talker = system.spawn(Talker)
        for level in ("debug", "info", "warning", "error"):
            talker.tell(Talker.say, level, level)
        lines.until("error")
    assert [line["event"] for line in lines.all] == ["warning", "error"]


def test_info_is_the_default_level(leak_guard: LeakGuard, lines: Lines) -> None:
    with ActorSystem(system_name("logs")) as system:
        talker = system.spawn(Talker)
        talker.tell(Talker.say, "debug", "debug")
        talker.tell(Talker.say, "info", "info")
        lines.until("info")
    assert [line["event"] for line in lines.all] == ["info"]


def test_a_crash_is_one_warning_with_address_reason_and_traceback(quiet: ActorSystem, lines: Lines) -> None:
    talker = quiet.spawn(Talker, restart="temporary")
    talker.tell(Talker.fail)
    talker.wait(5)
    (line,) = lines.until("crashed")
    assert line["actor"] == talker.address
    assert line["reason"] == "raised ValueError: told to"
    assert 'raise ValueError("told to")' in line["exception"]
    assert line["log_level"] == "warning"


def test_on_error_continue_is_logged_with_the_traceback(quiet: ActorSystem, lines: Lines) -> None:
    talker = quiet.spawn(Talker, on_error="continue")
    talker.tell(Talker.fail)
    talker.ask(Talker.echo, 1).result(5)
    found = until(lambda: [line for line in lines.all if "the actor goes on" in line["event"]], "the line")
    assert found[0]["actor"] == talker.address
    assert "ValueError: told to" in found[0]["exception"]
    assert found[0]["log_level"] == "error"


def test_a_healthy_system_is_silent(leak_guard: LeakGuard, lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    """Started, used, restarted by hand, stopped: not a line, not a byte."""
    with ActorSystem(system_name("silent")) as system:
        tree = system.start(Supervisor(Child(Talker, name="a"), Child(Talker, name="b"), name="tree"))
        talker = system.spawn(Talker)
        assert talker.ask(Talker.echo, 1).result(5) == 1
        tree.restart("a")
        assert tree["a"].ask(Talker.echo, 1).result(5) == 1
        talker.stop()
        talker.wait(5)
    assert lines.all == []
    assert capfd.readouterr() == ("", "")


def test_by_default_lines_go_to_stderr(leak_guard: LeakGuard) -> None:
    """A program that has not configured structlog."""
    with Script("""
        import sys
        from actors import Actor, ActorSystem
        class Talker(Actor):
            def say(self):
                self.log.warning("something", value=5)
        sys.stdout = None
        with ActorSystem("by-default") as system:
            system.spawn(Talker, name="talker").ask(Talker.say).result(10)
    """) as script:
        shown = script.drain()
    assert "something" in shown
    assert "actor://by-default/talker" in shown
    assert "value=5" in shown
    assert "warning" in shown


def test_what_actors_print_goes_where_the_programs_output_goes(
    leak_guard: LeakGuard, capfd: pytest.CaptureFixture[str]
) -> None:
    with ActorSystem(system_name("prints")) as system:
        talker = system.spawn(Talker)
        talker.ask(Talker.print, "to stdout").result(5)
        assert capfd.readouterr().out == "to stdout\n"  # at once, not at the end
        talker.ask(Talker.print, "to stderr", err=True).result(5)
        assert capfd.readouterr().err == "to stderr\n"
        talker.ask(Talker.print, "no newline", end="").result(5)
        system.spawn(LastWords)
    shown = capfd.readouterr().out
    assert "printed last words" in shown
    assert "no newline" in shown


def test_printed_lines_survive_a_sigkill(leak_guard: LeakGuard, capfd: pytest.CaptureFixture[str]) -> None:
    with ActorSystem(system_name("prints")) as system:
        talker = system.spawn(Talker, restart="temporary")
        talker.tell(Talker.print_and_die, "famous last words")
        talker.wait(5)
    assert capfd.readouterr().out == "famous last words\n"


def test_lines_of_a_guests_actors_go_to_the_owner_of_the_system(quiet: ActorSystem, lines: Lines) -> None:
    with Script(
        """
        import sys
        from actors import Actor, ActorSystem
        class Guest(Actor):
            def say(self):
                self.log.info("from a guest")
        system = ActorSystem.attach(sys.argv[1])
        system.spawn(Guest, name="guest").ask(Guest.say).result(10)
        """,
        quiet.name,
    ):
        (line,) = lines.until("from a guest")
    assert line["actor"] == f"actor://{quiet.name}/guest"


def test_lines_of_children_carry_their_own_address(quiet: ActorSystem, lines: Lines) -> None:
    class Parent(Actor):
        def on_start(self) -> None:
            self.child = self.spawn(Talker, name="child")
            self.child.tell(Talker.say, "info", "from the child")

    quiet.spawn(Parent, name="parent")
    (line,) = lines.until("from the child")
    assert line["actor"] == f"actor://{quiet.name}/parent/child"


def test_a_processor_that_raises_harms_nobody(leak_guard: LeakGuard, caplog: pytest.LogCaptureFixture) -> None:
    """The program's own logging fails: the system goes on."""

    def broken(logger: Any, method: str, line: dict[str, Any]) -> Any:
        raise RuntimeError("the log is full")

    structlog.configure(processors=[broken])
    try:
        with ActorSystem(system_name("logs")) as system:
            talker = system.spawn(Talker)
            talker.tell(Talker.say, "info", "lost")
            assert talker.ask(Talker.echo, 1).result(5) == 1
            downs: list[Any] = []
            talker.monitor(downs.append)
            talker.stop()
            until(lambda: downs, "the reader goes on")
        assert "the log is full" in caplog.text
        caplog.clear()
    finally:
        structlog.reset_defaults()

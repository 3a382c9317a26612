"""However a process ends, it is reported exactly once, with the kernel's own words, and everybody hears the same."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Down, Event, ExitReason
from actors.errors import RemoteError, SpawnError
from kit import LeakGuard, system_name, until


class Unspeakable(Exception):
    """Its text can't be had, nor can it be pickled."""

    def __init__(self) -> None:
        super().__init__("unspeakable")
        self.socket = socket.socket()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Mortal(Actor):
    """Ends in every way that there is."""

    def ok(self) -> str:
        return "ok"

    def leave(self, code: int) -> None:
        os._exit(code)

    def exit(self, code: Any) -> None:
        raise SystemExit(code)

    async def exit_async(self, code: Any) -> None:
        sys.exit(code)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def fail_unspeakably(self) -> None:
        raise Unspeakable

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def take(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def end(self) -> None:
        self.stop()


def killed_by(number: signal.Signals) -> ExitReason:
    return ExitReason("signal", signal=number)


UNSPEAKABLE = ExitReason("exception", code=1, error="Unspeakable: <its message can't be shown: RuntimeError>")
FATAL = (
    signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGSEGV, signal.SIGUSR2,
)  # fmt: skip
FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
ENDS: dict[str, tuple[str, tuple[Any, ...], ExitReason]] = {
    "exit 0": ("leave", (0,), ExitReason("exit", code=0)),
    "exit 3": ("leave", (3,), ExitReason("exit", code=3)),
    "exit 255": ("leave", (255,), ExitReason("exit", code=255)),
    "SystemExit(None)": ("exit", (None,), ExitReason("exit", code=0)),
    "SystemExit(0)": ("exit", (0,), ExitReason("exit", code=0)),
    "SystemExit(7)": ("exit", (7,), ExitReason("exit", code=7)),
    "SystemExit(text)": ("exit", ("bye",), ExitReason("exit", code=1)),
    "SystemExit(3) in a coroutine": ("exit_async", (3,), ExitReason("exit", code=3)),
    "an exception": ("fail", ("boom",), ExitReason("exception", code=1, error="ValueError: boom")),
    "an exception without a text": ("fail_unspeakably", (), UNSPEAKABLE),
    "KeyboardInterrupt": ("interrupt", (), ExitReason("exception", code=1, error="KeyboardInterrupt: ")),
    "a null pointer": ("segfault", (), killed_by(signal.SIGSEGV)),
    "abort()": ("abort", (), killed_by(signal.SIGABRT)),
    **{number.name: ("take", (int(number),), killed_by(number)) for number in FATAL},
    "stop()": ("end", (), ExitReason("normal")),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(module_leak_guard: LeakGuard) -> Iterator[ActorSystem]:
    with ActorSystem(system_name("exits")) as system:
        system.spawn(Mortal, name="bystander").ask(Mortal.ok).result(10)  # the main thread's descriptor is there now
        system.events().close()
        yield system


def hear(events: Any, ref: ActorRef[Any], last: str) -> list[Event]:
    """The events of one actor up to the kind that ends them."""
    found: list[Event] = []
    while not (found and found[-1].kind == last):
        event = events.get(10)
        if event.ref == ref:
            found.append(event)
    return found


def until_stopped(events: Any) -> list[Event]:
    """All events up to the first actor that ended for good."""
    found = [events.get(10)]
    while found[-1].kind != "stopped":
        found.append(events.get(10))
    return found


@pytest.mark.parametrize("how", ENDS)
def test_an_end_is_reported_once_and_alike_to_monitor_events_and_wait(shared: ActorSystem, how: str) -> None:
    """Of a temporary actor, the monitor, the events and `wait` tell one end, the same, with the kind, code and signal
    of the kernel.
    """
    method, args, expected = ENDS[how]
    downs: list[Down] = []
    with_incarnations: list[Down] = []
    events = shared.events()
    mortal = shared.spawn(Mortal, restart="temporary")
    mortal.monitor(downs.append)
    mortal.monitor(with_incarnations.append, incarnations=True)
    mortal.tell(method, *args)
    assert mortal.wait(10) == expected
    kinds = [(event.kind, event.reason) for event in hear(events, mortal, "stopped")]
    assert kinds == [("started", None), ("crashed" if expected.abnormal else "exited", expected), ("stopped", expected)]
    assert mortal.wait(10) == expected
    until(lambda: downs and with_incarnations, "both monitors heard of it")
    late: list[Down] = []
    mortal.monitor(late.append)
    until(lambda: late, "a late monitor hears at once")
    assert downs == with_incarnations == late == [Down(mortal, expected, restarting=False)]
    with pytest.raises(ActorDied) as died:
        mortal.ask(Mortal.ok).result(10)
    assert (died.value.reason, died.value.restarting) == (expected, False)
    events.close()


@pytest.mark.parametrize("how", [name for name, (_, _, reason) in ENDS.items() if reason.abnormal])
def test_a_crash_of_a_transient_actor_is_reported_once_as_restarting_and_it_lives_on(
    shared: ActorSystem, how: str
) -> None:
    """A monitor of incarnations hears one Down, restarting; a plain monitor hears nothing; the next incarnation
    answers.
    """
    method, args, expected = ENDS[how]
    downs: list[Down] = []
    crashes: list[Down] = []
    events = shared.events()
    mortal = shared.spawn(Mortal)
    mortal.monitor(downs.append)
    mortal.monitor(crashes.append, incarnations=True)
    mortal.tell(method, *args)
    assert mortal.ask(Mortal.ok).result(10) == "ok"
    kinds = [(event.kind, event.reason) for event in hear(events, mortal, "restarted")]
    assert kinds == [("started", None), ("crashed", expected), ("restarting", expected), ("restarted", None)]
    assert crashes == [Down(mortal, expected, restarting=True)]
    mortal.stop()
    mortal.wait(10)
    until(lambda: len(crashes) == 2 and downs, "the end is told, too")
    assert downs == [Down(mortal, ExitReason("shutdown"))]
    events.close()


@pytest.mark.parametrize("how", ["exit 3", "SystemExit(7)", "SIGSEGV", "SIGKILL", "abort()"])
def test_whoever_asked_hears_the_reason_of_the_death(shared: ActorSystem, how: str) -> None:
    """An ask whose handler ends the process raises `ActorDied` with the very reason."""
    method, args, expected = ENDS[how]
    mortal = shared.spawn(Mortal)
    with pytest.raises(ActorDied) as died:
        mortal.ask(method, *args).result(10)
    assert (died.value.reason, died.value.restarting) == (expected, True)
    mortal.kill()
    mortal.wait(10)


def test_an_exception_that_can_be_neither_shown_nor_sent_reaches_the_asker_as_remote_error(shared: ActorSystem) -> None:
    """`ask` of a handler that raises such an exception gives a `RemoteError` with its type's name, and the actor lives
    on.
    """
    mortal = shared.spawn(Mortal)
    with pytest.raises(RemoteError, match="Unspeakable"):
        mortal.ask(Mortal.fail_unspeakably).result(10)
    assert mortal.ask(Mortal.ok).result(10) == "ok"
    mortal.stop()
    mortal.wait(10)


class Wide(Mortal):
    """Several handlers at once, so that they run in tasks of their own."""

    concurrency = 3


@pytest.mark.parametrize(
    "how", ["SystemExit(3) in a coroutine", "SystemExit(7)", "an exception", "a null pointer", "exit 3", "stop()"]
)
def test_an_actor_with_concurrency_ends_for_the_same_reasons(shared: ActorSystem, how: str) -> None:
    """An end inside one of several handlers is the process's end, with the same reason."""
    method, args, expected = ENDS[how]
    wide = shared.spawn(Wide, restart="temporary")
    wide.tell(method, *args)
    assert wide.wait(10) == expected


class Stillborn(Actor):
    """Ends while it is made."""

    def __init__(self, method: str, args: tuple[Any, ...]) -> None:
        getattr(Mortal, method)(self, *args)


@pytest.mark.parametrize("how", [name for name in ENDS if name not in ("SystemExit(3) in a coroutine", "stop()")])
def test_an_end_in_the_constructor_is_a_spawn_error_that_names_it(shared: ActorSystem, how: str) -> None:
    """`spawn` raises `SpawnError` with the reason, one event tells it, and the name is free again."""
    method, args, expected = ENDS[how]
    events = shared.events()
    with pytest.raises(SpawnError) as error:
        shared.spawn(Stillborn, method, args, name="stillborn")
    assert str(expected) in str(error.value)
    ends = until_stopped(events)
    assert [event.kind for event in ends] == ["crashed" if expected.abnormal else "exited", "stopped"]
    assert ends[0].reason == expected
    shared.spawn(Mortal, name="stillborn").kill()
    events.close()


@pytest.mark.parametrize("share", [1, pytest.param(10, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("how", ENDS)
def test_the_reason_is_exact_every_time_and_others_are_untouched(shared: ActorSystem, how: str, share: int) -> None:
    """Every way to end again and again (the five faults 20 times, all others 10 times): the same exact reason, and the
    neighbour has the same process throughout.
    """
    method, args, expected = ENDS[how]
    neighbour = shared.lookup("bystander").info()["pid"]
    for _ in range((20 if expected.signal in FAULTS else 10) * share):
        mortal = shared.spawn(Mortal, restart="temporary")
        mortal.tell(method, *args)
        assert mortal.wait(20) == expected
    assert shared.lookup("bystander").info()["pid"] == neighbour


@pytest.mark.parametrize("count", [50])
def test_fifty_actors_that_die_at_once_are_reported_once_each(system: ActorSystem, count: int) -> None:
    """50 actors killed in one go, half of them temporary: 50 crashes, 25 ends, every restartable one answers again."""
    events = system.events()
    mortals = [system.spawn(Mortal, restart="temporary" if number % 2 else "transient") for number in range(count)]
    downs: list[Down] = []
    crashes: list[Down] = []
    for mortal in mortals:
        mortal.monitor(downs.append)
        mortal.monitor(crashes.append, incarnations=True)
    pids = [mortal.info()["pid"] for mortal in mortals]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for number, mortal in enumerate(mortals):
        if number % 2:
            assert mortal.wait(20) == killed_by(signal.SIGKILL)
        else:
            assert mortal.ask(Mortal.ok).result(20) == "ok"
    until(lambda: len(downs) == count // 2 and len(crashes) == count, "every monitor heard")
    assert {down.ref for down in downs} == set(mortals[1::2])
    assert {down.ref for down in crashes} == set(mortals)
    assert all(down.reason == killed_by(signal.SIGKILL) for down in downs + crashes)
    assert all(down.restarting == (down.ref in mortals[::2]) for down in crashes)
    marker = system.spawn(Mortal)
    found = list[Event]()
    while not (found and found[-1].ref == marker):
        found.append(events.get(10))
    assert sorted(event.pid or 0 for event in found if event.kind == "crashed") == sorted(pids)
    events.close()

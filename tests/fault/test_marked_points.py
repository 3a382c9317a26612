"""SIGKILL at every marked point of an actor's life: the reason is the kernel's, it comes back once, nobody hangs."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Event, ExitReason
from actors.supervision import Backoff
from kit import LeakGuard, Trap, children, kill, process, system_name, until

AT_ONCE = Backoff(0.0, 0.0)
KILLED = ExitReason("signal", signal=signal.SIGKILL)


def walk(trap: Trap, point: str) -> str:
    trap.passing(point)
    return point


class Passing:
    """What passes a marked point when it is encoded (on one side) or decoded (on the other)."""

    def __init__(self, trap: Trap, encoding: str = "", decoding: str = "", padding: int = 0) -> None:
        self.trap, self.encoding, self.decoding, self.padding = trap, encoding, decoding, bytes(padding)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.encoding:
            self.trap.passing(self.encoding)
        return walk, (self.trap, self.decoding)


class Output(io.StringIO):
    """What a process flushes when it exits."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self.trap = trap

    def flush(self) -> None:
        self.trap.passing("exit")


class Marked(Actor):
    """Passes the points."""

    def __init__(self, trap: Trap, argument: object) -> None:
        self.trap = trap
        trap.passing("constructor")

    def on_start(self) -> None:
        self.trap.passing("on_start")

    def on_stop(self, reason: object) -> None:
        self.trap.passing("on_stop")
        sys.stdout = Output(self.trap)

    def work(self, item: object = None) -> Passing:
        self.trap.passing("sync_handler")
        return Passing(self.trap, encoding="reply")

    async def work_async(self, item: object = None) -> Passing:
        await self.trap.passing_async("async_handler")
        return Passing(self.trap)

    def begin(self) -> None:
        self.after(0, self.tick)

    def tick(self) -> None:
        self.trap.passing("timer")

    def send(self, other: ActorRef[Any]) -> None:
        """A large message, which enlarges the other's mailbox (and is stored apart)."""
        other.tell("take", bytes(200_000), Passing(self.trap, encoding="sending"))

    def pid(self) -> int:
        return os.getpid()


class Sink(Actor):
    """Takes what it is sent."""

    def take(self, *items: object) -> None:
        return


@pytest.fixture(scope="module")
def shared(module_leak_guard: LeakGuard) -> Iterator[ActorSystem]:
    system = ActorSystem(system_name("points"))
    try:
        system.spawn(Sink, name="sink").ask(Sink.take).result(10)
        system.events().close()
        yield system
    finally:
        system.close("kill")


# How it is brought to the point, and what the asker of that message hears: an answer, or of the death.
CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "message": ("work", ("decoding",)),  # after the dequeue, before the handler
    "sync_handler": ("work", ()),
    "async_handler": ("work_async", ()),
    "reply": ("work", ()),  # after the handler, before the record is done
    "timer": ("begin", ()),
    "sending": ("send", ()),
}
STARTS = ("spare", "arguments", "constructor", "on_start")
ENDS = ("on_stop", "exit")
POINTS = [*STARTS, "idle", *CALLS, *ENDS]


def killed_at(point: str, system: ActorSystem, target: ActorRef[Marked], trap: Trap, number: int) -> int:
    """Bring it to the point and kill it there. The number of crashes that this is."""
    if point in STARTS:
        return _killed_while_it_starts(point, system, target, trap, number)
    before = target.ask(Marked.pid).result(20)
    if point == "idle":
        kill(before)
        return 1
    trap.set(point)
    if point in ENDS:
        target.restart()
        kill(trap.wait(point, number))
        return 0  # it was asked to end
    method, _ = CALLS[point]
    arguments = [Passing(trap, decoding="message")] if point == "message" else []
    if point == "sending":
        arguments = [system.lookup("sink")]
    heard: Future[object] = Future()
    target.ask(method, *arguments).add_done_callback(lambda reply: heard.set_result(reply.exception(0)))
    kill(trap.wait(point, number))
    error = heard.result(20)
    if point == "timer":
        assert error is None  # which had been answered
    else:
        assert isinstance(error, ActorDied) and (error.reason, error.restarting) == (KILLED, True)
    return 1


def _killed_while_it_starts(point: str, system: ActorSystem, target: ActorRef[Marked], trap: Trap, number: int) -> int:
    """Its replacement is killed there."""
    pid = target.ask(Marked.pid).result(20)
    if point == "spare":  # forked, and not yet told who it will be
        spare = until(lambda: spares(system), "a process waits for the next birth")[0]
        kill(spare, signal.SIGSTOP)
        until(lambda: (found := process(spare)) and found.state == "T", "it is stopped")
        kill(pid)
        until(lambda: target.info()["status"] == "starting", "the birth message was sent")
        kill(spare)
        return 1  # of a process that has not said hello nobody hears
    trap.set(point)
    kill(pid)
    kill(trap.wait(point, number))
    return 2


def spares(system: ActorSystem) -> list[int]:
    found = [process(pid) for pid in children(system.guardian_pid)]
    return [each.pid for each in found if each and each.lives and each.title.endswith(" spare")]


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_this_point_is_one_crash_and_one_restart(
    point: str, times: int, shared: ActorSystem, tmp_path: Path
) -> None:
    """Every crash is reported with SIGKILL and followed by one restart; who asked hears of the death, or its answer; the
    actor answers in the end, and its neighbour has the same process all the time."""
    trap = Trap(tmp_path)
    sink = shared.lookup("sink")
    neighbour = sink.info()["pid"]
    events = shared.events()
    target = shared.spawn(Marked, trap, Passing(trap, decoding="arguments"), backoff=AT_ONCE)
    crashes = 0
    for number in range(1, times + 1):
        crashes += killed_at(point, shared, target, trap, number)
        assert target.using(timeout=20).ask(Marked.pid).result()
    target.stop()
    target.wait(20)
    heard = list[Event]()
    while not (heard and heard[-1].kind == "stopped"):
        event = events.get(20)
        if event.ref == target:
            heard.append(event)
    events.close()
    kinds = [event.kind for event in heard]
    assert [event.reason for event in heard if event.kind == "crashed"] == [KILLED] * crashes
    ended = crashes + (times if point in ENDS else 0)
    assert kinds.count("restarting") == ended
    restarts = times  # what died while it started was not there yet
    assert kinds.count("restarted") == restarts
    assert kinds.count("started") == kinds.count("stopped") == 1
    assert sink.info()["pid"] == neighbour

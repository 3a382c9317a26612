"""Who hears of an end, and what it says: reasons, monitors, links, events."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem, Down, Event, ExitReason
from actors.supervision import Backoff
from kit import system_name, until
from kit.plain import Plain

AT_ONCE = Backoff(0.0, 0.0)


# --- reasons


@pytest.mark.parametrize(
    ("act", "reason", "text"),
    [
        (lambda ref: ref.tell(Plain.leave), ExitReason("normal"), "stopped itself"),
        (lambda ref: ref.stop(), ExitReason("shutdown"), "shut down"),
        (lambda ref: ref.tell(Plain.fail), ExitReason("exception", code=1, error="ValueError: told to"), "raised ValueError: told to"),
        (lambda ref: ref.tell(Plain.exit, 0), ExitReason("exit", code=0), "exited with code 0"),
        (lambda ref: ref.tell(Plain.exit, 7), ExitReason("exit", code=7), "exited with code 7"),
        (lambda ref: ref.tell(Plain.kill_yourself, 11), ExitReason("signal", signal=signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda ref: ref.kill(), ExitReason("signal", signal=signal.SIGKILL), "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_an_exit_reason_says_how_it_ended_as_data_and_as_a_sentence(
    spawn, act: Any, reason: ExitReason, text: str
) -> None:
    ref = spawn(Plain, restart="temporary")
    act(ref)
    got = ref.wait(10)
    assert got == reason
    assert str(got) == text
    assert isinstance(got.signal, signal.Signals | None)


# --- monitors


def test_a_monitor_outside_actors_calls_back_exactly_once(spawn) -> None:
    downs: list[Down] = []
    ref = spawn(Plain)
    ref.monitor(downs.append)
    ref.stop()
    until(lambda: downs, "the callback was called")
    ref.wait(5)
    assert [(down.ref, down.reason, down.restarting) for down in downs] == [(ref, ExitReason("shutdown"), False)]


def test_a_monitor_of_one_that_is_already_dead_calls_back_too(spawn) -> None:
    downs: list[Down] = []
    ref = spawn(Plain)
    ref.kill()
    ref.wait(5)
    ref.monitor(downs.append)
    until(lambda: downs, "the callback was called")
    assert (downs[0].ref, downs[0].reason.signal) == (ref, signal.SIGKILL)


def test_a_monitor_speaks_of_the_actor_not_of_an_incarnation(spawn) -> None:
    downs: list[Down] = []
    ref = spawn(Plain, backoff=AT_ONCE)
    ref.monitor(downs.append)
    ref.tell(Plain.fail)
    ref.ask(Plain.pid).result(5)
    assert downs == []
    ref.stop()
    until(lambda: downs, "the callback was called")
    assert downs[0].reason.kind == "shutdown"


def test_a_monitor_with_incarnations_hears_every_crash_too(spawn) -> None:
    downs: list[Down] = []
    ref = spawn(Plain, backoff=AT_ONCE)
    ref.monitor(downs.append, incarnations=True)
    for _ in range(2):
        ref.tell(Plain.fail)
        ref.ask(Plain.pid).result(5)
    ref.stop()
    until(lambda: len(downs) == 3, "three downs")
    assert [(down.reason.kind, down.restarting) for down in downs] == [
        ("exception", True),
        ("exception", True),
        ("shutdown", False),
    ]


def test_a_cancelled_monitor_hears_nothing(spawn) -> None:
    downs: list[Down] = []
    other: list[Down] = []
    ref = spawn(Plain)
    monitor = ref.monitor(downs.append)
    ref.monitor(other.append)
    monitor.cancel()
    monitor.cancel()
    ref.stop()
    until(lambda: other, "the other one hears it")
    assert downs == []


def test_a_monitors_callback_that_raises_harms_nobody(spawn, caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()
    ref = spawn(Plain)
    ref.monitor(lambda down: 1 / 0)
    ref.monitor(lambda down: called.set())
    ref.stop()
    assert called.wait(5)
    assert "ZeroDivisionError" in caplog.text


def test_a_monitors_callback_may_spawn_the_successor(system: ActorSystem, spawn) -> None:
    successors: list[int] = []

    def replace(down: Down) -> None:
        successor = system.spawn(Plain)
        successors.append(successor.ask(Plain.pid).result(10))
        successor.kill()

    ref = spawn(Plain)
    ref.monitor(replace)
    ref.kill()
    until(lambda: successors, "it was replaced")


class Watcher(Actor):
    def __init__(self) -> None:
        self.heard: list[tuple[ActorRef[Any], ExitReason]] = []

    def watch(self, ref: ActorRef[Any], incarnations: bool = False) -> None:
        self.monitor_ = self.monitor(ref, incarnations=incarnations)

    def unwatch(self) -> None:
        self.monitor_.cancel()

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        self.heard.append((ref, reason))

    def all(self) -> list[tuple[ActorRef[Any], ExitReason]]:
        return self.heard

    def fail(self) -> None:
        raise ValueError("told to")


class AsyncWatcher(Watcher):
    async def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        await asyncio.sleep(0)
        self.heard.append((ref, reason))


@pytest.mark.parametrize("kind", [Watcher, AsyncWatcher])
def test_on_down_hears_of_monitored_actors_once(spawn, kind: Any) -> None:
    watcher, ref = spawn(kind), spawn(Plain)
    watcher.ask(Watcher.watch, ref).result(5)
    ref.stop()
    until(lambda: watcher.ask(Watcher.all).result(5), "it was told")
    assert watcher.ask(Watcher.all).result(5) == [(ref, ExitReason("shutdown"))]
    watcher.ask(Watcher.watch, ref).result(5)  # already dead
    until(lambda: len(watcher.ask(Watcher.all).result(5)) == 2, "it was told again")


def test_on_down_with_incarnations_hears_every_crash(spawn) -> None:
    watcher, ref = spawn(Watcher), spawn(Plain, backoff=AT_ONCE)
    watcher.ask(Watcher.watch, ref, True).result(5)
    ref.tell(Plain.fail)
    until(lambda: len(watcher.ask(Watcher.all).result(5)) == 1, "the crash")
    ref.ask(Plain.pid).result(5)
    ref.kill()
    until(lambda: len(watcher.ask(Watcher.all).result(5)) == 2, "the end")
    assert [reason.kind for _, reason in watcher.ask(Watcher.all).result(5)] == ["exception", "signal"]


def test_a_cancelled_monitor_of_an_actor_hears_nothing(spawn) -> None:
    watcher, ref, other = spawn(Watcher), spawn(Plain), spawn(Plain)
    watcher.ask(Watcher.watch, ref).result(5)
    watcher.ask(Watcher.unwatch).result(5)
    watcher.ask(Watcher.watch, other).result(5)
    ref.kill()
    ref.wait(5)
    other.kill()
    until(lambda: watcher.ask(Watcher.all).result(5), "it hears of the other")
    assert [each for each, _ in watcher.ask(Watcher.all).result(5)] == [other]


def test_monitors_end_with_their_incarnation(spawn) -> None:
    watcher, ref = spawn(Watcher, backoff=AT_ONCE), spawn(Plain)
    watcher.ask(Watcher.watch, ref).result(5)
    watcher.tell(Watcher.fail)
    assert watcher.ask(Watcher.all).result(5) == []
    ref.kill()
    ref.wait(5)
    assert watcher.ask(Watcher.all).result(5) == []


# --- links


class Linked(Plain):
    def link_to(self, ref: ActorRef[Any]) -> None:
        self.link(ref)


def test_linked_actors_end_together_when_one_ends_abnormally(spawn) -> None:
    first, second = spawn(Linked, restart="temporary"), spawn(Linked, restart="temporary")
    first.ask(Linked.link_to, second).result(5)
    second.tell(Plain.fail)
    assert second.wait(5).kind == "exception"
    reason = first.wait(5)
    assert reason.kind == "exception"
    assert f"linked to {second.name}" in str(reason)


def test_links_go_both_ways(spawn) -> None:
    first, second = spawn(Linked, restart="temporary"), spawn(Linked, restart="temporary")
    first.ask(Linked.link_to, second).result(5)
    first.kill()
    assert f"linked to {first.name}" in str(second.wait(5).error)


def test_a_normal_end_leaves_linked_actors_alone(spawn) -> None:
    first, second = spawn(Linked), spawn(Linked)
    first.ask(Linked.link_to, second).result(5)
    second.tell(Plain.leave)
    second.wait(5)
    assert first.ask(Plain.pid).result(5) > 0
    assert first.info()["incarnation"] == 1


def test_a_link_to_one_that_has_ended_abnormally_ends_the_linker(spawn) -> None:
    first, second = spawn(Linked, restart="temporary"), spawn(Linked, restart="temporary")
    second.tell(Plain.fail)
    second.wait(5)
    first.tell(Linked.link_to, second)
    assert f"linked to {second.name}" in str(first.wait(5))


def test_links_are_between_incarnations(spawn) -> None:
    """Both are restarted; the next incarnations are not linked any more."""
    first, second = spawn(Linked, backoff=AT_ONCE), spawn(Linked, backoff=AT_ONCE)
    first.ask(Linked.link_to, second).result(5)
    second.tell(Plain.fail)
    until(lambda: (first.info()["restarts"], second.info()["restarts"]) == (1, 1), "both were restarted")
    assert first.ask(Plain.pid).result(5) > 0
    second.tell(Plain.fail)
    until(lambda: second.info()["restarts"] == 2, "it was restarted again")
    second.ask(Plain.pid).result(5)
    assert first.info()["restarts"] == 1


def test_a_link_made_while_the_other_restarts_attaches_to_the_next_incarnation(spawn) -> None:
    first, second = spawn(Linked, restart="temporary"), spawn(Linked, backoff=Backoff(60.0, 60.0))
    for _ in range(2):  # the first restart is immediate
        until(lambda: second.info()["status"] == "running", "it runs")
        second.tell(Plain.fail)
    until(lambda: second.info()["status"] == "backoff", "it waits")
    first.ask(Linked.link_to, second).result(5)
    second.restart()
    second.ask(Plain.pid).result(5)
    assert first.info()["status"] == "running"
    second.kill()
    assert f"linked to {second.name}" in str(first.wait(5))


# --- events


def test_events_tell_everything_that_happens_as_it_happens(own: ActorSystem) -> None:
    events = own.events()
    ref = own.spawn(Plain, backoff=AT_ONCE, name="plain")
    pid = ref.ask(Plain.pid).result(5)
    ref.tell(Plain.fail)
    ref.ask(Plain.pid).result(5)
    ref.stop()
    ref.wait(5)
    seen: list[Event] = []
    while not seen or seen[-1].kind != "stopped":
        seen.append(events.get(5))
    kinds = [event.kind for event in seen]
    assert kinds[0] == "started"
    assert [kind for kind in kinds if kind in ("started", "crashed", "restarted", "stopped")] == [
        "started", "crashed", "restarted", "stopped",
    ]  # fmt: skip
    crashed = seen[kinds.index("crashed")]
    assert (crashed.ref, crashed.pid) == (ref, pid)
    assert crashed.reason == ExitReason("exception", code=1, error="ValueError: told to")
    assert seen[-1].reason == ExitReason("shutdown")
    assert all(isinstance(event.time, float) for event in seen)


def test_events_can_be_iterated_in_a_loop(own: ActorSystem) -> None:
    async def main() -> list[str]:
        events = own.events()
        ref = await own.spawn_async(Plain)
        ref.kill()
        seen = []
        async for event in events:
            seen.append(event.kind)
            if event.kind == "stopped":
                events.close()
        return seen

    seen = asyncio.run(main())
    assert seen[0] == "started"
    assert seen[-1] == "stopped"


def test_iterators_of_events_end_with_the_system(leak_guard) -> None:
    with ActorSystem(system_name("events")) as system:
        events = system.events()
        got: list[str] = []
        thread = threading.Thread(target=lambda: got.extend(event.kind for event in events))
        thread.start()
        system.spawn(Plain)
    thread.join(5)
    assert got[0] == "started"
    assert got[-1] == "stopped"


def test_what_has_happened_before_a_stream_is_closed_can_be_read(own: ActorSystem) -> None:
    """Also where the thread that hears of it is busy with a callback while this one knows already."""
    events, busy, known = own.events(), threading.Event(), threading.Event()
    first, second = own.spawn(Plain), own.spawn(Plain)
    first.monitor(lambda _: (busy.set(), known.wait(10)))
    first.kill()
    assert busy.wait(10)
    second.kill()
    second.wait(10)
    threading.Timer(0.1, known.set).start()  # while this thread closes the stream
    events.close()
    assert ("stopped", second) in [(event.kind, event.ref) for event in events]

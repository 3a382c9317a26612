"""Probes: actors whose messages the test receives."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef
from actors.testing import Probe, TestSystem, kill


@dataclasses.dataclass
class Note:
    text: str


class Listener(Actor):
    """What the actors under test believe that they speak to."""

    def note(self, note: Note) -> None: ...
    def number(self, value: int) -> int: ...  # type: ignore[empty-body]
    async def name(self) -> str: ...  # type: ignore[empty-body]


class Speaker(Actor):
    def tell_note(self, to: ActorRef[Listener], text: str) -> None:
        to.tell(Listener.note, Note(text))

    def tell_all(self, to: ActorRef[Listener], count: int) -> None:
        for number in range(count):
            to.tell(Listener.number, number)

    def ask_number(self, to: ActorRef[Listener], value: int) -> int:
        return to.ask(Listener.number, value).result() + 1

    async def ask_name(self, to: ActorRef[Listener]) -> str:
        return await to.ask(Listener.name)

    def large(self, to: ActorRef[Any], size: int) -> None:
        to.tell("blob", b"x" * size)


@pytest.fixture
def speaker(system: TestSystem) -> ActorRef[Speaker]:
    return system.spawn(Speaker, name="speaker")


def test_expect_a_type_gives_the_message_s_content(probe: Probe[Any], speaker: ActorRef[Speaker]) -> None:
    speaker.tell(Speaker.tell_note, probe.ref, "a")
    assert probe.expect(Note) == Note("a")


def test_expect_a_method_gives_the_call(probe: Probe[Any], speaker: ActorRef[Speaker]) -> None:
    speaker.tell(Speaker.tell_note, probe.ref, "a")
    speaker.tell(Speaker.tell_note, probe.ref, "b")
    call = probe.expect(Listener.note)
    assert (call.method, call.args, call.kwargs, call.sender, call.asked) == ("note", (Note("a"),), {}, speaker, False)
    assert probe.expect("note").args == (Note("b"),)


def test_messages_come_in_order_and_none_is_lost_between_waits(system: TestSystem, speaker: ActorRef[Speaker]) -> None:
    probe = system.probe(Listener)
    for number in range(5):
        with pytest.raises(AssertionError, match="no message"):
            probe.receive(timeout=0.001 * number)
    speaker.tell(Speaker.tell_all, probe.ref, 500)
    assert [probe.receive().args[0] for _ in range(500)] == list(range(500))
    probe.expect_nothing()


def test_a_failed_expectation_says_what_came_instead(probe: Probe[Any], speaker: ActorRef[Speaker]) -> None:
    speaker.tell(Speaker.tell_all, probe.ref, 3)
    with pytest.raises(AssertionError, match=r"probe-1: expected a Note, and tell number\(0\) came"):
        probe.expect(Note)
    with pytest.raises(AssertionError, match=r"expected note, and tell number\(1\) came"):
        probe.expect(Listener.note)
    with pytest.raises(AssertionError, match=r"tell number\(2\) came where nothing was expected"):
        probe.expect_nothing()
    with pytest.raises(AssertionError, match=r"expected a Note, and nothing came within 0.01 s"):
        probe.expect(Note, 0.01)


def test_asks_wait_until_the_test_answers(system: TestSystem, speaker: ActorRef[Speaker]) -> None:
    probe = system.probe(Listener, name="listener")
    replies = [speaker.ask(Speaker.ask_number, probe.ref, 1), speaker.ask(Speaker.ask_name, probe.ref)]
    call = probe.expect(Listener.number)
    assert call.asked
    assert not replies[0].done()
    call.reply(10)
    assert replies[0].result(5) == 11
    probe.expect(Listener.name)
    probe.reply("me")
    assert replies[1].result(5) == "me"


def test_asks_may_be_answered_in_any_order_and_with_exceptions(system: TestSystem) -> None:
    probe = system.probe(Listener)
    replies = [probe.ref.ask(Listener.number, number) for number in range(20)]
    calls = [probe.receive() for _ in replies]
    for call in reversed(calls[1:]):
        call.reply(call.args[0] * 2)
    calls[0].fail(ValueError("zero"))
    assert [reply.result(5) for reply in replies[1:]] == [2 * number for number in range(1, 20)]
    with pytest.raises(ValueError, match="zero"):
        replies[0].result(5)


def test_wrong_answers_are_refused(probe: Probe[Any]) -> None:
    with pytest.raises(AssertionError, match="nothing was asked"):
        probe.reply(1)
    probe.ref.tell("hello")
    with pytest.raises(AssertionError, match="nobody waits"):
        probe.receive().reply(1)
    reply = probe.ref.ask("hello")
    call = probe.receive()
    call.reply(1)
    with pytest.raises(AssertionError, match="answered already"):
        call.reply(2)
    assert reply.result(5) == 1


def test_an_ask_that_is_not_answered_ends_with_the_probe(probe: Probe[Any]) -> None:
    reply = probe.ref.ask("hello")
    probe.expect("hello")
    probe.ref.stop()
    with pytest.raises(ActorDied):
        reply.result(5)
    probe.ref.wait(5)
    with pytest.raises(AssertionError, match="the probe itself is gone"):
        probe.receive()


def test_large_messages_arrive_whole(probe: Probe[Any], speaker: ActorRef[Speaker]) -> None:
    size = 3 << 20
    speaker.tell(Speaker.large, probe.ref, size)
    assert probe.expect(bytes) == b"x" * size
    reply = probe.ref.ask("echo", b"y" * size)
    call = probe.receive()
    call.reply(call.args[0])
    assert reply.result(5) == b"y" * size


def test_a_probe_is_an_actor_to_others(system: TestSystem, probe: Probe[Any]) -> None:
    """It is found by name, monitored, and may die."""
    assert system.lookup(probe.ref.name) == probe.ref
    other, downs = system.probe(), []
    probe.ref.monitor(downs.append)
    kill(probe.ref)
    assert other.expect_down(probe.ref).kind == "signal"
    with pytest.raises(AssertionError, match="not ended"):
        other.expect_down(other.ref, timeout=0.01)


def test_probes_in_a_coroutine(system: TestSystem) -> None:
    async def run() -> None:
        probe = system.probe(Listener)
        reply = probe.ref.ask(Listener.number, 1)
        (await probe.expect_async(Listener.number)).reply(2)
        assert await reply == 2
        with pytest.raises(AssertionError, match="no message"):
            await probe.receive_async(0.01)
        await probe.expect_nothing_async(0.01)
        probe.ref.tell(Listener.note, Note("a"))
        assert await probe.expect_async(Note) == Note("a")
        with pytest.raises(AssertionError, match="not ended"):
            await probe.expect_down_async(probe.ref, 0.01)
        probe.ref.stop()
        assert (await probe.expect_down_async(probe.ref)).kind == "shutdown"

    asyncio.run(run())

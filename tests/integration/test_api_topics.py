"""Topics: everybody who hears one gets every message, in order, and nobody slows the publisher beyond his own policy."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorsError,
    ActorSystem,
    CodecError,
    MailboxFull,
    MailboxOptions,
    SpecError,
    Topic,
)
from kit import Gate, system_name, until

Spawn = Callable[..., Any]
SMALL = 4096
names = iter(range(1_000_000))


@pytest.fixture
def topic(system: ActorSystem) -> Iterator[Topic[Any]]:
    yield system.topic(f"topic-{next(names)}")


class Hearer(Actor):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, message: Any) -> None:
        self.heard.append(message)

    def twice(self, message: Any) -> None:
        self.heard.append((message, message))

    def all(self) -> list[Any]:
        return self.heard

    def wait(self, gate: Gate) -> None:
        gate.wait()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def subscribe(self, topic: Topic[Any]) -> None:
        topic.subscribe(self.ref, Hearer.hear)


class Speaker(Actor):
    def speak(self, topic: Topic[Any], *messages: Any) -> int:
        return sum(topic.publish(message) for message in messages)

    async def speak_async(self, topic: Topic[Any], *messages: Any) -> int:
        return sum([await topic.publish_async(message) for message in messages])


def heard(ref: ActorRef[Hearer]) -> list[Any]:
    return ref.ask(Hearer.all).result(timeout=10)


def test_every_subscriber_gets_every_message_in_order_and_late_ones_only_later_ones(
    spawn: Spawn, topic: Topic[Any]
) -> None:
    early, late = spawn(Hearer), spawn(Hearer)
    topic.subscribe(early, Hearer.hear)
    assert [topic.publish(n) for n in range(50)] == [1] * 50
    topic.subscribe(late, Hearer.hear)
    assert [topic.publish(n) for n in range(50, 100)] == [2] * 50
    assert heard(early) == list(range(100))
    assert heard(late) == list(range(50, 100))


def test_nobody_hears_a_topic_without_subscribers(topic: Topic[Any]) -> None:
    assert topic.publish(1) == 0
    assert topic.subscribers() == []


def test_a_subscription_that_returned_is_known_to_every_publisher(spawn: Spawn, topic: Topic[Any]) -> None:
    """Also to one in another process that has published before and is told by the subscriber."""
    speakers, hearers = [spawn(Speaker) for _ in range(2)], []
    for round_ in range(20):
        hearers.append(spawn(Hearer) if round_ < 3 else hearers[round_ % 3])
        topic.subscribe(hearers[-1], Hearer.hear)
        for method in (Speaker.speak, Speaker.speak_async):
            assert speakers[round_ % 2].ask(method, topic, round_).result(timeout=10) == min(round_ + 1, 3)
        assert topic.publish(round_) == min(round_ + 1, 3)
        if round_ > 5:
            topic.unsubscribe(hearers[0], Hearer.hear)
            assert speakers[round_ % 2].ask(Speaker.speak, topic, round_).result(timeout=10) == 2
            topic.subscribe(hearers[0], Hearer.hear)


def test_each_publishers_messages_keep_their_order(spawn: Spawn, topic: Topic[Any]) -> None:
    hearers = [spawn(Hearer) for _ in range(3)]
    for hearer in hearers:
        topic.subscribe(hearer, Hearer.hear)
    speaking = [spawn(Speaker).ask(Speaker.speak, topic, *range(start, start + 300)) for start in (0, 1000, 2000)]
    assert [reply.result(timeout=20) for reply in speaking] == [900] * 3
    for hearer in hearers:
        got = heard(hearer)
        assert len(got) == 900
        for start in (0, 1000, 2000):
            assert [n for n in got if start <= n < start + 300] == list(range(start, start + 300))


def test_an_actor_may_hear_with_several_methods_and_leave_with_one_or_all(spawn: Spawn, topic: Topic[Any]) -> None:
    hearer = spawn(Hearer)
    for method in (Hearer.hear, Hearer.hear, Hearer.twice):
        topic.subscribe(hearer, method)
    assert topic.subscribers() == [(hearer, "hear"), (hearer, "twice")]
    topic.publish(1)
    topic.unsubscribe(hearer, Hearer.hear)
    topic.publish(2)
    topic.unsubscribe(hearer)
    topic.unsubscribe(hearer)
    assert topic.publish(3) == 0
    assert heard(hearer) == [1, (1, 1), (2, 2)]


def test_an_actor_subscribes_itself(spawn: Spawn, topic: Topic[Any]) -> None:
    hearer = spawn(Hearer)
    hearer.ask(Hearer.subscribe, topic).result(timeout=10)
    topic.publish(1)
    assert heard(hearer) == [1]


def test_subscribers_leave_when_they_have_ended_and_not_when_they_crash(spawn: Spawn, topic: Topic[Any]) -> None:
    ends, crashes = spawn(Hearer), spawn(Hearer)
    for hearer in (ends, crashes):
        topic.subscribe(hearer, Hearer.hear)
    pid = crashes.info()["pid"]
    crashes.tell(Hearer.crash)
    until(lambda: crashes.info()["pid"] not in (pid, None), "a new incarnation")
    ends.kill()
    ends.wait(10)
    assert topic.subscribers() == [(crashes, "hear")]
    assert topic.publish("later") == 1
    assert heard(crashes) == ["later"]
    with pytest.raises(ActorDied):
        topic.subscribe(ends, Hearer.hear)


def test_one_that_has_failed_is_left_out_until_it_is_resumed(spawn: Spawn, topic: Topic[Any]) -> None:
    hearer = spawn(Hearer, max_restarts=0)
    topic.subscribe(hearer, Hearer.hear)
    hearer.tell(Hearer.crash)
    hearer.wait(10)
    assert topic.publish("while it is failed") == 0
    hearer.resume()
    until(lambda: topic.publish("later") == 1, "it to hear again")
    assert set(heard(hearer)) == {"later"}


def test_a_slow_subscriber_holds_up_no_other_and_its_policy_decides_for_the_publisher(
    spawn: Spawn, topic: Topic[Any], tmp_path: Path
) -> None:
    quick = spawn(Hearer)
    slow = {
        overflow: spawn(Hearer, mailbox=MailboxOptions(capacity=SMALL, overflow=overflow))
        for overflow in ("drop", "raise")
    }
    for hearer in (*slow.values(), quick):
        topic.subscribe(hearer, Hearer.hear)
    gates = {overflow: Gate(tmp_path / overflow) for overflow in slow}
    for overflow, hearer in slow.items():
        hearer.tell(Hearer.wait, gates[overflow])
    refused = 0
    for number in range(50):
        try:
            assert topic.publish([number, bytes(500)]) == 3
        except MailboxFull as error:
            assert "1 of its subscribers" in str(error)
            refused += 1
    assert [number for number, _ in heard(quick)] == list(range(50))
    for gate in gates.values():
        gate.open()
    for overflow, expected in (("drop", range(1, 50)), ("raise", range(50 - refused, 51 - refused))):
        until(lambda overflow=overflow: slow[overflow].info()["mailbox"]["depth"] == 0, "it to catch up")  # type: ignore[misc]
        assert len(heard(slow[overflow])) in expected


def test_one_that_blocks_holds_the_publisher_up_after_all_others_have_got_the_message(
    spawn: Spawn, topic: Topic[Any], tmp_path: Path
) -> None:
    gate, slow, quick = Gate(tmp_path / "gate"), spawn(Hearer, mailbox=MailboxOptions(capacity=SMALL)), spawn(Hearer)
    for hearer in (slow, quick):
        topic.subscribe(hearer, Hearer.hear)
    slow.tell(Hearer.wait, gate)

    def speak() -> None:
        for number in range(20):
            topic.publish([number, bytes(500)])

    speaking = threading.Thread(target=speak)
    speaking.start()
    until(lambda: len(heard(quick)) > 3, "the quick one to hear")
    speaking.join(0.1)
    assert speaking.is_alive()
    at = len(heard(quick))
    assert at < 20

    async def in_a_coroutine() -> None:
        with pytest.raises(MailboxFull):
            topic.publish([99, bytes(500)])
        waiting = asyncio.create_task(topic.publish_async([100, bytes(500)]))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        gate.open()
        assert await asyncio.wait_for(waiting, 20) == 2

    asyncio.run(in_a_coroutine())
    speaking.join(20)
    assert [number for number, _ in heard(slow) if number < 99] == list(range(20))
    assert [number for number, _ in heard(quick) if number < 99] == list(range(20))


def test_large_messages_and_own_classes_arrive(spawn: Spawn, topic: Topic[Any]) -> None:
    hearers = [spawn(Hearer) for _ in range(2)]
    for hearer in hearers:
        topic.subscribe(hearer, Hearer.hear)
    large = os.urandom(3_000_000)
    assert topic.publish(large) == 2
    assert topic.publish({"at": Path("/x"), "n": (1, 2)}) == 2
    assert [heard(hearer) for hearer in hearers] == [[large, {"at": Path("/x"), "n": (1, 2)}]] * 2


def test_what_cannot_be_sent_is_sent_to_nobody(spawn: Spawn, topic: Topic[Any]) -> None:
    hearer = spawn(Hearer)
    topic.subscribe(hearer, Hearer.hear)
    with pytest.raises(CodecError, match="lock"):
        topic.publish(threading.Lock())
    assert heard(hearer) == []


def test_a_topic_is_a_value_and_belongs_to_its_system(system: ActorSystem, own: ActorSystem, topic: Topic[Any]) -> None:
    assert pickle.loads(pickle.dumps(topic)) == system.topic(topic.name) == topic
    assert own.topic(topic.name) != topic
    with pytest.raises(ActorsError, match="belongs to another system"):
        topic.subscribe(own.spawn(Hearer), Hearer.hear)
    with pytest.raises(SpecError, match="use 1 to 255"):
        system.topic("no spaces")
    with pytest.raises(AttributeError, match="private"):
        own.topic("other").subscribe(own.spawn(Hearer), "_hear")


def test_publishing_asks_the_guardian_for_nothing(
    spawn: Spawn, topic: Topic[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hearer = spawn(Hearer)
    topic.subscribe(hearer, Hearer.hear)
    topic.publish(0)
    from actors.client import Client

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the guardian was asked")

    with monkeypatch.context() as patched:
        for name in ("send", "request", "exchange"):
            patched.setattr(Client, name, asked)
        assert [topic.publish(n) for n in range(1, 100)] == [1] * 99
    assert heard(hearer) == list(range(100))


def test_after_the_systems_end_it_says_so() -> None:
    system = ActorSystem(system_name())
    topic: Topic[int] = system.topic("ticks")
    assert topic.publish(1) == 0
    system.close()
    with pytest.raises(ActorsError, match=r"closed|not connected"):
        topic.publish(1)

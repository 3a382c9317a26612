"""Senders that wait for room in a mailbox whose actor dies: those that can be served are, the others are told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorsError, ActorSystem, MailboxFull, MailboxOptions
from kit import Journal, Waiting, kill, until

SMALL = MailboxOptions(capacity=4096)


class Clogged(Actor):
    """Hangs in its first incarnation, works in the next."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def hang(self) -> None:
        self.journal.write("hangs")
        while True:
            pass

    def note(self, sender: int, padding: bytes) -> int:
        self.journal.write("note", sender)
        return sender

    def pid(self) -> int:
        return os.getpid()


class Sender(Actor):
    """Pushes into a full mailbox."""

    def push(self, target: ActorRef[Clogged], journal: Journal, number: int) -> str:
        journal.write("pushes")
        try:
            target.tell(Clogged.note, number, bytes(600))
        except ActorsError as error:
            return type(error).__name__
        return "accepted"


@pytest.fixture
def clogged(system: ActorSystem, journal: Journal) -> ActorRef[Clogged]:
    """An actor that hangs, with a full mailbox."""
    ref = system.spawn(Clogged, journal, mailbox=SMALL, shutdown=0.1)
    ref.tell(Clogged.hang)
    journal.until("hangs")
    try:
        while True:
            ref.using(timeout=0.05).ask(Clogged.note, 0, bytes(600))
    except MailboxFull:
        return ref


def waiters(system: ActorSystem, ref: ActorRef[Clogged], journal: Journal) -> dict[str, Callable[[], Any]]:
    """One sender of each kind, waiting for room."""
    sender = system.spawn(Sender)
    asked = sender.ask(Sender.push, ref, journal, 1)
    journal.until("pushes")
    told = Waiting(lambda: ref.tell(Clogged.note, 2, bytes(600)))
    awaited = Waiting(lambda: asyncio.run(ref.tell_async(Clogged.note, 3, bytes(600))))
    answered = Waiting(lambda: ref.ask(Clogged.note, 4, bytes(600)).result())
    return {
        "actor": lambda: asked.result(20),
        "tell": told.result,
        "tell_async": awaited.result,
        "ask": answered.result,
    }


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_whoever_waits_for_room_hears_of_the_end(
    end: str, system: ActorSystem, clogged: ActorRef[Clogged], journal: Journal
) -> None:
    """The actor ends for good: actors, threads and coroutines that wait for room in its mailbox raise `ActorDied`."""
    waiting = waiters(system, clogged, journal)
    getattr(clogged, end)()
    outcomes = {name: result() for name, result in waiting.items()}
    assert outcomes.pop("actor") == "ActorDied"
    assert {name: type(outcome) for name, outcome in outcomes.items()} == dict.fromkeys(outcomes, ActorDied)


def test_whoever_waits_for_room_gets_it_from_the_next_incarnation(
    system: ActorSystem, clogged: ActorRef[Clogged], journal: Journal
) -> None:
    """The actor is killed and comes back: everything is accepted and handled once."""
    waiting = waiters(system, clogged, journal)
    pid = clogged.info()["pid"]
    kill(pid)
    outcomes = {name: result() for name, result in waiting.items()}
    assert outcomes == {"actor": "accepted", "tell": None, "tell_async": None, "ask": 4}
    assert clogged.ask(Clogged.pid).result(20) != pid
    assert sorted(row[1] for row in journal.rows() if row[0] == "note" and row[1] != "0") == ["1", "2", "3", "4"]


def test_a_sender_killed_while_it_waits_for_room_has_sent_nothing(
    system: ActorSystem, clogged: ActorRef[Clogged], journal: Journal
) -> None:
    """Its message is not there afterwards, and others get their room."""
    sender = system.spawn(Sender, restart="temporary")
    held = sender.ask(Sender.push, clogged, journal, 1)
    journal.until("pushes")
    other = Waiting(lambda: clogged.tell(Clogged.note, 2, bytes(600)))
    sender.kill()
    with pytest.raises(ActorDied):
        held.result(10)
    kill(clogged.info()["pid"])
    assert other.result() is None
    assert clogged.ask(Clogged.pid).result(20)
    assert [row[1] for row in journal.rows() if row[0] == "note" and row[1] != "0"] == ["2"]


class Large(Actor):
    """Takes messages too large for the ring."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def hang(self) -> None:
        self.journal.write("hangs")
        while True:
            pass

    def size(self, body: bytes) -> int:
        return len(body)

    def give(self, size: int) -> bytes:
        return bytes(size)

    def die_with(self, body: bytes) -> None:
        self.journal.write("dies")
        if self.journal.lines().count("dies") == 1:
            os.kill(os.getpid(), 9)


def large_bytes(system: ActorSystem) -> int:
    """Bytes of large data that somebody has a lease on."""
    in_use: int = system.tree()["memory"]["in_use"]
    return in_use


def test_large_messages_survive_the_death_of_their_reader(system: ActorSystem, journal: Journal) -> None:
    """Ten messages of a megabyte wait behind a handler that hangs; after a SIGKILL the next incarnation reads them, and
    nobody has a lease on them any more."""
    large = system.spawn(Large, journal)
    assert large.ask(Large.size, bytes(1 << 20)).result(20) == 1 << 20
    large.tell(Large.hang)
    journal.until("hangs")
    replies = [large.ask(Large.size, bytes(1 << 20)) for _ in range(10)]
    assert large_bytes(system) == 10 << 20
    kill(large.info()["pid"])
    assert [reply.result(20) for reply in replies] == [1 << 20] * 10
    until(lambda: large_bytes(system) == 0, "the guardian has let go of them")


@pytest.mark.parametrize("redeliver", [0, 1])
def test_a_large_message_in_hand_at_a_death_is_dropped_or_handed_out_again(
    redeliver: int, system: ActorSystem, journal: Journal
) -> None:
    """Without `redeliver` it becomes a dead letter and its memory is freed; with it the next incarnation reads it."""
    letters = system.dead_letters()
    large = system.spawn(Large, journal, redeliver=redeliver)
    assert large.ask(Large.size, bytes(1 << 20)).result(20) == 1 << 20
    large.tell(Large.die_with, bytes(1 << 20))
    assert large.ask(Large.size, b"").result(20) == 0
    assert journal.lines().count("dies") == 1 + redeliver
    if not redeliver:
        assert letters.get(10).target == large
    until(lambda: large_bytes(system) == 0, "the guardian has let go of it")


def test_large_messages_of_an_ended_actor_are_let_go_of(system: ActorSystem, journal: Journal) -> None:
    """Queued ones of a killed actor, and answers that nobody fetched because the asker gave up."""
    large = system.spawn(Large, journal)
    assert large.ask(Large.size, bytes(1 << 20)).result(20) == 1 << 20
    other = system.spawn(Large, journal)
    assert len(other.ask(Large.give, 3 << 20).result(20)) == 3 << 20
    for _ in range(5):
        reply = other.ask(Large.give, 3 << 20)
        reply.cancel()
        del reply
    assert other.ask(Large.size, b"").result(20) == 0
    large.tell(Large.hang)
    journal.until("hangs")
    for _ in range(5):
        large.tell(Large.size, bytes(1 << 20))
    large.kill()
    large.wait(10)
    until(lambda: large_bytes(system) == 0, "the guardian has let go of all of it")

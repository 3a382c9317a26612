"""Pools that are resized, and whose members are killed, while several processes send: nothing that was accepted is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorSystem, PoolRef
from actors.supervision import Backoff
from kit import History, Journal, until

AT_ONCE = Backoff(0.0, 0.0)


class Member(Actor):
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def note(self, sender: str, number: int) -> int:
        self.journal.write("begin", sender, number)
        self.journal.write("end", sender, number)
        return number


class Sender(Actor):
    """Sends on and on."""

    def __init__(self, pool: PoolRef[Member], journal: Journal) -> None:
        self.pool_, self.journal, self.number, self.name = pool, journal, 0, self.ref.name
        self.every(0.002, self.send)

    def send(self) -> None:
        for _ in range(5):
            self.journal.write("try", self.name, self.number)
            self.pool_.tell(Member.note, self.name, self.number)
            self.journal.write("sent", self.name, self.number)
            self.number += 1


class Unordered(History):
    """Members work side by side: only each key's order is kept, and a pool of another size has other members for it."""

    def _disordered(self) -> list[str]:
        return []


@pytest.mark.parametrize("rounds", [25, pytest.param(400, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("routing", ["least-busy", "round-robin", "hash"])
@pytest.mark.parametrize("kills", [False, True])
def test_resizing_under_load_loses_and_doubles_nothing(
    kills: bool, routing: Any, rounds: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Two threads ask and tell, an actor tells; the pool grows and shrinks at random, and members are killed."""
    letters, history = system.dead_letters(), Unordered()
    pool = system.pool(Member, journal, size=2, routing=routing, backoff=AT_ONCE)
    sender = system.spawn(Sender, pool, journal)
    over, errors = threading.Event(), list[BaseException]()

    def load(name: str) -> None:
        number = 0
        try:
            while not over.is_set():
                history.sent(name, number)
                if number % 3:
                    pool.tell(Member.note, name, number)
                else:
                    try:
                        assert pool.ask(Member.note, name, number).result(30) == number
                    except ActorDied as died:
                        assert kills, (
                            died
                        )  # a leaving member that is killed does not come back: what it had is reported
                        history.report(name, number)
                number += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load, args=[f"thread{n}"]) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        pool.resize(rng.randrange(1, 5))
        more = len(history.accepted) + rng.randrange(300)
        until(lambda: errors or len(history.accepted) >= more, "more is sent", 30.0)  # noqa: B023
        if kills:
            with contextlib.suppress(ActorDied, ProcessLookupError, TypeError):  # it has left, or is dead already
                os.kill(rng.choice(pool.members()).info()["pid"], signal.SIGKILL)
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    sender.stop()
    sender.wait(30)
    pool.stop()
    assert pool.wait(60)
    system.close("stop")
    history.read(journal)
    for letter in letters:
        history.report(*letter.message[1])
    print(f"{len(history.accepted)} accepted, {len(history.handled)} handled, {len(history.reported)} reported")
    assert len(history.handled) > 100
    history.check(0)


def test_a_sender_that_was_not_told_yet_finds_another_member(system: ActorSystem, journal: Journal) -> None:
    pool = system.pool(Member, journal, size=2, routing="round-robin")
    known = list(pool.members())
    pool.resize(1)
    client = system._client
    until(lambda: len(client.pools[pool.uid].members) == 1, "the news has come")
    for number in range(50):
        client.pools[pool.uid].members = [(each.uid, each.name) for each in known]  # as if it had not
        assert pool.ask(Member.note, "me", number).result(10) == number
        client.pools[pool.uid].members = [(each.uid, each.name) for each in known]
        pool.tell(Member.note, "me", 1000 + number)
    until(lambda: len(journal.lines()) == 200, "all were handled")


def test_a_member_whose_restarts_are_used_up_leaves_the_others_in_peace(system: ActorSystem, journal: Journal) -> None:
    pool = system.pool(Member, journal, size=2, max_restarts=1, within=60.0, backoff=AT_ONCE)
    first = pool.members()[0]
    for _ in range(2):
        victim = until(lambda: first.info()["pid"], "it has a process")
        os.kill(victim, signal.SIGKILL)
        until(lambda: first.info()["pid"] != victim, "it has died")  # noqa: B023
    until(lambda: [each.name for each in pool.members()] == ["member_pool-1/2"], "only the other one is left")
    assert pool.ask(Member.note, "me", 1).result(10) == 1

"""Links and monitors keep OTP's order of signals: whatever a dead one had sent comes first, then the word of its end."""

from __future__ import annotations

import itertools
import os
import random
import signal
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem, ExitReason
from actors.supervision import Backoff
from kit import Gate, Journal, kill, until
from kit.orders import Author, Reader

AT_ONCE = Backoff(0.0, 0.0)
WAYS = ("raise", "exit", "kill", "stop")


def authors(system: ActorSystem, reader: ActorRef[Reader], count: int, **options: Any) -> list[ActorRef[Author]]:
    found = [system.spawn(Author, reader, **{"restart": "temporary", **options}) for _ in range(count)]
    for author in found:
        reader.ask(Reader.watch, author, options.get("restart") == "permanent").result(10)
    return found


def all_heard(reader: ActorRef[Reader], downs: int) -> list[str]:
    """Once so many downs were heard of: those that came too early."""
    until(lambda: reader.ask(Reader.result).result(10)[0] >= downs, f"{downs} downs", 60)
    count, early = reader.ask(Reader.result).result(10)
    assert count == downs
    return early


@pytest.mark.parametrize("deaths", [400, pytest.param(10_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_down_comes_after_all_that_the_dead_one_had_sent(
    concurrency: int, deaths: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """OTP's xm_sig_order. Authors write to a reader that is behind, and die at once, in every way: at each down the reader
    has handled as many messages as the author says that it sent."""
    reader = system.spawn(Reader, concurrency)
    batch, each = 20, deaths // (5 if concurrency > 1 else 1)
    for _ in range(each // batch):
        for author in authors(system, reader, batch):
            author.tell(Author.write_and_end, rng.randint(1, 30), rng.choice(WAYS), 0)
    assert all_heard(reader, each // batch * batch) == []


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.nightly)])
def test_the_end_of_an_incarnation_comes_after_its_messages_too(
    times: int, system: ActorSystem, rng: random.Random
) -> None:
    """`incarnations=True`: as many downs as crashes, each behind the messages of its incarnation."""
    reader = system.spawn(Reader, 1)
    (author,) = authors(system, reader, 1, restart="permanent", backoff=AT_ONCE)
    for number in range(times):
        author.tell(Author.write_and_end, rng.randint(1, 30), rng.choice(WAYS[:3]), number)
    author.ask(Author.pid).result(60)
    assert all_heard(reader, times) == []


def test_a_mailbox_that_is_never_empty_keeps_no_down_waiting(system: ActorSystem) -> None:
    """The reader always has a message of its own in the mail; the down's turn comes all the same."""
    reader = system.spawn(Reader, 1)
    (author,) = authors(system, reader, 1)
    reader.tell(Reader.never_be_idle)
    author.tell(Author.write_and_end, 100, "kill", 0)
    assert all_heard(reader, 1) == []


def test_a_monitor_that_was_cancelled_before_its_turn_is_not_heard(system: ActorSystem, tmp_path: Any) -> None:
    reader, gate = system.spawn(Reader, 1), Gate(tmp_path / "gate")
    (author,) = authors(system, reader, 1)
    reader.tell(Reader.hold, gate)
    author.tell(Author.write_and_end, 1, "kill", 0)
    author.wait(10)
    reader.tell(Reader.cancel_all)
    gate.open()
    assert reader.ask(Reader.note, "after").result(10) == "after"
    assert reader.ask(Reader.result).result(10) == (0, [])


# --- links


class Tied(Actor):
    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal

    def pid(self) -> int:
        return os.getpid()

    def tie(self, other: ActorRef[Any]) -> None:
        self.link(other)

    def untie(self, other: ActorRef[Any]) -> None:
        self.unlink(other)

    def tie_and_untie(self, other: ActorRef[Any]) -> None:
        self.link(other)
        self.unlink(other)


@pytest.mark.parametrize("length", [1, 2, 9, 10])
@pytest.mark.parametrize("by", ["a signal", "kill()", "an exit code"])
def test_a_death_runs_through_a_chain_of_links_with_its_reason(length: int, by: str, system: ActorSystem) -> None:
    """OTP's kill2killed, from one end to the other, and from the middle: everybody hears who was the first, and why."""
    for first in {0, length // 2}:
        chain = [system.spawn(Author, None, restart="temporary") for _ in range(length)]
        for left, right in itertools.pairwise(chain):
            left.ask(Author.tie, right).result(10)
        if by == "a signal":
            kill(chain[first].ask(Author.pid).result(10), signal.SIGSEGV)
        elif by == "kill()":
            chain[first].kill()
        else:
            chain[first].tell(Author.write_and_end, 0, "exit", 0)
        reasons = [each.wait(20) for each in chain]
        cause = reasons[first]
        assert cause.error is None
        expected = ExitReason(cause.kind, cause.signal, cause.code, f"(linked to {chain[first].name})")
        assert all(reason == expected for reason in reasons if reason is not cause)


def test_a_link_holds_once_it_was_made(system: ActorSystem) -> None:
    """The other is killed the moment after: never is the death missed, and the link left to the next incarnation."""
    for _ in range(50):
        first, second = system.spawn(Tied, restart="temporary"), system.spawn(Tied, backoff=AT_ONCE)
        pid = second.ask(Tied.pid).result(10)
        first.ask(Tied.tie, second).result(10)
        kill(pid)
        assert f"linked to {second.name}" in str(first.wait(10).error)
        second.kill()


def test_an_unlinked_actor_outlives_the_other(system: ActorSystem) -> None:
    for _ in range(50):
        first, second = (system.spawn(Tied, restart="temporary") for _ in range(2))
        first.ask(Tied.tie, second).result(10)
        (second if _ % 2 else first).ask(Tied.untie, first if _ % 2 else second).result(10)
        kill(second.ask(Tied.pid).result(10))
        second.wait(10)
        assert first.ask(Tied.pid).result(10)
        first.kill()


def test_links_leave_nothing_behind_in_the_guardian(system: ActorSystem) -> None:
    """Made twice, undone once, made with oneself and with one long gone: harmless."""
    first, second = (system.spawn(Tied, restart="temporary") for _ in range(2))
    for _ in range(2):
        first.ask(Tied.tie, second).result(10)
    first.ask(Tied.untie, second).result(10)
    first.ask(Tied.untie, second).result(10)
    first.ask(Tied.tie, first).result(10)
    second.stop()
    second.wait(10)
    first.ask(Tied.tie, second).result(10)
    first.ask(Tied.untie, second).result(10)
    assert first.ask(Tied.pid).result(10)


def test_a_link_to_one_that_has_failed_ends_the_linker(system: ActorSystem) -> None:
    first, second = system.spawn(Tied, restart="temporary"), system.spawn(Tied, max_restarts=0)
    kill(second.ask(Tied.pid).result(10))
    assert second.wait(10).signal == signal.SIGKILL
    first.tell(Tied.tie, second)
    assert f"linked to {second.name}" in str(first.wait(10).error)


def test_a_death_reaches_the_linked_incarnation_that_is_just_being_born(system: ActorSystem, tmp_path: Any) -> None:
    """The link was made while the other restarted; it dies before it is ready, for the linker's reason, and starts again."""
    journal, gate = Journal(tmp_path / "journal"), Gate(tmp_path / "gate")
    first, second = system.spawn(Tied, restart="temporary"), system.spawn(Slow, journal, gate, backoff=AT_ONCE)
    kill(second.info()["pid"])
    journal.until("starts", times=2)  # and waits at the gate
    first.ask(Tied.tie, second).result(10)
    events: Any = system.events()
    kill(first.ask(Tied.pid).result(10))
    while (event := events.get(10)).kind != "crashed" or event.ref != second:
        pass
    assert f"linked to {first.name}" in str(event.reason)
    journal.until("starts", times=3)
    gate.open()
    until(lambda: second.info()["status"] == "running", "it has started again")


class Slow(Actor):
    """Waits at a gate in each start but the first."""

    def __init__(self, journal: Journal, gate: Gate) -> None:
        journal.write("starts")
        if len(journal.lines()) > 1:
            gate.wait()

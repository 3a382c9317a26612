"""A process that dies takes no accepted message with it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from actors import Actor, ActorDied, ActorSystem, ExitReason
from kit import Gate, Journal, kill, until


class Slow(Actor):
    """Writes down what it handles; `hold` keeps it busy until the gate opens."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.incarnation = os.getpid()

    def hold(self, gate: Gate) -> None:
        self.journal.write("hold", self.incarnation)
        gate.wait()

    def note(self, number: int) -> None:
        self.journal.write("note", number, self.incarnation)

    def pid(self) -> int:
        return os.getpid()


def test_a_thousand_messages_behind_the_one_in_hand_survive_a_sigkill_in_order(
    system: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """1,000 tells wait behind a handler that never ends; the process is killed: the next incarnation handles all 1,000,
    in order, and the tell in hand is one dead letter.
    """
    letters = system.dead_letters()
    slow = system.spawn(Slow, journal, name="slow")
    first = slow.ask(Slow.pid).result(10)
    slow.tell(Slow.hold, Gate(tmp_path / "gate"))
    journal.until("hold", first)
    for number in range(1000):
        slow.tell(Slow.note, number)
    kill(first)
    second = slow.ask(Slow.pid).result(20)  # sent after all others, so answered after them
    assert second != first
    notes = [row[1:] for row in journal.rows() if row[0] == "note"]
    assert notes == [[str(number), str(second)] for number in range(1000)]
    letter = letters.get(10)
    assert letter.message[0] == "hold"
    assert letter.target == slow
    assert letter.reason.signal == signal.SIGKILL
    with pytest.raises(TimeoutError):
        letters.get(0)


def test_the_ask_in_hand_at_a_sigkill_ends_with_actor_died_and_queued_asks_are_answered(
    system: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """The asker in hand hears `ActorDied` (restarting, killed by SIGKILL) at once; an ask behind it is answered by the
    next incarnation.
    """
    slow = system.spawn(Slow, journal, name="slow")
    first = slow.ask(Slow.pid).result(10)
    held = slow.ask(Slow.hold, Gate(tmp_path / "gate"))
    behind = slow.ask(Slow.pid)
    journal.until("hold", first)
    kill(first)
    with pytest.raises(ActorDied) as died:
        held.result(10)
    assert died.value.restarting
    assert died.value.reason is not None
    assert died.value.reason.signal == signal.SIGKILL
    assert behind.result(10) not in (first, None)


class Wide(Actor):
    """Up to four handlers at once; each waits until it is let go (never, unless told)."""

    concurrency = 4

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.incarnation = os.getpid()

    async def work(self, number: int, deaths: int) -> int:
        """Ends in the incarnation after `deaths` process deaths."""
        self.journal.write("begin", number, self.incarnation)
        incarnations = {row[2] for row in self.journal.rows() if row[0] == "begin"}
        if len(incarnations) <= deaths:
            await asyncio.Event().wait()
        self.journal.write("end", number, self.incarnation)
        return number

    async def fail(self) -> None:
        raise ValueError("boom")

    async def pid(self) -> int:
        return os.getpid()


def begun(journal: Journal, pid: int) -> list[int]:
    """What this incarnation took in hand, in order."""
    return [int(row[1]) for row in journal.rows() if row[0] == "begin" and row[2] == str(pid)]


def test_every_asker_in_hand_of_a_concurrent_actor_is_told_at_its_death(system: ActorSystem, journal: Journal) -> None:
    """Four asks are in hand, two wait: the four end with `ActorDied`, the two are answered by the next incarnation."""
    wide = system.spawn(Wide, journal)
    pid = wide.ask(Wide.pid).result(10)
    replies = [wide.ask(Wide.work, number, 1) for number in range(6)]
    until(lambda: len(begun(journal, pid)) == 4, "four are in hand")
    kill(pid)
    for reply in replies[:4]:
        with pytest.raises(ActorDied) as died:
            reply.result(10)
        assert died.value.restarting
    assert [reply.result(10) for reply in replies[4:]] == [4, 5]
    assert begun(journal, pid) == [0, 1, 2, 3]


def test_with_redeliver_what_was_in_hand_is_handled_again_first_and_in_order(
    system: ActorSystem, journal: Journal
) -> None:
    """redeliver=1: after one death the four in hand come first, oldest first, then the two that waited; nobody hears of
    the death.
    """
    wide = system.spawn(Wide, journal, redeliver=1)
    pid = wide.ask(Wide.pid).result(10)
    replies = [wide.ask(Wide.work, number, 1) for number in range(6)]
    until(lambda: len(begun(journal, pid)) == 4, "four are in hand")
    kill(pid)
    assert [reply.result(10) for reply in replies] == list(range(6))
    assert begun(journal, wide.ask(Wide.pid).result(10)) == list(range(6))


def test_past_its_redeliveries_a_message_is_reported(system: ActorSystem, journal: Journal) -> None:
    """redeliver=1 and two deaths: the asks that were in hand both times end with `ActorDied`; those of the second death
    alone come again.
    """
    wide = system.spawn(Wide, journal, redeliver=1)
    pids = [wide.ask(Wide.pid).result(10)]
    replies = [wide.ask(Wide.work, number, 2) for number in range(4)]
    until(lambda: len(begun(journal, pids[0])) == 4, "four are in hand")
    kill(pids[0])
    pids.append(until(lambda: (pid := wide.info()["pid"]) not in (None, *pids) and pid, "a second incarnation"))
    until(lambda: len(begun(journal, pids[1])) == 4, "the same four are in hand again")
    late = [wide.ask(Wide.work, number, 2) for number in range(4, 6)]
    kill(pids[1])
    for reply in replies:
        with pytest.raises(ActorDied):
            reply.result(10)
    assert [reply.result(10) for reply in late] == [4, 5]
    assert begun(journal, wide.ask(Wide.pid).result(10)) == [4, 5]


def test_a_message_that_raised_is_never_redelivered(system: ActorSystem, journal: Journal) -> None:
    """redeliver is for deaths: a tell whose handler raises crashes the actor and is not handled again."""
    slow = system.spawn(Raising, journal, redeliver=5)
    slow.tell(Raising.fail)
    assert slow.ask(Raising.ok).result(10) == "ok"
    assert journal.lines() == ["fail"]


class Raising(Actor):
    """Raises."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def fail(self) -> None:
        self.journal.write("fail")
        raise ValueError("boom")

    def ok(self) -> str:
        return "ok"


def test_a_crash_of_one_handler_ends_a_concurrent_actor_though_others_are_suspended(
    system: ActorSystem, journal: Journal
) -> None:
    """A tell raises while an ask is suspended for ever: the process ends, the ask hears `ActorDied` with the
    exception's text.
    """
    wide = system.spawn(Wide, journal)
    pid = wide.ask(Wide.pid).result(10)
    held = wide.ask(Wide.work, 0, 1)
    until(lambda: begun(journal, pid) == [0], "one is in hand")
    wide.tell(Wide.fail)
    with pytest.raises(ActorDied) as died:
        held.result(10)
    assert died.value.reason == ExitReason("exception", code=1, error="ValueError: boom")
    assert died.value.restarting

"""A process that dies takes no accepted message with it."""

from __future__ import annotations

import os
import signal

import pytest

from actors import Actor, ActorDied, ActorSystem
from kit import Gate, Journal, kill


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


def test_a_thousand_messages_behind_the_one_in_hand_survive_a_sigkill_in_order(system: ActorSystem, journal: Journal, tmp_path) -> None:
    """1,000 tells wait behind a handler that never ends; the process is killed: the next incarnation handles all 1,000, in order, and the
    tell in hand is one dead letter."""
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


def test_the_ask_in_hand_at_a_sigkill_ends_with_actor_died_and_queued_asks_are_answered(system: ActorSystem, journal: Journal, tmp_path) -> None:
    """The asker in hand hears `ActorDied` (restarting, killed by SIGKILL) at once; an ask behind it is answered by the next incarnation."""
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

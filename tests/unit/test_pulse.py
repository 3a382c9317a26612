"""Who hangs, judged from counters on a clock of the test's own."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

import pytest

from actors.guardian.pulse import CALL, MAIL, MESSAGE, Pulse

TIMEOUT = 2.0


@dataclass
class Mailbox:
    """What its header says; times in nanoseconds."""

    busy_since: int = 0
    local_since: int = 0
    accepted: int = 0
    handled: int = 0


class Clock:
    """Looks as often as the pulse asks for, from second 100 on."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.now, self.mailbox = 100.0, mailbox
        self.pulse = Pulse(TIMEOUT, self.now)

    def look(self, after: float | None = None) -> str | None:
        self.now += self.pulse.pause if after is None else after
        return self.pulse.look(asdict(self.mailbox), self.now)

    def until(self, end: float) -> tuple[str, float] | None:
        """The first verdict before `end`, and when."""
        while self.now < end:
            if found := self.look():
                return found, self.now
        return None

    def ns(self) -> int:
        return int(self.now * 1e9)


@pytest.mark.parametrize(("field", "what"), [("busy_since", MESSAGE), ("local_since", CALL)])
@pytest.mark.parametrize("late", [0.0, 0.1, 0.4, 0.49])
def test_what_runs_for_the_whole_timeout_hangs_and_is_found_then(field: str, what: str, late: float) -> None:
    """Wherever between two looks it began: exact, not a look later."""
    clock = Clock(Mailbox(accepted=1))
    clock.look()
    clock.now += late
    setattr(clock.mailbox, field, clock.ns())
    began = clock.now
    clock.look(clock.pulse.step - late)
    found = clock.until(110.0)
    assert found is not None
    assert found[0] == what
    assert TIMEOUT <= found[1] - began < TIMEOUT + 0.02


def test_mail_that_waits_for_a_process_that_does_nothing_hangs() -> None:
    """Nobody tells when it came, so it is found up to one look later."""
    clock = Clock(Mailbox())
    clock.look()
    clock.mailbox.accepted = 3
    found = clock.until(110.0)
    assert found is not None
    assert found[0] == MAIL
    assert 100.0 + TIMEOUT <= found[1] <= 100.5 + TIMEOUT + clock.pulse.step + 0.02


def test_progress_of_any_kind_begins_anew() -> None:
    """A message after the other, each almost too long; calls likewise; mail that is handled, ever more of it."""
    clock = Clock(Mailbox(accepted=1000))
    for _ in range(20):
        clock.mailbox.busy_since = clock.ns()
        assert clock.until(clock.now + TIMEOUT - 0.6) is None
        clock.mailbox.busy_since, clock.mailbox.local_since = 0, clock.ns()
        assert clock.until(clock.now + TIMEOUT - 0.6) is None
        clock.mailbox.local_since = 0
        clock.mailbox.handled += 1


def test_an_idle_process_never_hangs() -> None:
    """No mail, nothing in hand."""
    assert Clock(Mailbox(accepted=5, handled=5)).until(1000.0) is None


def test_a_message_that_hangs_is_found_while_others_are_handled_beside_it() -> None:
    """concurrency: progress of the others is none of its own."""
    clock = Clock(Mailbox(busy_since=int(100e9), accepted=1000))
    while (found := clock.look()) is None and clock.now < 110.0:
        clock.mailbox.handled += 1
    assert found == MESSAGE
    assert clock.now < 100.0 + TIMEOUT + 0.1


def test_nobody_hangs_because_everything_stood_still() -> None:
    """The machine, or the guardian, sleeps for an hour with a message in hand: the message gets its time anew."""
    clock = Clock(Mailbox(busy_since=int(100e9), accepted=1))
    clock.look()
    assert clock.look(3600.0) is None
    assert clock.look(0.1) is None
    found = clock.until(clock.now + 10)
    assert found is not None
    assert found[0] == MESSAGE


def test_a_busy_process_is_never_taken_for_hung_by_chance(rng: random.Random) -> None:
    """Messages shorter than the timeout, at random, with looks that are late at random."""
    clock = Clock(Mailbox())
    end = 0.0
    for _ in range(3000):
        mailbox = clock.mailbox
        if clock.now >= end:
            mailbox.handled = mailbox.accepted
            mailbox.accepted += rng.choice([1, 1, 5])
            mailbox.busy_since = clock.ns()
            end = clock.now + rng.uniform(0.0, TIMEOUT * 0.7)
        assert clock.look(min(clock.pulse.pause * rng.choice([1, 1, 1, 1.2]), max(end - clock.now, 0.001))) is None

"""Processes that are stopped (SIGSTOP): deadlines hold, others go on, and what is dead in the end is reported."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, AskTimeout, ExitReason, MailboxOptions
from kit import Journal, kill, process, until


class Receiver(Actor):
    """Counts, and writes down."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.problems: list[str] = []

    def note(self, sender: str, number: int, padding: bytes = b"") -> None:
        if number != self.seen.get(sender, -1) + 1:
            self.problems.append(f"{sender}: {number} after {self.seen.get(sender)}")
        self.seen[sender] = number

    def summary(self) -> tuple[dict[str, int], list[str]]:
        return self.seen, self.problems

    def pid(self) -> int:
        return os.getpid()


class Pusher(Actor):
    """Pushes without a pause, until it is killed."""

    def push(self, target: ActorRef[Receiver], journal: Journal, size: int) -> None:
        journal.write("pushing")
        name, number, padding = f"pusher.{os.getpid()}", 0, bytes(size)
        while True:
            target.tell(Receiver.note, name, number, padding)
            number += 1

    def push_in_thread(self, target: ActorRef[Receiver], journal: Journal, size: int) -> None:
        threading.Thread(target=self.push, args=[target, journal, size], daemon=True).start()


def stopped(pid: int) -> bool:
    found = process(pid)
    return found is not None and found.state == "T"


def test_an_ask_with_a_deadline_to_a_stopped_actor_raises_ask_timeout(system: ActorSystem) -> None:
    """The deadline passes while the callee is stopped; after SIGCONT it does not handle the expired call but the next."""
    receiver = system.spawn(Receiver)
    pid = receiver.ask(Receiver.pid).result(10)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "it is stopped")
    with pytest.raises(AskTimeout):
        receiver.using(timeout=0.05).ask(Receiver.note, "late", 0).result()
    os.kill(pid, signal.SIGCONT)
    assert receiver.ask(Receiver.summary).result(10) == ({}, [])


def test_a_stopped_actor_that_is_killed_is_reported_and_its_mail_goes_on(system: ActorSystem) -> None:
    """What was queued while it was stopped is answered by the next incarnation; nothing was in hand."""
    receiver = system.spawn(Receiver)
    pid = receiver.ask(Receiver.pid).result(10)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "it is stopped")
    for number in range(100):
        receiver.tell(Receiver.note, "me", number)
    answer = receiver.ask(Receiver.summary)
    kill(pid)
    assert answer.result(10) == ({"me": 99}, [])


def test_a_stopped_actor_is_stopped_for_good_within_its_shutdown_time(system: ActorSystem) -> None:
    """`stop()` of an actor that does not run: SIGTERM does not reach it, SIGKILL does."""
    receiver = system.spawn(Receiver, shutdown=0.1)
    pid = receiver.ask(Receiver.pid).result(10)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "it is stopped")
    receiver.stop()
    assert receiver.wait(10) == ExitReason("signal", signal=signal.SIGKILL)


@pytest.mark.parametrize("stops", [60, pytest.param(2000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_sender_stopped_in_the_middle_of_a_push_holds_up_nobody(
    in_thread: bool, stops: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """A sender that pushes all the time is stopped at random: the guardian lets it go on until it has let go of the
    mailbox, so that others reach the receiver while it is stopped."""
    receiver = system.spawn(Receiver, mailbox=MailboxOptions(capacity=1 << 28))  # never full: that is no place to stop
    pusher = system.spawn(Pusher)
    pid = pusher.info()["pid"]
    pusher.tell(
        Pusher.push_in_thread if in_thread else Pusher.push, receiver, journal, 4000
    )  # one stop in four hits a push
    journal.until("pushing")
    for number in range(stops):
        time.sleep(rng.uniform(0.0, 0.002))
        os.kill(pid, signal.SIGSTOP)
        receiver.tell(Receiver.note, "program", number)
        seen, problems = receiver.ask(Receiver.summary).result(20)
        assert problems == []
        assert seen["program"] == number
        os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "it stays stopped when it has let go")
    kill(pid)
    seen, problems = receiver.ask(Receiver.summary).result(20)
    assert problems == []
    assert seen[f"pusher.{pid}"] > 0
    pusher.kill()


def test_a_stopped_sender_may_be_killed_while_others_push(
    system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Stop, then kill, in the middle of a push: senders that wait for the mailbox get it."""
    receiver = system.spawn(Receiver)
    for _ in range(15):
        pusher = system.spawn(Pusher, restart="temporary")
        pid = pusher.info()["pid"]
        before = len(journal.lines())
        pusher.tell(Pusher.push, receiver, journal, 100)
        until(lambda: len(journal.lines()) > before, "it pushes")  # noqa: B023 - called here and now
        time.sleep(rng.uniform(0.0, 0.002))
        os.kill(pid, signal.SIGSTOP)
        killer = threading.Timer(rng.uniform(0.0, 0.01), kill, [pid])
        killer.start()
        assert receiver.ask(Receiver.summary).result(20)[1] == []
        killer.join()
        assert pusher.wait(10) == ExitReason("signal", signal=signal.SIGKILL)


def test_an_actor_stopped_in_a_handler_holds_up_its_askers_only_until_it_is_killed(system: ActorSystem) -> None:
    """The ask in hand ends with `ActorDied`."""
    receiver = system.spawn(Freezing)
    frozen = receiver.ask(Freezing.freeze)
    pid = receiver.info()["pid"]
    until(lambda: stopped(pid), "it is stopped")
    with pytest.raises(AskTimeout):
        frozen.result(0.01)
    receiver.kill()
    with pytest.raises(ActorDied) as died:
        frozen.result(10)
    assert died.value.restarting is False


class Freezing(Actor):
    """Stops itself in a handler."""

    def freeze(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

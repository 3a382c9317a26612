"""Named mailboxes under kills: every job is handled, what comes again says so, and nobody waits for the dead."""

from __future__ import annotations

import mmap
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorsError, ActorSystem, Mailbox, MailboxClosed, MailboxCorrupt, SystemDied
from actors.transports._ring import HEADER
from kit import Journal, Script, Waiting, kill, system_name, until

Jobs = Mailbox[int]
LOCKS = {*range(320, 376), *range(1024, 1064)}  # glibc follows their pointers, and the promise leaves them out


class Consumer(Actor):
    """Handles jobs until the mailbox ends: writes down each, in a file of its own, before its block ends. At one of
    `stops`, the first time, it says so in another file and waits with it in hand, to be killed."""

    def __init__(self, jobs: Jobs, journal: Journal, stops: frozenset[int] = frozenset()) -> None:
        self.jobs, self.journal, self.stops = jobs, journal, stops
        self.held = Journal(f"{journal.path}-held")

    def on_start(self) -> None:
        self.after(0, self.consume)

    def consume(self) -> None:
        while True:
            taken = self.jobs.take()
            try:
                with taken as job:
                    if job in self.stops and not taken.redelivered:
                        self.held.write(job, os.getpid())
                        while True:
                            signal.pause()
                    self.journal.write(job, taken.redelivered, os.getpid())
            except MailboxClosed:
                break
        self.stop()


class Holder(Actor):
    """Takes one message and keeps it."""

    def hold(self, jobs: Jobs, journal: Journal) -> None:
        with jobs.take() as job:
            journal.write("holds", job)
            while True:
                signal.pause()

    async def hold_async(self, jobs: Jobs, journal: Journal) -> None:
        async with jobs.take_async() as job:
            journal.write("holds", job)
            while True:
                signal.pause()


class Weigher(Actor):
    """Takes one large message and keeps it."""

    def hold(self, box: Mailbox[bytes], journal: Journal) -> None:
        with box.take() as message:
            journal.write("weighs", len(message))
            while True:
                signal.pause()


def pid_of(system: ActorSystem, name: str) -> int:
    return next(each["pid"] for each in system.tree()["children"] if each["name"] == name)


# --- a consumer dies


@pytest.mark.parametrize("hold", [Holder.hold, Holder.hold_async], ids=["with", "async with"])
def test_the_message_of_a_killed_consumer_is_the_next_one_and_says_that_it_comes_again(
    system: ActorSystem, journal: Journal, hold: Any
) -> None:
    jobs: Jobs = system.mailbox("jobs")
    for job in range(3):
        jobs.put(job)
    holder = system.spawn(Holder, name="holder", restart="temporary")
    holder.tell(hold, jobs, journal)
    journal.until("holds", 0)
    assert jobs.get() == 1
    start = time.monotonic()
    kill(pid_of(system, "holder"))
    until(lambda: jobs.qsize() == 2, "the message to come back")
    assert time.monotonic() - start < 5, "it takes milliseconds"
    taken = jobs.take()
    with taken as job:
        assert (job, taken.redelivered) == (0, 1)
    assert jobs.get() == 2


def test_a_large_message_comes_back_whole_and_its_memory_is_free_when_it_is_over(
    system: ActorSystem, journal: Journal
) -> None:
    """It lies beside the mailbox, in the mailbox's name, whoever put it and whoever died with it in hand."""
    large: Mailbox[bytes] = system.mailbox("large")
    item = os.urandom(1 << 20)
    for _ in range(3):
        large.put(item)
    for number in range(2):
        holder = system.spawn(Weigher, name=f"holder-{number}", restart="temporary")
        holder.tell(Weigher.hold, large, journal)
        journal.until("weighs", len(item), times=number + 1)
        kill(pid_of(system, f"holder-{number}"))
        holder.wait(10)
    taken = large.take(timeout=10)
    with taken as message:
        assert (message, taken.redelivered) == (item, 2)
    assert large.get() == item
    large.close()
    assert list(large) == [item]
    del message
    until(lambda: system.tree()["memory"]["in_use"] == 0, "the memory to be free")


def test_a_waiting_consumer_is_woken_by_what_another_ones_death_gives_back(
    system: ActorSystem, journal: Journal
) -> None:
    jobs: Jobs = system.mailbox("jobs")
    jobs.put(7)
    holder = system.spawn(Holder, name="holder", restart="temporary")
    holder.tell(Holder.hold, jobs, journal)
    journal.until("holds", 7)
    waiting = Waiting(jobs.get)
    assert waiting.waits(0.1), waiting.outcome
    jobs.close()
    kill(pid_of(system, "holder"))
    assert waiting.result() == 7
    assert list(jobs) == []


def test_an_attached_program_that_is_killed_gives_back_what_it_had(system: ActorSystem) -> None:
    jobs: Jobs = system.mailbox("jobs")
    code = """
    import sys, signal
    from actors import ActorSystem

    with ActorSystem.attach(sys.argv[1]) as system, system.mailbox("jobs").take() as job:
        print("holds", job)
        signal.pause()
    """
    jobs.put(5)
    with Script(code, system.name) as script:
        script.expect("holds 5")
        assert jobs.empty()
        script.kill()
    taken = jobs.take(timeout=10)
    with taken as job:
        assert (job, taken.redelivered) == (5, 1)


def test_a_program_that_detaches_in_a_block_gives_back_what_it_had(system: ActorSystem) -> None:
    jobs: Jobs = system.mailbox("jobs")
    code = """
    import sys
    from actors import ActorSystem

    system = ActorSystem.attach(sys.argv[1])
    with system.mailbox("jobs").take() as job:
        system.close()
    print("left", job)
    """
    jobs.put(5)
    with Script(code, system.name) as script:
        script.expect("left 5")
    with jobs.take(timeout=10) as job:
        assert job == 5


def handle_all(system: ActorSystem, journal: Journal, rng: random.Random, count: int, deaths: int) -> None:
    """`count` jobs, three consumers, of which one is killed again and again with a job in hand: every job is handled, by
    the rules."""
    name = f"jobs-{time.monotonic_ns()}"
    jobs: Jobs = system.mailbox(name)
    stops, held = sorted(rng.sample(range(count), deaths)), Journal(f"{journal.path}-held")
    consumers = [
        system.spawn(Consumer, jobs, journal, frozenset(stops), name=f"{name}-{n}", backoff=None, max_restarts=None)
        for n in range(3)
    ]
    putting = threading.Thread(target=lambda: [jobs.put(job) for job in range(count)])
    putting.start()
    for number in range(deaths):
        until(lambda number=number: len(held.rows()) > number, "a consumer has such a job in hand", 60)  # type: ignore[misc]
        kill(int(held.rows()[number][1]))
    putting.join()
    jobs.close()
    for consumer in consumers:
        consumer.wait(60)
    judge([tuple(map(int, row)) for row in journal.rows()], count, stops)
    for each in (journal, held):
        Path(each.path).unlink()


def judge(rows: list[tuple[int, ...]], count: int, held: list[int]) -> None:
    """Every job once; those in hand at a death, and no others, were redelivered, once; what was never redelivered in the
    order put, as each consumer saw it."""
    missing = set(range(count)) - {job for job, _, _ in rows}
    assert not missing, f"{len(missing)} jobs were never handled: {sorted(missing)[:10]}"
    assert len(rows) == count, "handled twice"
    assert sorted((job, tries) for job, tries, _ in rows if tries) == [(job, 1) for job in held]
    by_pid: dict[int, list[int]] = {}
    for job, tries, pid in rows:
        if tries == 0:
            by_pid.setdefault(pid, []).append(job)
    assert all(jobs == sorted(jobs) for jobs in by_pid.values())


def test_five_thousand_jobs_are_all_handled_while_consumers_are_killed(
    journal: Journal, nothing_is_left: object, rng: random.Random
) -> None:
    with ActorSystem(system_name()) as system:
        handle_all(system, journal, rng, 5000, 5)


@pytest.mark.nightly
def test_a_hundred_thousand_jobs_are_all_handled_while_one_of_three_consumers_is_killed_twenty_times_over(
    journal: Journal, nothing_is_left: object, rng: random.Random
) -> None:
    for _ in range(20):
        with ActorSystem(system_name()) as system:
            handle_all(system, journal, rng, 100_000, 1)


# --- nobody waits for ever


def test_everybody_who_waits_is_freed_with_the_reason_when_the_system_dies() -> None:
    system = ActorSystem(system_name())
    full: Jobs = system.mailbox("full", maxsize=1)
    empty: Jobs = system.mailbox("empty")
    full.put(1)
    waiting = [Waiting(lambda: full.put(2)), Waiting(empty.get), Waiting(full.join), Waiting(lambda: list(empty))]
    assert all(each.waits(0.1) for each in waiting)
    kill(system.guardian_pid)
    for each in waiting:
        assert isinstance(each.result(), SystemDied)
    for call in (empty.get, lambda: full.put(1), empty.qsize, lambda: empty.take().__enter__()):
        with pytest.raises(ActorsError):
            call()
    system.close()


def test_everybody_who_waits_is_freed_when_the_system_is_closed() -> None:
    system = ActorSystem(system_name())
    full: Jobs = system.mailbox("full", maxsize=1)
    empty: Jobs = system.mailbox("empty")
    full.put(1)
    waiting = [Waiting(lambda: full.put(2)), Waiting(empty.get), Waiting(full.join)]
    assert all(each.waits(0.1) for each in waiting)
    system.close()
    for each in waiting:
        assert isinstance(each.result(), ActorsError)


def test_a_producer_that_waits_goes_on_when_the_only_consumer_dies_and_its_next_incarnation_works(
    system: ActorSystem, journal: Journal
) -> None:
    jobs: Jobs = system.mailbox("jobs", maxsize=1)
    jobs.put(0)
    holder = system.spawn(Holder, name="holder")
    holder.tell(Holder.hold, jobs, journal)
    journal.until("holds", 0)
    jobs.put(1)
    waiting = Waiting(lambda: jobs.put(2))
    assert waiting.waits(0.1), waiting.outcome
    kill(pid_of(system, "holder"))
    until(lambda: jobs.qsize() == 2, "the message to come back, one more than maxsize")
    consumer = system.spawn(Consumer, jobs, journal)
    assert waiting.result() is None
    jobs.close()
    consumer.wait(20)
    assert [row[0] for row in journal.rows()[1:]] == ["0", "1", "2"]


# --- damage


def damage(box: Jobs, rng: random.Random, flips: int) -> None:
    """Write over headers and records of the mailbox's memory, the locks' own bytes apart."""
    assert box._client is not None
    _, fds = box._client.exchange("box", name=box.name, maxsize=0, capacity=box._ring.capacity)  # type: ignore[union-attr]
    with mmap.mmap(fds[0], HEADER + 4096) as memory:
        for _ in range(flips):
            at = (
                rng.choice([at for at in range(1408) if at not in LOCKS])
                if rng.random() < 0.3
                else HEADER + rng.randrange(4096)
            )
            memory[at] ^= rng.randrange(1, 256)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("round", range(3))
def test_a_damaged_mailbox_fails_as_such_and_nothing_else_does(
    system: ActorSystem, rng: random.Random, round: int
) -> None:
    bad: Jobs = system.mailbox("bad")
    good: Jobs = system.mailbox("good")
    for job in range(50):
        bad.put(job)
        good.put(job)
    damage(bad, rng, 200)
    said = Counter[str]()
    for _ in range(60):
        for call in (bad.get_nowait, lambda: bad.put(1, timeout=0.01), lambda: bad.take(block=False).__enter__()):
            try:
                call()
            except Exception as error:
                said[type(error).__name__] += 1
                if isinstance(error, MailboxCorrupt):
                    assert "'bad'" in str(error)
    print(said)
    assert set(said) <= {"MailboxCorrupt", "MailboxClosed", "Empty", "Full", "CodecError"}  # by what was hit
    assert [good.get() for _ in range(50)] == list(range(50))
    system.spawn(Holder, restart="temporary").stop()
    bad.close()


def test_a_mailbox_found_damaged_at_a_death_is_closed_and_the_guardian_lives_on(
    system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    jobs: Jobs = system.mailbox("jobs")
    for job in range(20):
        jobs.put(job)
    holder = system.spawn(Holder, name="holder", restart="temporary")
    holder.tell(Holder.hold, jobs, journal)
    journal.until("holds", 0)
    assert jobs._client is not None
    _, fds = jobs._client.exchange("box", name="jobs", maxsize=0, capacity=1 << 24)
    with mmap.mmap(fds[0], HEADER + 4096) as memory:
        memory[HEADER : HEADER + 4096] = bytes(4096)
    for fd in fds:
        os.close(fd)
    kill(pid_of(system, "holder"))
    holder.wait(10)
    with pytest.raises((MailboxClosed, MailboxCorrupt)):
        until(lambda: jobs.put(1, block=False), "the mailbox to be closed")
    with pytest.raises(MailboxCorrupt):
        jobs.get()
    other: Jobs = system.mailbox("other")
    other.put(1)
    assert other.get() == 1

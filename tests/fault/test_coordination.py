"""Locks, semaphores, barriers and events while processes of a system die, stop and fork."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from threading import BrokenBarrierError
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorsError, ActorSystem, SystemDied
from actors.coordination import Barrier, Event, Lock, Semaphore
from kit import Journal, alive, kill, process, system_name, until


class Holder(Actor):
    """Takes things and keeps them."""

    def pid(self) -> int:
        return os.getpid()

    def take(self, thing: Lock | Semaphore) -> bool:
        return thing.acquire()

    def give(self, thing: Lock | Semaphore) -> None:
        thing.release()

    def token(self, lock: Lock) -> tuple[int, bool]:
        with lock:
            return lock.token, lock.abandoned

    async def token_async(self, lock: Lock) -> tuple[int, bool]:
        async with lock:
            return lock.token, lock.abandoned

    def arrive(self, barrier: Barrier) -> int:
        return barrier.wait()

    def leave_by_exception(self, lock: Lock) -> None:
        lock.acquire()
        raise RuntimeError("with the lock in hand")


class Contender(Actor):
    """Takes the lock again and again, in one way or the other, and writes down when it had it."""

    def __init__(self, name: str, coroutines: int) -> None:
        self.name, self.coroutines = name, coroutines

    async def on_start(self) -> None:
        self.lock, self.stopped = self.system.lock("contended"), self.system.event("stop")
        self.journal = Journal(os.environ["ACTORS_TEST_JOURNAL"])
        if self.coroutines:
            self.running = [asyncio.create_task(self.contend_async(number)) for number in range(self.coroutines)]
        else:
            self.ref.tell(Contender.contend)

    def contend(self) -> None:
        while not self.stopped.is_set():
            with self.lock:
                self.had(self.name)
        self.journal.write("done", self.name)

    async def contend_async(self, number: int) -> None:
        while not self.stopped.is_set():
            async with self.lock:
                self.had(f"{self.name}/{number}")
            await asyncio.sleep(0)
        self.journal.write("done", f"{self.name}/{number}")

    def had(self, name: str) -> None:
        token = self.lock.token
        self.journal.write("in", name, token)
        self.journal.write("out", name, token)

    def pid(self) -> int:
        return os.getpid()


def judge(rows: list[list[str]]) -> set[str]:
    """Never two inside, and tokens grow. Who was left inside must have died there: those."""
    inside, largest, left = "", 0, set[str]()
    for row in rows:
        if row[0] == "in":
            if inside:
                left.add(inside)
            assert int(row[2]) > largest, f"the token of {row} is not larger than {largest}"
            inside, largest = " ".join(row[1:]), int(row[2])
        elif row[0] == "out":
            assert inside == " ".join(row[1:]), f"{row} while {inside or 'nobody'} was inside"
            inside = ""
    return left


def test_random_kills_of_contenders_never_make_two_holders_and_let_nobody_wait_for_ever(
    system: ActorSystem, journal: Journal, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actors in sync handlers and in coroutines, and threads and coroutines of the program."""
    monkeypatch.setenv("ACTORS_TEST_JOURNAL", journal.path)
    lock, stopped = system.lock("contended"), system.event("stop")
    refs = [system.spawn(Contender, f"actor-{n}", 0 if n % 2 else 2, restart="permanent") for n in range(4)]
    mine = Journal(journal.path)

    def contend(name: str) -> None:
        while not stopped.wait(0.001):
            with lock:
                mine.write("in", name, lock.token)
                mine.write("out", name, lock.token)

    threads = [threading.Thread(target=contend, args=(f"thread-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    killed = set[int]()
    for _ in range(40):
        victim = rng.choice(refs)
        pid = victim.info()["pid"]
        if pid and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        threading.Event().wait(rng.random() * 0.02)
    stopped.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for name in ("actor-1", "actor-3", "actor-0/0", "actor-0/1", "actor-2/0", "actor-2/1"):
        journal.until("done", name)
    rows = journal.rows()
    left = judge(rows)
    assert len(left) <= len(killed)
    names = {row[1] for row in rows if row[0] == "out"}
    assert names >= {"thread-0", "thread-1", "actor-1", "actor-3", "actor-0/0", "actor-2/1"}, "nobody starved"
    assert lock.acquire(timeout=10)
    lock.release()


@pytest.mark.parametrize("way", ["thread", "coroutine", "actor", "actor's coroutine"])
def test_the_next_holder_is_told_that_the_last_one_died(system: ActorSystem, way: str) -> None:
    """Whoever waits gets the lock at the holder's death, with a larger token, and knows."""
    lock = system.lock("left")
    holder, other = system.spawn(Holder), system.spawn(Holder)
    holder.ask(Holder.take, lock).result(10)
    before = lock.number

    async def in_coroutine() -> tuple[int, bool]:
        async with lock:
            return lock.token, lock.abandoned

    def in_thread() -> tuple[int, bool]:
        with lock:
            return lock.token, lock.abandoned

    ways: dict[str, Callable[[], Any]] = {
        "thread": in_thread,
        "coroutine": lambda: asyncio.run(in_coroutine()),
        "actor": lambda: other.ask(Holder.token, lock).result(20),
        "actor's coroutine": lambda: other.ask(Holder.token_async, lock).result(20),
    }
    found: list[tuple[int, bool]] = []
    waiter = threading.Thread(target=lambda: found.append(ways[way]()))
    waiter.start()
    until(lambda: lock.doorman or lock.word & 1 << 12, "it waits")
    kill(holder.ask(Holder.pid).result(10))
    waiter.join(20)
    ((token, abandoned),) = found
    assert token > before
    assert abandoned
    with lock:
        assert not lock.abandoned, "only the next one is told"


def test_a_stopped_holder_keeps_its_lock_and_is_named(system: ActorSystem) -> None:
    lock = system.lock("kept")
    holder = system.spawn(Holder)
    holder.ask(Holder.take, lock).result(10)
    pid = holder.ask(Holder.pid).result(10)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: (found := process(pid)) is not None and found.state == "T", "it is stopped")
    assert not lock.acquire(timeout=0.3)
    assert lock.holder() == f"{holder.address} (process {pid}, stopped)"
    os.kill(pid, signal.SIGCONT)
    holder.ask(Holder.give, lock).result(10)
    assert lock.acquire(timeout=10)
    lock.release()


def test_a_stopped_waiter_that_is_next_holds_up_nobody_for_long(system: ActorSystem) -> None:
    """What was reserved for it goes to others after a slice; it gets its turn when it runs again."""
    lock = system.lock("passed-by")
    sleeper, other = system.spawn(Holder), system.spawn(Holder)
    lock.acquire()
    first = sleeper.ask(Holder.token, lock)
    until(lambda: lock.word & 1 << 12, "it sleeps")
    pid = sleeper.info()["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: (found := process(pid)) is not None and found.state == "T", "it is stopped")
    second = other.ask(Holder.token, lock)
    coroutine = other.ask(Holder.pid)
    lock.release()
    token, _ = second.result(10)
    assert coroutine.result(10)
    assert lock.acquire(timeout=10)
    lock.release()
    os.kill(pid, signal.SIGCONT)
    assert first.result(10)[0] > token


def test_a_process_gives_back_what_it_held_however_it_ends(system: ActorSystem) -> None:
    """Killed, stopped, crashed: two of three permits and the lock are free again."""
    lock, permits = system.lock("ends"), system.semaphore("permits", 3)
    ends: list[Callable[[ActorRef[Holder]], object]] = [
        lambda ref: kill(ref.ask(Holder.pid).result(10)),
        lambda ref: ref.stop(),
        lambda ref: ref.tell("missing"),
    ]
    for end in ends:
        holder = system.spawn(Holder, restart="temporary")
        for thing in (lock, permits, permits):
            holder.ask(Holder.take, thing).result(10)
        assert (permits.value, lock.locked()) == (1, True)
        end(holder)
        holder.wait(10)
        assert lock.acquire(timeout=10)
        lock.release()
        until(lambda: permits.value == 3, "all permits are there")
    crashing = system.spawn(Holder, restart="temporary")
    crashing.tell(Holder.leave_by_exception, lock)
    crashing.wait(10)
    assert lock.acquire(timeout=10)
    lock.release()


def test_a_barrier_whose_waiter_dies_is_broken_for_threads_and_coroutines(system: ActorSystem) -> None:
    barrier = system.barrier("meeting", 4)
    victim = system.spawn(Holder, restart="temporary")
    arrival = victim.ask(Holder.arrive, barrier)
    broken: list[str] = []

    def wait() -> None:
        try:
            barrier.wait(20)
        except BrokenBarrierError:
            broken.append("thread")

    async def wait_async() -> None:
        try:
            await barrier.wait_async(20)
        except BrokenBarrierError:
            broken.append("coroutine")

    threads = [threading.Thread(target=wait), threading.Thread(target=lambda: asyncio.run(wait_async()))]
    for thread in threads:
        thread.start()
    until(lambda: barrier.n_waiting == 3 and barrier.doorman, "all three wait")
    victim.kill()
    for thread in threads:
        thread.join(20)
    assert sorted(broken) == ["coroutine", "thread"]
    assert barrier.broken
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    assert arrival.exception(10)


@pytest.mark.parametrize("victim", ["guardian", "warden"])
def test_whoever_waits_hears_of_the_end_of_the_system(victim: str) -> None:
    """Threads and coroutines at each kind end with SystemDied, and so does every later call."""
    system = ActorSystem(system_name())
    lock, permits = system.lock("lock"), system.semaphore("permits", 0)
    barrier, event = system.barrier("barrier", 2), system.event("event")
    holder = system.spawn(Holder)
    holder.ask(Holder.take, lock).result(10)
    found: list[BaseException] = []

    def collect(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            found.append(error)

    coroutines: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lock.acquire_async,
        permits.acquire_async,
        event.wait_async,
    ]
    calls: list[Callable[[], object]] = [lock.acquire, permits.acquire, barrier.wait, event.wait]
    calls += [lambda make=make: asyncio.run(make()) for make in coroutines]  # type: ignore[misc]
    threads = [threading.Thread(target=collect, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    things: list[Lock | Semaphore | Event] = [lock, permits, event]
    until(lambda: all(each.doorman and each.word & 1 << 12 for each in things) and barrier.n_waiting, "all wait")
    guardian = system.guardian_pid
    found_process = process(guardian)
    assert found_process is not None
    kill(guardian if victim == "guardian" else found_process.parent)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert [type(error) for error in found] == [SystemDied] * len(calls)
    for call in [*calls[:4], lock.locked, lock.release, event.set, barrier.abort, lambda: system.lock("other")]:
        with pytest.raises(SystemDied):
            call()
    until(lambda: not alive(guardian), "it is gone")
    system.close()


def test_a_forked_child_holds_nothing_and_takes_part_when_it_attaches(system: ActorSystem) -> None:
    """What the parent holds stays the parent's; the child is told what to do, and waits like any other process."""
    lock = system.lock("forked")
    lock.acquire()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with pytest.raises(ActorsError, match="attach"):
                lock.release()
            attached = ActorSystem.attach(system.name)
            with pytest.raises(RuntimeError, match="held by a program"):
                lock.release()
            assert not lock.acquire(timeout=0.05)
            os.write(writer, b"1")
            with lock:
                os.write(writer, b"2")
            attached.close()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"1"
    assert lock.held == 1
    lock.release()
    assert os.read(reader, 1) == b"2"
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with lock:
        assert not lock.abandoned


@pytest.mark.parametrize("end", ["killed", "left"])
def test_a_program_that_attached_gives_back_what_it_held(system: ActorSystem, end: str) -> None:
    lock = system.lock("attached")
    code = (
        "import sys, actors\n"
        "system = actors.ActorSystem.attach(sys.argv[1])\n"
        "system.lock('attached').acquire()\n"
        "print('taken', flush=True)\n"
        "sys.stdin.readline()\n"
        "system.close()\n"
        "print('closed', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, system.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "taken\n"
        assert not lock.acquire(False)
        if end == "killed":
            program.kill()
        else:
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "closed\n"
        assert lock.acquire(timeout=10)
        assert lock.abandoned
        lock.release()


def test_memory_and_descriptors_of_names_are_the_systems_and_slots_are_used_again(system: ActorSystem) -> None:
    """Forty processes come and go: the page stays as it was, and the guardian keeps one descriptor a name."""
    lock = system.lock("used-by-many")
    before = len(os.listdir(f"/proc/{system.guardian_pid}/fd"))
    for _ in range(20):
        refs = [system.spawn(Holder, restart="temporary") for _ in range(2)]
        for reply in [ref.ask(Holder.token, lock) for ref in refs]:
            reply.result(20)
        for ref in refs:
            ref.kill()
        for ref in refs:
            ref.wait(10)
    until(lambda: len(os.listdir(f"/proc/{system.guardian_pid}/fd")) <= before + 6, "descriptors are closed")

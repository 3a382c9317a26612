"""`system.lock`, `semaphore`, `barrier`, `event`, `file`: across processes, threads and coroutines."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorsError, ActorSystem, SpecError
from actors.coordination import Barrier, Event, File, Lock, Semaphore
from kit import system_name, until

Spawn = Callable[..., ActorRef[Any]]
CONTENDED = 1 << 12


class User(Actor):
    """Uses what it is sent, or finds by name."""

    def name_and_use(self, lock: Lock) -> tuple[str, bool, int]:
        with lock:
            return lock.name, lock is self.system.lock(lock.name), lock.token

    def hold(self, lock: Lock) -> int:
        lock.acquire()
        return lock.token

    def hold_permit(self, permits: Semaphore) -> None:
        permits.acquire()

    def drop(self, lock: Lock | Semaphore) -> str:
        try:
            lock.release()
        except RuntimeError as error:
            return str(error)
        return ""

    def wait(self, event: Event) -> bool:
        return event.wait(20)

    def meet(self, barrier: Barrier) -> int:
        return barrier.wait(20)

    async def meet_async(self, barrier: Barrier) -> int:
        return await barrier.wait_async(20)

    async def blocked(self, name: str, call: str) -> str:
        lock, permits = self.system.lock(name), self.system.semaphore(f"{name}-permits", 1)
        barrier, event = self.system.barrier(f"{name}-barrier", 1), self.system.event(f"{name}-event")
        things: dict[str, Callable[[], object]] = {
            "lock": lock.acquire,
            "with": lock.__enter__,
            "semaphore": permits.acquire,
            "timeout": lambda: permits.acquire(timeout=1),
            "barrier": barrier.wait,
            "event": event.wait,
            "file": self.system.file(f"/tmp/{name}").__enter__,
        }
        try:
            things[call]()
        except RuntimeError as error:
            return str(error)
        return ""

    async def in_thread(self, lock: Lock) -> bool:
        return await asyncio.to_thread(lock.acquire, timeout=10) and lock.held == 1


_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"object-{next(_numbers)}"


def test_an_object_is_a_name_sent_in_messages_and_found_anywhere(system: ActorSystem, spawn: Spawn, name: str) -> None:
    lock, user = system.lock(name), spawn(User)
    assert user.ask(User.name_and_use, lock).result(10)[:2] == (name, True)
    assert system.lock(name) is lock
    assert pickle.loads(pickle.dumps(lock)) is lock
    assert isinstance(lock, Lock)
    assert repr(lock) == f"<Lock {name!r} of system {system.name!r}: unlocked>"


def test_a_lock_is_held_by_a_process_and_only_that_releases_it(system: ActorSystem, spawn: Spawn, name: str) -> None:
    lock, user = system.lock(name), spawn(User)
    tokens = [user.ask(User.hold, lock).result(10)]
    assert lock.locked()
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.05)
    assert lock.holder() == f"{user.address} (process {user.info()['pid']})"
    with pytest.raises(RuntimeError, match=f"release unlocked lock '{name}': it is held by {user.address}"):
        lock.release()
    with pytest.raises(RuntimeError, match="not held by this process"):
        _ = lock.token
    assert user.ask(User.drop, lock).result(10) == ""
    with lock:
        tokens.append(lock.token)
        assert lock.holder() == "this process"
        assert "it is held by a program" in user.ask(User.drop, lock).result(10)
    assert lock.holder() is None
    with lock:
        tokens.append(lock.token)
    assert tokens == sorted(set(tokens)), "they grow"
    assert "release unlocked lock" in user.ask(User.drop, lock).result(10)


def test_tokens_of_a_later_system_of_the_same_name_are_larger() -> None:
    tokens, name = list[int](), system_name()
    for _ in range(2):
        with ActorSystem(name) as system:
            lock = system.lock("fenced")
            with lock:
                tokens.append(lock.token)
        begun = int(time.time())
        until(lambda begun=begun: int(time.time()) > begun, "a second later")  # type: ignore[misc]
    assert tokens[0] < tokens[1]


@pytest.mark.parametrize("call", ["lock", "with", "semaphore", "timeout", "barrier", "event", "file"])
def test_a_call_that_may_block_is_refused_in_a_coroutine(
    system: ActorSystem, spawn: Spawn, name: str, call: str
) -> None:
    """Always, in an actor's as in a program's, and the error says what to do instead."""
    assert "in a coroutine" in spawn(User).ask(User.blocked, name, call).result(10)

    async def here() -> None:
        lock = system.lock(name)
        with pytest.raises(RuntimeError, match="acquire_async"):
            lock.acquire()
        assert lock.acquire(False)
        lock.release()

    asyncio.run(here())


def test_a_thread_of_an_actor_may_block(system: ActorSystem, spawn: Spawn, name: str) -> None:
    assert spawn(User).ask(User.in_thread, system.lock(name)).result(20)


def test_another_kind_or_number_for_a_name_is_an_error(system: ActorSystem, name: str) -> None:
    system.semaphore(name, 2)
    with pytest.raises(SpecError, match=r"is a semaphore \(bounded=False, n=2\) already, not a lock"):
        system.lock(name)
    with pytest.raises(SpecError, match="n=3"):
        system.semaphore(name, 3)
    with pytest.raises(SpecError, match="bounded=True"):
        system.semaphore(name, 2, bounded=True)
    assert system.semaphore(name, 2).value == 2
    calls: list[Callable[[], object]] = [
        lambda: system.lock("no such name"),
        lambda: system.semaphore("fine", -1),
        lambda: system.semaphore("fine", 70_000),
        lambda: system.semaphore("fine", True),
        lambda: system.barrier("fine", 0),
        lambda: system.barrier("fine-barrier", 2, "no function"),  # type: ignore[arg-type]
        lambda: system.barrier("fine-barrier", 2, timeout=-1.0),
    ]
    for call in calls:
        with pytest.raises(SpecError):
            call()


def test_a_name_without_a_connection_says_so(system: ActorSystem) -> None:
    lost: Lock = Lock("no-such-system", "lock", {})
    with pytest.raises(ActorsError, match=r"attach\('no-such-system'\)"):
        lost.acquire()


def test_who_waits_is_served_in_order_threads_and_coroutines_alike(system: ActorSystem, name: str) -> None:
    """Each waiter that was there gets the lock before one of them, or the releaser, has it a second time."""
    lock, order, threads = system.lock(name), list[str](), list[threading.Thread]()

    def thread(number: int) -> None:
        with lock:
            order.append(f"thread-{number}")

    async def coroutines() -> None:
        async def one(number: int) -> None:
            async with lock:
                order.append(f"coroutine-{number}")

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(one(number))

    lock.acquire()
    for number in range(3):
        threads.append(threading.Thread(target=thread, args=(number,)))
        threads[-1].start()
    threads.append(threading.Thread(target=lambda: asyncio.run(coroutines())))
    threads[-1].start()
    until(lambda: lock.doorman == 3 and lock.word & CONTENDED, "all wait")
    lock.release()
    for _ in range(20):
        with lock:
            order.append("again")
    for each in threads:
        each.join(10)
    mine = [place for place, who in enumerate(order) if who == "again"]
    others = [place for place, who in enumerate(order) if who != "again"]
    assert len(others) == 6
    assert max(others) < mine[12], "the releaser may come in between, no more"


def test_cancelling_a_coroutine_that_waits_passes_its_turn_on(system: ActorSystem, name: str) -> None:
    """Whether it was told already or not; the lock is never left to nobody."""
    lock = system.lock(name)

    async def one(taken: list[int], number: int) -> None:
        async with lock:
            taken.append(number)

    async def main() -> None:
        for turns in range(30):
            taken: list[int] = []
            await lock.acquire_async()
            first, second = (asyncio.create_task(one(taken, number)) for number in range(2))
            while lock.doorman < 2:
                await asyncio.sleep(0)
            lock.release()
            for _ in range(turns % 10):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            await asyncio.wait_for(second, 10)
            assert 1 in taken

    asyncio.run(main())
    assert lock.acquire(timeout=5)
    lock.release()


def test_the_awaited_forms_have_timeouts_and_results(system: ActorSystem, name: str) -> None:
    lock, event = system.lock(name), system.event(f"{name}-event")
    permits, barrier = system.semaphore(f"{name}-permits", 1), system.barrier(f"{name}-barrier", 2)

    async def main() -> None:
        async with lock, permits:
            assert not await lock.acquire_async(0.02)
            assert not await permits.acquire_async(timeout=0.02)
        assert await lock.acquire_async(0.02)
        lock.release()
        assert not await event.wait_async(0.02)
        asyncio.get_running_loop().call_later(0.01, event.set)
        assert await event.wait_async()
        assert sorted(await asyncio.gather(barrier.wait_async(), barrier.wait_async())) == [0, 1]
        with pytest.raises(BrokenBarrierError):
            await barrier.wait_async(0.02)

    asyncio.run(main())


def test_an_event_reaches_threads_coroutines_and_actors(system: ActorSystem, spawn: Spawn, name: str) -> None:
    event, found = system.event(name), list[bool]()
    replies = [spawn(User).ask(User.wait, event) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda: found.append(event.wait(20))),
        threading.Thread(target=lambda: found.append(asyncio.run(event.wait_async(20)))),
    ]
    for thread in threads:
        thread.start()
    until(lambda: event.doorman and event.word & CONTENDED, "they wait")
    event.set()
    for thread in threads:
        thread.join(10)
    assert found == [True, True]
    assert [reply.result(10) for reply in replies] == [True, True]
    event.clear()
    assert not event.is_set()
    assert not event.wait(0)


def test_a_barrier_joins_processes_and_calls_the_last_ones_action(system: ActorSystem, spawn: Spawn, name: str) -> None:
    called: list[int] = []
    barrier = system.barrier(name, 3, lambda: called.append(1))
    replies = [spawn(User).ask(User.meet, barrier), spawn(User).ask(User.meet_async, barrier)]
    until(lambda: barrier.n_waiting == 2, "two wait")
    assert barrier.wait(20) == 2
    assert called == [1]
    assert sorted(reply.result(10) for reply in replies) == [0, 1]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_semaphore_counts_across_processes(system: ActorSystem, spawn: Spawn, name: str) -> None:
    permits = system.semaphore(name, 2)
    bounded = system.semaphore(f"{name}-bounded", 1, bounded=True)
    user = spawn(User)
    user.ask(User.hold_permit, permits).result(10)
    with permits:
        assert permits.value == 0
        assert not permits.acquire(False)
    user.ask(User.drop, permits).result(10)
    assert permits.value == 2
    permits.release(3)
    assert permits.value == 5
    with pytest.raises(ValueError, match="too many"):
        bounded.release()
    assert isinstance(permits, Semaphore)


# --- files


def test_a_file_is_used_by_one_at_a_time_threads_included(system: ActorSystem, tmp_path: Path) -> None:
    path, inside, most = tmp_path / "counter", list[int](), list[int]()

    def count() -> None:
        for _ in range(10):
            with system.file(path) as file:
                inside.append(1)
                most.append(len(inside))
                file.replace(str(int(file.read()) + 1))
                inside.pop()

    path.write_text("0")
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert path.read_text() == "40"
    assert set(most) == {1}


def test_a_files_records_and_content(system: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "records"
    with system.file(path) as file:
        with pytest.raises(FileNotFoundError):
            file.read()
        assert list(file.records()) == []
        file.append("one", b"two")
        file.append("trois \u00e9")
        assert list(file.records()) == [b"one", b"two", "trois \u00e9".encode()]
        file.replace(b"no line end")
        file.append("next")
        assert file.read() == b"no line end\nnext\n"
        with pytest.raises(ValueError, match="one line"):
            file.append("two\nlines")
        assert file.read() == b"no line end\nnext\n"
    with pytest.raises(RuntimeError, match="not in use"):
        file.read()
    with file:
        file.replace("")
        assert file.read() == b""
    assert isinstance(pickle.loads(pickle.dumps(file)), File)


def test_a_file_for_coroutines(system: ActorSystem, tmp_path: Path) -> None:
    """They wait for each other without blocking the loop; a cancelled write ends before the right to the file does."""
    path = tmp_path / "async"

    async def add(number: int) -> None:
        async with system.file(path) as file:
            await file.append_async(f"{number}")

    async def main() -> None:
        await asyncio.gather(*(add(number) for number in range(8)))
        async with system.file(path) as file:
            lines = (await file.read_async()).split()
            assert sorted(lines) == [str(number).encode() for number in range(8)]
            with pytest.raises(TimeoutError, match=f"process {os.getpid()} uses it"):
                async with system.file(path, timeout=0.02):
                    pass
            task = asyncio.create_task(file.replace_async("whole\n" * 100_000))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert path.read_text() == "whole\n" * 100_000

    asyncio.run(main())


def test_what_a_file_can_not_be(system: ActorSystem, tmp_path: Path) -> None:
    """Errors at once, with the path; and nothing is left in the folder."""
    with pytest.raises(FileNotFoundError, match="no-such-folder"), system.file(tmp_path / "no-such-folder" / "file"):
        pass
    with pytest.raises(IsADirectoryError), system.file(tmp_path):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"), system.file(tmp_path / "pipe"):
        pass
    with pytest.raises(OSError, match="its lock"), system.file("/proc/no-such-file"):
        pass
    for wrong in ("", b"bytes", 5, "a\0b"):
        with pytest.raises((ValueError, TypeError)):
            system.file(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        system.file("x", timeout=-1)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_an_error(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="its lock"), system.file(tmp_path / "file"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_second_use_in_a_thread_is_an_error_not_a_deadlock(system: ActorSystem, tmp_path: Path) -> None:
    with system.file(tmp_path / "file") as file:
        with pytest.raises(RuntimeError, match="would wait for itself"), system.file(tmp_path / "file"):
            pass
        with pytest.raises(RuntimeError, match="in use already"), file:
            pass
        with pytest.raises(TimeoutError), system.file(tmp_path / "file", timeout=0.01):
            pass
        file.append("still mine")


def test_links_and_permissions_stay_as_they_are(system: ActorSystem, tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with system.file(link) as file, pytest.raises(TimeoutError), system.file(target, timeout=0.01):
        pass
    with file:
        file.replace("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(each.name for each in target.parent.iterdir()) == [".target.lock", "target"]

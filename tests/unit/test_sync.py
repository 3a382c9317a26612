"""The word that processes coordinate by: signals, remapping, wrong arguments, and pages that somebody scribbled over."""

from __future__ import annotations

import mmap
import os
import random
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from actors.transports._ring import Sync, create, create_sync
from kit import until

LOCK, SEMAPHORE, BARRIER, EVENT = 1, 2, 3, 4
CONTENDED = 1 << 12


class Thing(Sync):
    """Without a system behind it."""

    def _lost(self) -> None:
        raise ConnectionError("lost")

    def _reopen(self) -> None:
        raise ConnectionError("not open")

    def _not_held(self) -> None:
        raise RuntimeError("not held")

    def _tell(self, changes: int) -> None:
        self.told = [*getattr(self, "told", []), changes]


def opened(fd: int, slot: int = 1) -> Thing:
    thing = Thing()
    thing.map(fd, slot)
    return thing


@pytest.fixture
def lock_fd() -> Iterator[int]:
    fd = create_sync(LOCK, 1, False, 100)
    yield fd
    os.close(fd)


class Raised(Exception):
    pass


def test_what_a_signal_handler_raises_ends_the_wait_and_leaves_the_lock_as_it_was(lock_fd: int) -> None:
    def raises(number: int, frame: FrameType | None) -> None:
        raise Raised

    holder, waiter = opened(lock_fd, 1), opened(lock_fd, 2)
    holder.acquire()
    before = signal.signal(signal.SIGUSR1, raises)
    main = threading.get_ident()

    def interrupt() -> None:
        until(lambda: waiter.word & CONTENDED, "it sleeps")
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(Raised):
            waiter.acquire(timeout=20)
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert waiter.held == 0
    holder.release()
    assert waiter.acquire(timeout=5)
    assert holder.count == 0


def test_a_page_stays_mapped_for_a_thread_that_sleeps_in_it_while_the_object_is_opened_anew(lock_fd: int) -> None:
    thing, errors = opened(lock_fd), list[BaseException]()
    other = opened(lock_fd, 2)
    other.acquire()

    def wait() -> None:
        try:
            thing.acquire()
        except ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: other.word & CONTENDED, "it sleeps")
    thing.shut()
    thread.join(10)
    assert [str(error) for error in errors] == ["lost"]
    with pytest.raises(ConnectionError, match="not open"):
        thing.acquire()
    fd = create_sync(LOCK, 1, False, 100)
    thing.map(fd, 3)
    os.close(fd)
    assert thing.acquire(timeout=1), "the new page's, which is free"
    assert other.count == 0


def test_a_release_with_coroutines_waiting_is_told(lock_fd: int) -> None:
    guardian, thing = opened(lock_fd, 0), opened(lock_fd, 1)
    thing.acquire()
    guardian.doorman = 2
    thing.release()
    assert thing.told == [1]
    assert not thing.acquire(False), "it is kept for those who waited"
    assert thing.take()
    guardian.doorman = 0
    thing.release()
    guardian.pass_on(1)
    assert thing.acquire(False), "nobody wanted it"


def test_no_other_descriptor_and_no_other_number_is_taken() -> None:
    ring, plain = create(4096), os.memfd_create("plain")
    for fd in (ring, plain):
        with pytest.raises(ValueError, match="is not a lock"):
            Sync().map(fd, 1)
        os.close(fd)
    fd = create_sync(SEMAPHORE, 2, True, 1)
    for slot in (4096, 1 << 20):
        with pytest.raises(ValueError, match="no slot"):
            Sync().map(fd, slot)
    for kind, limit in ((0, 1), (5, 1), (SEMAPHORE, 1 << 16)):
        with pytest.raises(ValueError, match="no such kind"):
            create_sync(kind, limit, False, 1)
    thing = opened(fd)
    for call in (
        lambda: thing.acquire(1, 2, 3),  # type: ignore[call-arg]
        lambda: thing.acquire(wait=1),  # type: ignore[call-arg]
        lambda: thing.acquire(True, blocking=True),  # type: ignore[misc]
        lambda: thing.acquire(timeout="long"),  # type: ignore[arg-type]
        lambda: thing.release(1, 2),  # type: ignore[call-arg]
        lambda: thing.release(m=1),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            call()
    os.close(fd)


@pytest.mark.parametrize("kind", [LOCK, SEMAPHORE, BARRIER, EVENT])
def test_thousands_of_random_flips_neither_crash_nor_hang_any_method(kind: int, rng: random.Random) -> None:
    """Somebody writes over the page: answers may be wrong, errors clear; nothing outside is touched."""
    fd = create_sync(kind, 3 if kind != LOCK else 1, False, 1 << 20)
    page = mmap.mmap(fd, 0)
    guardian, things = opened(fd, 0), [opened(fd, slot) for slot in (1, 2, 4095)]
    for _ in range(3000):
        at = rng.choice((rng.randrange(448), *range(64, 72)))
        page[at] = rng.randrange(256)
        thing = rng.choice(things)
        call = rng.choice(
            (
                lambda: thing.acquire(False),  # noqa: B023
                thing.take,
                thing.release,
                lambda: thing.change(thing.word, rng.randrange(1 << 20), rng.randrange(1 << 20)),  # noqa: B023
                lambda: thing.sleep(rng.randrange(1 << 60), 0.00001),  # noqa: B023
                thing.wake_all,
                lambda: guardian.sweep(rng.randrange(4096)),
                lambda: guardian.pass_on(1),
                lambda: (thing.owner, thing.number, thing.held, thing.count, thing.abandoned),  # noqa: B023
            )
        )
        try:
            call()
        except (RuntimeError, ValueError):
            continue
    page.close()
    os.close(fd)

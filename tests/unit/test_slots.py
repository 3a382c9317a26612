"""The slots of a snapshot: what was published last is whole, whatever happens to whoever writes."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from actors import ActorsError
from actors.slots import NO_ANSWER, PAGE, Slots, published
from kit import LeakGuard, until


@pytest.fixture
def opened(leak_guard: LeakGuard) -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def slots(opened: ExitStack) -> Slots:
    slots = Slots()
    opened.callback(slots.close)
    return slots


def again(slots: Slots, opened: ExitStack) -> Slots:
    """The same, as the next process gets them."""
    found = Slots([os.dup(fd) for fd in slots.fds])
    opened.callback(found.close)
    return found


def test_new_ones_hold_nothing(slots: Slots) -> None:
    assert slots.read() is None
    assert slots.position == published(slots.fds) == published([]) == 0


@pytest.mark.parametrize("size", [0, 1, 100, PAGE - 125, PAGE - 124, PAGE - 123, PAGE, PAGE + 1, 100_000, 5 << 20])
def test_what_was_written_last_is_read_by_the_next_process(slots: Slots, opened: ExitStack, size: int) -> None:
    for number in range(1, 5):
        slots.write(bytes([number]) * (size + number), number, number << 40)
    assert again(slots, opened).read() == (b"\4" * (size + 4), 4, 4 << 40, NO_ANSWER)
    assert published(slots.fds) == slots.position == 4 << 40


@pytest.mark.parametrize("size", [0, 10, PAGE, 1 << 20])
def test_the_answer_comes_with_it(slots: Slots, opened: ExitStack, size: int) -> None:
    for answer in ((1 << 60, 2 << 60, 10, b"a" * size, 1), NO_ANSWER):
        slots.write(b"body" * 100, 1, 7, answer)
        assert again(slots, opened).read() == (b"body" * 100, 1, 7, answer)


def test_one_that_includes_no_message_is_one_all_the_same(slots: Slots) -> None:
    slots.write(b"by a timer", 0, 0)
    assert slots.read() == (b"by a timer", 0, 0, NO_ANSWER)
    assert published(slots.fds) == 0


def test_the_next_process_writes_on_beside_the_last_one(slots: Slots, opened: ExitStack) -> None:
    current = slots
    for number in range(5):
        current.write(b"%d" % number, 0, number)
        following = again(current, opened)
        assert following.read() == (b"%d" % number, 0, number, NO_ANSWER)
        current = following


def test_what_was_written_and_not_published_is_not_there(
    slots: Slots, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.write(b"published", 0, 1)
    monkeypatch.setattr(slots, "publish", lambda word: None)
    for body in (b"small", b"large" * PAGE):
        slots.write(body, 0, 2)
        assert again(slots, opened).read() == (b"published", 0, 1, NO_ANSWER)


def test_a_burst_goes_back(slots: Slots) -> None:
    for size in (8 << 20, 8 << 20, 10, 10):
        slots.write(bytes(size), 0, 1)
    assert [os.fstat(fd).st_size for fd in slots.fds] == [PAGE, PAGE]
    slots.write(b"on", 0, 2)
    assert slots.read() == (b"on", 0, 2, NO_ANSWER)


def test_a_small_state_costs_two_pages(slots: Slots) -> None:
    for number in range(10):
        slots.write(b"x" * 1000, 0, number)
    assert sum(os.fstat(fd).st_blocks * 512 for fd in slots.fds) == 2 * PAGE


def test_no_room_is_an_error_and_the_last_one_stays(slots: Slots, opened: ExitStack) -> None:
    slots.write(b"last", 0, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        with pytest.raises(OSError, match="File too large"):
            slots.write(bytes(2 << 20), 0, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert again(slots, opened).read() == (b"last", 0, 1, NO_ANSWER)
    slots.write(b"next", 0, 3)
    assert slots.read() == (b"next", 0, 3, NO_ANSWER)


def test_no_descriptors_is_an_error_and_leaves_none_open(leak_guard: LeakGuard) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1
    fillers: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        os.close(fillers.pop())
        with pytest.raises(OSError, match="Too many open files"):
            Slots()  # one fits, the other does not
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


@pytest.mark.parametrize("at", [64, 72, 80, 112])
def test_a_head_that_was_written_over_is_an_error(slots: Slots, at: int) -> None:
    slots.write(b"body", 0, 7)
    slots.pages[slots.word[0] & 1][at : at + 8] = b"\xff" * 8
    with pytest.raises(ActorsError, match="makes no sense"):
        slots.read()


@pytest.mark.parametrize("deaths", [60, pytest.param(3000, marks=pytest.mark.nightly)])
def test_a_writer_killed_at_any_instruction_leaves_a_whole_one(
    slots: Slots, opened: ExitStack, rng: random.Random, tmp_path: Path, deaths: int
) -> None:
    """A child writes bodies of all sizes, each of one byte value that its position names; it is killed at random."""
    slots.write(b"\0", 0, 0)
    number, seen = 0, set()
    for _ in range(deaths):
        sizes = [rng.choice([0, 50, 3000, 20_000, 1 << 20]) + rng.randrange(50) for _ in range(50)]
        pid = os.fork()
        if pid == 0:
            while True:
                for size in sizes:
                    number += 1
                    slots.write(bytes([number & 0xFF]) * size, 0, number)
        first = number
        until(lambda: published(slots.fds) > first, "it has begun")  # noqa: B023
        until(lambda: rng.random() < 0.3, "a moment by chance")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = again(slots, opened).read()
        assert found is not None
        body, _, number, _ = found
        assert set(body) <= {number & 0xFF}
        assert number == published(slots.fds)
        seen.add(len(body))
    assert len(seen) > min(deaths // 4, 100)

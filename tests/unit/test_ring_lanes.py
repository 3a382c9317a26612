"""Answers always have room in a reply lane that its asker kept to its share; the control lane needs no lock."""

import ctypes
import mmap
import os

import pytest

from actors.transports import _ring
from actors.transports._ring import CLOSED, FULL, HEADER, RECORD, SLOT, STUCK, Inbox, Ring


def make(capacity: int = 1 << 16) -> Ring:
    fd = _ring.create(capacity)
    try:
        return Ring(fd)
    finally:
        os.close(fd)


def answer(ring: Ring, length: int, corr: int = 1) -> int:
    return ring.answer(bytes(length), 1, 0, 9, corr)


SMALL = SLOT - RECORD  # the largest body whose record fits into a slot


def test_small_answers_may_use_the_whole_lane() -> None:
    ring = make()
    for _ in range(ring.capacity // SLOT):
        assert answer(ring, SMALL) >= 0
    assert answer(ring, 0) == FULL


def test_large_answers_use_half_of_the_lane_and_leave_the_other_to_small_ones() -> None:
    ring = make()
    while answer(ring, 1000) >= 0:
        pass
    assert ring.stats()["tail"] <= ring.capacity // 2
    asks = ring.capacity // 2 // SLOT
    assert [answer(ring, SMALL) >= 0 for _ in range(asks)] == [True] * asks
    assert answer(ring, SMALL + 1) == FULL, "one byte more and it is a large one"


def test_an_answer_that_never_fits_is_told_full_not_raised() -> None:
    ring = make()
    assert answer(ring, ring.capacity) == FULL
    assert answer(ring, ring.capacity // 2 - RECORD) == 0
    record = ring.take()
    assert record is not None
    ring.done(record[6])
    assert answer(ring, ring.capacity // 2 - RECORD + 8) == FULL


def test_a_closed_lane_refuses_answers() -> None:
    ring = make()
    ring.close()
    assert answer(ring, 0) == CLOSED


def test_an_answer_does_not_wait_long_for_a_lock_that_does_not_move() -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER) as header:
        ring = Ring(fd)
        os.close(fd)
        libc, lock = ctypes.CDLL(None), ctypes.c_char.from_buffer(header, 320)
        libc.pthread_mutex_lock(ctypes.byref(lock))
        assert answer(ring, 0) == STUCK
        libc.pthread_mutex_unlock(ctypes.byref(lock))
        del lock


def test_put_says_whether_there_was_room() -> None:
    ring = make(4096)
    assert ring.put(b"stop", 1, 2, 3, 4)
    assert ring.take() == (1, 2, 3, 4, 0, 0, 0, b"stop")
    while ring.put(bytes(1000), 0, 0, 0, 0):
        pass
    ring.done(0)
    assert ring.put(b"", 0, 0, 0, 0), "room again"
    with pytest.raises(ValueError, match="never fit"):
        ring.put(bytes(4096), 0, 0, 0, 0)


def test_put_is_for_small_lanes_that_nobody_trims() -> None:
    assert make(1 << 20).put(b"", 0, 0, 0, 0)
    with pytest.raises(ValueError, match="at most 1 MiB"):
        make(1 << 21).put(b"", 0, 0, 0, 0)


def test_the_largest_lane_of_put_is_not_trimmed_either() -> None:
    """Its sender writes without the lock, perhaps right now, so its pages must not be taken away."""
    lane, bell = make(1 << 20), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    inbox = Inbox(bell, None, lane)
    for length in (20_000, 60_000, *[60_000] * 20):  # the steps in which pages are counted go beyond the end
        assert lane.put(bytes(length), 1, 0, 0, 0)
        while inbox.collect({}, [], [], 0, None, False):
            pass
    assert lane.stats()["populated"] == lane.capacity
    os.close(bell)

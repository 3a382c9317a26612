"""A ring keeps every record whole and in order, says no by values, and forgets what was cancelled."""

import ctypes
import mmap
import os
import random
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors.transports import _ring
from actors.transports._ring import CLOSED, FULL, HEADER, RECORD, STUCK, Corrupt, Ring

HEAD, TAIL, ACCEPTED_AT, POPULATED, LOCK = 64, 128, 152, 160, 320  # offsets in ring.h's struct header


def make(capacity: int = 4096, bell: int = -1, start: int = 0) -> Ring:
    """A new ring; `start` moves its first position there, as if that many bytes had gone through it."""
    fd = _ring.create(capacity)
    try:
        if start:
            with mmap.mmap(fd, HEADER) as header:
                for offset in (HEAD, TAIL, ACCEPTED_AT, POPULATED, POPULATED + 8):
                    struct.pack_into("<Q", header, offset, start)
        return Ring(fd, bell)
    finally:
        os.close(fd)


def push(ring: Ring, body: bytes = b"", sender: int = 0, corr: int = 0, timeout: float = 0) -> int:
    return ring.push(body, 0, 0, sender, corr, 0, timeout)


def size(length: int) -> int:
    return (RECORD + length + 7) // 8 * 8


@contextmanager
def pair(capacity: int = 4096) -> Iterator[tuple[Ring, mmap.mmap]]:
    """A ring and its header's bytes."""
    fd = _ring.create(capacity)
    with mmap.mmap(fd, HEADER) as header:
        ring = Ring(fd)
        os.close(fd)
        yield ring, header


@contextmanager
def lock_held(header: mmap.mmap) -> Iterator[tuple[int, threading.Event]]:
    """The senders' lock, held by another thread: its tid, and the event that makes it die with the lock."""
    libc, words = ctypes.CDLL(None), [ctypes.c_char.from_buffer(header, LOCK)]
    held, stop, die = threading.Event(), threading.Event(), threading.Event()
    tid: list[int] = []

    def hold() -> None:
        libc.pthread_mutex_lock(ctypes.byref(words[0]))
        tid.append(threading.get_native_id())
        held.set()
        stop.wait()
        if not die.is_set():
            libc.pthread_mutex_unlock(ctypes.byref(words[0]))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield tid[0], die
    finally:
        stop.set()
        thread.join()
        words.clear()  # the map can't be closed before


def test_a_record_arrives_as_it_was_sent() -> None:
    ring = make()
    position = ring.push(b"body", 1, 2, 2**64 - 1, 2**63, 12345, 0)
    assert ring.take() == (1, 2, 2**64 - 1, 2**63, 12345, 0, position, b"body")
    assert ring.take() is None


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"bytes"), memoryview(b"_bytes")[1:]])
def test_a_body_is_any_contiguous_buffer(body: bytes) -> None:
    ring = make()
    push(ring, body)
    record = ring.take()
    assert record is not None
    assert record[7] == b"bytes"


def test_every_size_from_nothing_to_the_whole_capacity_goes_through_and_larger_ones_never_can() -> None:
    ring = make(4096)
    for length in range(4096 - RECORD + 1):
        body = random.Random(length).randbytes(length)
        assert push(ring, body) >= 0
        record = ring.take()
        assert record is not None
        assert record[7] == body
        ring.done(record[6])
    with pytest.raises(ValueError, match="can never fit into a mailbox of 4096 bytes"):
        push(ring, bytes(4096 - RECORD + 1))


@pytest.mark.parametrize("start", [0, 2**32 - 2048, 2**40 - 8, 2**62])
def test_records_wrap_around_whole_and_in_order_wherever_the_positions_stand(start: int) -> None:
    seed = start % 1000 + 7
    rng, ring, sent, taken = random.Random(seed), make(4096, start=start), deque[tuple[int, bytes]](), 0
    for number in range(5000):
        body = rng.randbytes(rng.choice([0, 1, 60, 200, 1500]))
        while (position := push(ring, body, corr=number)) == FULL:
            record = ring.take()
            assert record is not None, f"seed {seed}"
            assert (record[3], record[7]) == sent.popleft(), f"seed {seed}"
            ring.done(record[6])
            taken += 1
        assert position >= start
        sent.append((number, body))
    stats = ring.stats()
    assert stats["tail"] > start + 20 * 4096, "it did wrap"
    assert (stats["accepted"], stats["handled"]) == (5000, taken)


def test_full_is_a_value_and_room_comes_back_when_records_are_done() -> None:
    ring = make()
    pushed = 0
    while push(ring, bytes(100)) != FULL:
        pushed += 1
    assert pushed == 4096 // size(100)
    first = ring.take()
    assert first is not None
    assert push(ring, bytes(100)) == FULL, "what is in hand still takes its room"
    ring.done(first[6])
    assert push(ring, bytes(100)) >= 0


def test_a_sender_with_time_waits_for_room_and_gets_it() -> None:
    ring = make()
    while push(ring, bytes(1000)) != FULL:
        pass
    said: list[int] = []
    sender = threading.Thread(target=lambda: said.append(push(ring, bytes(1000), timeout=60)))
    sender.start()
    while sender.is_alive():
        if record := ring.take():
            ring.done(record[6])
    assert said[0] > 0


def test_a_sender_whose_time_is_over_is_told_full() -> None:
    ring = make()
    while push(ring, bytes(1000)) != FULL:
        pass
    before = time.monotonic()
    assert push(ring, bytes(1000), timeout=0.02) == FULL
    assert time.monotonic() - before >= 0.02


def test_a_closed_ring_refuses_senders_and_wakes_those_that_wait_for_room() -> None:
    ring = make()
    while push(ring, bytes(1000)) != FULL:
        pass
    said: list[int] = []
    sender = threading.Thread(target=lambda: said.append(push(ring, bytes(1000), timeout=-1)))
    sender.start()
    ring.close(7)
    sender.join()
    assert said == [CLOSED]
    assert (ring.closed, push(ring)) == (7, CLOSED)
    ring.reopen()
    record = ring.take()
    assert record is not None
    ring.done(record[6])
    assert push(ring) >= 0


def test_a_lock_whose_owner_does_not_move_is_told_as_stuck_and_names_the_owner() -> None:
    with pair() as (ring, header):
        with lock_held(header) as (tid, _):
            assert push(ring) == STUCK
            assert push(ring, timeout=0.02) == STUCK
            assert ring.owner() == tid
            assert not ring.cancel(0, 0, 0)
        assert push(ring) == 0
        assert ring.owner() == 0


def test_a_sender_that_waits_for_the_lock_sees_the_ring_close() -> None:
    with pair() as (ring, header), lock_held(header):
        said: list[int] = []
        sender = threading.Thread(target=lambda: said.append(push(ring, timeout=-1)))
        sender.start()
        ring.close()
        sender.join()
        assert said == [CLOSED]


def test_the_lock_of_a_dead_owner_is_inherited_and_counted() -> None:
    with pair() as (ring, header):
        with lock_held(header) as (_, die):
            die.set()
        while ring.owner():  # the kernel clears it when the thread is really gone, a moment after join()
            os.sched_yield()
        assert push(ring) == 0
        assert ring.stats()["recovered"] == 1


class Interrupted(Exception):
    """Raised by the tests' signal handler."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """A signal in 20 ms whose handler raises Interrupted."""

    def handler(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_raise_while_a_sender_waits_for_room(alarm: None) -> None:
    ring = make()
    while push(ring, bytes(1000)) != FULL:
        pass
    before = ring.stats()
    with pytest.raises(Interrupted):
        push(ring, bytes(1000), timeout=-1)
    assert ring.stats() == before


def test_a_signal_handler_may_raise_while_a_sender_waits_for_the_lock(alarm: None) -> None:
    with pair() as (ring, header), lock_held(header):
        with pytest.raises(Interrupted):
            push(ring, timeout=-1)
        assert ring.stats()["accepted"] == 0


def test_a_cancelled_record_is_never_taken_and_one_in_hand_can_not_be_cancelled() -> None:
    ring = make()
    positions = [push(ring, b"%d" % n, sender=9, corr=n) for n in range(4)]
    assert ring.cancel(positions[0], 9, 0)
    assert ring.cancel(positions[2], 9, 2)
    first = ring.take()
    assert first is not None
    assert first[7] == b"1"
    assert not ring.cancel(positions[1], 9, 1)
    second = ring.take()
    assert second is not None
    assert second[7] == b"3"
    assert ring.take() is None
    ring.done(first[6])
    ring.done(second[6])
    stats = ring.stats()
    assert (stats["accepted"], stats["handled"], stats["head"]) == (4, 4, stats["tail"])


def test_only_the_very_record_is_cancelled() -> None:
    ring = make()
    position = push(ring, b"x", sender=9, corr=1)
    assert not ring.cancel(position, 8, 1)
    assert not ring.cancel(position, 9, 2)
    assert not ring.cancel(position + 8, 9, 1)
    assert not ring.cancel(position + 4096, 9, 1)
    assert ring.cancel(position, 9, 1) == (b"x", 0)
    assert ring.cancel(position, 9, 1) is None, "twice"


def test_records_may_be_done_out_of_order_and_the_head_follows_the_front() -> None:
    ring = make()
    positions = [push(ring) for _ in range(4)]
    for _ in positions:
        assert ring.take() is not None
    ring.done(positions[2])
    ring.done(positions[1])
    ring.done(positions[2])  # once is enough
    assert ring.stats()["head"] == 0
    assert ring.stats()["handled"] == 2
    ring.done(positions[0])
    assert ring.stats()["head"] == positions[3]
    ring.done(positions[3])
    ring.done(positions[3])  # nothing happens
    stats = ring.stats()
    assert (stats["head"], stats["handled"]) == (stats["tail"], 4)


def test_busy_since_is_the_time_of_the_oldest_record_in_hand() -> None:
    ring = make()
    assert ring.stats()["busy_since"] == 0
    positions = [push(ring), push(ring)]
    begin = time.clock_gettime_ns(6)  # CLOCK_MONOTONIC_COARSE, the ring's own
    ring.take()
    first = ring.stats()["busy_since"]
    assert begin <= first <= time.monotonic_ns()
    while time.clock_gettime_ns(6) == first:
        pass
    ring.take()
    assert ring.stats()["busy_since"] == first
    ring.done(positions[0])
    assert ring.stats()["busy_since"] > first
    ring.done(positions[1])
    assert ring.stats()["busy_since"] == 0


def test_large_bodies_are_copied_beside_other_senders_without_a_tear() -> None:
    ring, lengths = make(1 << 20), (70_000, 200_000, 60)
    total = 40

    def send(number: int) -> None:
        for _ in range(total):
            assert push(ring, bytes([number]) * lengths[number], sender=number, timeout=-1) >= 0

    senders = [threading.Thread(target=send, args=(n,)) for n in range(3)]
    for sender in senders:
        sender.start()
    seen = [0, 0, 0]
    while sum(seen) < 3 * total:
        if record := ring.take():
            assert record[7] == bytes([record[2]]) * lengths[record[2]]
            seen[record[2]] += 1
            ring.done(record[6])
    for sender in senders:
        sender.join()
    assert seen == [total] * 3


def test_the_word_waiting_is_seen_by_everyone_who_maps_the_ring() -> None:
    fd = _ring.create(4096)
    one, two = Ring(fd), Ring(fd)
    os.close(fd)
    one.waiting = 2**64 - 1
    assert two.waiting == 2**64 - 1


def test_only_a_sealed_ring_of_this_version_is_mapped() -> None:
    plain = os.memfd_create("plain", os.MFD_ALLOW_SEALING)
    os.ftruncate(plain, HEADER + 4096)
    with pytest.raises(ValueError, match="not sealed"):
        Ring(plain)
    good = _ring.create(4096)
    for offset, reason in ((0, "magic"), (8, "version"), (16, "capacity")):
        with mmap.mmap(good, HEADER) as header:
            header[offset] ^= 1
            with pytest.raises(ValueError, match=reason):
                Ring(good)
            header[offset] ^= 1
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(good, HEADER)
    for fd in (plain, good):
        os.close(fd)
    with pytest.raises(ValueError, match="not a ring"):
        Ring(good)


@pytest.mark.parametrize("capacity", [0, 2048, 5000, 1 << 32])
def test_a_capacity_is_a_power_of_two_of_at_least_one_page(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        _ring.create(capacity)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"", 65536, 0, 0, 0, 0, 0), ValueError),
        ((b"", 0, -1, 0, 0, 0, 0), ValueError),
        ((b"", 0, 0, -1, 0, 0, 0), OverflowError),
        ((b"", 0, 0, 0, 2**64, 0, 0), OverflowError),
        (("text", 0, 0, 0, 0, 0, 0), TypeError),
        ((b"", 0, 0, 0, 0, 0, None), TypeError),
        ((b"",), TypeError),
    ],
)
def test_wrong_arguments_of_push_raise_and_leave_nothing(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    ring = make()
    with pytest.raises(error):
        ring.push(*arguments)
    assert ring.stats()["tail"] == 0


def test_corrupt_is_a_runtime_error_that_says_where() -> None:
    with pair() as (ring, header):
        push(ring)
        struct.pack_into("<Q", header, TAIL, 8)
        with pytest.raises(Corrupt, match=r"mailbox corrupt: .*tail 8, capacity 4096"):
            ring.take()
        assert issubclass(Corrupt, RuntimeError)


def test_a_ring_that_owns_its_bell_closes_it_and_one_that_borrows_it_does_not() -> None:
    borrowed, owned = (os.eventfd(0, os.EFD_CLOEXEC) for _ in range(2))
    fd = _ring.create(4096)
    rings = [Ring(fd, borrowed), Ring(fd, owned, True)]
    os.close(fd)
    assert [ring.bell for ring in rings] == [borrowed, owned]
    rings.clear()
    os.close(borrowed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(owned)

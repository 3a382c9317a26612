"""The owner of a mailbox knows what was in hand, sweeps what is left, and never needs the senders' lock for it."""

import ctypes
import mmap
import os
import select
from collections.abc import Iterator
from itertools import count

import pytest

from actors.transports import _ring
from actors.transports._ring import CLOSED, Inbox, Record, Ring


def make(capacity: int = 4096, bell: int = -1) -> Ring:
    fd = _ring.create(capacity)
    try:
        return Ring(fd, bell)
    finally:
        os.close(fd)


def fill(ring: Ring, records: int) -> list[int]:
    return [ring.push(b"%d" % n, 1, 0, 5, n, 0, 0) for n in range(records)]


def take(ring: Ring) -> Record:
    record = ring.take()
    assert record is not None
    return record


def bodies(records: list[Record]) -> list[bytes]:
    return [record[7] for record in records]


def depth(ring: Ring) -> int:
    stats = ring.stats()
    return stats["accepted"] - stats["handled"]


def is_rung(bell: int) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def test_an_attempt_is_claimed_once_and_only_while_it_is_granted() -> None:
    ring = make()
    assert not ring.claim(1)
    ring.grant(1)
    assert not ring.claim(2)
    assert ring.claim(1)
    assert not ring.claim(1)
    assert ring.stats()["pid"] == os.getpid()
    assert not ring.revoke(1), "it was claimed"


def test_a_revoked_attempt_can_not_be_claimed() -> None:
    ring = make()
    ring.grant(3)
    assert ring.revoke(3)
    assert not ring.claim(3)
    ring.grant(4)
    assert ring.claim(4)


@pytest.mark.parametrize("attempt", [0, 1 << 63])
def test_an_attempt_is_a_positive_number(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        make().grant(attempt)


def test_the_next_consumer_begins_with_the_oldest_record_that_was_not_handled() -> None:
    ring = make()
    fill(ring, 3)
    take(ring)
    ring.done(take(ring)[6])
    assert bodies(ring.in_hand(0)) == [b"0"]
    ring.grant(1)
    ring.claim(1)
    assert take(ring)[7] == b"2"
    assert ring.take() is None


def test_what_was_in_hand_is_returned_oldest_first_and_what_was_not_stays() -> None:
    ring = make()
    positions = fill(ring, 5)
    for _ in range(4):
        take(ring)
    ring.done(positions[1])
    assert bodies(ring.in_hand(0)) == [b"0", b"2", b"3"]
    assert ring.stats()["head"] == positions[4]
    assert depth(ring) == 1
    assert ring.in_hand(0) == []


def test_what_was_in_hand_is_delivered_again_until_its_tries_are_used_up() -> None:
    ring = make()
    fill(ring, 2)
    for tried, attempt in zip(range(3), count(1), strict=False):
        ring.grant(attempt)
        ring.claim(attempt)
        record = take(ring)
        assert (record[5], record[7]) == (tried, b"0"), "the same one again, with its number of tries"
        given_up = ring.in_hand(2)
    assert [(record[5], record[7]) for record in given_up] == [(2, b"0")]
    assert depth(ring) == 1
    assert take(ring)[7] == b"1"


def test_what_was_handled_up_to_a_position_does_not_come_back() -> None:
    ring = make()
    positions = fill(ring, 5)
    for _ in range(4):
        take(ring)
    ring.done(positions[1])
    assert bodies(ring.in_hand(9, positions[2] + 1)) == [b"0", b"2"]
    assert [take(ring)[7], take(ring)[7]] == [b"3", b"4"]
    assert depth(ring) == 2
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            ring.in_hand(*wrong)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        ring.in_hand(1, -1)


def test_a_record_that_comes_back_keeps_its_place_before_younger_ones() -> None:
    ring = make()
    positions = fill(ring, 4)
    for _ in range(3):
        take(ring)
    ring.done(positions[0])
    ring.done(positions[2])
    assert ring.in_hand(9) == []
    assert [take(ring)[7], take(ring)[7]] == [b"1", b"3"]


def test_a_record_that_comes_back_can_be_cancelled() -> None:
    ring = make()
    position = fill(ring, 1)[0]
    take(ring)
    ring.in_hand(1)
    assert ring.cancel(position, 5, 0)
    assert ring.take() is None
    assert depth(ring) == 0


def test_a_sweep_returns_all_that_was_not_handled_and_leaves_nothing() -> None:
    ring = make()
    positions = fill(ring, 5)
    take(ring)
    ring.done(take(ring)[6])
    ring.cancel(positions[3], 5, 3)
    ring.close()
    assert ring.quiet()
    assert bodies(ring.sweep()) == [b"0", b"2", b"4"]
    assert ring.sweep() == []
    stats = ring.stats()
    assert (stats["head"], depth(ring), stats["busy_since"]) == (stats["tail"], 0, 0)


def test_a_sweep_of_one_kind_leaves_the_others_where_they_are() -> None:
    ring = make()
    for number, kind in enumerate((1, 2, 1, 2)):
        ring.push(b"%d" % number, kind, 0, 5, 0, 0, 0)
    assert bodies(ring.sweep(2)) == [b"1", b"3"]
    assert depth(ring) == 2
    assert [take(ring)[7], take(ring)[7]] == [b"0", b"2"]


def test_a_swept_ring_can_be_opened_again() -> None:
    ring = make()
    fill(ring, 2)
    ring.close()
    ring.sweep()
    assert ring.push(b"", 0, 0, 0, 0, 0, 0) == CLOSED
    ring.reopen()
    assert ring.push(b"new", 0, 0, 0, 0, 0, 0) > 0
    assert take(ring)[7] == b"new"


def test_a_ring_is_quiet_only_when_it_is_closed_and_its_lock_is_free() -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, _ring.HEADER) as header:
        ring = Ring(fd)
        os.close(fd)
        assert not ring.quiet(), "open"
        libc, lock = ctypes.CDLL(None), ctypes.c_char.from_buffer(header, 320)
        libc.pthread_mutex_lock(ctypes.byref(lock))
        ring.close()
        assert not ring.quiet(), "a sender is inside"
        libc.pthread_mutex_unlock(ctypes.byref(lock))
        assert ring.quiet()
        del lock


def test_nothing_that_the_owner_does_waits_for_the_senders_lock() -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, _ring.HEADER) as header:
        ring = Ring(fd)
        os.close(fd)
        fill(ring, 3)
        take(ring)
        libc, lock = ctypes.CDLL(None), ctypes.c_char.from_buffer(header, 320)
        libc.pthread_mutex_lock(ctypes.byref(lock))
        ring.grant(1)
        ring.revoke(1)
        assert bodies(ring.in_hand(0)) == [b"0"]
        ring.owed()
        ring.ring()
        ring.close()
        ring.quiet()
        assert ring.put(b"3", 0, 0, 0, 0)
        assert bodies(ring.sweep()) == [b"1", b"2", b"3"]
        libc.pthread_mutex_unlock(ctypes.byref(lock))
        del lock


def test_a_close_code_is_kept_and_never_zero() -> None:
    ring = make()
    ring.close(2**64 - 1)
    assert ring.closed == ring.stats()["closed"] == 2**64 - 1
    with pytest.raises(ValueError, match="not 0"):
        ring.close(0)


def test_a_bell_is_owed_only_to_a_sleeper_with_mail(bell: int) -> None:
    mail = make(bell=bell)
    inbox = Inbox(bell, make(), make(), mail)
    assert not mail.owed(), "awake, empty"
    assert inbox.next(0) is None
    assert not mail.owed(), "asleep, empty"
    assert not is_rung(bell)
    mail.bell = -1  # this sender dies between its publication and the bell
    fill(mail, 1)
    mail.bell = bell
    assert not is_rung(bell)
    assert mail.owed()
    assert is_rung(bell)
    inbox.clear()
    assert inbox.next(0) is not None
    assert not mail.owed(), "awake"


def test_ring_wakes_whatever_the_consumer_does(bell: int) -> None:
    ring = make(bell=bell)
    ring.ring()
    assert is_rung(bell)
    assert ring.stats()["sleeping"] == 0


def test_the_depth_is_exact_through_all_that_can_happen_to_a_record() -> None:
    ring = make()
    positions = fill(ring, 8)
    assert depth(ring) == 8
    for _ in range(4):
        take(ring)
    assert depth(ring) == 8
    ring.done(positions[1])
    assert depth(ring) == 7
    ring.cancel(positions[6], 5, 6)
    assert depth(ring) == 6
    ring.in_hand(1)  # three come back
    assert depth(ring) == 6
    take(ring)
    ring.in_hand(1)  # one has had its try
    assert depth(ring) == 5
    ring.sweep()
    assert depth(ring) == 0

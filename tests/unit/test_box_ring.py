"""A ring that several consumers share: the order, who has what in hand, counts, the end, and stray writes."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from actors.transports import _ring
from actors.transports._ring import CLOSED, EMPTY, FULL, HEADER, LEFT, RECORD, Corrupt, Ring
from kit.rounds import in_a_child

Views = tuple[Ring, Ring]
LOCKS = {*range(320, 376), *range(1024, 1064)}  # glibc follows their pointers, and the promise leaves them out
FIELDS = [at for at in range(1024 + 384) if at not in LOCKS]
ROUNDS = [4000, pytest.param(40_000, marks=pytest.mark.nightly)]  # of 1 to 4 flips each


@pytest.fixture
def views() -> Iterator[Views]:
    """One ring as two processes see it, endpoints 7 and 8."""
    fd, bell = _ring.create(1 << 16), os.eventfd(0, os.EFD_NONBLOCK)
    pair = Ring(fd, bell), Ring(fd, bell)
    for me, ring in zip((7, 8), pair, strict=True):
        ring.join(me, 0)
    os.close(fd)
    yield pair
    os.close(bell)


def put(ring: Ring, *bodies: bytes, timeout: float = 0.0) -> int:
    return [ring.push(body, 3, 0, 0, 0, 0, timeout) for body in bodies][-1]


def get(ring: Ring, keep: bool = False) -> bytes | int:
    got = ring.get(0.0, keep, None)
    return got if isinstance(got, int) else got[0]


def taken(ring: Ring) -> tuple[bytes, int, int]:
    """(body, tries, position) of the next record, which stays in hand."""
    got = ring.get(0.0, True, None)
    assert isinstance(got, tuple)
    return got[0], got[2], got[3]


def test_records_are_taken_in_order_each_by_one_consumer(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2", b"3")
    assert [get(b), get(a), get(b), get(a)] == [b"1", b"2", b"3", EMPTY]


def test_what_is_given_back_is_the_next_to_be_taken_and_says_how_often(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2")
    for times in range(3):
        body, tries, position = taken(a)
        assert (body, tries) == (b"1", times)
        assert a.give_back(position)
    assert [taken(b)[:2], taken(b)[:2]] == [(b"1", 3), (b"2", 0)]


def test_what_a_dead_endpoint_had_in_hand_comes_back_in_its_place(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2", b"3", b"4")
    assert [taken(b)[0], taken(a)[0], taken(b)[0]] == [b"1", b"2", b"3"]
    assert a.reclaim(8) == 2
    assert a.reclaim(8) == 0
    assert [taken(a)[:2] for _ in range(3)] == [(b"1", 1), (b"3", 1), (b"4", 0)]


def test_only_the_taker_can_end_or_give_back(views: Views) -> None:
    a, b = views
    put(a, b"1")
    _, _, position = taken(a)
    assert not b.end(position, True)
    assert not b.give_back(position)
    assert a.end(position, True)
    assert not a.end(position, True)


def test_the_head_passes_only_over_what_is_over(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2")
    first = taken(a)
    assert get(b) == b"2"
    assert a.stats()["head"] == first[2]
    a.end(first[2], True)
    assert a.stats()["head"] == a.stats()["tail"]


def test_waiting_and_unfinished_are_counted_apart(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2", b"3")
    assert get(a) == b"1"
    _, _, position = taken(b)
    assert (a.waits(), a.finished(0.0)) == (1, False)
    assert b.end(position, True)
    assert get(a) == b"3"
    assert [a.task_done(), a.finished(0.0), b.task_done(), a.finished(0.0)] == [True, False, True, True]
    assert not a.task_done(), "more often than there were records"


def test_most_bounds_what_waits_and_not_what_is_in_hand() -> None:
    ring = Ring(fd := _ring.create(1 << 16))
    os.close(fd)
    ring.join(7, 2)
    assert put(ring, b"1", b"2") >= 0
    assert put(ring, b"3") == FULL
    _, _, position = taken(ring)
    assert put(ring, b"3") >= 0
    assert ring.give_back(position), "what comes back may be one too many"
    assert (ring.waits(), put(ring, b"4")) == (3, FULL)


def test_a_closed_ring_refuses_is_drained_and_ends_when_nothing_can_come_back_from_others(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2")
    _, _, position = taken(b)
    a.close()
    assert put(b, b"3") == CLOSED
    assert get(a) == b"2"
    assert get(a) == EMPTY, "b may still give back"
    assert get(b) == CLOSED, "what only it could give back, it knows of"
    assert b.give_back(position)
    assert [get(a), get(a), get(b)] == [b"1", CLOSED, CLOSED]


def test_who_has_left_takes_puts_and_ends_nothing(views: Views) -> None:
    a, b = views
    put(a, b"1", b"2")
    _, _, position = taken(b)
    b.leave()
    assert (get(b), put(b, b"3"), b.end(position, True), b.finished(-1.0)) == (LEFT, LEFT, False, LEFT)


def test_leaving_frees_whoever_waits(views: Views) -> None:
    said: list[object] = []
    waiter = threading.Thread(target=lambda: said.append(views[0].get(-1.0, False, None)))
    waiter.start()
    while not views[0].stats()["tail"] and waiter.is_alive() and not said:
        time.sleep(0.01)
        views[0].leave()
    waiter.join(10)
    assert said == [LEFT]


def test_a_poller_is_rung_once(views: Views) -> None:
    a, b = views
    assert not b.poll()
    put(a, b"1", b"2")
    assert os.eventfd_read(b.bell) == 1
    assert b.poll(), "there is something already"


def test_what_is_taken_is_known_even_if_the_caller_is_interrupted(views: Views) -> None:
    into: list[tuple[bytes, int, int, int]] = []
    put(views[0], b"1")
    got = views[1].get(0.0, True, into)
    assert into == [got]


def test_a_ring_that_nobody_joined_is_not_shared() -> None:
    ring = Ring(fd := _ring.create(4096))
    os.close(fd)
    with pytest.raises(RuntimeError, match="join"):
        ring.get(0.0, False, None)
    with pytest.raises(ValueError, match="endpoint"):
        ring.join(0, 0)


def test_random_use_agrees_with_a_list(rng: random.Random, views: Views) -> None:
    """Three thousand steps of two consumers against a model: a deque in front of which comes what comes back."""
    waiting: deque[tuple[int, int]] = deque()  # (number, tries), oldest first
    hands: dict[int, list[tuple[int, int, int]]] = {0: [], 1: []}  # (number, tries, position)
    number = 0
    for _ in range(3000):
        who, what = rng.randrange(2), rng.random()
        ring, hand = views[who], hands[who]
        if what < 0.4 and len(waiting) < 100:
            assert put(ring, b"%d" % number) >= 0
            waiting.append((number, 0))
            number += 1
        elif what < 0.75:
            got = ring.get(0.0, True, None)
            if isinstance(got, int):
                assert not waiting
            else:
                assert (int(got[0]), got[2]) == waiting.popleft()
                hand.append((int(got[0]), got[2], got[3]))
        elif hand and what < 0.9:
            assert ring.end(hand.pop(rng.randrange(len(hand)))[2], True)
        elif hand:
            back = [hand.pop(rng.randrange(len(hand)))] if what < 0.97 else hand.copy()
            if len(back) == 1 and what < 0.97:
                assert ring.give_back(back[0][2])
            else:
                assert ring.reclaim(7 + who) == len(back)
                hand.clear()
            waiting = deque(sorted([*waiting, *((each, tries + 1) for each, tries, _ in back)]))
        assert ring.waits() == len(waiting)


class Interrupted(Exception):
    """Raised by a signal's handler."""


def test_handlers_that_take_here_too_or_raise_lose_nothing_and_leave_no_lock(rng: random.Random, views: Views) -> None:
    """Signals, wherever they find a consumer, which has everything over in the end, each once."""
    ring, over, raises, busy, signals = views[0], list[int](), [False], [False], [0]

    def handler(*_: object) -> None:
        if busy[0]:
            return
        busy[0] = True
        signals[0] += 1
        got = ring.get(0.0, True, None)
        if isinstance(got, tuple):
            if rng.random() < 0.5:
                assert ring.give_back(got[3])
            else:
                assert ring.end(got[3], True)
                over.append(int(got[0]))
        busy[0] = False
        if raises[0] and rng.random() < 0.5:
            raises[0] = False
            raise Interrupted

    def interrupted(call: Callable[[], object]) -> bool:
        try:
            raises[0] = True
            call()
            raises[0] = False
        except Interrupted:
            return True
        return False

    before, number = signal.signal(signal.SIGALRM, handler), 0
    try:
        while signals[0] < 300:
            put(ring, *(b"%d" % each for each in range(number, number + 100)))
            number += 100
            signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0002)
            while len(over) < number:
                into: list[tuple[bytes, int, int, int]] = []
                interrupted(lambda into=into: ring.get(0.0, True, into))  # type: ignore[misc]
                if into:
                    body, _, _, position = into[0]
                    while interrupted(lambda position=position: ring.end(position, True)):  # type: ignore[misc]
                        continue
                    over.append(int(body))
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sorted(over) == list(range(number))
    assert (ring.keeper(), ring.owner(), ring.waits(), ring.finished(0.0)) == (0, 0, 0, True)


# --- stray writes


def use_everything(rng: random.Random, ring: Ring, positions: list[int]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: put(ring, bytes(rng.choice([0, 60, 900]))),
        lambda: ring.get(0.0, False, None),
        lambda: ring.get(0.001, True, None),
        lambda: ring.end(rng.choice(positions), rng.random() < 0.5),
        lambda: ring.give_back(rng.choice(positions)),
        lambda: (ring.waits(), ring.poll(), ring.keeper(), ring.owner(), ring.stats()),
        lambda: (ring.task_done(), ring.finished(0.0)),
        lambda: ring.reclaim(rng.choice([7, 8])),
        lambda: ring.rouse(),
        lambda: ring.close(),
        lambda: ring.reopen(),
    ]
    for call in rng.sample(calls, len(calls)):
        with suppress(Corrupt):
            call()


def one_round(seed: int, bell: int) -> None:
    rng = random.Random(seed)
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER + 4096) as memory:
        ring = Ring(fd, bell)
        ring.join(7, rng.choice([0, 3, 8]))
        positions = [p if (p := put(ring, rng.randbytes(rng.choice([0, 60, 300])))) >= 0 else 0 for _ in range(8)]
        for _ in range(rng.randrange(8)):
            ring.get(0.0, rng.random() < 0.5, None)
        for _ in range(rng.randint(1, 4)):
            record = HEADER + rng.choice(positions) % 4096
            at = rng.choice(FIELDS) if rng.random() < 0.6 else record + rng.randrange(RECORD)
            memory[at % len(memory)] ^= rng.choice([1, 0x80, 0xFF, 1 << rng.randrange(8)])
            use_everything(rng, ring, positions)
    os.close(fd)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_thousands_of_random_flips_neither_crash_nor_hang_any_consumer(rng: random.Random, rounds: int) -> None:
    """As for rings with one consumer: a crash or a hang is a child's exit status, and the seed is in the shared page."""
    in_a_child(one_round, rng.randrange(1 << 30), rounds)


@pytest.mark.parametrize("field", ["length", "state", "mark"])
def test_a_record_whose_header_was_overwritten_is_corrupt_for_consumers_and_owner(field: str) -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER + 4096) as memory:
        ring = Ring(fd)
        os.close(fd)
        ring.join(7, 0)
        put(ring, b"body")
        struct.pack_into("<I", memory, HEADER + {"length": 0, "state": 4, "mark": 12}[field], 0xFFFFFFFF)
        for look in (lambda: ring.get(0.0, False, None), lambda: ring.reclaim(7)):
            with pytest.raises(Corrupt, match="mailbox corrupt"):
                look()

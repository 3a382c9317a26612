"""Whatever a stray write does to a ring's memory, its users get an error or a wrong value, never a crash or a hang."""

import mmap
import os
import random
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from actors.transports import _ring
from actors.transports._ring import HEADER, RECORD, Corrupt, Inbox, ReplyBase, Ring
from kit.rounds import in_a_child

LOCK = range(320, 376)  # the mutex: glibc follows its pointers, and the promise leaves it out
FIELDS = [at for at in range(512) if at not in LOCK]
ROUNDS = [4000, pytest.param(40_000, marks=pytest.mark.nightly)]  # of 1 to 4 flips each


def damage(rng: random.Random, memory: mmap.mmap, positions: list[int]) -> str:
    """Flip some bits of a header's word or of a record's header."""
    record = HEADER + rng.choice(positions) % 4096
    at = rng.choice(FIELDS) if rng.random() < 0.5 else record + rng.randrange(RECORD)
    flip = rng.choice([1, 0x80, 0xFF, 1 << rng.randrange(8)])
    memory[at % len(memory)] ^= flip
    return f"byte {at} ^ {flip:#x}"


def use_everything(rng: random.Random, ring: Ring, inbox: Inbox, positions: list[int]) -> None:
    """Call every method in some order; a corrupt ring may say so at any of them."""
    table: dict[int, ReplyBase] = {n: ReplyBase() for n in range(8)}
    calls: list[Callable[[], object]] = [
        lambda: ring.push(bytes(rng.choice([0, 60, 900])), 1, 0, 2, 3, 0, 0),
        lambda: ring.answer(bytes(rng.choice([0, 60, 900])), 1, 0, 2, 3),
        lambda: ring.put(b"notice", 1, 0, 2, 3),
        lambda: ring.cancel(rng.choice(positions), 5, rng.randrange(8)),
        lambda: ring.take(),
        lambda: ring.done(rng.choice(positions)),
        lambda: inbox.next(0),
        lambda: inbox.next(5),
        lambda: inbox.hold(),
        lambda: inbox.finish(),
        lambda: inbox.collect(table, [], [], 5, None, True),
        lambda: ring.in_hand(rng.choice([0, 1, 99])),
        lambda: ring.grant(2),
        lambda: ring.claim(2),
        lambda: (ring.owed(), ring.owner(), ring.quiet(), ring.closed, ring.waiting),
        lambda: ring.ring(),
        lambda: ring.stats(),
        lambda: ring.close(),
        lambda: ring.sweep(),
        lambda: ring.reopen(),
    ]
    for call in rng.sample(calls, len(calls)):
        with suppress(Corrupt, RuntimeError):  # RuntimeError: there is no record to hold
            call()


def one_round(seed: int, bell: int) -> None:
    rng = random.Random(seed)
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER + 4096) as memory:
        ring, lane = Ring(fd, bell), Ring(fd, bell)
        inbox = Inbox(bell, lane, lane, ring) if rng.random() < 0.5 else Inbox(bell, ring, ring)
        positions = [ring.push(rng.randbytes(rng.choice([0, 60, 300])), 1, 0, 5, n, 0, 0) for n in range(8)]
        taken = [record[6] for _ in range(rng.randrange(8)) if (record := ring.take())]
        for position in rng.sample(taken, len(taken) // 2):
            ring.done(position)
        for _ in range(rng.randint(1, 4)):
            damage(rng, memory, positions)
            use_everything(rng, ring, inbox, positions)
    os.close(fd)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_thousands_of_random_flips_neither_crash_nor_hang_any_method(rng: random.Random, rounds: int) -> None:
    """In a child of its own: a crash or a hang (its alarm) is its exit status, and the seed is in the shared page."""
    in_a_child(one_round, rng.randrange(1 << 30), rounds)


@pytest.mark.parametrize("field", ["length", "state", "mark"])
def test_a_record_whose_header_was_overwritten_is_corrupt_for_consumer_and_owner(field: str) -> None:
    offset = {"length": 0, "state": 4, "mark": 12}[field]
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER + 4096) as memory:
        ring = Ring(fd)
        os.close(fd)
        ring.push(b"body", 0, 0, 0, 0, 0, 0)
        before = ring.stats()
        struct.pack_into("<I", memory, HEADER + offset, 0xFFFFFFFF)
        for look in (ring.take, lambda: ring.in_hand(0), ring.sweep):
            with pytest.raises(Corrupt, match="mailbox corrupt"):
                look()
        assert ring.stats() == before, "it is left as it was found"


def test_a_record_in_hand_that_was_overwritten_is_corrupt_when_it_is_done() -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER + 4096) as memory:
        ring = Ring(fd)
        os.close(fd)
        inbox = Inbox(-1, None, None, ring)
        ring.push(b"body", 0, 0, 0, 0, 0, 0)
        assert inbox.next(0)
        struct.pack_into("<I", memory, HEADER, 4000)
        with pytest.raises(Corrupt, match="in hand was overwritten"):
            inbox.next(0)


@pytest.mark.parametrize("tail", [1, 8, 4096 + 8, 2**64 - 8])
def test_a_tail_that_makes_no_sense_is_corrupt_for_senders_and_for_the_consumer(tail: int) -> None:
    fd = _ring.create(4096)
    with mmap.mmap(fd, HEADER) as header:
        ring = Ring(fd)
        os.close(fd)
        struct.pack_into("<Q", header, 128, tail)
        with pytest.raises(Corrupt):
            ring.take()
        if tail != 8:  # a sender can't know that no record ends there
            with pytest.raises(Corrupt):
                ring.push(b"", 0, 0, 0, 0, 0, 0)

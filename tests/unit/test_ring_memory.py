"""A ring takes memory as it is used, gives it back when it idles, and says so when the machine has none left."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from actors.transports import _ring
from actors.transports._ring import HEADER, NOMEM, Inbox, Ring

MIB = 1 << 20


def resident(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def push(ring: Ring, length: int) -> int:
    return ring.push(bytes(length), 0, 0, 0, 0, 0, 0)


def drain(inbox: Inbox) -> int:
    taken = 0
    while inbox.next(0) is not None:
        taken += 1
    return taken


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def lane() -> Ring:
    fd = _ring.create(4096)
    try:
        return Ring(fd)
    finally:
        os.close(fd)


def test_an_unused_mailbox_costs_one_page_and_the_first_record_some_more_ahead() -> None:
    fd = _ring.create(4 * MIB)
    assert resident(fd) == HEADER
    push(Ring(fd), 100)
    assert resident(fd) == HEADER + 16384
    os.close(fd)


def test_memory_is_populated_ahead_of_the_tail_until_all_of_it_is_there() -> None:
    fd = _ring.create(MIB)
    ring = Ring(fd)
    for _ in range(40):
        position = push(ring, 50_000)
        end = (position + 50_100) % MIB
        assert resident(fd) >= min(end, MIB)
        assert ring.stats()["populated"] == resident(fd) - HEADER
        record = ring.take()
        assert record is not None
        ring.done(record[6])
    assert ring.stats()["populated"] == MIB
    os.close(fd)


def test_an_idle_ring_gives_a_bursts_memory_back_and_works_on(bell: int) -> None:
    fd = _ring.create(4 * MIB)
    ring = Ring(fd, bell)
    inbox = Inbox(bell, lane(), lane(), ring)
    for _ in range(3):
        sent = 0
        while push(ring, 50_001) >= 0:
            sent += 1
        assert resident(fd) > 3 * MIB
        assert drain(inbox) == sent
        assert resident(fd) == HEADER
        assert ring.stats()["populated"] == 0
        assert push(ring, 60) >= 0
        record = inbox.next(0)
        assert isinstance(record, tuple)
        assert record[7] == bytes(60)
    os.close(fd)


def test_memory_is_kept_while_there_is_mail_or_little_of_it(bell: int) -> None:
    fd = _ring.create(4 * MIB)
    ring = Ring(fd, bell)
    inbox = Inbox(bell, lane(), lane(), ring)
    push(ring, MIB // 2)
    assert drain(inbox) == 1
    assert resident(fd) > MIB // 2, "less than a mebibyte is kept for the next message"
    push(ring, MIB)
    position = push(ring, 60)
    while (record := inbox.next(0)) is not None:
        assert isinstance(record, tuple)
        if record[6] == position:
            inbox.hold()
    assert resident(fd) > MIB, "a record is still in hand"
    ring.done(position)
    assert inbox.next(0) is None
    assert resident(fd) == HEADER
    os.close(fd)


def test_a_large_reply_lane_gives_memory_back_when_the_asker_sleeps(bell: int) -> None:
    fd = _ring.create(8 * MIB)
    replies = Ring(fd, bell)
    inbox = Inbox(bell, replies, lane())
    assert replies.answer(bytes(3 * MIB), 1, 0, 0, 1) >= 0
    assert inbox.collect({}, [], [], 0, None, True) == 1
    assert resident(fd) > 3 * MIB
    assert inbox.collect({}, [], [], 0, None, True) == 0
    assert resident(fd) == HEADER
    os.close(fd)


def test_a_record_of_half_a_ring_makes_room_for_itself_in_one_go() -> None:
    fd = _ring.create(8 * MIB)
    ring = Ring(fd)
    assert push(ring, 4 * MIB) == 0
    assert push(ring, 4 * MIB - 200) > 0
    assert resident(fd) == HEADER + 8 * MIB
    os.close(fd)


def refuse_populate(error: int) -> None:
    """From now on madvise(MADV_POPULATE_WRITE) fails in this process: a seccomp filter stands in for a full machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    madvise = {"x86_64": 28, "aarch64": 233}[os.uname().machine]
    steps = [
        (0x20, 0, 0, 0),  # load the system call's number
        (0x15, 0, 3, madvise),
        (0x20, 0, 0, 32),  # load its third argument
        (0x15, 0, 1, 23),  # MADV_POPULATE_WRITE
        (0x06, 0, 0, 0x50000 | error),
        (0x06, 0, 0, 0x7FFF0000),  # allow
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<H6xQ", len(steps), ctypes.addressof(code)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, program, 0, 0) == 0, "PR_SET_SECCOMP"


def in_a_child(check: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EFAULT])
def test_a_machine_without_memory_is_a_value_and_nothing_was_sent(error: int) -> None:
    fd = _ring.create(MIB)
    ring = Ring(fd)
    os.close(fd)

    def check() -> bool:
        assert push(ring, 60) == 0
        refuse_populate(error)
        before = ring.stats()
        assert push(ring, 60) > 0, "there was some ahead"
        assert push(ring, 100_000) == NOMEM
        assert ring.owner() == 0
        assert not ring.put(bytes(100_000), 0, 0, 0, 0)
        assert ring.answer(bytes(100_000), 0, 0, 0, 0) == NOMEM
        with pytest.raises(OSError, match=os.strerror(error)):
            _ring.create(4096)
        return ring.stats()["accepted"] == before["accepted"] + 1

    assert in_a_child(check)


def test_an_old_kernel_that_can_not_populate_is_no_error() -> None:
    fd = _ring.create(MIB)
    ring = Ring(fd)
    os.close(fd)

    def check() -> bool:
        refuse_populate(errno.EINVAL)
        return push(ring, 100_000) == 0 and ring.take() is not None and _ring.create(4096) > 0

    assert in_a_child(check)

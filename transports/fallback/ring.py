"""Ring: a mapped ring and its one consumer's side; producers, owner and several consumers have files of their own.

Rule: as ring.h has it. A stretch of statements without a call and without a loop's turn is atomic in CPython: only at
those does it hand the GIL to another thread, run a signal's handler or the garbage collector. What must change at once
stands in such a stretch, after a look that repeats what was seen before it.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import final

from . import libc
from .layout import (
    BUSY_SINCE,
    CANCELLED,
    CANCELLING,
    CLOSED_WORD,
    DONE,
    FIELDS,
    HANDLED,
    HEAD,
    HEADER,
    KEEP_AT,
    LOCAL_SINCE,
    LOCK_AT,
    M64,
    MAGIC,
    MAXIMUM,
    MINIMUM,
    NEW,
    RECORD,
    SPACE_WAIT,
    STARTED,
    TAIL,
    TAKING,
    VERSION,
    WAITING,
    Corrupt,
    mark_of,
    size_of,
)
from .taker import Taker

Record = tuple[int, int, int, int, int, int, int, bytes]
Found = tuple[int, int, int]  # (position, its place in the mapping, length of the body) of a record

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_COARSE = 6  # CLOCK_MONOTONIC_COARSE


def create(capacity: int, name: str = "actors", /) -> int:
    """A new empty ring's memfd, sealed against resizing, close-on-exec; it costs one page until it is used.

    capacity: bytes, a power of two from 4096 to 2**31. ValueError; OSError (descriptors, memory).
    """
    if not MINIMUM <= capacity <= MAXIMUM or capacity & (capacity - 1):
        raise ValueError(f"capacity must be a power of two from 4096 to 2**31, not {capacity}")
    fd = memory_file(name)
    try:
        os.ftruncate(fd, HEADER + capacity)
        _format(fd, capacity)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def memory_file(name: str) -> int:
    """An empty memfd that can be sealed."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | 8)  # MFD_NOEXEC_SEAL, Linux 6.3
    except OSError:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _format(fd: int, capacity: int) -> None:
    at = libc.map_shared(fd, HEADER, True)
    try:
        if not libc.populate(at, HEADER):
            raise libc.error()
        libc.make_lock(at + LOCK_AT)
        libc.make_lock(at + KEEP_AT)
        words = libc.memory_at(at, HEADER).cast("Q")
        words[1], words[2] = VERSION, capacity
        libc.ordered()
        words[0] = MAGIC
        words.release()
    finally:
        libc.unmap(at, HEADER)


@final
class Ring(Taker):
    """See _ring.pyi."""

    __slots__ = ()

    def __init__(self, fd: int, bell: int = -1, owns: bool = False, /) -> None:
        self.bell, self.owns, self.base = bell, False, 0
        self.capacity = capacity = _capacity(fd)
        self.mask = capacity - 1
        at = libc.map_twice(fd, HEADER, capacity)
        self.base, self.lock = at, at + LOCK_AT
        self.bytes = libc.memory_at(at, HEADER + 2 * capacity)
        self.words, self.halves = self.bytes.cast("Q"), self.bytes.cast("I")
        words = self.words
        wrong = (
            "wrong magic"
            if words[0] != MAGIC
            else "made by an incompatible version, or by the extension in C"
            if words[1] & 0xFFFFFFFF != VERSION
            else "its header states another capacity"
            if words[2] != capacity
            else ""
        )
        if wrong:
            raise ValueError(f"descriptor {fd} is not a ring: {wrong}")
        self.owns, self.armed = bool(owns), False
        self.shared, self.most, self.me = False, 0, 0
        self.seen_head = words[HEAD]
        self.rewind()

    def __del__(self, unmap=libc.unmap, close=os.close) -> None:  # type: ignore[no-untyped-def]
        if self.base:
            for view in (self.words, self.halves, self.bytes):
                view.release()
            unmap(self.base, HEADER + 2 * self.capacity)
        if self.owns and self.bell >= 0:
            close(self.bell)

    # --- attributes

    @property
    def tail(self) -> int:
        return self.words[TAIL]

    @property
    def reading(self) -> int:
        return self.next

    @property
    def closed(self) -> int:
        return self.words[CLOSED_WORD]

    @property
    def waiting(self) -> int:
        return self.words[WAITING]

    @waiting.setter
    def waiting(self, uid: int) -> None:
        self.words[WAITING] = uid

    @property
    def local_since(self) -> int:
        return self.words[LOCAL_SINCE]

    @local_since.setter
    def local_since(self, since: int) -> None:
        self.words[LOCAL_SINCE] = since

    # --- the consumer

    def take(self) -> Record | None:
        while (found := self.peek()) is not None:
            position, at, length = found
            _, state, kind, flags, _, sender, corr, deadline, _ = FIELDS.unpack_from(self.bytes, at)
            body = bytes(self.bytes[at + RECORD : at + RECORD + length])
            if self._start(position, at, length):
                return (kind, flags, sender, corr, deadline, state >> 8, position, body)
        return None

    def _start(self, position: int, at: int, length: int) -> bool:
        """Take the peeked record in hand. False: its sender cancelled it meanwhile."""
        words, halves, now, state_at = self.words, self.halves, time.clock_gettime_ns(_COARSE), (at >> 2) + 1
        behind = position + size_of(length)
        words[TAKING] = position + 1
        libc.fence()
        while words[CANCELLING] == position + 1:  # its sender was first: when the lock is free it is over
            if self.acquire(0.1) == 0:
                self.release()
        state = halves[state_at]
        if state & 0xFF == NEW:
            halves[state_at] = state | STARTED
            words[(at >> 3) + 5] = now
            if self.head == position:
                words[BUSY_SINCE] = now
            self.next = behind
        libc.ordered()
        words[TAKING] = 0
        return state & 0xFF == NEW

    def done(self, position: int, /) -> None:
        if not self.settle(position):
            raise self.corrupt("a record in hand was overwritten")

    def settle(self, position: int) -> bool:
        """A record in hand is handled. Nothing happens if it is not in hand. False: corrupt."""
        if position < 0 or position > M64:
            raise OverflowError(f"a position is a number from 0 to 2**64 - 1, not {position}")
        if (position - self.head) & M64 >= (self.next - self.head) & M64:
            return True
        found = self.view(position, self.next)
        if found is None:
            return False
        words, halves, state_at = self.words, self.halves, (found[0] >> 2) + 1
        state = halves[state_at]
        if state & 0xFF != STARTED:
            return True
        words[HANDLED + 2] = position
        words[HANDLED + 1] = (words[HANDLED] + 1) & M64
        libc.ordered()
        halves[state_at] = state & ~0xFF | DONE
        # point 7
        words[HANDLED] = words[HANDLED + 1]
        # point 8
        return position != self.head or self._move_on()

    def peek(self) -> Found | None:
        """The next NEW record; those that are over already are passed. Corrupt."""
        found, passed = None, False
        while found is None and self.available():
            position, tail = self.next, self.seen_tail
            view = self.view(position, tail)
            if (tail - self.head) & M64 > self.capacity or view is None:
                if position != self.next:  # another thread was here meanwhile
                    continue
                raise self.corrupt("a record's header makes no sense")
            if view[2] == NEW:
                found = (position, view[0], view[1])
            elif position == self.next:
                self.next = position + size_of(view[1])
                passed = True
        if passed and not self._move_on():
            raise self.corrupt("a record's header makes no sense")
        return found

    def available(self) -> bool:
        if self.next == self.seen_tail:
            self.seen_tail = self.words[TAIL]
            libc.ordered()
        return self.next != self.seen_tail

    def view(self, position: int, end: int) -> tuple[int, int, int] | None:
        """(its place in the mapping, length, state) of the record at `position`, which must end by `end`. None: corrupt."""
        left = (end - position) & M64
        if position & 7 or left < RECORD or left > self.capacity:
            return None
        at = HEADER + (position & self.mask)
        half = at >> 2
        length, state = self.halves[half], self.halves[half + 1]
        if size_of(length) > left or self.halves[half + 3] != mark_of(position) or state & 0xFF > CANCELLED:
            return None
        return at, length, state & 0xFF

    def rewind(self) -> None:
        """Start reading at the shared head (a new consumer)."""
        self.head = self.next = self.seen_tail = self.words[HEAD]

    def _move_on(self) -> bool:
        """Move the head over what is settled, up to the reading position. False: corrupt."""
        head, since = self.head, 0
        while head != self.next:
            found = self.view(head, self.next)
            if found is None:
                return False
            if found[2] < DONE:
                since = self.words[(found[0] >> 3) + 5] if found[2] == STARTED else 0
                break
            head += size_of(found[1])
        self.words[BUSY_SINCE] = since
        if head != self.head:
            self.move_head(head)
        return True

    def move_head(self, head: int) -> None:
        libc.ordered()
        if (head - self.head) & M64 <= self.capacity:  # never back, if another thread moved it meanwhile
            self.head = self.words[HEAD] = head
        self.wake_senders(False)

    def wake_senders(self, anyway: bool) -> None:
        libc.fence()  # (W)
        words, halves = self.words, self.halves
        if halves[SPACE_WAIT] and (anyway or (words[TAIL] - words[HEAD]) & M64 <= self.capacity // 2):
            halves[SPACE_WAIT] = 0
            libc.wake(self.base + SPACE_WAIT * 4)

    def corrupt(self, what: str) -> Corrupt:
        head, tail = self.words[HEAD], self.words[TAIL]
        return Corrupt(f"mailbox corrupt: {what} (head {head}, tail {tail}, capacity {self.capacity})")


def _capacity(fd: int) -> int:
    try:
        seals, size = fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.fstat(fd).st_size
    except OSError:
        seals, size = 0, 0
    capacity = size - HEADER
    if seals & _SEALS != _SEALS:  # whoever could shrink it could kill its readers with SIGBUS
        raise ValueError(f"descriptor {fd} is not a ring: not sealed against resizing")
    if not MINIMUM <= capacity <= MAXIMUM or capacity & (capacity - 1):
        raise ValueError(f"descriptor {fd} is not a ring: wrong size")
    return capacity

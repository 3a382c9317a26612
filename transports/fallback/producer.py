"""The producers' side of Ring: push, answer, put, cancel.

Rule: what was written behind the tail was never sent, so a handler that raises while the lock is held leaves nothing;
the lock is given back on every way out, and whoever may be owed a bell then gets it. A handler (or a finalizer) that
sends into the very ring whose lock its own thread holds is told STUCK: it can't wait for itself.

Unlike the C ring it copies with the lock and the GIL held, which is why there is no spinning for the lock: its owner may
be a thread that waits for the GIL.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from . import libc
from .layout import (
    ACCEPTED,
    AHEAD,
    ASLEEP,
    CANCELLED,
    CANCELLING,
    CANCELS,
    CLOSED,
    CLOSED_WORD,
    FIELDS,
    FULL,
    HEAD,
    HEADER,
    LEFT,
    LOCK,
    M64,
    NEW,
    NOMEM,
    POPULATED_BASE,
    POPULATED_END,
    RECORD,
    RECOVERED,
    RUNG,
    SLEEPING,
    SLOT,
    SPACE_WAIT,
    STUCK,
    TAIL,
    TAKING,
    TID,
    TRIM,
    Corrupt,
    mark_of,
    size_of,
)

BUSY: Final = -100  # inside this file: the lock was not ours within the slice
SLICE: Final = 0.1  # seconds of waiting for the lock between two looks at `closed`
ROOM_SLICE: Final = 0.05  # the same for room: it bounds what a lost wake-up can cost
BRIEF: Final = 0.01  # seconds for the lock where the caller gave no time
ANSWER: Final = 0.1  # for a lane's lock: its owner may be stopped, the guardian nudges it on within some 20 ms
FOREVER: Final = float("inf")

Message = tuple[Any, int, int, int, int, int]  # body, kind, flags, sender, corr, deadline


Dropped = tuple[bytes, int]  # body and flags


class Producer:
    """What maps a ring and sends into it."""

    __slots__ = (
        "armed",
        "base",
        "bell",
        "bytes",
        "capacity",
        "halves",
        "head",
        "lock",
        "mask",
        "me",
        "most",
        "next",
        "owns",
        "seen_head",
        "seen_tail",
        "shared",
        "words",
    )
    armed: bool
    base: int  # addresses
    lock: int
    bell: int
    bytes: memoryview
    words: memoryview  # the same by 64 bits
    halves: memoryview  # and by 32
    capacity: int
    mask: int
    owns: bool
    head: int  # the consumer's own
    next: int  # its reading position
    seen_tail: int
    seen_head: int  # the producers'
    shared: bool  # there are several consumers (taker.py); then:
    most: int  # records that may wait, 0: any number
    me: int  # endpoint of this process, 0: it has left

    # --- for users

    def tell(
        self, name: str, args: tuple[Any, ...], packers: list[Callable[[Any], Any]], sender: int, /
    ) -> Literal[False]:
        return False  # nothing is saved by it here

    def push(self, body: Any, kind: int, flags: int, sender: int, corr: int, deadline: int, timeout: float, /) -> int:
        seconds = float(timeout) + 0.0
        message = _message(body, kind, flags, sender, corr, deadline)
        self._check_size(message)
        if not 0 <= seconds < 1e9:
            return self._deliver(message, self.capacity, FOREVER, FOREVER)
        return self._deliver(message, self.capacity, seconds, max(seconds, BRIEF))

    def answer(self, body: Any, kind: int, flags: int, sender: int, corr: int, /) -> int:
        message = _message(body, kind, flags, sender, corr, 0)
        size = size_of(len(message[0]))
        limit = self.capacity if size <= SLOT else self.capacity // 2
        return self._deliver(message, limit, 0, ANSWER) if size <= limit else FULL

    def put(self, body: Any, kind: int, flags: int, sender: int, corr: int, /) -> bool:
        if self.capacity > TRIM:  # its consumer may trim it, under the lock that we do not take
            raise ValueError("put() is for lanes of at most 1 MiB")
        message = _message(body, kind, flags, sender, corr, 0)
        self._check_size(message)
        said = self._write(message, self.capacity)
        if said >= 0:
            self._ring_bell()
        return said >= 0

    def cancel(self, position: int, sender: int, corr: int, /) -> Dropped | None:
        for number in (position, sender, corr):
            _check_word(number)
        if self._is_mine() or self.acquire(BRIEF):
            return None
        words = self.words
        try:
            dropped = self._cancel(position, sender, corr)
        finally:
            words[CANCELLING] = 0
            self.release()
        return dropped

    # --- sending

    def _check_size(self, message: Message) -> None:
        length = len(message[0])
        if size_of(length) > self.capacity:
            raise ValueError(f"a message of {length} bytes can never fit into a mailbox of {self.capacity} bytes")

    def _deliver(self, message: Message, limit: int, room: float, lock: float) -> int:
        """A position, FULL, CLOSED, STUCK, NOMEM. Corrupt."""
        need, part, start = size_of(len(message[0])), min(lock, SLICE), -1.0
        while True:
            said = self._attempt(message, limit, part)
            if said >= 0 or said in (CLOSED, LEFT, NOMEM, STUCK) or (said == FULL and not room):
                return said
            now = time.monotonic()
            if start < 0:
                start = now - (part if said == BUSY else 0)
            rest = (lock if said == BUSY else room) - (now - start)
            if said == BUSY and self.words[CLOSED_WORD]:
                return CLOSED
            if rest <= 0:
                return STUCK if said == BUSY else FULL
            if said == FULL:
                wait = self.await_turn if self.shared else self._await_room
                wait(need, limit, min(rest, ROOM_SLICE))
            part = min(rest, SLICE)

    def _attempt(self, message: Message, limit: int, part: float) -> int:
        """One try: what `_deliver` says, or BUSY."""
        if self._is_mine():
            return STUCK
        try:
            if self.acquire(part):
                return BUSY
            if not libc.ORDERED:
                libc.fence()  # (C)
            # point 1
            said = CLOSED if self.words[CLOSED_WORD] else self.shared and self.refusal()
            said = said or self._write(message, limit)
            libc.unlock(self.lock)
            if said >= 0:
                # point 5
                if self.shared:
                    self.feed(1)
                else:
                    self._ring_bell()
        except BaseException:
            self._leave()
            raise
        return said

    def _leave(self) -> None:
        """A handler has raised, who knows where: let the lock go, and nobody sleep over what was published."""
        if self._is_mine():
            libc.unlock(self.lock)
        if self.shared:
            self.feed(libc.EVERYBODY)
        if self.bell >= 0:
            os.eventfd_write(self.bell, 1)

    def _room(self, tail: int, need: int, limit: int) -> bool:
        if tail & 7 or tail >> 63:
            raise self.corrupt("the senders' side makes no sense")
        if (tail - self.seen_head) & M64 <= limit - need:
            return True
        self.seen_head = self.words[HEAD]  # (H)
        used = (tail - self.seen_head) & M64
        if used > self.capacity:
            raise self.corrupt("the senders' side makes no sense")
        return used <= limit - need

    def _write(self, message: Message, limit: int) -> int:
        """Append one record and publish it: its position, FULL or NOMEM."""
        words, (body, kind, flags, sender, corr, deadline) = self.words, message
        tail, length = words[TAIL], len(body)
        behind = tail + size_of(length)
        if not self._room(tail, behind - tail, limit):
            return FULL
        if not self._populate(behind):
            return NOMEM
        at = HEADER + (tail & self.mask)
        FIELDS.pack_into(self.bytes, at, length, NEW, kind, flags, mark_of(tail), sender, corr, deadline, 0)
        # point 2
        self.bytes[at + RECORD : at + RECORD + length] = body
        # point 3
        libc.ordered()
        words[ACCEPTED + 2] = behind
        words[ACCEPTED + 1] = (words[ACCEPTED] + 1) & M64
        libc.ordered()
        words[TAIL] = behind  # (T)
        # point 4
        words[ACCEPTED] = words[ACCEPTED + 1]
        return tail

    def _populate(self, to: int) -> bool:
        """Pages up to this position are present, and some more. False: no memory."""
        words = self.words
        end, base = words[POPULATED_END], words[POPULATED_BASE]
        lacking, present = (to - end) & M64, (end - base) & M64
        if lacking == 0 or lacking >> 63 or present >= self.capacity:
            return True
        step = AHEAD // 4 if present < AHEAD else AHEAD  # most lanes never hold many records
        length = min((lacking + step) & ~(step - 1), self.capacity)
        if not libc.populate(self.base + HEADER + (end & self.mask), length):
            return False
        words[POPULATED_END] = (end + length) & M64
        return True

    def _ring_bell(self) -> None:
        """Wake the consumer if it sleeps. (S)

        Not a swap, as in C: two producers may both ring, and one that is late writes RUNG over what the consumer says
        now; but it rings next, and who wakes for nothing looks and sleeps again."""
        libc.fence()
        if self.halves[SLEEPING] == ASLEEP:
            self.halves[SLEEPING] = RUNG
            # point 6
            self.strike()

    def strike(self) -> None:
        if self.bell >= 0:
            try:
                os.eventfd_write(self.bell, 1)
            except BlockingIOError:  # the counter is full: told often enough
                return
            except OSError:  # as the C ring: the reader is gone with its bell
                return

    def _await_room(self, need: int, limit: int, seconds: float) -> None:
        words = self.words
        self.halves[SPACE_WAIT] = 1
        libc.fence()  # (W)
        if (words[TAIL] - words[HEAD]) & M64 > limit - need and not words[CLOSED_WORD]:
            libc.sleep_on(self.base + SPACE_WAIT * 4, 1, seconds)

    # --- cancelling

    def _cancel(self, position: int, sender: int, corr: int) -> Dropped | None:
        """Drop the record that this sender pushed there and that is still NEW; with the lock."""
        words, halves, head = self.words, self.halves, self.words[HEAD]
        tail = words[TAIL]
        if (position - head) & M64 >= (tail - head) & M64:
            return None
        found = self.view(position, tail)
        if found is None or words[(found[0] >> 3) + 2] != sender or words[(found[0] >> 3) + 3] != corr:
            return None
        words[CANCELLING] = position + 1
        libc.fence()
        state_at = (found[0] >> 2) + 1
        if words[TAKING] == position + 1 or halves[state_at] & 0xFF != NEW:
            return None
        at = found[0]
        body = bytes(self.bytes[at + RECORD : at + RECORD + found[1]]), FIELDS.unpack_from(self.bytes, at)[3]
        words[CANCELS + 2] = position
        words[CANCELS + 1] = (words[CANCELS] + 1) & M64
        libc.ordered()
        halves[state_at] |= CANCELLED
        # point 9
        words[CANCELS] = words[CANCELS + 1]
        return body

    # --- the lock

    def _is_mine(self) -> bool:
        return self.halves[LOCK] & TID == threading.get_native_id()

    def acquire(self, seconds: float) -> int:
        """0, EBUSY or ETIMEDOUT. Corrupt: the lock makes no sense."""
        said = libc.trylock(self.lock)
        if said == errno.EBUSY and seconds > 0:
            said = libc.lock_within(self.lock, seconds)
        if said == errno.EOWNERDEAD:
            self._inherit()
        elif said not in (0, errno.EBUSY, errno.ETIMEDOUT):
            raise self.corrupt("the senders' side makes no sense")
        return said if said in (errno.EBUSY, errno.ETIMEDOUT) else 0

    def release(self) -> None:
        libc.unlock(self.lock)

    def _inherit(self) -> None:
        words = self.words
        libc.consistent(self.lock)
        words[CANCELLING] = 0
        if words[ACCEPTED + 2] == words[TAIL]:
            words[ACCEPTED] = words[ACCEPTED + 1]
        self.mend(CANCELS, CANCELLED)
        self.forget_pages()  # it may have died between the pages and their mark
        words[RECOVERED] = (words[RECOVERED] + 1) & M64

    def mend(self, tally: int, state: int) -> None:
        """Settle the count of a dead writer whose fact is that the record at its place is in `state`."""
        words = self.words
        at, head, tail = words[tally + 2], words[HEAD], words[TAIL]
        if words[tally + 1] != (words[tally] + 1) & M64 or (at - head) & M64 >= (tail - head) & M64:
            return
        found = self.view(at, tail)
        if found is not None and found[2] == state:
            words[tally] = words[tally + 1]

    def forget_pages(self) -> None:
        """Nothing is lost by populating a page twice."""
        page = self.words[TAIL] & ~4095
        self.words[POPULATED_END] = page
        self.words[POPULATED_BASE] = page

    def trim(self) -> None:
        """Give the pages of an empty ring back."""
        words = self.words
        if self.capacity <= TRIM or (words[POPULATED_END] - words[POPULATED_BASE]) & M64 <= TRIM:
            return  # the count alone may say more than a lane of put() has: it goes in steps, beyond the end
        if self._is_mine() or self.acquire(0):
            return
        try:
            if words[HEAD] == words[TAIL]:
                self.forget_pages()
                libc.remove(self.base + HEADER, self.capacity)
        finally:
            self.release()

    # --- of Taker and Ring

    def refusal(self) -> int:
        raise NotImplementedError

    def feed(self, most: int) -> None:
        raise NotImplementedError

    def await_turn(self, need: int, limit: int, seconds: float) -> None:
        raise NotImplementedError

    def view(self, position: int, end: int) -> tuple[int, int, int] | None:
        raise NotImplementedError

    def corrupt(self, what: str) -> Corrupt:
        raise NotImplementedError


def _check_word(number: int) -> None:
    if not isinstance(number, int):
        raise TypeError(f"an integer is required, not {type(number).__name__}")
    if not 0 <= number <= M64:
        raise OverflowError(f"{number} is not a number from 0 to 2**64 - 1")


def _message(body: Any, kind: int, flags: int, sender: int, corr: int, deadline: int) -> Message:
    """Checked: ValueError, OverflowError, TypeError, BufferError."""
    if not (0 <= kind <= 65535 and 0 <= flags <= 65535):
        name, number = ("flags", flags) if 0 <= kind <= 65535 else ("kind", kind)
        raise ValueError(f"{name} must be from 0 to 65535, not {number}")
    if not (0 <= sender <= M64 and 0 <= corr <= M64 and 0 <= deadline <= M64):
        raise OverflowError("sender, corr and deadline are numbers from 0 to 2**64 - 1")
    if type(body) is not bytes:
        view = memoryview(body)
        if not view.c_contiguous:
            raise BufferError("a body is C-contiguous")
        body = view.cast("B") if view.nbytes else b""
    return body, kind, flags, sender, corr, deadline

"""Sync: a lock, semaphore, barrier or event in a page that processes share, as sync.h and sync.c have it, but for the swap.

Rule: what C does by one compare-and-swap is done here in turns (exclusive.py); all else is the same: the word says
everything, what a process holds stands in its slot, and the guardian knows of a dead process exactly what it held. It
waits a second at most for its turn: who was stopped inside, and did not go on when told to, may then undo what it did.

Stores of one process are taken to be seen in order, or its death to make them all seen.

Weaker than C: a signal's handler that raises exactly when `with lock:` has it leaves it taken until this process gives it
back, or ends.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import struct
import threading
import time
from asyncio import events
from collections.abc import Callable
from typing import Any, Final

from . import libc
from .exclusive import LIMIT, Exclusive
from .ring import memory_file

MAGIC, VERSION, SIZE, SLOTS = 0x636E79732D746361, 0x10001, 65 * 4096, 4096
LOCK, SEMAPHORE, BARRIER, EVENT = 1, 2, 3, 4
WORD, INSIDE, DOORMAN, TURN, FIRST = 8, 18, 32, 33, 24  # word; halves; word of the first slot
ACCOUNT, INTENT, DONE, OWNER, LEFT = 0, 1, 2, 6, 7  # of a slot: three words, two halves
SLOT, CONTENDED, RESERVED, ABANDONED, ONE, PHASE_SHIFT = 0xFFF, 1 << 12, 1 << 13, 1 << 14, 1 << 16, 14
FILLING, DRAINING, RESETTING, BROKEN = range(4)
SLICE: Final = 0.1  # seconds of one sleep
LONGEST: Final = threading.TIMEOUT_MAX
M32: Final = 0xFFFFFFFF
_UNSET: Any = object()


def create_sync(kind: int, limit: int, bounded: bool, first: int, /) -> int:
    """See _ring.pyi."""
    if not LOCK <= kind <= EVENT or not 0 <= limit <= 0xFFFF:
        raise ValueError(f"no such kind ({kind}), or too large a number ({limit})")
    word = first << _shift(kind) | (limit * ONE if kind in (LOCK, SEMAPHORE) else 0)
    fd = memory_file("actors:sync")
    try:
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, struct.pack("=QIIII40xQ", MAGIC, VERSION, kind, limit, bool(bounded), word), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _shift(kind: int) -> int:
    return 17 if kind in (LOCK, EVENT) else 32


class _Page:
    """A mapping, as long as anybody uses it."""

    __slots__ = ("base", "bytes", "halves", "turn", "words")

    def __init__(self, fd: int) -> None:
        self.base = 0
        try:
            good = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK and os.fstat(fd).st_size == SIZE
        except OSError:
            good = False
        if not good:
            raise ValueError(f"descriptor {fd} is not a lock, semaphore, barrier or event")
        self.base = libc.map_shared(fd, SIZE, True)
        self.bytes = libc.memory_at(self.base, SIZE)
        self.words, self.halves = self.bytes.cast("Q"), self.bytes.cast("I")
        if self.words[0] != MAGIC or self.halves[2] != VERSION or not LOCK <= self.halves[3] <= EVENT:
            raise ValueError(f"descriptor {fd} was made by an incompatible version, or by the extension in C")
        self.turn = Exclusive(fd)

    def __del__(self, unmap: Any = libc.unmap) -> None:
        if self.base:
            for view in (self.words, self.halves, self.bytes):
                view.release()
            unmap(self.base, SIZE)

    def _run(self, slot: int, stretch: Callable[[], bool]) -> bool:
        """The guardian, whose slot is 0, does not wait for ever."""
        return self.turn.run(stretch, lambda: self.halves[INSIDE], LIMIT if slot == 0 else math.inf)

    def swap(self, seen: int, word: int, slot: int) -> bool:
        """The word alone: the last change stays the last."""
        words, halves, me = self.words, self.halves, os.getpid()

        def stretch() -> bool:
            halves[INSIDE] = me
            if words[WORD] != seen:
                return False
            words[WORD] = word
            return True

        return self._run(slot, stretch)

    def change(self, seen: int, word: int, slot: int, number: int, note: int) -> bool:
        """The word and the slot of who changes it; and tell the one who made `seen`, a change of that number, that it did."""
        words, halves, me, own, other = self.words, self.halves, os.getpid(), FIRST + slot * 8, seen & SLOT

        def stretch() -> bool:
            halves[INSIDE] = me
            words[own + INTENT] = note
            if words[WORD] != seen:
                return False
            if other != slot:
                words[FIRST + other * 8 + DONE] = number
            words[WORD] = word
            words[own + ACCOUNT] = note
            return True

        return self._run(slot, stretch)


class Sync:
    """See _ring.pyi."""

    __slots__ = ("_kind", "_page", "_slot", "open")
    _page: _Page
    _kind: int
    _slot: int
    open: int

    def __new__(cls, *_: object, **__: object) -> Any:
        self = object.__new__(cls)
        self.open = self._kind = self._slot = 0
        return self

    def map(self, fd: int, slot: int, /) -> None:
        if not 0 <= slot < SLOTS:
            raise ValueError(f"no slot {slot}")
        page = _Page(fd)
        self._page, self._kind, self._slot, self.open = page, page.halves[3], slot, 1

    def shut(self) -> None:
        if self.open:
            self.open = 0
            self._wake(libc.EVERYBODY)

    # --- what the subclass is asked

    def _reopen(self) -> None:
        raise ValueError("it is not open")

    def _lost(self) -> None:
        raise ValueError("it is not open any more")

    def _refuse(self) -> None: ...

    def _not_held(self) -> None:
        raise RuntimeError("release unlocked lock")

    def _tell(self, changes: int) -> None: ...

    def _ready(self) -> _Page:
        if not self.open:
            self._reopen()
        return self._page

    # --- the word

    @property
    def word(self) -> int:
        return self._ready().words[WORD]

    @property
    def count(self) -> int:
        return self._count(self.word)

    @property
    def number(self) -> int:
        return self.word >> _shift(self._kind)

    @property
    def held(self) -> int:
        return self._held() if self.open else 0

    @property
    def abandoned(self) -> bool:
        return bool(self.open and self._page.halves[(FIRST + self._slot * 8) * 2 + LEFT])

    @property
    def owner(self) -> int:
        page = self._ready()
        return page.halves[(FIRST + (page.words[WORD] & SLOT) * 8) * 2 + OWNER]

    @property
    def limit(self) -> int:
        return self._ready().halves[4]

    @property
    def doorman(self) -> int:
        return self._ready().halves[DOORMAN]

    @doorman.setter
    def doorman(self, waiting: int) -> None:
        self._ready().halves[DOORMAN] = waiting
        libc.fence()

    def _most(self) -> int:
        return (1 << _shift(self._kind) - 16) - 1

    def _count(self, word: int) -> int:
        return word >> 16 & self._most()

    def _held(self) -> int:
        return self._page.words[FIRST + self._slot * 8 + ACCOUNT] & M32

    def _change(self, seen: int, fields: int, held: int) -> bool:
        shift = _shift(self._kind)
        number = (seen >> shift) + 1
        word = (number << shift | fields & (1 << shift) - 1 & ~SLOT | self._slot) & 2**64 - 1
        return self._page.change(seen, word, self._slot, seen >> shift & M32, (number & M32) << 32 | held & M32)

    def change(self, seen: int, fields: int, held: int, /) -> bool:
        self._ready()
        return self._change(seen, fields, held)

    # --- sleeping

    def _wake(self, most: int) -> int:
        return libc.wake(self._page.base + WORD * 8, most)

    def _sleep(self, seen: int, seconds: float) -> int:
        page, word = self._page, seen | CONTENDED  # the page stays mapped meanwhile
        if word != seen and not page.swap(seen, word, self._slot):
            return errno.EAGAIN
        return libc.sleep_on(page.base + WORD * 8, word & M32, seconds)

    def sleep(self, seen: int, seconds: float, /) -> bool:
        self._ready()
        said = self._sleep(seen, seconds if 0 <= seconds <= 1 else SLICE)
        if not self.open:
            self._lost()
        return said == 0

    def wake_all(self) -> None:
        page = self._ready()
        self._wake(libc.EVERYBODY)
        told = page.halves[DOORMAN]
        if told:
            self._tell(told)

    # --- permits

    def _take(self, waited: bool) -> tuple[bool, int]:
        """One permit, if there is one for us; and the word by which it was decided."""
        page = self._page
        while True:
            word = page.words[WORD]
            count = self._count(word)
            if not count or (word & RESERVED and not waited):
                return False, word
            fields = (word & ~ABANDONED) - ONE
            if count == 1:
                fields &= ~RESERVED
            if waited:
                fields |= CONTENDED  # others may sleep, as we did
            if self._change(word, fields, self._held() + 1):
                page.halves[(FIRST + self._slot * 8) * 2 + LEFT] = bool(word & ABANDONED)
                return True, word

    def take(self) -> bool:
        self._ready()
        return self._take(True)[0]

    def acquire(self, blocking: bool = True, timeout: Any = _UNSET) -> bool:
        self._ready()
        seconds = self._seconds(bool(blocking), timeout)
        if seconds and events._get_running_loop() is not None:
            self._refuse()
        taken, seen = self._take(False)
        if taken or not seconds:
            return taken
        waited, start = False, time.monotonic()
        while True:
            left = seconds - (time.monotonic() - start)
            if left <= 0:
                return False
            waited = self._sleep(seen, min(left, SLICE)) in (0, errno.ETIMEDOUT) or waited
            if not self.open:
                self._lost()
            taken, seen = self._take(waited)
            if taken:
                return True

    def _seconds(self, blocking: bool, timeout: Any) -> float:
        """What a timeout means; what threading raises where it makes no sense."""
        lock = self._kind == LOCK
        if timeout is _UNSET or (not lock and timeout is None):
            return math.inf if blocking else 0
        given = timeout + 0.0  # not float(): text is no number
        if not blocking and not (lock and given == -1):
            raise ValueError(
                "can't specify a timeout for a non-blocking call"
                if lock
                else "can't specify timeout for non-blocking acquire"
            )
        if lock and (math.isnan(given) or (given < 0 and given != -1)):
            raise ValueError("timeout value must be a non-negative number")
        if given > LONGEST:
            raise OverflowError("timeout value is too large")
        if not blocking:
            return 0
        return math.inf if lock and given == -1 else max(0.0, given)

    def release(self, n: Any = _UNSET) -> None:
        page, permits = self._ready(), 1
        if n is not _UNSET:
            if self._kind == LOCK:
                raise TypeError("release() takes nothing")
            permits = n.__index__()
            if not 1 <= permits <= 0xFFFF:
                raise ValueError("n must be one or more" if permits < 1 else "Semaphore released too many times")
        if self._kind == LOCK and (not self._held() or self._count(page.words[WORD])):
            self._not_held()
            return
        bounded = self._kind == SEMAPHORE and page.halves[5]
        left = self._give(permits, min(self._most(), page.halves[4]) if bounded else self._most())
        if left:
            self._tell(left)

    def _give(self, permits: int, most: int) -> int:
        """Give back; what is left for coroutines to be told (by the guardian). ValueError: there would be more than `most`,
        which is looked at in each turn: somebody else may give back at the same time."""
        page = self._page
        while True:
            word, held = page.words[WORD], self._held()
            if self._count(word) + permits > most:
                raise ValueError("Semaphore released too many times")
            wanted = word & (CONTENDED | RESERVED) or page.halves[DOORMAN]
            fields = (word & ~CONTENDED) + permits * ONE
            if self._change(word, fields | RESERVED if wanted else fields, max(0, held - permits)):
                break
        libc.fence()
        told = page.halves[DOORMAN]
        if not wanted and not told:
            return 0
        if told:
            page.halves[TURN] ^= 1
            if not page.halves[TURN]:
                return permits
        left = self._offer(permits)
        if left and not told:
            self._unreserve()
        return left if told else 0

    def _offer(self, permits: int) -> int:
        """Wake for so many permits that have become free. How many found nobody."""
        return max(0, permits - self._wake(permits))

    def _unreserve(self) -> None:
        """What is free is for everybody; those who went to sleep over the reservation look again."""
        page = self._page
        while (word := page.words[WORD]) & RESERVED:
            if page.swap(word, word & ~RESERVED, self._slot):
                if word & CONTENDED:
                    self._wake(self._count(word) + 1)
                return

    def __enter__(self) -> bool:
        before = self.held
        try:
            return self.acquire()
        except BaseException:
            if self.held > before:  # a handler raised when it was taken already
                self.release()
            raise

    def __exit__(self, *_: object) -> None:
        self.release()

    # --- the guardian, whose slot is 0

    def assign(self, slot: int, owner: int, /) -> None:
        if not self.open or not 0 <= slot < SLOTS:
            raise ValueError(f"no slot {slot}")
        at = FIRST * 8 + slot * 64
        if not libc.populate(self._page.base + (at & ~4095), 4096):
            raise libc.error()
        self._page.halves[at // 4 + OWNER] = owner

    def sweep(self, slot: int, /) -> int:
        page = self._ready()
        if not 0 <= slot < SLOTS:
            raise ValueError(f"no slot {slot}")
        held, permits = self._legacy(slot), self._kind in (LOCK, SEMAPHORE)
        while True:
            word, most = page.words[WORD], self._most()
            count, fields = self._count(word), word & ~(CONTENDED | (RESERVED if permits else 0))
            if held and permits:
                fields = fields & ~(most * ONE) | ABANDONED | min(count + held, most) * ONE
            elif held and self._kind == BARRIER:
                fields = _barrier_after(word, max(0, count - held))
            if self._change(word, fields, 0) if held else page.swap(word, fields, 0):
                break
        at = FIRST + slot * 8
        page.halves[at * 2 + OWNER] = 0
        page.words[at + ACCOUNT] = 0
        page.words[at + INTENT] = 0
        self._wake(libc.EVERYBODY)
        return held

    def _legacy(self, slot: int) -> int:
        """What the dead owner of a slot held."""
        words, at, shift = self._page.words, FIRST + slot * 8, _shift(self._kind)
        word = words[WORD]  # before `done`: whoever changes the word from now on has written that
        libc.ordered()
        account, intent = words[at + ACCOUNT], words[at + INTENT]
        number = intent >> 32
        in_doubt = number != account >> 32
        came_true = (word & SLOT == slot and word >> shift & M32 == number) or words[at + DONE] == number
        return (intent if in_doubt and came_true else account) & M32

    def pass_on(self, permits: int, /) -> None:
        self._ready()
        if self._offer(permits):
            self._unreserve()


def _barrier_after(word: int, left: int) -> int:
    phase = word >> PHASE_SHIFT & 3
    if phase == FILLING:
        phase = BROKEN
    elif phase != BROKEN and not left:
        phase = FILLING
    return phase << PHASE_SHIFT | left * ONE

"""What belongs to all consumers of a Ring that several share: their lock, their counts, how they wait and are woken.

Rule: as takers.h has it, with the same words in the same places: consumers have a robust lock of their own, an intent is
written before each fact, and the owner (the guardian) takes no lock at all. Whatever changes stands in a stretch without
a call (ring.py) that looks again first; so a handler or finalizer of the very thread that is inside goes ahead without the
lock.

In place of C's swaps: that somebody sleeps, and that somebody polls, are a word each. Whoever waits stores 1, fence, looks
again; whoever feeds stores 0 and then wakes. So a 0 that comes late is followed by a wake-up, and who wakes for nothing
says 1 again. `task_done` counts under the consumers' lock: one store, it happened or it did not.

Rejected: that lock by flock (exclusive.py), as system.lock has it. Its wait has no deadline, and who died inside is not told.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from . import libc
from .layout import (
    BEFORE,
    CLOSED_WORD,
    CURSOR,
    DONE,
    FINISHED,
    FULL,
    GIVEN,
    HANDLED,
    HEAD,
    JOINING,
    KEEP,
    LEFT,
    M64,
    NEW,
    POLLED,
    RECORD,
    RETURNED,
    REWINDS,
    SEEN,
    SETTLED,
    SLEPT,
    SPACE_WAIT,
    STARTED,
    TAIL,
    TAKEN,
    TAKERS_RECOVERED,
    TID,
    Corrupt,
    size_of,
)
from .owner import Owner
from .producer import BUSY, FOREVER, SLICE

FEW: Final = 16  # a ring that may hold so many records at most tells producers of room at once
MOST_TRIES: Final = 0xFFFFFF
TAKER: Final = 4  # 64-bit words of a record


class Shared(Owner):
    """What all who map such a ring may do: count, wait, wake, mend."""

    __slots__ = ()

    # --- joining

    def join(self, me: int, most: int, /) -> None:
        if not (0 <= me <= M64 and 0 <= most <= M64):
            raise OverflowError("an endpoint, and how many may wait, are numbers from 0 to 2**64 - 1")
        if me == 0:
            raise ValueError("an endpoint is a number from 1 on")
        self.most, self.shared, self.me = most, True, me

    def leave(self) -> None:
        """With the lock, so that no thread of this process is about to take something in its name."""
        self.check_shared()
        if self.inside(self.abandon, SLICE) == BUSY:
            self.abandon()
        self.rouse()

    def abandon(self) -> None:
        self.me = 0

    def check_shared(self) -> None:
        if not self.shared:
            raise RuntimeError("this ring has one consumer: join() it first")

    # --- the consumers' lock

    def keeper(self) -> int:
        return self.halves[KEEP] & TID

    def _is_inside(self) -> bool:
        return self.halves[KEEP] & TID == threading.get_native_id()

    def inside(self, work: Callable[..., Any], seconds: float, *arguments: Any) -> Any:
        """Call it with the lock: what it says, or BUSY: the lock was not ours within so many seconds."""
        if self._is_inside():
            return work(*arguments)
        try:
            if self._seize(seconds):
                return BUSY
            said = work(*arguments)
            libc.unlock(self.base + KEEP * 4)
        except BaseException:
            if self._is_inside():  # a handler has raised, who knows where, perhaps before the lock was inherited
                libc.consistent(self.base + KEEP * 4)
                self._mend()
                libc.unlock(self.base + KEEP * 4)
            raise
        return said

    def inside_at_last(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """The same, however long it takes: the lock's owner may be stopped."""
        while (said := self.inside(work, SLICE, *arguments)) == BUSY:
            continue
        return said

    def _seize(self, seconds: float) -> int:
        """0, EBUSY or ETIMEDOUT."""
        lock = self.base + KEEP * 4
        said = libc.trylock(lock)
        if said == errno.EBUSY and seconds > 0:
            said = libc.lock_within(lock, seconds)
        if said == errno.EOWNERDEAD:
            libc.consistent(lock)
            self._mend()
            self.words[TAKERS_RECOVERED] = (self.words[TAKERS_RECOVERED] + 1) & M64
        elif said not in (0, errno.EBUSY, errno.ETIMEDOUT):
            raise self.corrupt("the consumers' side makes no sense")
        return said if said in (errno.EBUSY, errno.ETIMEDOUT) else 0

    def _refresh(self) -> None:
        """If the lock's owner is dead, inherit it and let go: the counts are exact again."""
        self.inside(bool, 0)

    def _mend(self) -> None:
        """What a dead owner of the lock had begun is over, one way or the other."""
        words, before = self.words, self.words[BEFORE]
        self.mend(HANDLED, DONE)
        self.mend(SETTLED, DONE)
        words[SETTLED + 1] = words[SETTLED]  # over either way: it may come back, and end with a task_done to follow
        if (found := self._intended(TAKEN)) is not None:  # the owner may have made it NEW since, with one try more
            self._decide(TAKEN, found[0] != before)
        if (found := self._intended(GIVEN)) is not None:  # the owner leaves no taker
            self._decide(GIVEN, found[0] != before and found[1] != 0)
        words[CURSOR] = words[HEAD]
        with contextlib.suppress(Corrupt):  # the next look says so
            self.advance()
        self.halves[SPACE_WAIT] = 0
        libc.wake(self.base + SPACE_WAIT * 4)

    def _decide(self, tally: int, came_true: bool) -> None:
        if came_true:
            self.words[tally] = self.words[tally + 1]
        else:
            self.words[tally + 1] = self.words[tally]

    def _intended(self, tally: int) -> tuple[int, int] | None:
        """(state, taker) of the record that somebody was about to change."""
        words = self.words
        at, head, tail = words[tally + 2], words[HEAD], words[TAIL]
        if words[tally + 1] != (words[tally] + 1) & M64 or (at - head) & M64 >= (tail - head) & M64:
            return None
        found = self.view(at, tail)
        return None if found is None else (self.halves[(found[0] >> 2) + 1], words[(found[0] >> 3) + TAKER])

    def advance(self) -> None:
        """Move the head over what is over. Corrupt."""
        words = self.words
        while True:
            first = head = words[HEAD]
            tail, found = words[TAIL], None
            while head != tail and (found := self.view(head, tail)) is not None and found[2] >= DONE:
                head = (head + size_of(found[1])) & M64
            # from here on no call
            if words[HEAD] != first:  # a handler has moved it
                continue
            if head != first:
                if (words[CURSOR] - first) & M64 < (head - first) & M64:  # after a mend it starts at the head
                    words[CURSOR] = head
                words[HEAD] = head  # (H)
            if head != tail and found is None:
                raise self.corrupt("a record in hand was overwritten")
            return

    # --- counting

    def waits(self) -> int:
        self.check_shared()
        self._refresh()
        return self._waiting()

    def _waiting(self) -> int:
        words = self.words
        taken = words[TAKEN]
        libc.ordered()
        return _at_least_none(self.accepted() + words[GIVEN] + words[RETURNED] - taken)

    def _unfinished(self) -> int:
        """Records put and neither handled nor said to be done."""
        words = self.words
        over = words[SETTLED] + words[FINISHED]
        libc.ordered()
        return _at_least_none(self.accepted() - over)

    def task_done(self) -> bool:
        self.check_shared()
        said: bool = self.inside_at_last(self._finish_one)
        if said:
            self.wake_joiners()
        return said

    def _finish_one(self) -> bool:
        words, accepted = self.words, self.accepted()
        # from here on no call
        if (accepted - words[SETTLED]) & M64 == words[FINISHED]:
            return False
        words[FINISHED] = (words[FINISHED] + 1) & M64
        return True

    def finished(self, timeout: float, /) -> bool | int:
        seconds = patience(timeout)
        self.check_shared()
        end = time.monotonic() + seconds
        while True:
            self._refresh()
            if not self.me:
                return LEFT
            if not self._unfinished():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.halves[JOINING] = 1
            libc.fence()
            if self._unfinished() and self.me:
                libc.sleep_on(self.base + JOINING * 4, 1, min(left, SLICE))

    # --- waiting

    def is_ready(self) -> bool:
        """Is there something to take? A hint: the lock says for sure."""
        words = self.words
        return words[CURSOR] != words[TAIL] or words[REWINDS] != words[SEEN]

    def poll(self) -> bool:
        self.check_shared()
        self.halves[POLLED] = 1
        libc.fence()
        return self.is_ready()

    def await_record(self, closed: int, seconds: float) -> None:
        """Sleep until there may be something. closed: what that word was at the last look."""
        words, halves = self.words, self.halves
        if words[HEAD] == words[TAIL]:
            self.trim()
        halves[SLEPT] = 1
        libc.fence()
        over = words[CLOSED_WORD] and words[HEAD] == words[TAIL]
        if not self.is_ready() and words[CLOSED_WORD] == closed and not over and self.me:
            libc.sleep_on(self.base + SLEPT * 4, 1, seconds)
        halves[SLEPT] = 1  # for the others

    def feed(self, most: int) -> None:
        """After a publication or a return, or whatever else consumers wait for."""
        libc.fence()
        halves = self.halves
        slept, polled = halves[SLEPT], halves[POLLED]
        if slept:
            halves[SLEPT] = 0
        if polled:
            halves[POLLED] = 0
        # point 22
        if slept:
            libc.wake(self.base + SLEPT * 4, most)
        if polled:
            self.strike()

    def wake_joiners(self) -> None:
        libc.fence()
        if self.halves[JOINING] and self._unfinished() == 0:
            self.halves[JOINING] = 0
            libc.wake(self.base + JOINING * 4)

    def rouse(self) -> None:
        halves = self.halves
        polled = halves[POLLED]
        for word in (SPACE_WAIT, JOINING, SLEPT, POLLED):
            halves[word] = 0
            libc.wake(self.base + word * 4)  # also those whose waker died between word and wake
        if polled or self.is_ready() or self.words[CLOSED_WORD]:
            self.strike()

    # --- room for producers

    def refusal(self) -> int:
        """With the producers' lock: LEFT; FULL, as many records wait as may; or 0."""
        if not self.me:
            return LEFT
        if not self.most or self._waiting() < self.most:
            return 0
        self._refresh()
        empty = self.words[HEAD] == self.words[TAIL]  # before the count: it stays so, and what was counted may be taken
        libc.ordered()
        # point 23
        waiting = self._waiting()
        if waiting > self.capacity // RECORD or (waiting and empty):
            raise self.corrupt("the senders' side makes no sense")
        return FULL if waiting >= self.most else 0

    def await_turn(self, need: int, limit: int, seconds: float) -> None:
        words = self.words
        self._refresh()  # a dead consumer's lock keeps the head where it is, and there may be no other consumer
        self.halves[SPACE_WAIT] = 1
        libc.fence()  # (W)
        full = (words[TAIL] - words[HEAD]) & M64 > limit - need or (self.most and self._waiting() >= self.most)
        if full and not words[CLOSED_WORD] and self.me:
            libc.sleep_on(self.base + SPACE_WAIT * 4, 1, seconds)

    def tell_of_room(self) -> None:
        libc.fence()  # (W)
        words, halves, most = self.words, self.halves, self.most
        if not halves[SPACE_WAIT]:
            return
        roomy = (words[TAIL] - words[HEAD]) & M64 <= self.capacity // 2
        if roomy or (most and (most <= FEW or self._waiting() <= most // 2)):
            halves[SPACE_WAIT] = 0
            libc.wake(self.base + SPACE_WAIT * 4)

    # --- the owner, without any lock

    def reclaim(self, endpoint: int, /) -> int:
        """Nobody can be disturbed: only the dead could have changed what is in their hand, and the head never passes it."""
        words, halves, count = self.words, self.halves, 0
        head, tail = words[HEAD], words[TAIL]
        position = head
        while position != tail:
            found = self.view(position, tail) if (position - head) & M64 <= (tail - head) & M64 else None
            state = 0 if found is None else halves[(found[0] >> 2) + 1]
            its = found is not None and state & 0xFF == STARTED and words[(found[0] >> 3) + TAKER] == endpoint
            libc.fence()
            head = words[HEAD]
            if _is_before(position, head):  # it is over, and what was read here is not it
                if not _is_before(head, tail):
                    break
                position = head
                continue
            if found is None:
                raise self.corrupt("a record's header makes no sense")
            if its:
                words[RETURNED] = (words[RETURNED] + 1) & M64
                words[(found[0] >> 3) + TAKER] = 0
                libc.ordered()
                halves[(found[0] >> 2) + 1] = min((state >> 8) + 1, MOST_TRIES) << 8 | NEW
                count += 1
            position = (position + size_of(found[1])) & M64
        if count:
            libc.ordered()
            words[REWINDS] = (words[REWINDS] + 1) & M64
        return count


def patience(timeout: float) -> float:
    seconds = float(timeout) + 0.0
    return seconds if 0 <= seconds < 1e9 else FOREVER


def _is_before(position: int, other: int) -> bool:
    """As the positions of one ring, whatever somebody wrote there."""
    return 0 < (other - position) & M64 < 1 << 63


def _at_least_none(count: int) -> int:
    count &= M64
    return 0 if count >> 63 else count

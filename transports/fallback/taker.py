"""The consumers' side of a Ring that several of them share: get, end, give_back.

Rule: of shared.py. A handler that raises leaves a record where it was, or in the hand of one who knows: what was taken lies
in the caller's list from the very stretch on that claims it.

Unlike the C ring it copies a message before it claims it, with the lock held. Rejected: to end it under the same lock that
took it. A handler that raises in between would take it along.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from . import libc
from .layout import (
    BEFORE,
    CLOSED,
    CLOSED_WORD,
    CURSOR,
    DONE,
    ELSEWHERE,
    EMPTY,
    FIELDS,
    GIVEN,
    HANDLED,
    HEAD,
    LEFT,
    M64,
    NEW,
    RECORD,
    REWINDS,
    SEEN,
    SETTLED,
    STARTED,
    STUCK,
    TAIL,
    TAKEN,
    Corrupt,
    size_of,
)
from .producer import BRIEF, BUSY, FOREVER, SLICE
from .shared import MOST_TRIES, TAKER, Shared, patience

Got = tuple[bytes, int, int, int]  # (body, flags, tries, position)

NOTHING, TOOK = 0, 1  # beside what `get` says
COARSE: Final = 6  # CLOCK_MONOTONIC_COARSE
SINCE: Final = 5  # 64-bit words of a record, as TAKER


class Taker(Shared):
    """What one of several consumers may do, beside sending."""

    __slots__ = ()

    # --- taking

    def get(self, timeout: float, keep: bool, into: list[Got] | None, /) -> Got | int:
        """See _ring.pyi. A handler that raises just as a message has been handed over takes it along."""
        self.check_shared()
        if into is not None and not isinstance(into, list):
            raise TypeError("get() takes a list, or None")
        hand = list[Got]() if into is None else into
        try:
            said = self._take_within(patience(timeout), hand)
            if said != TOOK:
                return said
            item = hand[-1]
            if not keep and not item[1] & ELSEWHERE:
                if not self._conclude(item[3], self._finish, False):  # it has come back, to others
                    return LEFT
            elif self.most:
                self.tell_of_room()
        except BaseException:
            if into is None and hand:
                with contextlib.suppress(Corrupt):
                    self._conclude(hand[0][3], self._return)
            raise
        return item

    def _take_within(self, seconds: float, hand: list[Got]) -> int:
        """TOOK, EMPTY, STUCK, CLOSED, LEFT. Corrupt."""
        rest, start = seconds, 0.0
        while True:
            closed = self.words[CLOSED_WORD]
            said: int = self.inside(self._take, min(max(rest, BRIEF), SLICE), hand) if self.me else LEFT
            # point 14
            if said == TOOK and self.is_ready():
                self.feed(1)
            if said not in (NOTHING, BUSY):
                return said
            if 0 < seconds < FOREVER:
                start = start or time.monotonic()
                rest = seconds - (time.monotonic() - start)
            if rest <= 0:
                return STUCK if said == BUSY else EMPTY
            if said == NOTHING:
                self.await_record(closed, min(rest, SLICE))

    def _take(self, hand: list[Got]) -> int:
        """With the lock: TOOK, NOTHING, CLOSED, LEFT."""
        # point 10
        while self.me:
            found = self._find()
            if found is None:
                return CLOSED if self._is_over() else NOTHING
            position, at, length = found
            _, state, _, flags, *_ = FIELDS.unpack_from(self.bytes, at)
            body = bytes(self.bytes[at + RECORD : at + RECORD + length])
            if self._claim(position, at, length, ((body, flags, state >> 8, position),), hand):
                return TOOK
        return LEFT

    def _find(self) -> tuple[int, int, int] | None:
        """(position, its place in the mapping, length) of the next record that nobody has in hand."""
        words = self.words
        while True:
            head, tail, rewinds = words[HEAD], words[TAIL], words[REWINDS]
            if rewinds != words[SEEN]:  # the cursor first: a death in between costs a second look
                words[CURSOR] = head
                words[SEEN] = rewinds
            cursor = position = words[CURSOR]
            found = None
            good = (tail - head) & M64 <= self.capacity and (position - head) & M64 <= (tail - head) & M64
            while good and position != tail:
                found = self.view(position, tail)
                if found is None or found[2] == NEW:
                    break
                position = (position + size_of(found[1])) & M64
            # from here on no call, unless nobody was here meanwhile
            if words[HEAD] != head or words[CURSOR] != cursor:
                continue
            if not good or (found is None and position != tail):
                raise self.corrupt("a record's header makes no sense")
            words[CURSOR] = position
            return None if found is None or position == tail else (position, found[0], found[1])

    def _claim(self, position: int, at: int, length: int, item: tuple[Got], hand: list[Got]) -> bool:
        """Take the record in hand. False: it has been taken meanwhile, or this process has left."""
        words, halves, state_at, word = self.words, self.halves, (at >> 2) + 1, at >> 3
        now, behind = time.clock_gettime_ns(COARSE), (position + size_of(length)) & M64
        # from here on no call
        state = halves[state_at]
        if state & 0xFF != NEW or not self.me or words[CURSOR] != position:
            return False
        words[BEFORE] = state
        words[TAKEN + 2] = position
        words[TAKEN + 1] = (words[TAKEN] + 1) & M64
        words[word + TAKER] = self.me
        words[word + SINCE] = now
        # point 11
        if not libc.ORDERED:
            libc.fence()
        halves[state_at] = state | STARTED
        # point 12
        hand += item
        words[TAKEN] = words[TAKEN + 1]
        words[CURSOR] = behind
        # point 13
        return True

    def _is_over(self) -> bool:
        """Closed, no producer that saw it open can still publish, and nothing is left that could come back from others."""
        words = self.words
        if not self.quiet():
            return False
        position, tail = words[HEAD], words[TAIL]
        if words[CURSOR] != tail or words[REWINDS] != words[SEEN]:
            return False
        while position != tail and (found := self.view(position, tail)) is not None:
            if found[2] == STARTED and words[(found[0] >> 3) + TAKER] != self.me:
                return False
            position = (position + size_of(found[1])) & M64
        return True

    # --- ending

    def end(self, position: int, settles: bool, /) -> bool:
        self.check_shared()
        return self._conclude(position, self._finish, bool(settles))

    def give_back(self, position: int, /) -> bool:
        self.check_shared()
        return self._conclude(position, self._return)

    def _conclude(self, position: int, how: Callable[..., bool], *arguments: bool) -> bool:
        """Bring the record in hand to its end. False: it is not in hand (any more)."""
        if not 0 <= position <= M64:
            raise OverflowError(f"a position is a number from 0 to 2**64 - 1, not {position}")
        said: bool = self.inside_at_last(how, position, *arguments)
        if said and how == self._return:
            self.feed(1)
        elif said:
            self.tell_of_room()
            self.wake_joiners()
            if self.words[CLOSED_WORD]:  # those who wait for its end end, too
                self.feed(libc.EVERYBODY)
        return said

    def _held(self, position: int) -> int:
        """The place of the record there if it is in this process's hand, or 0."""
        words = self.words
        head, tail = words[HEAD], words[TAIL]
        if not self.me or (position - head) & M64 >= (tail - head) & M64:
            return 0
        found = self.view(position, tail) if (tail - head) & M64 <= self.capacity else None
        if found is None:
            if words[HEAD] != head:  # a handler has ended it
                return 0
            raise self.corrupt("a record in hand was overwritten")
        return found[0] if found[2] == STARTED and words[(found[0] >> 3) + TAKER] == self.me else 0

    def _finish(self, position: int, settles: bool) -> bool:
        """The record in hand is over. settles: no task_done will follow."""
        at = self._held(position)
        words, halves, state_at, word = self.words, self.halves, (at >> 2) + 1, (at >> 3) + TAKER
        # from here on no call
        if not at or halves[state_at] & 0xFF != STARTED or words[word] != self.me:
            return False
        words[HANDLED + 2] = position
        words[HANDLED + 1] = (words[HANDLED] + 1) & M64
        if settles:
            words[SETTLED + 2] = position
            words[SETTLED + 1] = (words[SETTLED] + 1) & M64
        # point 15
        if not libc.ORDERED:
            libc.fence()
        halves[state_at] = halves[state_at] & ~0xFF | DONE
        # point 16
        words[HANDLED] = words[HANDLED + 1]
        if settles:
            words[SETTLED] = words[SETTLED + 1]
        # point 17
        self.advance()
        # point 18
        return True

    def _return(self, position: int) -> bool:
        """The record in hand waits again, as the next one to be taken."""
        at = self._held(position)
        words, halves, state_at, word = self.words, self.halves, (at >> 2) + 1, (at >> 3) + TAKER
        # from here on no call
        state = halves[state_at]
        if not at or state & 0xFF != STARTED or words[word] != self.me:
            return False
        tries = (state >> 8) + 1
        words[BEFORE] = state
        words[GIVEN + 2] = position
        words[GIVEN + 1] = (words[GIVEN] + 1) & M64
        # point 19
        if not libc.ORDERED:
            libc.fence()
        halves[state_at] = (tries if tries <= MOST_TRIES else MOST_TRIES) << 8 | NEW
        # point 20
        words[GIVEN] = words[GIVEN + 1]
        if (words[CURSOR] - position) & M64 < 1 << 63:
            words[CURSOR] = position
        # point 21
        return True

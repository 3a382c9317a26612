"""The owner's side of Ring: what the guardian does with a mailbox whose consumer comes, goes and dies.

Rule: none of this takes the producers' lock, so that no sender can hold the owner up. in_hand and sweep are called when
there is no consumer; producers may go on.

A sender that cancels a record while it is swept may be told that it did, and the owner report it too: its answer then
comes to somebody who no longer waits, and is dropped.
"""

from __future__ import annotations

import os

from . import libc
from .layout import (
    ACCEPTED,
    AWAKE,
    BUSY_SINCE,
    CANCELS,
    CLAIMED,
    CLOSED_WORD,
    DONE,
    EPOCH,
    FIELDS,
    HANDLED,
    HEAD,
    LOCAL_SINCE,
    LOCK,
    M64,
    NEW,
    PID,
    POPULATED_BASE,
    POPULATED_END,
    RECORD,
    RECOVERED,
    RUNG,
    SLEEPING,
    TAIL,
    TAKING,
    TID,
    size_of,
)
from .producer import Producer

Record = tuple[int, int, int, int, int, int, int, bytes]


class Owner(Producer):
    """What the guardian may do, beside sending."""

    __slots__ = ()

    # --- claiming

    def grant(self, attempt: int, /) -> None:
        _check_attempt(attempt)
        self.words[CLAIMED] = 0
        self.words[EPOCH] = attempt << 1

    def claim(self, attempt: int, /) -> bool:
        """Newborns take turns by the senders' lock; against the owner, which takes none, they announce themselves."""
        _check_attempt(attempt)
        words = self.words
        while self.acquire(0.1):
            if words[EPOCH] != attempt << 1:
                return False
        try:
            if words[EPOCH] != attempt << 1 or words[CLAIMED] == attempt:
                return False
            words[CLAIMED] = attempt
            libc.fence()
            if words[EPOCH] != attempt << 1:
                return False
        finally:
            self.release()
        self.halves[PID], words[TAKING], words[LOCAL_SINCE] = os.getpid(), 0, 0
        self.rewind()
        return True

    def revoke(self, attempt: int, /) -> bool:
        """False also where a newborn claims it at this very moment; that one then finds it revoked, and leaves."""
        _check_attempt(attempt)
        words = self.words
        if words[EPOCH] != attempt << 1 or words[CLAIMED] == attempt:
            return False
        words[EPOCH] = 0
        libc.fence()
        return words[CLAIMED] != attempt

    # --- after the consumer's death

    def in_hand(self, tries: int, upto: int = 0, /) -> list[Record]:
        if not (0 <= tries <= M64 and 0 <= upto <= M64):
            raise OverflowError("tries and upto are numbers from 0 to 2**64 - 1")
        return self._settle_all(tries, upto, False, -1)

    def sweep(self, kind: int = -1, /) -> list[Record]:
        return self._settle_all(0, 0, True, kind)

    def _is_whole(self, head: int, tail: int) -> bool:
        """Looked at before anything is changed: a corrupt ring is reported as it was found."""
        position = head
        while position != tail:
            found = self.view(position, tail)
            if found is None:
                return False
            position += size_of(found[1])
        return (tail - head) & M64 <= self.capacity

    def _settle_all(self, tries: int, upto: int, all: bool, kind: int) -> list[Record]:
        """Settle the records from the head to the tail: all of them, or those that a dead consumer had in hand. What
        ended."""
        words, ended = self.words, list[Record]()
        head, tail = words[HEAD], words[TAIL]
        libc.ordered()
        if not self._is_whole(head, tail):
            raise self.corrupt("a record's header makes no sense")
        words[TAKING] = 0
        self.mend(HANDLED, DONE)
        position, front = head, True
        while position != tail and (found := self.view(position, tail)) is not None:
            at, length, _ = found
            fields = FIELDS.unpack_from(self.bytes, at)
            if (kind < 0 or fields[2] == kind) and self._settle(position, at, tries, upto, all):
                body = bytes(self.bytes[at + RECORD : at + RECORD + length])
                ended.append((fields[2], fields[3], *fields[5:8], fields[1] >> 8, position, body))
            position += size_of(length)
            front = front and self.halves[(at >> 2) + 1] & 0xFF >= DONE
            if front:
                head = position
        words[BUSY_SINCE] = 0
        libc.ordered()
        words[HEAD] = head  # (H)
        self.rewind()
        self.wake_senders(False)
        return ended

    def _settle(self, position: int, at: int, tries: int, upto: int, all: bool) -> bool:
        """Bring the record to its end (True), or back to NEW."""
        words, halves, state_at = self.words, self.halves, (at >> 2) + 1
        state = halves[state_at]
        told, tried = state & 0xFF, state >> 8
        if told >= DONE or (told == NEW and not all):
            return False
        if not all and position >= upto and tried < tries and tried < 0xFFFFFF:
            halves[state_at] = (tried + 1) << 8 | NEW
            return False
        halves[state_at] = state & ~0xFF | DONE
        words[HANDLED] = (words[HANDLED] + 1) & M64
        return True

    # --- bells

    def owed(self) -> bool:
        libc.fence()  # (S)
        if self.words[HEAD] == self.words[TAIL] or self.halves[SLEEPING] == AWAKE:
            return False
        self.halves[SLEEPING] = RUNG
        self.strike()
        return True

    def ring(self) -> None:
        self.halves[SLEEPING] = AWAKE
        self.strike()

    # --- closing

    def close(self, code: int = 1, /) -> None:
        if code == 0:
            raise ValueError("a closed ring's code is not 0")
        if not 0 < code <= M64:
            raise OverflowError(f"{code} is not a number from 1 to 2**64 - 1")
        self.words[CLOSED_WORD] = code  # (C)
        self.wake_senders(True)

    def reopen(self) -> None:
        self.words[CLOSED_WORD] = 0

    def quiet(self) -> bool:
        if not self.words[CLOSED_WORD]:
            return False
        libc.fence()  # (C)
        return self.owner() == 0

    def owner(self) -> int:
        return self.halves[LOCK] & TID

    # --- stats

    def accepted(self) -> int:
        """Records ever published: also the one whose producer died, or stands, between the tail and the count.

        Looked at twice: between two of these loads one producer may settle its count, and the next one write its intent.
        """
        words = self.words
        for _ in range(1000):  # a scribbler must not keep us here
            tail, count, at, next = words[TAIL], words[ACCEPTED], words[ACCEPTED + 2], words[ACCEPTED + 1]
            if words[ACCEPTED + 2] == at and words[ACCEPTED] == count and words[TAIL] == tail:
                break
        return next if at == tail else count

    def stats(self) -> dict[str, int]:
        words = self.words
        handled = (words[HANDLED] + words[CANCELS]) & M64  # before accepted
        head, accepted = words[HEAD], self.accepted()
        return {
            "head": head,
            "tail": words[TAIL],
            "capacity": self.capacity,
            "accepted": max(accepted, handled),
            "handled": handled,
            "busy_since": words[BUSY_SINCE],
            "local_since": words[LOCAL_SINCE],
            "sleeping": int(self.halves[SLEEPING] != AWAKE),
            "recovered": words[RECOVERED],
            "closed": words[CLOSED_WORD],
            "pid": self.halves[PID],
            "populated": min((words[POPULATED_END] - words[POPULATED_BASE]) & M64, self.capacity),
        }

    # --- of Ring

    def rewind(self) -> None:
        raise NotImplementedError

    def wake_senders(self, anyway: bool) -> None:
        raise NotImplementedError


def _check_attempt(attempt: int) -> None:
    if attempt < 0 or attempt > M64:
        raise OverflowError(f"{attempt} is not a number from 0 to 2**64 - 1")
    if attempt == 0 or attempt >> 63:
        raise ValueError("an attempt is a number from 1 to 2**63 - 1")

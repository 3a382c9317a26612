"""Where the words of a ring are: those of layout.h, and some that take the place of compare-and-swap.

Python has no atomic instruction but plain aligned loads and stores. Where the C ring swaps, two parties that may meet
announce themselves in a word each, make a full fence and look for the other (Dekker):
- a consumer that starts a record (TAKING) and a sender that cancels it (CANCELLING): the sender gives way, unless the
  consumer came second, which then waits for the senders' lock;
- a newborn that claims an attempt (CLAIMED) and the guardian that revokes it (EPOCH): both give way;
- consumers that wait and producers that wake them (SLEPT, POLLED): in C one word, `hungry`.

So this ring's memory is read alike, and its version is another: a process with the C ring refuses it, and the other way
round.
"""

from __future__ import annotations

import struct
from typing import Final

FULL, CLOSED, STUCK, NOMEM, EMPTY, LEFT = -1, -2, -3, -4, -6, -7
HEADER, RECORD, SLOT, LARGE = 4096, 48, 256, 128 << 10
MINIMUM, MAXIMUM = 4096, 1 << 31
MAGIC, VERSION = 0x676E69722D746361, 0x10003
AHEAD, TRIM = 64 << 10, 1 << 20  # bytes populated ahead of the tail; what an idle ring keeps at most
ELSEWHERE = 4  # a record's flag: the body is the number of what the guardian keeps

NEW, STARTED, DONE, CANCELLED = range(4)  # states of a record
AWAKE, ASLEEP, RUNG = range(3)  # of the consumer

M64: Final = 2**64 - 1
TID: Final = 0x3FFFFFFF

# 64-bit words of the header
HEAD, BUSY_SINCE, HANDLED = 8, 9, 10  # a tally is count, next, at
TAIL, ACCEPTED, POPULATED_BASE, POPULATED_END = 16, 17, 20, 21
RECOVERED, CANCELS, CLOSED_WORD, EPOCH, WAITING, LOCAL_SINCE = 45, 48, 56, 57, 64, 13
TAKING, CANCELLING, CLAIMED = 72, 80, 88
CURSOR, SEEN, TAKEN, GIVEN, BEFORE = 133, 134, 136, 139, 142  # those of struct takers
SETTLED, FINISHED, TAKERS_RECOVERED, REWINDS, RETURNED = 144, 147, 148, 152, 153
LOCK_AT, KEEP_AT = 320, 1024  # bytes
# 32-bit words
SLEEPING, SPACE_WAIT, LOCK, PID = 48, 64, 80, 116
KEEP, SLEPT, POLLED, JOINING = 256, 320, 321, 336

FIELDS: Final = struct.Struct("=IIHHIQQQQ")  # length, state, kind, flags, mark, sender, corr, deadline, since


class Corrupt(RuntimeError):
    """A header in the ring makes no sense ("mailbox corrupt: ..."): some process wrote over it. Nothing outside the
    mapping was read. The ring is as it was found; close it and report what it held as lost."""


def size_of(length: int) -> int:
    """Bytes of a record with such a body."""
    return (RECORD + length + 7) & ~7


def mark_of(position: int) -> int:
    return (position >> 3 & 0xFFFFFFFF) ^ 0x52494E47

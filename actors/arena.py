"""This process's share of the large data that a system has in memory: what it wrote, what it reads.

Rule: a large buffer is copied once, into a segment of the sender's own, and read where it lies. Segments are used again
(fresh pages cost more than the copy): each process keeps those that it made, and writes into one again when nobody has
a lease on it any more. Leases are words in the system's ledger: a message has one on each part from before it is sent
until it is handled (its word names the receiver, and is no other message's: a lease that is given up twice harms none),
a process one for each part that it looks at (its endpoint). None of this takes a message to the guardian but the first
contact with a segment; the guardian drops the leases of whoever dies.

A body as it lies in a ring: how many parts, whether the last is the body itself, the message's word; id, offset, length
and slot of each part; then the body, unless it is a part.

Rejected: buffers that the guardian keeps for each message (two exchanges and fresh pages for each).
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from .allocator import keep_freed
from .errors import ActorsError, CodecError, OutOfMemory
from .parcels import LARGE, Lent, Parcel, Part
from .transports._ring import Ledger, Segment, Span, memory

if TYPE_CHECKING:
    from .client import Client

MESSAGE: Final = 1 << 63  # to an actor
REPLY: Final = 1 << 62  # to an asker
RECEIVER: Final = 0xFFFFFFFF_00000000  # the part of a message's word that says whose it is; below it a number
HEAD: Final = struct.Struct("<HBQ")  # parts; 1: the last one is the body; word
PART: Final = struct.Struct("<QQQH")  # id, offset, length, slot
IDLE: Final = 64 << 20  # bytes of idle segments that a process keeps
WINDOW: Final = 64 << 20  # bytes that may be on their way from one process to one actor
WORKED: Final = 4  # arrays that who computes with a received one makes beside it, one after the other
MOST: Final = 4096  # segments of a system
SHARE: Final = 8  # one process should look at no more than one in so many segments, and bytes of the budget
TRIES, PAUSE = 25, 0.02  # for memory, while others are asked to give back what they don't use


class _Own:
    """A segment that this process made."""

    __slots__ = ("busy", "id", "segment")

    def __init__(self, id: int, segment: Segment) -> None:
        self.id, self.segment, self.busy = id, segment, True

    @property
    def index(self) -> int:
        return self.id & 0xFFFFFFFF


class Arena:
    """The segments of one system as this process sees them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.own: list[_Own] = []
        self.known: dict[int, Segment] = {}  # by id: own and others'
        self.budget = 0  # bytes that the system may have; known with the ledger
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(int.from_bytes(os.urandom(4), "little"))

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            answer, fds = self.client.exchange("ledger")
            try:
                self.budget = answer["budget"]
                self._ledger = Ledger(fds[0])
            finally:
                os.close(fds[0])
        return self._ledger

    # --- sending

    def pack(self, body: bytes, receiver: int, whole: bool = False) -> bytes:
        """What goes into a ring for a body that is a Parcel, or (`whole`) is to go beside the message itself. The message
        gets a lease on each part: `release` what is not sent after all. OutOfMemory.

        receiver: `to_actor` or `to_asker`.
        """
        parts = body.parts if isinstance(body, Parcel) else []
        parts, rest = ([*parts, bytes(body)], b"") if whole else (parts, body)
        word = receiver | next(self._numbers) & 0xFFFFFFFF
        lent: list[tuple[int, int, int, int]] = []
        try:
            for part in parts:
                lent.append(self._lend(part, word))
        except BaseException:
            for id, _, _, slot in lent:
                self.ledger.drop(id & 0xFFFFFFFF, slot, word)
            raise
        return b"".join([HEAD.pack(len(parts), whole, word), *(PART.pack(*each) for each in lent), rest])

    def _lend(self, part: Part, word: int) -> tuple[int, int, int, int]:
        """(id, offset, length, slot) of a part, copied if it is not in shared memory already."""
        if isinstance(part, Lent):
            if part.span.id in self.known:
                slot = self.ledger.take(part.span.id & 0xFFFFFFFF, word)
                if slot >= 0:
                    return part.span.id, part.offset, part.length, slot
            part = part.view()  # of another system, or lent to as many as can be
        length = memoryview(part).nbytes
        own = self._segment(length)
        try:
            if not own.segment.write(part):
                raise OutOfMemory(
                    f"system {self.client.system!r}: no memory for {length:,} bytes (machine or cgroup limit)"
                )
            return own.id, 0, length, self.ledger.take(own.index, word)  # idle, so there is a slot
        finally:
            own.busy = False

    def share(self, buffer: Any) -> Span:
        """Copy a buffer into a segment, with a lease of this process."""
        own = self._segment(memoryview(buffer).nbytes)
        try:
            if not own.segment.write(buffer):
                raise OutOfMemory(f"system {self.client.system!r}: no memory for what is to be shared")
            return Span(own.segment, own.id, 0, memoryview(buffer).nbytes, self.ledger, self.client.me)
        finally:
            own.busy = False

    def keep(self, body: bytes) -> bytes:
        """The same body with its parts in shared memory, where they change no more, under leases of this process.
        OutOfMemory."""
        if not isinstance(body, Parcel):
            return body
        return Parcel.of(body, [part if type(part) in (Lent, Span) else self.share(part) for part in body.parts])

    def is_crowded(self) -> bool:
        """Does this process look at so much (SHARE) that it had better copy what comes, and let the segments go?"""
        ledger, me = self.ledger, self.client.me
        held = [segment.size for id, segment in self.known.copy().items() if ledger.held(id & 0xFFFFFFFF, me)]
        return sum(held) > self.budget // SHARE or len(held) > MOST // SHARE

    def has_room(self, receiver: int) -> bool:
        """Is less than WINDOW of what this process wrote on its way to this receiver?"""
        if not self.own:
            return True
        ledger = self.ledger
        held = (own.segment.size for own in self.own if ledger.held(own.index, receiver, RECEIVER))
        return sum(held) < WINDOW

    # --- segments

    def _segment(self, length: int) -> _Own:
        """One to write into, marked busy. OutOfMemory."""
        size = _class(length)
        why = ""
        for _ in range(TRIES):
            ledger = self.ledger
            with self._lock:
                for own in self.own:
                    if not own.busy and own.segment.size == size and not ledger.held(own.index):
                        own.busy = True
                        return own
            self.trim(IDLE)
            made, why = self._make(size)
            if made is not None:
                return made
            self.trim(0)
            if not self.client.endpoint.may_block():
                break
            time.sleep(PAUSE)
        raise OutOfMemory(
            f"system {self.client.system!r}: no room for {length:,} bytes of large data: {why}; send less at a time, let go of "
            "arrays that were received, or give ActorSystem(memory=…) more"
        )

    def _make(self, size: int) -> tuple[_Own | None, str]:
        fd = memory(size, "actors:segment")
        reading = -1
        try:
            reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # others shall not write into it
            answer, _ = self.client.exchange("segment", (reading,), size=size)
            if not answer["id"]:
                return None, answer["why"]
            own = _Own(answer["id"], Segment(fd, True))
        finally:
            os.close(fd)
            if reading >= 0:
                os.close(reading)
        with self._lock:
            self.own.append(own)
            self.known[own.id] = own.segment
        return own, ""

    def trim(self, keep: int = 0) -> None:
        """Give back idle segments, beyond so many bytes of them; those used last stay."""
        if self._ledger is None:
            return
        gone: list[int] = []
        with self._lock:
            for own in reversed(self.own.copy()):
                if own.busy or self._ledger.held(own.index):
                    continue
                keep -= own.segment.size
                if keep < 0:
                    gone.append(own.id)
                    self.own.remove(own)
                    del self.known[own.id]
        if gone and self.client.gone is None:
            self.client.send("unsegment", ids=gone)

    # --- receiving

    def open(self, body: bytes) -> Parcel:
        """A body as it came out of a ring, with a lease of this process on each of its parts. CodecError: a part is gone, or
        it was overwritten.
        """
        try:
            count, whole, _ = HEAD.unpack_from(body)
            spans = [self._span(*PART.unpack_from(body, HEAD.size + PART.size * number)) for number in range(count)]
        except (struct.error, ValueError, OverflowError) as error:
            raise CodecError(f"a message can't be read: what lies beside it makes no sense ({error})") from None
        rest = bytes(spans.pop()) if whole else body[HEAD.size + PART.size * count :]
        return Parcel.of(rest, spans)

    def _span(self, id: int, offset: int, length: int, slot: int) -> Span:
        segment = self.known.get(id)
        if segment is None:
            _, fds = self.client.exchange("map_segment", id=id)
            if not fds:
                raise CodecError(f"large data {id} is gone")
            try:
                segment = self.known[id] = Segment(fds[0])
            finally:
                os.close(fds[0])
            keep_freed(WORKED * segment.size)
        return Span(segment, id, offset, length, self.ledger, self.client.me)

    def release(self, body: bytes) -> None:
        """The message is over: give up its leases. What was overwritten names none."""
        try:
            release(self.ledger, body)
        except (struct.error, ValueError, OverflowError):
            return
        except ActorsError:
            if self.client.gone is None:
                raise

    def forget(self, id: int) -> None:
        """The guardian says that a segment is no more."""
        self.known.pop(id, None)

    def abandon(self) -> None:
        """In a forked child: what is its parent's stays its parent's."""
        self.own.clear()
        self.known.clear()
        self._ledger = None
        self._lock = threading.Lock()


def release(ledger: Ledger, body: bytes) -> None:
    """Give up the leases of a message."""
    count, _, word = HEAD.unpack_from(body)
    for number in range(count):
        id, _, _, slot = PART.unpack_from(body, HEAD.size + PART.size * number)
        ledger.drop(id & 0xFFFFFFFF, slot, word)


def to_actor(uid: int) -> int:
    """The receiver's part of a message's word. Uids of a system are counted, so their low bits tell them apart."""
    return MESSAGE | (uid & 0x7FFFFFFF) << 32


def to_asker(endpoint: int) -> int:
    return REPLY | (endpoint & 0x3FFFFFFF) << 32


def _class(length: int) -> int:
    """The size of the segment for so many bytes: a quarter too large at most, so that it fits others later."""
    step = max(LARGE, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step

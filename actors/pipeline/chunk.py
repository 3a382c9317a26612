"""Items on their way between two processes: encoded once by who made them, decoded once by who works on them.

Rule: a chunk is a run of items of one encoded list; whoever only passes it on never looks inside, so that passing
costs what a copy of its bytes costs. A part of it is the same bytes with narrower bounds, so that work can be divided,
repeated and narrowed down to one item without decoding anything.

Numbers of one type are a column of machine words (`pack_numbers`): nothing is quicker to make and to read.

Large buffers of items (arrays, bytes) lie beside the bytes, in segments of shared memory, from the moment that they are
encoded: copied once then, lent on from process to process as long as the chunk is under way, and read where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import codec
from ..parcels import Parcel, contents, weight
from ..transports._ring import pack_numbers, unpack_numbers

if TYPE_CHECKING:
    from ..arena import Arena

NUMBERS = 1 << 8  # in place of a codec's flags: the body is a column of numbers


class Chunk(NamedTuple):
    """Items `low` to `high` (exclusive) of the list that is encoded in `body`; `total` is the list's length."""

    body: bytes
    flags: int
    low: int
    high: int
    total: int

    @property
    def items(self) -> int:
        """How many."""
        return self.high - self.low

    @property
    def size(self) -> int:
        """Bytes, about; those in segments count."""
        return weight(self.body) * (self.high - self.low) // self.total + 1

    def part(self, low: int, high: int) -> Chunk:
        """Its own items `low` to `high`."""
        return self._replace(low=self.low + low, high=self.low + high)


def is_column(items: list[Any]) -> bool:
    """Are these numbers, all of one type? To ask this costs less than to look at all their types."""
    return pack_numbers(items) is not None


def pack(items: list[Any], arena: Arena | None = None) -> Chunk:
    """Encode items; the large buffers of theirs go into segments of `arena` (none: into the body). CodecError: one of
    them can't be sent. OutOfMemory.
    """
    column = pack_numbers(items)
    if column is not None:
        return Chunk(column, NUMBERS, 0, len(items), len(items))
    if arena is None:
        body, flags = codec.encode_whole(items)
    else:
        body, flags = codec.encode(items)
        eased = ease(body, arena)
        body = arena.keep(body) if eased is body else eased
    return Chunk(body, flags, 0, len(items), len(items))


def unpack(chunk: Sequence[Any], arena: Arena | None = None) -> list[Any]:
    """The items. What lies in segments is read there, unless this process keeps too many of them: then it is copied.
    CodecError: they make no sense here.
    """
    body, flags, low, high, total = chunk
    if flags == NUMBERS:
        return unpack_numbers(body, low, high)
    items: list[Any] = codec.decode(body if arena is None else ease(body, arena), flags)
    return items if low == 0 and high == total else items[low:high]


def ease(body: bytes, arena: Arena) -> bytes:
    """The same body; where this process keeps too much in segments, with copies of its parts: so that whoever gathers
    arrays (or lets them wait, with a small budget) takes no memory from those that the others need to send theirs.
    """
    if not isinstance(body, Parcel) or not arena.is_crowded():
        return body
    return Parcel.of(body, [bytes(contents(part)) for part in body.parts])


def part(chunks: Sequence[Chunk], low: int, high: int) -> list[Chunk]:
    """Items `low` to `high` of several chunks in a row."""
    found, begin = list[Chunk](), 0
    for chunk in chunks:
        end = begin + chunk.items
        if low < end and begin < high:
            found.append(chunk.part(max(low - begin, 0), min(high, end) - begin))
        begin = end
    return found

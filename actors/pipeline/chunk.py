"""Items on their way between two processes: encoded once by who made them, decoded once by who works on them.

Rule: a chunk is a run of items of one encoded list; whoever only passes it on never looks inside, so that passing
costs what a copy of its bytes costs. A part of it is the same bytes with narrower bounds, so that work can be divided,
repeated and narrowed down to one item without decoding anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import codec


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
        """Bytes, about."""
        return len(self.body) * (self.high - self.low) // self.total + 1

    def part(self, low: int, high: int) -> Chunk:
        """Its own items `low` to `high`."""
        return self._replace(low=self.low + low, high=self.low + high)


def pack(items: list[Any]) -> Chunk:
    """Raises CodecError if one of them can't be sent."""
    body, flags = codec.encode_whole(items)
    return Chunk(body, flags, 0, len(items), len(items))


def unpack(chunk: Sequence[Any]) -> list[Any]:
    """The items. Raises CodecError if they make no sense here."""
    body, flags, low, high, total = chunk
    items: list[Any] = codec.decode(body, flags)
    return items if low == 0 and high == total else items[low:high]


def part(chunks: Sequence[Chunk], low: int, high: int) -> list[Chunk]:
    """Items `low` to `high` of several chunks in a row."""
    found, begin = list[Chunk](), 0
    for chunk in chunks:
        end = begin + chunk.items
        if low < end and begin < high:
            found.append(chunk.part(max(low - begin, 0), min(high, end) - begin))
        begin = end
    return found

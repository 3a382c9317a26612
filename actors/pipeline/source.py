"""The source of a run, taken in portions that take no time to speak of.

Rule: items are taken in the user's own thread, and no more than there is room for; a portion grows while taking and
sending one is quick and light. What was taken before the source raised is kept: it is worked on, then the error comes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from .chunk import Chunk, pack

if TYPE_CHECKING:
    from ..arena import Arena

AIM = 0.002  # seconds for a portion
LARGEST = 1 << 18  # bytes of a portion, unless one item is larger
SLOW = 0.005  # seconds: who waits longer for a portion looks for results before taking the next


class Source:
    """Takes and encodes."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], skip: int = 0) -> None:
        self.awaits = isinstance(items, AsyncIterable)
        self.items: Iterator[Any] = iter(()) if self.awaits else iter(items)  # type: ignore[arg-type]
        self.async_items = items
        self.skip = skip
        self.arena: Arena | None = None  # where large buffers of items go
        self.ended = False
        self.error: BaseException | None = None
        self.taken = 0
        self.seconds = 0.0  # spent in the source
        self.last = 0.0  # seconds of the last portion
        self._portion = 1

    def take(self, most: int) -> Chunk | None:
        """The next items, at most so many; None at the end (`error` says whether that came too early). CodecError."""
        begin = time.perf_counter()
        count, items = min(most, self._portion), list[Any]()
        try:
            if self.skip:
                self.skip -= sum(1 for _ in islice(self.items, self.skip))
                self.skip = 0
            items.extend(islice(self.items, count))
        except Exception as error:
            self.error = error
        self.last = time.perf_counter() - begin
        self.seconds += self.last
        self.ended = len(items) < count
        return self.packed(items) if items else None

    def packed(self, items: list[Any]) -> Chunk:
        begin = time.perf_counter()
        chunk = pack(items, self.arena)
        self.taken += len(items)
        each = (time.perf_counter() - begin + self.last) / len(items)
        fits = min(AIM / max(each, 1e-9), LARGEST * len(items) / chunk.size)
        self._portion = max(1, min(8 * self._portion, int(fits)))
        return chunk

    @property
    def slow(self) -> bool:
        return self.last > SLOW

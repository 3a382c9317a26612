"""The source of a run, taken in portions that take no time to speak of.

Rule: items are taken in the user's own thread, and no more than there is room for; a portion grows while taking and
sending one is quick and light. What was taken before the source raised is kept: it is worked on, then the error comes.
An item that can't be sent is an error of the source. What can be iterated both ways is iterated as the run is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import CodecError
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
        self.given: Any = items
        self.skip = self.skipped = skip
        self.arena: Arena | None = None  # where large buffers of items go
        self.ended = False
        self.error: BaseException | None = None
        self.taken = 0
        self.seconds = 0.0  # spent in the source
        self.last = 0.0  # seconds of the last portion
        self._portion = 1

    def begin(self, awaits: bool) -> None:
        """awaits: whether who iterates could wait for an asynchronous source. TypeError: it can be nothing else."""
        if self.awaits and not awaits:
            if not isinstance(self.given, Iterable):
                raise TypeError("the source is asynchronous: iterate the run with `async for`")
            self.awaits, self.items = False, iter(self.given)

    def drop(self) -> None:
        """Nothing is taken any more: a generator that nobody else holds is closed by that."""
        self.items, self.given, self.ended = iter(()), (), True

    def take(self, most: int) -> Chunk | None:
        """The next items, at most so many; None at the end (`error` says whether that came too early)."""
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
        return self.packed(items)

    def packed(self, items: list[Any]) -> Chunk | None:
        """None: there is nothing to be sent."""
        begin = time.perf_counter()
        try:
            chunk = pack(items, self.arena) if items else None
        except CodecError as error:
            chunk = self._before_unsendable(items, error)
        if chunk is None:
            return None
        self.taken += len(items)
        each = (time.perf_counter() - begin + self.last) / len(items)
        fits = min(AIM / max(each, 1e-9), LARGEST * len(items) / chunk.size)
        self._portion = max(1, min(8 * self._portion, int(fits)))
        return chunk

    def _before_unsendable(self, items: list[Any], together: CodecError) -> Chunk | None:
        """One of the items can't be sent: that is the end, and this what comes before it."""
        for place, item in enumerate(items):
            try:
                pack([item])
            except CodecError as error:
                number = self.skipped + self.taken + place
                self.error = CodecError(
                    f"item {number} of the source (counted from 0), a {type(item).__name__}: {error}"
                )
                self.error.__cause__ = error.__cause__
                self.ended = True
                del items[place:]
                return pack(items, self.arena) if items else None
        raise together

    @property
    def slow(self) -> bool:
        return self.last > SLOW

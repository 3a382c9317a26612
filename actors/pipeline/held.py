"""A batch in a worker's hands, and the answer in the making.

Rule: results are encoded in chunks that begin small and grow with what is known of their size, so that no answer
outgrows PART_BYTES by more than one chunk. A result that can't be sent is the fault of the input that it is of: anchors
say which that is.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import CodecError
from ..failures import describe, encode_error
from .chunk import Chunk, pack, part, unpack

if TYPE_CHECKING:
    from ..arena import Arena

PART_BYTES = 1 << 18
GROWTH = 8  # a chunk has at most so many times the results of the one before
LONGEST_NAME = 200  # characters of an item in a message
END_OF_INPUT = "the end of the input"  # in a message, for what `finish` does
NOTHING = object()  # no input is in hand


class Held:
    """A batch in this worker's hands."""

    __slots__ = (
        "careful", "chunks", "current", "error", "first", "index", "inputs", "item", "made", "ready", "skip", "tries", "unread",
        "value",
    )  # fmt: skip

    def __init__(
        self, first: int, inputs: Iterator[Any], skip: int, careful: bool, chunks: Sequence[Sequence[Any]] = ()
    ) -> None:
        self.first, self.inputs, self.skip, self.careful = first, inputs, skip, careful
        self.chunks = chunks  # what `inputs` come from
        self.unread: list[Any] = []  # inputs that come before those of `inputs`
        self.ready: deque[Any] = deque()  # what the next ones came to, where that is known already
        self.index = 0  # inputs done
        self.item: Any = NOTHING  # the one in hand
        self.value: Any = NOTHING  # what it came to, where that is known
        self.error: BaseException | None = None  # or what it raised
        self.current: Any = None  # its iterator, while it makes more
        self.made = 0  # results of it, those left out included
        self.tries = 0  # that have failed

    def next(self) -> Any:
        """The next input, NOTHING at the end."""
        return self.unread.pop(0) if self.unread else next(self.inputs, NOTHING)

    def has_more(self) -> bool:
        if not self.unread:
            self.unread = list(islice(self.inputs, 1))
        return bool(self.unread)

    def block(self, most: int) -> list[Any]:
        """The next ones."""
        unread, self.unread = self.unread, []
        return unread or list(islice(self.inputs, most))

    def name(self, index: int) -> str:
        """An input in a message, also one that is not in hand any more."""
        chunks = [Chunk(*chunk) for chunk in self.chunks]
        found = part(chunks, index, index + 1)
        return shown(unpack(found[0])[0]) if found else END_OF_INPUT

    def take(self, item: Any) -> None:
        self.item, self.made, self.tries = item, 0, 0

    def put_down(self) -> None:
        """The input in hand is done."""
        self.item, self.current = NOTHING, None
        self.index += 1
        self.skip = self.made = 0


class Part:
    """An answer in the making. end: when it must be ready, `math.inf` for one that holds all that its batch makes.
    least: results that a first chunk may have. arena: where large buffers of results go.
    """

    def __init__(self, held: Held, want: int, least: int, end: float, skips: bool, arena: Arena | None = None) -> None:
        self.held, self.want, self.least, self.end, self.skips = held, want, least, end, skips
        self.limit = min(want, least)
        self.arena = arena
        self.values: list[Any] = []
        self.anchors: list[tuple[int, int]] = []  # (place, input): from this value on, one each of this and the next
        self.chunks: list[tuple[bytes, int, int]] = []
        self.bytes = 0
        self.done_before = held.index
        self.skipped: list[tuple[int, str, str]] = []
        self.failed: tuple[str, bytes, int] | None = None

    def is_full(self) -> bool:
        return self.end < math.inf and (time.perf_counter() >= self.end or self.bytes >= PART_BYTES)

    def put(self, value: Any) -> None:
        """One result of the input in hand; those that others have had already are left out."""
        held = self.held
        held.made += 1
        if held.made > held.skip:
            self.anchors.append((len(self.values), held.index))
            self.values.append(value)

    def pack(self) -> bool:
        """Encode the results so far: True when that ends the answer."""
        values = self.values
        try:
            chunk = pack(values, self.arena)
        except CodecError:
            self._pack_singly()
        else:
            self._add(chunk)
            self.least = max(1, min(GROWTH * len(values), PART_BYTES // 2 * len(values) // chunk.size))
            self.limit = min(self.want, self.least)
        values.clear()
        self.anchors.clear()
        return self.failed is not None or (self.bytes >= PART_BYTES and self.end < math.inf)

    def _add(self, chunk: Chunk) -> None:
        self.chunks.append((chunk.body, chunk.flags, chunk.total))
        self.bytes += chunk.size

    def _pack_singly(self) -> None:
        """One of the results can't be sent: find it, and report the input that it is of."""
        for place, value in enumerate(self.values):
            try:
                chunk = pack([value], self.arena)
            except CodecError as error:
                unsent = CodecError(f"a result ({type(value).__name__}): {error}").with_traceback(error.__traceback__)
                begin, index = self.anchors[bisect.bisect_right(self.anchors, place, key=lambda anchor: anchor[0]) - 1]
                index += place - begin
                if self.skips:
                    self.skipped.append((index, self.held.name(index), describe(unsent)))
                    continue
                self.held.index, self.held.item = index, NOTHING
                self.failed = (self.held.name(index), *encode_error(unsent))
                return
            self._add(chunk)


def shown(item: Any) -> str:
    """An item in a message. Never raises."""
    try:
        text = repr(item)
    except BaseException as error:
        text = f"<{type(item).__name__}, whose repr() raises {type(error).__name__}>"
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"

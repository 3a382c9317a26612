"""`Taken`: a message in hand, between the beginning and the end of a `take` block.

Rule: the record stays in the mailbox, in this process's name, until the block has ended. It is written down before
anything can interrupt, so that what raises at any point (Ctrl-C, too) gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from .errors import CodecError
from .message import HANDLE
from .transports._ring import Corrupt

if TYPE_CHECKING:
    from types import TracebackType

    from .box import Mailbox
    from .client import Client
    from .transports._ring import Ring

T = TypeVar("T")
Got = tuple[bytes, int, int, int]  # body, flags, tries, position


class Held(Generic[T]):
    """What both kinds of block do."""

    def __init__(self, box: Mailbox[T], seconds: float | None) -> None:
        self._box, self._seconds = box, seconds
        self._got: list[Got] = []
        self._ring: Ring | None = None
        self._client: Client | None = None

    @property
    def redelivered(self) -> int:
        """How often this message has come back before: blocks that raised, consumers that died. Known inside the block."""
        return self._got[-1][2] if self._got else 0

    def _begin(self) -> T:
        """Read what was taken. CodecError: nobody can, so it does not go back, where it would come first again."""
        self._ring, self._client = self._box._opened()
        try:
            return self._box._body(self._got[-1])
        except CodecError:
            self._finish(True)
            raise

    def _finish(self, well: bool) -> None:
        if not self._got or self._ring is None or self._client is None:
            return
        body, flags, _, position = self._got.pop()
        try:
            if not well:
                self._ring.give_back(position)
            elif self._ring.end(position, True) and flags & HANDLE and self._client.gone is None:
                self._client.arena.release(body)
        except Corrupt as error:
            raise self._box._corrupt(error) from None


class Taken(Held[T]):
    """Made by `Mailbox.take`."""

    def __enter__(self) -> T:
        try:
            self._ring, self._client = self._box._opened()
            self._box._get_slowly(self._seconds, self._got)
            return self._begin()
        except BaseException:
            self._finish(False)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(kind is None)


class TakenAsync(Held[T]):
    """Made by `Mailbox.take_async`."""

    async def __aenter__(self) -> T:
        try:
            self._ring, self._client = self._box._opened()
            await self._box._get_async(self._got)
            return self._begin()
        except BaseException:
            self._finish(False)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(kind is None)

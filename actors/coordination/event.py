"""Event: `threading.Event` across processes.

Rule: setting it is one change, whose number tells those who wait that it was set, also when it is cleared before they
look. Nobody holds an event, so no death changes it; a death between the change and the waking is made good by the
guardian.
"""

from __future__ import annotations

import time

from .shared import CONTENDED, ONE, Shared, deadline

FOREVER = -1.0


class Event(Shared):
    """`threading.Event` across the processes of a system: `set`, `clear`, `is_set`, `wait`; `wait_async` in
    coroutines."""

    __slots__ = ()
    KIND, WHAT = 4, "event"
    INSTEAD = "await wait_async()"

    def is_set(self) -> bool:
        """True while it is set."""
        return bool(self.word & ONE)

    def set(self) -> None:
        """Let everybody go who waits, and all who come until `clear`."""
        while not (seen := self.word) & ONE:
            if self.change(seen, (seen | ONE) & ~CONTENDED, 0):
                self.wake_all()

    def clear(self) -> None:
        """From now on `wait` waits again."""
        while (seen := self.word) & ONE:
            self.change(seen, seen & ~ONE, 0)

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is set. False: not within `timeout` seconds (None: for ever)."""
        if timeout is None or timeout > 0:
            self._blocks()
        seen, until = self.word, deadline(timeout)
        begun = _number(seen)
        while not seen & ONE and _number(seen) == begun:
            left = FOREVER if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                return False
            self.sleep(seen, left)
            seen = self.word
        return True

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` without blocking the event loop."""
        seen, until = self.word, deadline(timeout)
        begun = _number(seen)
        while not seen & ONE and _number(seen) == begun:
            if not await self._told(seen, until):
                return self.is_set()
            seen = self.word
        return True

    def _state(self) -> str:
        return "set" if self.is_set() else "unset"


def _number(word: int) -> int:
    """Of the last change; the next one after it was clear is that it was set."""
    return word >> 17

"""A clock that others move: timers in a heap, run when their time has come.

Rule: the two methods that `Actor.after` and `every` need of an event loop (`time`, `call_at`) and no event loop. What is
due runs in the order of its times, what is due at the same time in the order in which it was set; while it runs, the
clock shows the time at which it was due. Time never goes backwards.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Handle:
    """A call in the future."""

    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], object]) -> None:
        self.call, self.cancelled = call, False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Stands still until `advance`."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._heap: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.time():g} s>"

    def time(self) -> float:
        """Seconds, from an arbitrary point on."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        """Call it when the clock shows `when`."""
        handle = Handle(callback)
        heapq.heappush(self._heap, (when, next(self._numbers), handle))
        return handle

    def next(self) -> float | None:
        """When the next call is due; None: there is none."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> bool:
        """Make the calls that are due now. False: there were none."""
        ran = False
        while (when := self.next()) is not None and when <= self.time():
            ran = True
            heapq.heappop(self._heap)[2].call()
        return ran

    def set(self, now: float) -> None:
        """Show this time; nothing runs."""
        self._now = max(self._now, now)

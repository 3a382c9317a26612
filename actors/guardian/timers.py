"""What the guardian does later: a heap of calls, and nothing that polls."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timers:
    """Calls in the future. `timeout` is what epoll may sleep."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()

    def at(self, when: float, call: Callable[[], object]) -> None:
        heapq.heappush(self._heap, (when, next(self._count), call))

    def now(self) -> float:
        return time.monotonic()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        self.at(self.now() + seconds, call)

    def timeout(self) -> float | None:
        """Seconds until the next call, at most an hour (epoll takes no more than some weeks); None: none is due ever."""
        return min(max(0.0, self._heap[0][0] - self.now()), 3600.0) if self._heap else None

    def run(self) -> None:
        while self._heap and self._heap[0][0] <= self.now():
            heapq.heappop(self._heap)[2]()

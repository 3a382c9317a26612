"""One alarm a node.

Rule: a node waits for one thing at a time (readiness, an exit, the end of its backoff), so it has at most one alarm and
setting it replaces the last. A heap with lazy deletion: `min()` over all nodes at each event made starting n actors
quadratic.
"""

from __future__ import annotations

import heapq
import math


class Timers:
    """Alarms by uid. Times are the caller's; math.inf never rings."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __contains__(self, uid: int) -> bool:
        return uid in self._at

    def set(self, uid: int, at: float) -> None:
        """Ring for `uid` at this time, instead of any other."""
        if at == math.inf:
            self.cancel(uid)
        else:
            self._at[uid] = at
            heapq.heappush(self._heap, (at, uid))

    def cancel(self, uid: int) -> None:
        """Don't ring for `uid`."""
        self._at.pop(uid, None)

    @property
    def next(self) -> float | None:
        """When the first alarm rings."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[int]:
        """The uids whose alarm has rung by now, earliest first; their alarms are cleared."""
        rung = []
        while (at := self.next) is not None and at <= now:
            uid = heapq.heappop(self._heap)[1]
            del self._at[uid]
            rung.append(uid)
        return rung

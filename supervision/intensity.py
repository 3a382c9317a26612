"""How many restarts are too many: OTP's restart intensity.

Rule: a pure function over a list of times, no timer and no clock. Newest time first; each call forgets what has left
the window. A restart exactly `within` seconds old still counts (supervisor.erl: `now <= then + period`). Rejected: a
counter that is reset by a timer, which lets twice the limit through around the reset.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `limit` restarts in any `within` seconds; limit None allows any number."""

    limit: int | None
    within: float

    def add(self, times: tuple[float, ...], now: float) -> tuple[tuple[float, ...], bool]:
        """Count a restart at `now`: the times still in the window, and whether the restart is allowed."""
        if self.limit is None:
            return (), True
        times = (now, *(then for then in times if now <= then + self.within))
        return times, len(times) <= self.limit

"""Whether one process makes progress: a judgement over what its mailbox's header says.

Rule: pure; the caller brings the counters and the time. Three things may hang, each with a mark that changes with
progress: a message in hand (when the oldest was taken), a call that no message asked for (a timer's, a hook; when it
began), and mail that waits for a process that does nothing (how many were handled). Only time that was looked at counts:
between two looks at most twice the pause that was meant to be between them. So after a machine, a container or the
guardian itself has stood still, nobody is taken for hung who stood still with it.

Rejected: heartbeats (a busy handler does not send any, and an idle loop sends them for a handler that hangs), and the
plain age of the message in hand (right after a pause of the whole machine every message is old).
"""

from __future__ import annotations

from collections.abc import Mapping

LOOKS = 4  # in the length of the timeout
SHORTEST = 0.005  # seconds between looks: what the coarse clock in the header can tell apart
MESSAGE, CALL, MAIL = "a message in hand", "a timer's call or a hook", "mail that waits"


class Pulse:
    """One incarnation's. timeout: seconds."""

    def __init__(self, timeout: float, now: float) -> None:
        self.timeout, self.last = timeout, now
        self.step = max(timeout / LOOKS, SHORTEST)
        self._known: dict[str, tuple[int, float]] = {}  # mark, seconds without a change

    def look(self, stats: Mapping[str, int], now: float) -> str | None:
        """What has made no progress for the whole timeout, in words; None: nothing."""
        elapsed, self.last = min(now - self.last, 2 * self.step), now
        message, call = stats["busy_since"], stats["local_since"]
        waits = not message and not call and stats["accepted"] > stats["handled"]
        marks = {MESSAGE: message, CALL: call, MAIL: stats["handled"] + 1 if waits else 0}
        for what, mark in marks.items():
            known, seconds = self._known.get(what, (0, 0.0))
            if mark == known:
                seconds += elapsed if mark else 0.0
            else:
                seconds = max(0.0, min(elapsed, now - mark / 1e9)) if mark and what is not MAIL else 0.0
            self._known[what] = mark, seconds
        return next((what for what, (_, seconds) in self._known.items() if seconds >= self.timeout), None)

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        longest = max((seconds for _, seconds in self._known.values()), default=0.0)
        return min(self.step, max(self.timeout - longest, SHORTEST / 5))

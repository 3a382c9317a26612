"""What a caller may give as a time to wait.

Rule: a number, checked where the user's line is in the traceback. More than the machine's calls can wait for is for ever,
as `math.inf` is; a negative one is over already, as in `concurrent.futures`. Rejected: to pass any value on, which ends
in an OverflowError of some clock, or (NaN) in a wait without end.
"""

from __future__ import annotations

import threading

FOREVER = 1e9  # a deadline that is never met: thirty years, which nanoseconds in 64 bits hold


def bounded(timeout: float | None) -> float | None:
    """Seconds; None: no limit. TypeError: no number; ValueError: NaN."""
    if timeout is None:
        return None
    if not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be None or a number of seconds, not {timeout!r}")
    if timeout != timeout:
        raise ValueError("timeout must be None or a number of seconds, not NaN")
    return float(timeout) if timeout < min(FOREVER, threading.TIMEOUT_MAX) else None

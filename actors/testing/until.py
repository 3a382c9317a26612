"""Waiting for a condition of another process, which sends no event to a test.

Rule: a short poll, an upper bound, and a sentence for the failure. The bound is a safety net, never a measurement: it
is far beyond what the condition takes, so a slow machine fails no test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE = 0.002  # seconds between looks


def until(condition: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """The first true value of `condition()`. AssertionError naming `what`: none within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(PAUSE)

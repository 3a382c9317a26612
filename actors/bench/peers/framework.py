"""One ask and one stream of tells, the same for every framework.

A framework's file gives a context manager that yields a `Pair`; both calls take a count, so that frameworks that only
speak inside an event loop pay for entering it once a batch and not once a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from .python import main, p50

BATCH = 20
TELLS = 4_000


class Pair(NamedTuple):
    asks: Callable[[int], object]  # so many asks, one after the other
    tells: Callable[[int], object]  # so many tells, and an ask behind them, answered


def measure(name: str, framework: Callable[[], AbstractContextManager[Pair]]) -> None:
    """Run the case of the command line: `ask.NAME` or `tell.NAME`."""

    def ask() -> float:
        with framework() as pair:
            return p50(lambda: pair.asks(BATCH), seconds=1.0, warm=5) / BATCH

    def tell() -> float:
        with framework() as pair:
            pair.tells(BATCH)
            start = time.perf_counter()
            pair.tells(TELLS)
            return TELLS / (time.perf_counter() - start)

    main({f"ask.{name}": ask, f"tell.{name}": tell})

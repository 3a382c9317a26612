"""Pipelines against pools: the same jobs, workers that are up and warm on both sides.

python -m actors.bench.pipelines tiny.actors
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ..pipeline import Pipeline, Stage
from ..system import ActorSystem
from .peers.pools import BURNS, FRAMES, TIMES, TINY, WARM, burn, double, frames, rooted, scaled, shifted
from .peers.python import main


def _items_a_second(source: Callable[[int], Iterable[Any]], warm: int, items: int, *stages: Stage) -> float:
    """From the first result on, whose workers are up then, to the last: starting and ending them is in neither side's
    figure.
    """
    with ActorSystem(preload=["actors.pipeline.worker", "actors.bench.pipelines"]) as system:
        for _ in Pipeline(*stages).run(source(warm), system=system):
            pass
        with Pipeline(*stages).run(source(items), system=system) as run:
            results = iter(run)
            next(results)
            start = time.perf_counter()
            found = sum(1 for _ in islice(results, items - 1))
            seconds = time.perf_counter() - start
            assert found == items - 1
            assert next(results, None) is None
            return found / seconds


def tiny() -> float:
    return statistics.median(_tiny() for _ in range(TIMES))


def _tiny() -> float:
    return _items_a_second(range, WARM, TINY, Stage(double, workers=2))


def cpu() -> float:
    """How many times faster than one process alone, which needs a millisecond an item."""
    return _items_a_second(range, 20, BURNS, Stage(burn, workers=2)) * 0.001


def arrays() -> float:
    import numpy  # noqa: F401 - the workers, forked from here on, shall have it as those of a pool do

    return _items_a_second(frames, 5, FRAMES, Stage(scaled), Stage(shifted), Stage(rooted))


CASES: dict[str, Callable[[], float]] = {"tiny.actors": tiny, "cpu.actors": cpu, "stream.actors": arrays}

if __name__ == "__main__":
    main(CASES)

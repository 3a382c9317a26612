"""Pipelines against pools: the same jobs, workers that are up and warm on both sides.

python -m actors.bench.pipelines tiny.actors
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..pipeline import Pipeline, Stage
from ..system import ActorSystem
from .peers.python import BURNS, TINY, WARM, burn, double, main


def _items_a_second(work: Callable[[int], int], warm: int, items: int) -> float:
    """From the first result on, whose workers are up then, to the end of the run, the end of its workers included."""
    with ActorSystem(preload=["actors.pipeline.worker", "actors.bench.pipelines"]) as system:
        pipeline = Pipeline(Stage(work, workers=2))
        for _ in pipeline.run(range(warm), system=system):
            pass
        results = iter(pipeline.run(range(items), system=system))
        next(results)
        start = time.perf_counter()
        assert sum(1 for _ in results) == items - 1
        return items / (time.perf_counter() - start)


def tiny() -> float:
    return _items_a_second(double, WARM, TINY)


def cpu() -> float:
    """How many times faster than one process alone, which needs a millisecond an item."""
    return _items_a_second(burn, 20, BURNS) * 0.001


CASES: dict[str, Callable[[], float]] = {"tiny.actors": tiny, "cpu.actors": cpu}

if __name__ == "__main__":
    main(CASES)

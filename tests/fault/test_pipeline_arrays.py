"""Workers are killed while arrays flow: every array comes once, whole and in order, and no lease on it is left."""

from __future__ import annotations

import gc
import os
import random
from typing import Any

import numpy as np
import pytest

from actors import ActorSystem
from actors.pipeline import Pipeline, Stage
from kit import descendants, kill, until

LENGTHS = (20_000, 60_000, 500_000)  # 160 kB, 480 kB, 4 MB
Array = np.ndarray[Any, np.dtype[np.float64]]


def doubled(array: Array) -> Array:
    assert (array == array[0]).all(), "torn"
    return array * 2


def same(array: Array) -> Array:
    return array


def increased(array: Array) -> Array:
    assert (array == array[0]).all(), "torn"
    return array + 1


def in_use(system: ActorSystem) -> int:
    found: int = system.tree()["memory"]["in_use"]
    return found


def killed_while_arrays_flow(system: ActorSystem, rng: random.Random, kills: int, items: int) -> int:
    """Kill a worker after random numbers of results. How many deaths were seen."""
    lengths = [rng.choice(LENGTHS) for _ in range(items)]
    source = (np.full(length, float(number)) for number, length in enumerate(lengths))
    pipeline = Pipeline(Stage(doubled, workers=2), same, Stage(increased, workers=2), name="pipeline")
    run = pipeline.run(source, system=system)
    when = {rng.randrange(items) for _ in range(kills)}
    mark, number = f"{system.name}/pipeline-", -1
    for number, array in enumerate(run):
        assert (array == 2.0 * number + 1).all(), f"item {number}"
        assert len(array) == lengths[number]
        if number in when:
            victims = [each.pid for each in descendants(os.getpid()) if mark in each.title and each.lives]
            if victims:
                kill(rng.choice(victims))
    assert number == items - 1
    return run.restarts


def repeated(system: ActorSystem, rng: random.Random, runs: int) -> None:
    deaths = sum(killed_while_arrays_flow(system, rng, 6, 120) for _ in range(runs))
    assert deaths >= 2 * runs
    gc.collect()
    until(lambda: in_use(system) == 0, "the leases of all that died are swept")
    system.close()


def test_killed_workers_lose_no_array_and_keep_none(system: ActorSystem, rng: random.Random) -> None:
    repeated(system, rng, 3)


@pytest.mark.nightly
def test_killed_workers_lose_no_array_and_keep_none_for_long(system: ActorSystem, rng: random.Random) -> None:
    repeated(system, rng, 100)


def test_a_run_that_is_given_up_keeps_nothing(system: ActorSystem, rng: random.Random) -> None:
    """Broken off while arrays wait at every place."""
    for _ in range(3):
        pipeline = Pipeline(doubled, Stage(increased, workers=2), name="pipeline")
        run = pipeline.run((np.ones(500_000) for _ in range(100)), system=system)
        for number, _array in enumerate(run):
            if number == rng.randrange(1, 10):
                break
        run.close()
    del _array, run
    gc.collect()
    until(lambda: in_use(system) == 0, "all leases to be given up")

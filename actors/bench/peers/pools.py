"""Pools at the executor's and the pipelines' jobs: Python's own and, where they are installed, joblib's and mpire's.

Rule: workers are up and warm before anything counts, so what they import does not matter (as it does in python.py).

python -m actors.bench.peers.pools tiny.joblib
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing.pool import Pool
from typing import TYPE_CHECKING, Any, TypeAlias

from .python import MESSAGE, Message, main, p50, spawn

if TYPE_CHECKING:
    import numpy

Array: TypeAlias = "numpy.ndarray[Any, numpy.dtype[numpy.float64]]"
TASKS = 10_000
TINY = 100_000
WARM = 2_000
TIMES = 3  # a short run is measured so often, its median counts
BURNS = 1_500
FRAMES = 30  # of 8 MB


# --- jobs


def same(message: Message) -> Message:
    return message


def itself(number: int) -> int:
    return number


def double(number: int) -> int:
    return number * 2


def burn(number: int) -> int:
    """A millisecond of this process's own CPU time."""
    end = time.thread_time_ns() + 1_000_000
    while time.thread_time_ns() < end:
        pass
    return number


def frames(count: int) -> Iterator[Array]:
    """Arrays of 8 MB."""
    import numpy

    some = [numpy.arange(1.0 * (1 << 20)) + number for number in range(4)]
    return (some[number % len(some)] for number in range(count))


def scaled(array: Array) -> Array:
    return array * 2.0


def shifted(array: Array) -> Array:
    return array + 1.0


def rooted(array: Array) -> Array:
    root: Array = array**0.5
    return root


def all_three(array: Array) -> Array:
    return rooted(shifted(scaled(array)))


# --- measuring


def mapped(run: Callable[[], Iterable[int]], times: int = 7) -> float:
    """Tasks a second of a map of TASKS tasks; the first two, in which workers start and warm up, are not counted."""
    rates: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        assert sum(run()) == sum(range(TASKS))
        rates.append(TASKS / (time.perf_counter() - start))
    return statistics.median(rates[2:])


def _imap(pool: Pool, size: int, count: int) -> Iterator[int]:
    return pool.imap(double, range(count), size)


def _through(results: Callable[[int], Iterator[int]]) -> float:
    """Items a second, asked for after warm workers have nothing left to do."""
    for _ in results(WARM):
        pass
    start = time.perf_counter()
    assert sum(1 for _ in results(TINY)) == TINY
    return TINY / (time.perf_counter() - start)


def _streamed(run: Callable[[Iterator[Array]], Iterator[Array]]) -> float:
    """Arrays a second, by workers that are warm."""
    for _ in run(frames(5)):
        pass
    start = time.perf_counter()
    assert sum(1 for _ in run(frames(FRAMES))) == FRAMES
    return FRAMES / (time.perf_counter() - start)


# --- the cases


def ask_pool() -> float:
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return p50(lambda: pool.submit(same, MESSAGE).result())


def submit_pool_fork() -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return p50(lambda: pool.submit(same, MESSAGE).result())


def map_pool() -> float:
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        return mapped(lambda: pool.map(itself, range(TASKS)), 4)


def map_pool_best() -> float:
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        return max(mapped(lambda: pool.map(itself, range(TASKS), chunksize=size)) for size in (100, 625, 2500))  # noqa: B023


def tiny_imap_single() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return _through(lambda count: pool.imap(double, range(count)))


def tiny_imap_best() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        sizes = (500, 1_000, 2_500, 5_000, 10_000)
        return max(statistics.median(_through(partial(_imap, pool, size)) for _ in range(TIMES)) for size in sizes)


def stream_through_pools() -> float:
    """Three stages, a process each, as ours."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as first, fork.Pool(1) as second, fork.Pool(1) as third:
        return _streamed(lambda items: third.imap(rooted, second.imap(shifted, first.imap(scaled, items))))


def stream_through_a_pool() -> float:
    """Three stages on the processes of one pool."""
    with multiprocessing.get_context("fork").Pool(3) as pool:
        return _streamed(lambda items: pool.imap(rooted, pool.imap(shifted, pool.imap(scaled, items))))


def stream_in_one_stage() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return _streamed(lambda items: pool.imap(all_three, items))


def cpu_pool() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        list(pool.imap(burn, range(20)))
        start = time.perf_counter()
        assert sum(1 for _ in pool.imap(burn, range(BURNS), 10)) == BURNS
        return BURNS * 0.001 / (time.perf_counter() - start)


def joblib() -> float:
    library = import_module("joblib")
    job = library.delayed(double)
    with library.Parallel(n_jobs=2, return_as="generator") as parallel:
        for _ in parallel(job(number) for number in range(WARM)):
            pass
        start = time.perf_counter()
        assert sum(1 for _ in parallel(job(number) for number in range(TINY))) == TINY
        return TINY / (time.perf_counter() - start)


def mpire() -> float:
    library = import_module("mpire")
    with library.WorkerPool(n_jobs=2, keep_alive=True) as pool:
        for _ in pool.imap(double, range(WARM)):
            pass
        start = time.perf_counter()
        assert sum(1 for _ in pool.imap(double, range(TINY))) == TINY
        return TINY / (time.perf_counter() - start)


CASES: dict[str, Callable[[], float]] = {
    "ask.pool": ask_pool,
    "submit.pool": ask_pool,
    "submit.pool-fork": submit_pool_fork,
    "map.pool": map_pool,
    "map.pool-best": map_pool_best,
    "tiny.imap1": tiny_imap_single,
    "tiny.imap": tiny_imap_best,
    "cpu.pool": cpu_pool,
    "stream.pools": stream_through_pools,
    "stream.pool": stream_through_a_pool,
    "stream.stage": stream_in_one_stage,
    "tiny.joblib": joblib,
    "tiny.mpire": mpire,
}

if __name__ == "__main__":
    main(CASES)

"""How `map` cuts its input into chunks, and puts the results together again.

Rule: sizes grow from 1 and shrink to 1: the first results come as soon as from single tasks, a long input costs one
message for hundreds of items, and the last chunks are short, so that no worker is alone with a long rest. No time is
measured. The end is guided self-scheduling (Polychronopoulos and Kuck, 1987): a share of what remains.

Rejected: equal chunks, `multiprocessing.Pool.map`'s four a worker: the first result comes after a quarter of all work,
and so long may one worker be alone at the end.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..failures import decode_error

if TYPE_CHECKING:
    from .future import TaskFuture

GROWTH = 4  # from one round of chunks to the next
SHARE = 2  # a chunk is at most half of a worker's share of what remains


def sizes(count: int, workers: int) -> Iterator[int]:
    """Sizes of chunks of `count` items; their sum is `count`."""
    largest, left = 1, count
    while left > 0:
        for _ in range(workers):
            size = max(1, min(largest, left // (SHARE * workers)))
            yield size
            left -= size
            if left <= 0:
                return
        largest *= GROWTH


def cut(items: list[Any], chunk_sizes: Iterator[int]) -> Iterator[list[Any]]:
    """The items in chunks of these sizes."""
    rest = iter(items)
    for size in chunk_sizes:
        yield list(itertools.islice(rest, size))


def results(futures: deque[TaskFuture[Any]], end: float | None) -> Iterator[Any]:
    """The results of all chunks in order; what was not taken is cancelled."""
    try:
        while futures:
            future = futures[0]
            values, *failure = future.result(None if end is None else end - time.monotonic())
            futures.popleft()
            del future
            values.reverse()
            while values:  # no result is held here once it was given out
                yield values.pop()
            if failure:
                raise decode_error(*failure)
    finally:
        for future in futures:
            future.cancel()

"""Pools of other libraries at the pipelines' jobs, where they are installed: joblib, mpire.

python -m actors.bench.peers.pools tiny.joblib
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module

from .python import TINY, WARM, double, main


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


CASES: dict[str, Callable[[], float]] = {"tiny.joblib": joblib, "tiny.mpire": mpire}

if __name__ == "__main__":
    main(CASES)

"""Libraries that take an executor, or a backend, run on actors: joblib (and with it scikit-learn), dask, tqdm."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import signal
import warnings
from concurrent.futures import as_completed
from pathlib import Path

import dask
import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from tqdm import tqdm

from actors import ActorPoolExecutor, WorkerDied
from actors.errors import SpecError
from actors.executor.joblib import register
from kit import descendants, until

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("leak_guard")]
register()


def square(number: int) -> int:
    return number * number


def dies(number: int, marks: str) -> int:
    """At 3, if it has not done so before."""
    if number == 3:
        try:
            os.close(os.open(marks, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def pids() -> set[int]:
    return set(Parallel()(delayed(os.getpid)() for _ in range(20)))


# --- joblib


def test_joblib_runs_in_workers_that_the_calls_of_one_context_share() -> None:
    """And that end with it."""
    before = {each.pid for each in descendants(os.getpid())}
    with joblib.parallel_config("actors", n_jobs=2):
        assert Parallel()(delayed(square)(number) for number in range(500)) == [number**2 for number in range(500)]
        used = pids() | pids()
        assert os.getpid() not in used and len(used) <= 2
        assert sum(Parallel(return_as="generator")(delayed(square)(number) for number in range(9))) == 204
    gc.collect()
    until(lambda: {each.pid for each in descendants(os.getpid())} <= before, "its workers to end")


def test_an_exception_in_joblib_comes_out_as_it_is_and_the_next_call_works() -> None:
    with joblib.parallel_config("actors", n_jobs=2):
        with pytest.raises(TypeError, match="can't multiply sequence"):
            Parallel()(delayed(square)(number) for number in [1, 2, "three", 4])
        assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_a_killed_worker_fails_joblibs_call_alone(tmp_path: Path) -> None:
    """Or not even that, if its tasks may be tried again."""
    with joblib.parallel_config("actors", n_jobs=2):
        with pytest.raises(WorkerDied, match="SIGKILL"):
            Parallel()(delayed(dies)(number, str(tmp_path / "once")) for number in range(6))
        assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        with Parallel() as parallel:
            with pytest.raises(WorkerDied, match="SIGKILL"):
                parallel(delayed(dies)(number, str(tmp_path / "within")) for number in range(4))
            assert parallel(delayed(square)(number) for number in range(3)) == [0, 1, 4]
    with joblib.parallel_config("actors", n_jobs=2, retries=1):
        assert Parallel()(delayed(dies)(number, str(tmp_path / "again")) for number in range(6)) == list(range(6))


def test_joblib_takes_an_executor_that_lives_on() -> None:
    with ActorPoolExecutor(2) as executor:
        with joblib.parallel_config("actors", executor=executor):
            used = pids() | pids()
        assert executor.submit(os.getpid).result() in used
        with pytest.raises(ZeroDivisionError), joblib.parallel_config("actors", executor=executor):
            Parallel()(delayed(divmod)(1, number) for number in (1, 1, 0, 1))
        assert executor.submit(square, 3).result() == 9
        with pytest.raises(SpecError, match="retries: the executor has its own"):
            joblib.parallel_config("actors", executor=executor, retries=1)


def test_large_arrays_reach_joblibs_tasks_without_a_copy() -> None:
    """As elsewhere: read where they lie, and therefore read-only."""
    array = np.arange(1_000_000.0)
    with joblib.parallel_config("actors", n_jobs=2):
        found = Parallel()(delayed(lambda each: (each.flags.writeable, float(each.sum())))(array) for _ in range(4))
    assert found == [(False, float(array.sum()))] * 4


def test_leaving_joblibs_results_and_its_timeout_end_what_runs(tmp_path: Path) -> None:
    """The next call works, and the leak guard finds nothing."""
    with joblib.parallel_config("actors", n_jobs=2):
        with warnings.catch_warnings():  # joblib says how much was in vain
            warnings.simplefilter("ignore")
            results = Parallel(return_as="generator")(delayed(square)(number) for number in range(1000))
            assert next(results) == 0
            results.close()
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.1)(delayed(signal.pause)() for _ in range(2))
        assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_threads_of_numeric_libraries_are_shared_out() -> None:
    with joblib.parallel_config("actors", n_jobs=2, inner_max_num_threads=1):
        assert Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)) == ["1", "1"]


# --- dask and tqdm


def test_dask_computes_with_an_executor() -> None:
    """As the scheduler, and as the pool of its own schedulers."""
    total = dask.delayed(sum)([dask.delayed(square)(number) for number in range(20)])
    elsewhere = dask.delayed(os.getpid)()
    with ActorPoolExecutor(2) as executor:
        assert total.compute(scheduler=executor) == 2470
        with dask.config.set(scheduler="processes", pool=executor):
            assert total.compute() == 2470 and elsewhere.compute() != os.getpid()


def test_a_killed_worker_fails_dasks_computation_alone(tmp_path: Path) -> None:
    once = [dask.delayed(dies)(number, str(tmp_path / "once")) for number in range(6)]
    again = [dask.delayed(dies)(number, str(tmp_path / "again")) for number in range(6)]
    with ActorPoolExecutor(2) as executor:
        with pytest.raises(WorkerDied, match="SIGKILL"):
            dask.compute(once, scheduler=executor)
        assert dask.compute(once, scheduler=executor) == (list(range(6)),)
    with ActorPoolExecutor(2, retries=1) as executor:
        assert dask.compute(again, scheduler=executor) == (list(range(6)),)


def test_tqdm_shows_results_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # else it leaves a thread
    with ActorPoolExecutor(2) as executor:
        shown = io.StringIO()
        assert sum(tqdm(executor.map(square, range(50)), total=50, file=shown)) == 40425
        assert "50/50" in shown.getvalue()
        shown = io.StringIO()
        futures = [executor.submit(square, number) for number in range(50)]
        assert sum(future.result() for future in tqdm(as_completed(futures), total=50, file=shown)) == 40425
        assert "50/50" in shown.getvalue()

"""joblib's tasks, and with them scikit-learn's, in workers that are actors.

    from actors.executor.joblib import register

    register()
    with joblib.parallel_config("actors"):
        ...  # Parallel(), cross_val_score(), n_jobs=… as ever

Rule: joblib decides what is a batch, how many are under way and in which order results come; an `ActorPoolExecutor` runs
them. It lives as long as the backend, so the calls of one `parallel_config` share its workers, who import scikit-learn
once; `parallel_config("actors", executor=…)` takes one that is there. A worker's death fails the call that it worked for,
with `WorkerDied` (none, with `retries=…`), and the next call works.
Rejected: an executor a call (each call then waits for its imports); one for all, as loky's, which nothing ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend
from joblib.parallel import register_parallel_backend as _register

from ..errors import SpecError
from .executor import ActorPoolExecutor


def register(name: str = "actors") -> None:
    """Make the backend known to joblib under this name."""
    _register(name, Backend)


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """Made by `joblib.parallel_config(name, …)`.

    executor: runs the batches and is left open; None: one is made with `options` (`retries`, `max_tasks_per_child`,
        `system`, as `ActorPoolExecutor`'s), which ends with the backend.
    inner_max_num_threads: of the libraries that a worker computes with; by default CPUs are shared out among workers.
    Raises SpecError: options beside an executor that has its own.
    """

    parallel: Any
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1  # where the code says nothing: all there are

    def __init__(
        self,
        executor: ActorPoolExecutor | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if executor is not None and (options or inner_max_num_threads is not None):
            given = sorted(options) or ["inner_max_num_threads"]
            raise SpecError(f"{', '.join(given)}: the executor has its own; say so where it is made")
        self.given, self.options = executor, options
        self.executor = executor
        self.count = 0  # workers of the executor that was made
        self.waiting: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if n_jobs == 0:
            raise SpecError("n_jobs == 0 in Parallel has no meaning")
        most = self.given._max_workers if self.given is not None else len(os.sched_getaffinity(0))
        wanted = 1 if n_jobs is None else n_jobs if n_jobs > 0 else max(1, most + 1 + n_jobs)
        return wanted if self.given is None else min(wanted, most)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = self.effective_n_jobs(n_jobs)
        if count == 1 and self.given is None:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        if self.given is None and count != self.count:
            self._end()
            threads = self._prepare_worker_env(count)
            self.executor = ActorPoolExecutor(count, initializer=_prepare, initargs=(threads,), **self.options)
            self.count = count
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        assert self.executor is not None
        future = self.executor.submit(_call, func)  # an argument: large arrays in it are not pickled
        self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def terminate(self) -> None:
        self.parallel = None  # which holds this one
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Nobody wants the results any more: what can't be cancelled is killed, if the workers are this one's."""
        for future in list(self.waiting):
            future.cancel()
        if self.given is None and self.waiting and self.executor is not None:
            self.executor.kill_workers()
            self._end()
            if ensure_ready:
                self.configure(self.parallel.n_jobs, self.parallel)

    def _end(self) -> None:
        if self.executor is not None:
            self.executor.shutdown()
        self.executor, self.count = None, 0

    def get_nested_backend(self) -> tuple[Any, None]:
        """What runs in a worker stays in it."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def _prepare(environment: dict[str, str]) -> None:
    os.environ.update(environment)  # (`os.environ.update` itself would arrive with a copy of the program's)


def _call(batch: Callable[[], Any]) -> Any:
    return batch()

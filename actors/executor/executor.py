"""`ActorPoolExecutor`: `concurrent.futures.Executor` on actors.

Rule: what `ProcessPoolExecutor` does, this does; where it differs, docs/executor.md says how and why. This class holds
nothing but the dispatcher, so that an executor that nobody holds any more is noticed.
"""

from __future__ import annotations

import itertools
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from ..codec import encode_call
from ..errors import CodecError, SpecError
from ..system import ActorSystem
from .chunks import cut, results, sizes
from .dispatcher import Dispatcher
from .functions import dumps, packed
from .future import TaskFuture

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")


class ActorPoolExecutor(Executor):
    """Runs functions in worker processes, each an actor.

    max_workers: at most so many processes, started when they are needed; None: as many as this process has CPUs.
    mp_context: there for the signature's sake; only None will do, since workers are actors of a system.
    initializer, initargs: called in each worker before its first task; if it raises, the executor is broken.
    max_tasks_per_child: tasks after which a worker is replaced; None: never.
    retries: how often a task is run again whose worker died; 0: it ends with `WorkerDied`.
    system: whose actors the workers are; None: a system of the executor's own, which ends with it.

    A killed worker fails its own task and no other. Functions of `__main__`, lambdas and closures work; futures, with
    `wait`, `as_completed` and asyncio, work as those of `concurrent.futures` do.

    Raises SpecError (a ValueError) for senseless options, CodecError if the initializer can't be sent.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        retries: int = 0,
        system: ActorSystem | None = None,
    ) -> None:
        if mp_context is not None:
            raise SpecError("mp_context: workers are actors, not multiprocessing's; leave it out")
        limit = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        _whole("max_workers", limit, 1)
        if max_tasks_per_child is not None:
            _whole("max_tasks_per_child", max_tasks_per_child, 1)
        _whole("retries", retries, 0)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        setup = b"" if initializer is None else dumps((initializer, tuple(initargs)), "the initializer")
        own = system is None
        self._max_workers = limit
        self._dispatcher = Dispatcher(
            ActorSystem() if system is None else system, own, limit, max_tasks_per_child, retries, setup
        )
        weakref.finalize(self, self._dispatcher.end.release).atexit = False

    def __repr__(self) -> str:
        return f"<ActorPoolExecutor of {self._max_workers} in system {self._dispatcher.system.name!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ActorPoolExecutor can't be sent; make one there, or send what a task needs")

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run `fn(*args, **kwargs)` in a worker. What can't be sent is the future's exception (`CodecError`).

        RuntimeError: after shutdown; PoolBroken: the executor is broken.
        """
        return self._submit("run", fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[R]:
        """Like `map(fn, *iterables)`, in workers; the iterables are read at once, results come in order.

        timeout: seconds from now until the last result is taken, else TimeoutError. chunksize: items a task; None:
        chunks that grow and shrink (chunks.py). An exception comes out at the place of the item that raised it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if len(iterables) == 1:
            method, items = "each", list(iterables[0])
        else:
            method, items = "star", [list(each) for each in zip(*iterables, strict=False)]
        lengths = sizes(len(items), self._max_workers) if chunksize is None else itertools.repeat(chunksize)
        try:
            function: Any = packed(fn)
            if type(function) is str:
                self._dispatcher.crew.preload.setdefault(fn.__module__, fn)
        except CodecError:
            function = fn  # each chunk then fails with that
        futures = deque(self._submit(method, function, (chunk,), {}) for chunk in _full(cut(items, lengths)))
        return results(futures, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, finish (or cancel) those that wait, then end the workers. wait: until that is done.

        Ctrl-C while it waits ends the workers at once.
        """
        try:
            self._dispatcher.end.shutdown(wait, cancel_futures)
        except KeyboardInterrupt:
            self._dispatcher.end.kill()
            self._dispatcher.end.shutdown(wait, True)
            raise

    def kill_workers(self) -> None:
        """End all workers with SIGKILL and take no more tasks: those that run end with `WorkerDied`, others are cancelled."""
        self._dispatcher.end.kill()
        self._dispatcher.end.shutdown(True, True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends as `shutdown()`; after Ctrl-C, which reaches the workers of the standard executor too, at once."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()
        else:
            self.shutdown()

    def _submit(self, method: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskFuture[Any]:
        dispatcher, failure = self._dispatcher, None
        try:
            function = fn if type(fn) in (str, bytes) else packed(fn)
            if type(function) is str and fn is not function and fn.__module__ not in dispatcher.crew.preload:
                dispatcher.crew.preload[fn.__module__] = fn
            body, flags = encode_call(method, (function, *args), kwargs)
        except CodecError as error:
            body, flags, failure = b"", 0, error
        return dispatcher.submit(TaskFuture(dispatcher, method, body, flags), failure)


def _full(chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
    return itertools.takewhile(bool, chunks)


def _whole(field: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field} must be a whole number, not {value!r}")
    if value < least:
        raise SpecError(f"{field} must be at least {least}, not {value!r}")

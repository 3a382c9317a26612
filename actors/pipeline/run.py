"""`Run`: one run of a pipeline, as the iterator that users hold.

Rule: all that is the user's happens in the user's thread (or event loop), inside `next`: the source is taken from, and
results are decoded. It starts when it is first asked. It ends, and leaves no process, when it is exhausted, closed or
dropped, and whenever `next` raises, Ctrl-C included.

A source that makes one wait could keep results waiting that are there: so before a slow one is taken from, results get
a quarter of the time that it took last to arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import ActorDied, ActorsError, CodecError, StageError
from ..failures import decode_error
from ..message import ROOT
from .batch import Failure
from .chunk import Chunk, unpack
from .engine import Engine, Result
from .flow import Over
from .held import shown
from .profile import Profile, profile
from .source import Source
from .stage import Stage

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..system import ActorSystem


class Run(Iterator[Any]):
    """Made by `Pipeline.run`. Iterate it (`for`, `async for`), or use it as a context manager around that."""

    def __init__(
        self,
        stages: Sequence[Stage],
        name: str,
        source: Iterable[Any] | AsyncIterable[Any],
        *,
        progress: bool = False,
        system: ActorSystem | None = None,
        checkpoint: str | None = None,
        parent: int = ROOT,
    ) -> None:
        self.engine = Engine(stages, name, system, parent)
        self._items: Iterator[Any] = iter(())
        self._chunk: Chunk | None = None
        self._filling = threading.RLock()  # several threads may share the results
        self._given = 0.0  # when its results were handed out
        self._waiter = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._state = "new"
        self._position = self._show = None
        if checkpoint is not None:
            from .checkpoint import Position

            self._position = Position(checkpoint, self.engine, stages)
        self._source = self.engine.source = Source(source, self._position.inputs if self._position else 0)
        if progress:
            from .progress import Progress

            self._show = Progress(self.engine)

    def __repr__(self) -> str:
        return f"<Run of {self.engine.crew.name} {self._state}>"

    # --- what it says

    @property
    def skipped(self) -> int:
        """Items that could not be processed and were left out, by `on_error="skip"`, so far."""
        return sum(station.skipped for station in self.engine.flow.stations)

    @property
    def restarts(self) -> int:
        """Processes of workers that died and were replaced, so far."""
        return sum(self.engine.restarts)

    def profile(self) -> Profile:
        """Where its time has gone so far."""
        return profile(self.engine)

    # --- iterating

    def __iter__(self) -> Iterator[Any]:
        if self._position is not None:
            return self._one_by_one()
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[Iterator[Any]]:
        yield self._items
        while self._fill():
            yield self._items

    def _one_by_one(self) -> Iterator[Any]:
        while True:
            try:
                item = next(self)
            except StopIteration:
                return
            yield item

    def __next__(self) -> Any:
        if self._position is not None:
            self._position.acknowledge()
        while True:
            for item in self._items:
                return item
            if not self._fill():
                raise StopIteration

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._position is not None:
            self._position.acknowledge()
        while True:
            for item in self._items:
                return item
            if not await self._fill_async():
                raise StopAsyncIteration

    def _fill(self) -> bool:
        """The next results: False when there are no more."""
        with self._filling:
            return self._fill_alone()

    def _fill_alone(self) -> bool:
        try:
            if self._state == "new":
                system = self.engine.crew.system
                if (
                    system is not None and system._client.reader is None
                ):  # answers come through the loop that this would block
                    raise ActorsError("a run on an actor's own system: iterate it with `async for`, in an async method")
                self._begin(awaits=False)
                self.engine.crew.start()
                self.engine.started()
            self._taken()
            while self._state == "running":
                over = self._take(self._next_result())
                if over is None:
                    continue
                if over:
                    self._leave()
                    self._ended()
                return not over
            return False
        except BaseException as error:
            self._close(error)
            raise

    def _begin(self, awaits: bool) -> None:
        self._source.begin(awaits)
        self._state = "running"
        if self._show is not None:
            self._show.start()

    def _taken(self) -> None:
        """All of the last results were asked for."""
        chunk, self._chunk = self._chunk, None
        if chunk is not None:
            self.engine.consumer += time.monotonic() - self._given
            self.engine.taken(chunk)

    def _take(self, result: Result) -> bool | None:
        """None: nothing to be seen; False: results; True: the end. Raises what the run ends with."""
        match result:
            case Chunk():
                self._chunk = result
                self._items = iter(unpack(result, self.engine.crew.arena))
                self._given = time.monotonic()
                return False
            case Over(failure):
                if failure is not None:
                    raise self._stage_error(failure)
                if self._source.error is not None:
                    raise self._source.error
                return True
            case BaseException():
                raise result
        return None

    def _next_result(self) -> Result:
        """The next result, after the source was taken from as far as there is room."""
        engine, source, results = self.engine, self._source, self.engine.results
        while True:
            with contextlib.suppress(queue.Empty):
                if source.slow:
                    return results.get(True, source.last / 4)
            engine.crew.collect()
            if not source.ended and (wanted := engine.flow.wanted()):
                self._feed(source.take(min(wanted, engine.flow.stations[0].size)))
                if source.slow:
                    continue
            with contextlib.suppress(queue.Empty):
                return results.get_nowait()
            if source.ended or not engine.flow.wanted():
                engine.hungry = not source.ended
                if engine.hungry and engine.flow.wanted():
                    continue
                return results.get()

    def _feed(self, chunk: Chunk | None) -> None:
        if chunk is not None:
            self.engine.feed(chunk)
        if self._source.ended:
            self.engine.end_source(cut_short=self._source.error is not None)

    # --- in an event loop

    async def _fill_async(self) -> bool:
        if self._state == "closed":
            return False
        engine = self.engine
        try:
            if self._state == "new":
                await self.open_async()
            self._taken()
            while True:
                self._waiter.clear()
                try:
                    result = engine.results.get_nowait()
                except queue.Empty:
                    await self._wait()
                    continue
                over = self._take(result)
                if over is None:
                    continue
                if over:
                    for reply in engine.crew.leave():
                        with contextlib.suppress(ActorDied):  # all results are there, and a kill gives no time for more
                            await reply
                    await self._ended_async()
                return not over
        except BaseException as error:
            await self._close_async(error)
            raise

    async def open_async(self) -> None:
        """Start the workers and take from the source, before a result is asked for."""
        self._begin(awaits=True)
        self.engine.notify = functools.partial(_wake, asyncio.get_running_loop(), self._waiter.set)
        await self.engine.crew.start_async()
        self.engine.started()
        if self._source.awaits:
            self._task = asyncio.create_task(_pull(self.engine, self._source, self._waiter))

    async def _wait(self) -> None:
        """Until there may be a result."""
        source, flow = self._source, self.engine.flow
        if not source.awaits and not source.ended and (wanted := flow.wanted()):
            self._feed(source.take(wanted))
            await asyncio.sleep(0)
            return
        self.engine.hungry = not source.ended
        if self.engine.hungry and not source.awaits and flow.wanted():
            return
        await self._waiter.wait()

    # --- the end

    def _stage_error(self, failure: Failure) -> BaseException:
        stage = self.engine.stages[failure.stage].name
        item, what = None, "failed"
        if failure.chunk is not None:
            try:
                [item] = unpack(failure.chunk)
                what = f"could not process {shown(item)}"
            except CodecError:
                what = "could not process an item"
        text, cause = failure.text, None
        if failure.error is not None:
            cause = decode_error(*failure.error)
            text = f"{type(cause).__name__}: {cause}"
            if failure.chunk is None:
                what = f"failed at {failure.text}"
        error = StageError(f"stage {stage!r} {what}: {text}", stage, item)
        error.__cause__ = cause
        return error

    def _leave(self) -> None:
        """The run has ended well: let workers that are objects end in their own time."""
        for reply in self.engine.crew.leave():
            with contextlib.suppress(ActorDied):  # all results are there, and a kill gives no time for more
                reply.result()

    def _ended(self) -> None:
        if self._position is not None:
            self._position.remove()
        self._close(None)

    async def _ended_async(self) -> None:
        if self._position is not None:
            self._position.remove()
        await self._close_async(None)

    def _finish(self, error: BaseException | None) -> bool:
        """What comes before the processes end. False: it was done already."""
        if self._state == "closed":
            return False
        self._state, was = "closed", self._state
        self.engine.close()
        self._items, self._chunk = iter(()), None
        if self._task is not None:
            _wake(self._task.get_loop(), self._task.cancel)
        self._source.drop()
        if self._position is not None:
            self._position.close()
        if self._show is not None and was == "running":
            self._show.stop(error)
        return was == "running"

    def _close(self, error: BaseException | None) -> None:
        if self._finish(error):
            self.engine.crew.stop()
            self.engine.forget()

    async def _close_async(self, error: BaseException | None) -> None:
        if self._finish(error):
            await self.engine.crew.stop_async()
            self.engine.forget()

    def close(self) -> None:
        """Give it up: end its workers, within their `shutdown` time, and leave nothing. Calling it again is harmless."""
        self._close(None)

    async def aclose(self) -> None:
        """`close` for coroutines."""
        await self._close_async(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close_async(error)

    def __del__(self) -> None:
        if getattr(self, "_state", "closed") == "running":
            self._abandon()

    def _abandon(self) -> None:
        """Dropped: this may be in any thread, also in one that must not wait for the end."""
        with contextlib.suppress(ActorsError):
            self._close(None)


async def _pull(engine: Engine, source: Source, waiter: asyncio.Event) -> None:
    """Take from an asynchronous source, in a task of its own, which must not keep the run: one that is dropped ends."""
    try:
        begin = time.perf_counter()
        async for item in source.given:
            source.seconds += time.perf_counter() - begin
            if source.skip:
                source.skip -= 1
                continue
            if (chunk := source.packed([item])) is None:
                break
            engine.feed(chunk)
            while not engine.flow.wanted():
                engine.hungry = True
                if not engine.flow.wanted():
                    await waiter.wait()
                    await asyncio.sleep(0.001)  # the waiter belongs to who iterates; room has no event of its own
            begin = time.perf_counter()
    except Exception as error:
        source.error = error
    source.ended = True
    engine.end_source(cut_short=source.error is not None)


def _wake(loop: asyncio.AbstractEventLoop, wake: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the run with it
        loop.call_soon_threadsafe(wake)

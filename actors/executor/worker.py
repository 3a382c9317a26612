"""The actor that runs tasks: one at a time, each as if it were alone in an ordinary process.

Rule: whatever a task raises is its result, `SystemExit` and `KeyboardInterrupt` too, as in the standard executor; only a
signal or `os._exit` ends the process. A task sees no running event loop, so that `asyncio.run` works in it; a coroutine
that it returns is awaited here.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

from ..actor import Actor
from ..failures import encode_error
from .errors import InitializerFailed
from .functions import unpacked


class Carried(Exception):
    """Brings an exception that would end the worker itself to whoever waits for it."""

    def __init__(self, body: bytes, flags: int) -> None:
        super().__init__(body, flags)
        self.body, self.flags = body, flags


class Worker(Actor):
    """initializer: a pickle of (function, arguments), b"" for none. If it raises, every task is answered with that.
    preload: functions whose modules the process that makes workers shall have imported.
    """

    def __init__(self, initializer: bytes = b"", *preload: object) -> None:
        self.failure: tuple[bytes, int] | None = None
        if initializer:
            try:
                function, arguments = pickle.loads(initializer)
                loop = asyncio.get_running_loop()
                task = _hide(loop)
                try:
                    function(*arguments)
                finally:
                    _show(loop, task)
            except BaseException as error:
                self.failure = encode_error(error)

    def run(self, function: str | bytes, /, *args: Any, **kwargs: Any) -> Any:
        """One task."""
        if self.failure is not None:
            raise InitializerFailed(*self.failure)
        call = unpacked(function)
        loop = asyncio.get_running_loop()
        task = _hide(loop)
        try:
            return call(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:
            raise Carried(*encode_error(error)) from None
        finally:
            _show(loop, task)

    def each(self, function: str | bytes, items: list[Any]) -> list[Any]:
        """A chunk of `map` over one iterable: [results], and of the item that raised what it raised, encoded."""
        return self._chunk(map(unpacked(function), items))

    def star(self, function: str | bytes, items: list[list[Any]]) -> list[Any]:
        """The same over several iterables."""
        return self._chunk(itertools.starmap(unpacked(function), items))

    def _chunk(self, results: Iterator[Any]) -> list[Any]:
        if self.failure is not None:
            raise InitializerFailed(*self.failure)
        values: list[Any] = []
        loop = asyncio.get_running_loop()
        task = _hide(loop)
        try:
            values.extend(results)  # a list keeps what it got before the iterator raised
        except BaseException as error:
            return [values, *encode_error(error)]
        finally:
            _show(loop, task)
        return [values]


def _hide(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    """No event loop runs here, as far as the code that follows can tell."""
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    return task


def _show(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
    asyncio._set_running_loop(loop)
    if task is not None:
        asyncio.tasks._enter_task(loop, task)

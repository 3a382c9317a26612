"""The actor that runs tasks: one at a time, each as if it were alone in an ordinary process.

Rule: whatever a task raises is its result, `SystemExit` and `KeyboardInterrupt` too, as in the standard executor; only a
signal or `os._exit` ends the process. A task sees no running event loop, so that `asyncio.run` works in it; a coroutine
that it returns is awaited here.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
                with _alone():
                    function(*arguments)
            except BaseException as error:
                self.failure = encode_error(error)

    def run(self, function: str | bytes, /, *args: Any, **kwargs: Any) -> Any:
        """One task."""
        if self.failure is not None:
            raise InitializerFailed(*self.failure)
        call = unpacked(function)
        try:
            with _alone():
                return call(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:
            raise Carried(*encode_error(error)) from None

    def each(self, function: str | bytes, items: list[Any]) -> list[Any]:
        """A chunk of `map` over one iterable: [results], and of the item that raised what it raised, encoded."""
        return self._chunk(unpacked(function), ((item,) for item in items))

    def star(self, function: str | bytes, items: list[list[Any]]) -> list[Any]:
        """The same over several iterables."""
        return self._chunk(unpacked(function), items)

    def _chunk(self, call: Callable[..., Any], items: Any) -> list[Any]:
        values: list[Any] = []
        if self.failure is not None:
            raise InitializerFailed(*self.failure)
        try:
            with _alone():
                for arguments in items:
                    values.append(call(*arguments))
        except BaseException as error:
            return [values, *encode_error(error)]
        return [values]


@contextmanager
def _alone() -> Iterator[None]:
    """No event loop runs here, as far as the code inside can tell."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)

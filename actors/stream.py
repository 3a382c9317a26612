"""An endless iterator of what the guardian reports (events, dead letters), for `for` and `async for`.

Rule: a stream begins when it is made, not when it is first read, so nothing between is missed; it ends when it is
closed or the system is. It holds at most LONGEST items; a reader that is slower than that loses the oldest, and `lost`
counts them.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
LONGEST = 100_000


class Stream(Generic[T]):
    """Iterate to get the next item, blocking (or awaiting) until there is one."""

    def __init__(
        self, on_close: Callable[[Stream[T]], object] = lambda _: None, settle: Callable[[], object] = lambda: None
    ) -> None:
        """settle: returns when what has been reported is put."""
        self._items: collections.deque[T] = collections.deque()
        # taken itself, not through the Condition: that is Python code, in which Ctrl-C could leave it locked
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._on_close, self._settle = on_close, settle
        self.closed = False
        self.lost = 0

    def put(self, item: T) -> None:
        with self._lock:
            if len(self._items) >= LONGEST:
                self._items.popleft()
                self.lost += 1
            self._items.append(item)
            self._wake()

    def close(self) -> None:
        """End it: what was reported before this call can still be read, then the iteration ends."""
        if not self.closed:
            self._settle()
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._wake()
        self._on_close(self)

    def get(self, timeout: float | None = None) -> T:
        """The next item. TimeoutError: none within `timeout` seconds; StopIteration: closed and read to the end."""
        with self._lock:
            if not self._ready.wait_for(lambda: self._items or self.closed, timeout):
                raise TimeoutError(f"nothing within {timeout:g} s")
            if not self._items:
                raise StopIteration
            return self._items.popleft()

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        return self.get()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self.closed:
                    raise StopAsyncIteration
                waiter[1].clear()
                self._waiters.append(waiter)
            await waiter[1].wait()

    def _wake(self) -> None:
        self._ready.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

"""What an actor's process calls that no message asked for: hooks, timers, `on_down`.

Rule: they take their turn among the messages, one at a time (`local`), in the actor's own thread, and the guardian hears of
them only where progress is watched.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from .client import Client
from .context import Timer
from .endpoint import LoopEndpoint
from .errors import ActorsError
from .monitor import Down, Monitor, watch
from .ref import ActorRef
from .transports._ring import Ring

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Clock(Protocol):
    """What timers need of an event loop."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Cancellable: ...


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class LocalCalls:
    """Of one actor; the part of its loop that has to do with them."""

    instance: Any
    direct = False  # does the inbox call handlers itself?

    def __init__(self, client: Client, endpoint: LoopEndpoint, mail: Ring) -> None:
        self.client, self.endpoint, self.mail = client, endpoint, mail
        self.local: collections.deque[Call] = collections.deque()
        self.downs: collections.deque[tuple[int, Monitor, Down]] = collections.deque()  # with the mail's tail then
        self.watched = False  # progress_timeout: the guardian wants to know of calls that no message asked for
        self.calls: dict[object, int] = {}  # of these, those that run: since when
        self.clock: Clock | None = None  # what timers run on; None: the event loop
        self.idle: collections.deque[asyncio.Future[None]] = collections.deque()

    def pause(self) -> None:
        """Something else than mail has its turn after the message in hand."""
        if self.direct:
            self.endpoint.main.left = 0

    def _wake(self) -> None:
        """One worker that sleeps."""
        while self.idle:
            future = self.idle.popleft()
            if not future.done():
                future.set_result(None)
                return

    def blocking(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what may block this thread: a constructor, or the sync part of a hook or a timer's method."""
        self.endpoint.in_sync = True
        try:
            return function(*args, **kwargs)
        finally:
            self.endpoint.in_sync = False

    async def hook(self, method: Callable[..., Any], *args: Any) -> None:
        """Call a hook, sync or async."""
        call = self._begins() if self.watched else None
        try:
            value = self.blocking(method, *args)
            if inspect.isawaitable(value):
                await value
        finally:
            if call is not None:
                self._ends(call)

    def _begins(self) -> object:
        """A call begins that no message asked for: tell the guardian since when the oldest runs."""
        call = object()
        self.calls[call] = time.monotonic_ns()
        self.mail.local_since = next(iter(self.calls.values()))
        return call

    def _ends(self, call: object) -> None:
        del self.calls[call]
        self.mail.local_since = next(iter(self.calls.values()), 0)

    def post(self, method: Callable[..., Any], *args: Any) -> None:
        """Call a method in the actor's turn."""
        self.local.append((method, args, {}))
        self.pause()
        self._wake()

    def later(
        self, seconds: float, every: bool, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Timer:
        if not callable(method):
            raise TypeError(f"a timer calls a method of this actor, not {method!r}")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"a timer's seconds must be a number, not {seconds!r}")
        if not seconds >= 0 or (every and seconds == 0):
            raise ValueError(f"a timer's seconds must be {'positive' if every else 'at least 0'}, not {seconds!r}")
        if threading.get_ident() != self.endpoint.thread:
            raise ActorsError("timers are set in the actor's own thread (a handler, a hook or a coroutine of its loop)")
        clock = self.clock or asyncio.get_running_loop()
        timer = Timer()
        due = clock.time() + seconds
        waiting = False

        def run() -> Any:
            nonlocal waiting
            waiting = False
            return None if timer.cancelled else method(*args, **kwargs)

        def tick() -> None:
            nonlocal due, waiting
            if not waiting:
                waiting = True
                self.post(run)
            if every:
                due += seconds * max(
                    1, math.ceil((clock.time() - due) / seconds)
                )  # what was missed meanwhile is left out
                timer._cancel = clock.call_at(due, tick).cancel

        timer._cancel = clock.call_at(due, tick).cancel
        return timer

    def down(self, ref: ActorRef[Any], incarnations: bool) -> Monitor:
        return watch(self.client, ref, self._heard_down, incarnations)

    def _heard_down(self, monitor: Monitor, down: Down) -> None:
        """Whatever the dead one has sent lies in the mailbox by now, and comes first: OTP's order of signals."""
        self.downs.append((self.mail.tail, monitor, down))
        self.post(self._on_down)

    def _on_down(self) -> Any:
        """The first down, if it is its turn; else look again after the next message."""
        position, monitor, down = self.downs[0]
        if self.mail.reading < position:
            self.local.append((self._on_down, (), {}))
            return None
        self.downs.popleft()
        return self._call_on_down(monitor, down)

    def _call_on_down(self, monitor: Monitor, down: Down) -> Any:
        return None if monitor.cancelled else self.instance.on_down(down.ref, down.reason)

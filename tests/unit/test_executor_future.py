"""A future of the executor, alone: who waits and who finishes meet."""

from __future__ import annotations

import functools
import os
import select
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from actors.endpoint import Endpoint
from actors.executor.future import TaskFuture


def test_whoever_waits_is_not_gone_while_it_is_rung() -> None:
    """Woken by something else, it sees that the task is over; its thread, and the descriptor, could end before the bell."""
    waiting, bell = threading.Event(), os.eventfd(0, os.EFD_NONBLOCK)

    def waiter() -> tuple[Any, Any]:
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        return SimpleNamespace(fd=bell), poll

    endpoint = SimpleNamespace(_waiter=waiter, look=lambda: None)
    endpoint.block = functools.partial(Endpoint.block, endpoint)
    endpoint._sleep = functools.partial(Endpoint._sleep, endpoint)
    dispatcher: Any = SimpleNamespace(client=SimpleNamespace(endpoint=endpoint), check_process=waiting.set)
    future: TaskFuture[None] = TaskFuture(dispatcher, "run", b"", 0)

    class Rings(list[int]):
        def __iter__(self) -> Iterator[int]:
            for fd in super().__iter__():
                os.eventfd_write(bell, 1)  # something else
                thread.join(0.3)  # it may end now, if nothing holds it
                yield fd

    def wait() -> None:
        future._wait(60)
        os.close(bell)

    future.rings = Rings()
    thread = threading.Thread(target=wait)
    thread.start()
    while not len(future.rings):
        waiting.wait(0.01)
    future.finish(None)
    thread.join(60)
    assert not thread.is_alive()

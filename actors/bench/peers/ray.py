"""Ray: driver to actor on one machine; `tell` is a remote call whose reference is dropped."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from .framework import Pair, measure
from .python import MESSAGE, Message


class Echo:
    def echo(self, message: Message) -> Message:
        return message


@contextmanager
def framework() -> Iterator[Pair]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    actor = ray.remote(num_cpus=0)(Echo).remote()

    def asks(count: int) -> None:
        for _ in range(count):
            ray.get(actor.echo.remote(MESSAGE))

    def tells(count: int) -> None:
        for _ in range(count):
            actor.echo.remote(MESSAGE)
        ray.get(actor.echo.remote(MESSAGE))

    try:
        yield Pair(asks, tells)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    measure("ray", framework)

"""Pykka: actors are threads of one process, so its figures show what a queue and the GIL cost without any process
boundary.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pykka

from .framework import Pair, measure
from .python import MESSAGE


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def framework() -> Iterator[Pair]:
    actor = Echo.start()

    def asks(count: int) -> None:
        for _ in range(count):
            actor.ask(MESSAGE)

    def tells(count: int) -> None:
        for _ in range(count):
            actor.tell(MESSAGE)
        actor.ask(MESSAGE)

    try:
        yield Pair(asks, tells)
    finally:
        actor.stop()


if __name__ == "__main__":
    measure("pykka", framework)

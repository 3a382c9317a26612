"""Thespian with its recommended base, multiprocTCPBase: from outside the system to an actor; an answer only where one
is asked for.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thespian.actors import Actor, ActorSystem

from .framework import Pair, measure
from .python import MESSAGE

QUESTION = {**MESSAGE, "answer": True}


class Echo(Actor):
    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 (its name)
        if isinstance(message, dict) and "answer" in message:
            self.send(sender, message)


@contextmanager
def framework() -> Iterator[Pair]:
    system = ActorSystem("multiprocTCPBase")
    actor = system.createActor(Echo)

    def asks(count: int) -> None:
        for _ in range(count):
            system.ask(actor, QUESTION, 20)

    def tells(count: int) -> None:
        for _ in range(count):
            system.tell(actor, MESSAGE)
        system.ask(actor, QUESTION, 20)

    try:
        yield Pair(asks, tells)
    finally:
        system.shutdown()


if __name__ == "__main__":
    from actors.bench.peers.thespian import framework  # its actors must be found by name, which `__main__` is not

    measure("thespian", framework)

"""Actors that write to each other, die, and say in which order they heard of it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import Any

from actors import Actor, ActorRef, ExitReason
from actors.monitor import Monitor

from .gate import Gate


class Author(Actor):
    """Writes a number of messages and ends in the handler that wrote them."""

    def __init__(self, reader: ActorRef[Reader] | None) -> None:
        self.reader = reader

    def pid(self) -> int:
        return os.getpid()

    def tie(self, other: ActorRef[Any]) -> None:
        self.link(other)

    def write_and_end(self, count: int, how: str, run: int) -> None:
        for left in reversed(range(count)):
            assert self.reader is not None
            self.reader.tell(Reader.read, self.ref.name, run, left)
        if how == "raise":
            raise ValueError("told to")
        if how == "exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.stop()


class Reader(Actor):
    """Each message says of which run of its author it is, and how many of it are still to come; at the down that ends a run
    there must be none.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency  # type: ignore[misc]
        self.whole: set[tuple[str, int]] = set()  # runs of authors that have come to their end
        self.ended: Counter[str] = Counter()
        self.downs, self.early = 0, list[str]()
        self.monitors: list[Monitor] = []

    def watch(self, author: ActorRef[Any], incarnations: bool) -> None:
        self.monitors.append(self.monitor(author, incarnations=incarnations))

    def cancel_all(self) -> None:
        for monitor in self.monitors:
            monitor.cancel()

    def read(self, author: str, run: int, left: int) -> None:
        if left == 0:
            self.whole.add((author, run))
        end = time.perf_counter() + 20e-6  # slower than they write
        while time.perf_counter() < end:
            pass

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        self.downs += 1
        if (ref.name, self.ended[ref.name]) not in self.whole:
            self.early.append(f"{ref.name}, run {self.ended[ref.name]}")
        self.ended[ref.name] += 1

    def result(self) -> tuple[int, list[str]]:
        return self.downs, self.early

    def hold(self, gate: Gate) -> None:
        gate.wait()

    def note(self, word: str) -> str:
        return word

    def never_be_idle(self) -> None:
        """Until the first down."""
        if not self.downs:
            self.ref.tell(Reader.never_be_idle)

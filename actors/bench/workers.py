"""The actors that are measured: as small as they can be, in a module that can be imported."""

from __future__ import annotations

import os
import time

from ..actor import Actor
from ..box import Mailbox
from ..ref import ActorRef
from .peers.python import MESSAGE, Message


class Echo(Actor):
    def echo(self, message: Message) -> Message:
        return message

    def pid(self) -> int:
        return os.getpid()


class Asker(Actor):
    async def median(self, other: ActorRef[Echo], seconds: float) -> float:
        """Median seconds of one ask after the other, awaited here."""
        return await ask_in_turn(other, seconds)


class Sink(Actor):
    def __init__(self) -> None:
        self.handled = 0

    def take(self, message: Message) -> None:
        self.handled += 1

    def count(self) -> int:
        return self.handled


class Bytes(Actor):
    def __init__(self) -> None:
        self.taken = 0

    def receive(self, data: bytes) -> None:
        self.taken += len(data)

    def count(self) -> int:
        return self.taken


class Sender(Actor):
    def flood(self, sink: ActorRef[Sink], count: int) -> None:
        for _ in range(count):
            sink.tell(Sink.take, MESSAGE)


class Producer(Actor):
    def flood(self, box: Mailbox[Message], count: int) -> None:
        for _ in range(count):
            box.put(MESSAGE)


class Consumer(Actor):
    def drain(self, box: Mailbox[Message]) -> int:
        """How many it got until the mailbox was closed and empty."""
        return sum(1 for _ in box)


async def ask_in_turn(other: ActorRef[Echo], seconds: float) -> float:
    clock = time.perf_counter
    times: list[float] = []
    end = clock() + seconds
    while (start := clock()) < end:
        await other.ask(Echo.echo, MESSAGE)
        times.append(clock() - start)
    half = times[len(times) // 3 :]  # the first third warms up
    return sorted(half)[len(half) // 2]

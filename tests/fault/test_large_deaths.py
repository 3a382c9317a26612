"""Senders and readers of large data are killed at random: every array that arrives is whole, and nothing is kept."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import numpy as np
import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem
from kit import kill, until

MB = 1 << 20


class Reader(Actor):
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def take(self, number: int, array: Any) -> Any:
        assert array[0] == array[-1] == number, f"torn: {array[0]}, {array[-1]}, not {number}"
        assert (array == number).all()
        self.kept = [*self.kept[-1:], array]
        return array


class Writer(Actor):
    async def write(self, readers: list[ActorRef[Reader]], seed: int) -> None:
        chance, number = random.Random(seed), 0
        while True:
            number += 1
            array = np.full(chance.choice([20_000, 60_000, 200_000]), number)
            try:
                answer = await chance.choice(readers).ask(Reader.take, number, array)
                assert (answer == number).all()
            except ActorDied:
                continue


def in_use(system: ActorSystem) -> int:
    found: int = system.tree()["memory"]["in_use"]
    return found


@pytest.mark.parametrize("kills", [30, pytest.param(600, marks=pytest.mark.nightly)])
def test_deaths_tear_nothing_and_keep_nothing(system: ActorSystem, rng: random.Random, kills: int) -> None:
    readers = [system.spawn(Reader, name=f"reader-{number}") for number in range(2)]
    writers = [system.spawn(Writer, name=f"writer-{number}") for number in range(2)]
    failed = system.events()
    for number, writer in enumerate(writers):
        writer.tell(Writer.write, readers, number)
    for number in range(kills):
        victim = rng.choice([*readers, *writers])
        time.sleep(rng.uniform(0.0, 0.05))  # at any moment
        if pid := victim.info()["pid"]:
            kill(pid)
        if victim in writers:
            victim.tell(Writer.write, readers, number)
    failed.close()
    crashes = [event for event in failed if event.kind == "crashed"]
    assert [event for event in crashes if event.reason is None or event.reason.signal != signal.SIGKILL] == []
    for actor in [*writers, *readers]:
        actor.kill()
        actor.wait(20)
    until(lambda: in_use(system) == 0, "the leases of all that died are swept")
    until(lambda: system.tree()["memory"]["used"] == 0, "their memory is freed")


def test_a_message_outlives_its_sender(system: ActorSystem) -> None:
    reader, relay = system.spawn(Reader), system.spawn(Relay)
    with pytest.raises(ActorDied):
        relay.ask(Relay.send_and_die, reader, 7).result(20)
    relay.kill()
    relay.wait(20)
    assert reader.ask(Reader.take, 7, np.full(MB, 7)).result(20)[0] == 7


class Relay(Actor):
    def send_and_die(self, reader: ActorRef[Reader], number: int) -> None:
        for _ in range(5):
            reader.tell(Reader.take, number, np.full(MB // 4, number))
        os.kill(os.getpid(), signal.SIGKILL)

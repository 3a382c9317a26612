"""Actors that keep their state over a restart, and how to crash them."""

from __future__ import annotations

import asyncio
from typing import Any

from actors import Actor, ActorRef
from actors.testing.processes import kill
from actors.testing.until import until


class Counter(Actor):
    """Counts; its count is its state."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    def fail(self, amount: int = 1) -> None:
        self.value += amount
        raise ValueError("told to")

    async def add_later(self, amount: int = 1) -> int:
        await asyncio.sleep(0)
        return self.add(amount)

    def add_by_timer(self, amount: int = 1) -> None:
        self.after(0, self.add, amount)

    def look(self) -> int:
        return self.value

    def leave(self) -> None:
        self.stop()

    def snapshot(self) -> Any:
        return {"value": self.value}

    def restore(self, state: Any) -> Any:
        self.value = state["value"]


class Keeper(Actor):
    """Keeps whatever it is given."""

    def __init__(self) -> None:
        self.state: Any = "fresh"

    def put(self, state: Any) -> None:
        self.state = state

    def get(self) -> Any:
        return self.state

    def snapshot(self) -> Any:
        return self.state

    def restore(self, state: Any) -> None:
        self.state = state


def crash(ref: ActorRef[Any]) -> None:
    """SIGKILL when all that was sent is handled and done."""
    info = until(lambda: (info := ref.info())["mailbox"]["depth"] == 0 and info["pid"] and info, "it is idle")
    kill(info["pid"])
    until(lambda: ref.info()["pid"] not in (None, info["pid"]), "the next incarnation")

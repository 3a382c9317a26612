"""The worker of a class that keeps its state over a crash: `snapshot()` and `restore(state)`, as an actor's.

Rule: a batch is one message, and its results are one answer, so that the state after it, the answer and what was done
last are saved together (see docs/decisions/0009): whenever the process dies, every item has its effect on the state
once, and its results come once. In a module of its own because the zygote loads what keeps state needs where it sees
such a class.
"""

from __future__ import annotations

from typing import Any

from .worker import Worker


class Keeper(Worker):
    """A worker with a state that outlives its process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.whole = True

    async def snapshot(self) -> Any:
        state = self.target.snapshot()
        if hasattr(state, "__await__"):
            state = await state
        return [state, self.last]

    async def restore(self, state: Any) -> None:
        inner, self.last = state
        restored = self.target.restore(inner)
        if hasattr(restored, "__await__"):
            await restored

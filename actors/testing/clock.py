"""The test's hand on the clock of its system.

Rule: time moves only in `advance`, from one due thing to the next, and after each everybody comes to rest before time
goes on (`rest.py`). So what is due in the same call happens in the order of its times, with all that follows from it: an
actor that crashes in its third tick is restarted in time, and its new timers tick as well. Nothing sleeps and nothing is
guessed: when `advance` returns, all that was due has been done, or waits for something that is not time.

Virtual are `after` and `every`, backoff, intensity window, stable time, start and shutdown timeouts. Real are deadlines
of asks, `time.sleep`, `asyncio.sleep` and everything else in the handlers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rest import Busy, wait_for_rest

if TYPE_CHECKING:
    from ..client import Client

PATIENCE = 30.0  # real seconds


class Clock:
    """Virtual time of a test system made with `clock="fake"`. One thread at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._start = self._now = float(self._ask("look")["now"])

    def __repr__(self) -> str:
        return f"<Clock at {self.now():g} s>"

    def now(self) -> float:
        """Seconds that the clock has been advanced so far."""
        return self._now - self._start

    def advance(self, seconds: float, *, patience: float = PATIENCE) -> None:
        """Let time pass, and return when everything that came due has been done, and whatever that led to.

        patience: real seconds that the system may take to come to rest each time; AssertionError naming who did not.
        ValueError: seconds below 0.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward only: advance({seconds!r})")
        self.settle(patience)
        self._now += seconds
        ran = True
        while ran:  # what was due, then what that made due
            ran = self._ask("step", until=self._now)["ran"]
            self.settle(patience)

    async def advance_async(self, seconds: float, *, patience: float = PATIENCE) -> None:
        """`advance` for coroutines."""
        await asyncio.to_thread(self.advance, seconds, patience=patience)

    def settle(self, patience: float = PATIENCE) -> None:
        """Let no time pass; return when every actor is at rest: all mail handled that can be, births and ends done."""
        try:
            wait_for_rest(self._client.guardian_pid, patience)
            while self._ask("look")["soon"]:  # it will try something again, in real time
                wait_for_rest(self._client.guardian_pid, patience)
        except Busy as error:
            raise AssertionError(
                f"after {patience:g} s system {self._client.system!r} is not at rest: {error}"
            ) from None

    def _ask(self, act: str, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.request("clock", act=act, **fields).result()
        return answer

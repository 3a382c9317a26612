"""Barrier: `threading.Barrier` across processes, broken by the death of a process that waits at it.

Rule: the phases are CPython's (filling, draining, resetting, broken) and so are the transitions; each is one change of
the word, so a death leaves the barrier in one of them. Draining ends when everybody has left, so nobody can miss how
their round ended. The steps are written once (`_steps`), for threads, which sleep on the word, and for coroutines, which
are told.

The action is called in the process that arrives last, by the function that this process gave: functions don't travel
with a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from threading import BrokenBarrierError
from typing import Any

from ..errors import SpecError
from .shared import CONTENDED, ONE, Shared, deadline

FILLING, DRAINING, RESETTING, BROKEN = range(4)
_SHIFT = 14
_PHASE = 3 << _SHIFT
_COUNT = 0xFFFF * ONE
FOREVER = -1.0


class Barrier(Shared):
    """`threading.Barrier` across the processes of a system: `wait`, `reset`, `abort`, `parties`, `n_waiting`, `broken`;
    `wait_async` in coroutines.

    Raises `threading.BrokenBarrierError` as that does, and to everybody who waits when a process that waits dies.
    """

    __slots__ = ("_action", "_timeout")
    KIND, WHAT = 3, "barrier"
    INSTEAD = "await wait_async()"

    _action: Callable[[], object] | None
    _timeout: float | None

    def __init__(self, system: str, name: str, limits: dict[str, Any]) -> None:
        super().__init__(system, name, limits)
        self._action = self._timeout = None

    def configure(self, action: Callable[[], object] | None, timeout: float | None) -> None:
        """This process's action and default timeout, where they are given. SpecError: they are not what they should be."""
        if action is not None and not callable(action):
            raise SpecError(f"{self!r}: the action must be callable, not {action!r}")
        if timeout is not None and not timeout > 0:
            raise SpecError(f"{self!r}: timeout {timeout!r}: give seconds, or None")
        self._action = action if action is not None else self._action
        self._timeout = timeout if timeout is not None else self._timeout

    # --- waiting

    def wait(self, timeout: float | None = None) -> int:
        """Until `parties` wait: a number from 0 to parties - 1, a different one for each. BrokenBarrierError: the barrier
        is or was broken or reset, a process that waited died, or the time (seconds) is over, which breaks it.
        """
        self._blocks()
        until = deadline(timeout if timeout is not None else self._timeout)
        steps = self._steps(until)
        try:
            while True:
                seen = next(steps)
                self.sleep(seen, FOREVER if until is None else max(0.0, until - time.monotonic()))
        except StopIteration as done:
            index: int = done.value
            return index
        finally:
            steps.close()

    async def wait_async(self, timeout: float | None = None) -> int:
        """`wait` without blocking the event loop. Cancelling it leaves the barrier as an exception in `wait` does: the
        others go on waiting.
        """
        until = deadline(timeout if timeout is not None else self._timeout)
        steps = self._steps(until)
        try:
            while True:
                await self._told(next(steps), until)
        except StopIteration as done:
            index: int = done.value
            return index
        finally:
            steps.close()

    def _steps(self, until: float | None) -> Generator[int, None, int]:
        """Yields the word each time that it has to change before there is a next step."""
        index = yield from self._arrive(until)
        try:
            if index + 1 == self.parties:
                self._act()
            else:
                while (seen := self.word) & _PHASE == FILLING << _SHIFT:
                    self._in_time(until)
                    yield seen
                if seen & _PHASE != DRAINING << _SHIFT:
                    raise self._broken()
            return index
        finally:
            self._leave()

    def _arrive(self, until: float | None) -> Generator[int, None, int]:
        while True:
            seen, held = self.word, self.held
            phase, index = (seen & _PHASE) >> _SHIFT, (seen & _COUNT) // ONE
            if phase == BROKEN:
                raise self._broken()
            if phase != FILLING or index >= self.parties:  # those of the last round are still leaving
                self._in_time(until)
                yield seen
            elif self.change(seen, seen + ONE, held + 1):
                return index

    def _act(self) -> None:
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            self._to(BROKEN, FILLING)
            raise
        if not self._to(DRAINING, FILLING):  # reset or aborted meanwhile
            raise self._broken()

    def _leave(self) -> None:
        """Whoever has arrived leaves, with or without success; the last one ends the round."""
        while True:
            seen, held = self.word, self.held
            phase, left = (seen & _PHASE) >> _SHIFT, max(0, (seen & _COUNT) // ONE - 1)
            ends = left == 0 and phase in (DRAINING, RESETTING)
            fields = _fields(FILLING, 0, 0) if ends else _fields(phase, left, seen & CONTENDED)
            if self.change(seen, fields, max(0, held - 1)):
                if ends:
                    self.wake_all()
                return

    def _in_time(self, until: float | None) -> None:
        if until is not None and time.monotonic() >= until:
            self._to(BROKEN, FILLING)
            raise self._broken()

    def _broken(self) -> BrokenBarrierError:
        return BrokenBarrierError(f"{self!r} is broken: it was aborted or reset, a wait timed out, or a waiter died")

    # --- changing

    def _to(self, phase: int, *froms: int) -> bool:
        """Into another phase from one of these. False: it was in none."""
        while True:
            seen, held = self.word, self.held
            if (seen & _PHASE) >> _SHIFT not in froms:
                return False
            if self.change(seen, _fields(phase, (seen & _COUNT) // ONE, 0), held):
                self.wake_all()
                return True

    def abort(self) -> None:
        """Break it: whoever waits, or comes, gets BrokenBarrierError, until `reset`."""
        self._to(BROKEN, FILLING, DRAINING, RESETTING, BROKEN)

    def reset(self) -> None:
        """As new; whoever waits gets BrokenBarrierError."""
        while True:
            seen, held = self.word, self.held
            phase, count = (seen & _PHASE) >> _SHIFT, (seen & _COUNT) // ONE
            after = FILLING if not count else DRAINING if phase == DRAINING else RESETTING
            if self.change(seen, _fields(after, count, 0), held):
                self.wake_all()
                return

    # --- looking

    @property
    def parties(self) -> int:
        return self.limit

    @property
    def n_waiting(self) -> int:
        seen = self.word
        return (seen & _COUNT) // ONE if seen & _PHASE == FILLING << _SHIFT else 0

    @property
    def broken(self) -> bool:
        return self.word & _PHASE == BROKEN << _SHIFT

    def _state(self) -> str:
        return "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"


def _fields(phase: int, count: int, flags: int) -> int:
    return phase << _SHIFT | count * ONE | flags

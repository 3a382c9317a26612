"""Lock and Semaphore: `threading`'s, across processes, freed by their holder's death.

Rule: acquiring and releasing are C (transports/permits.c). Those who wait are served in the order in which they came, threads
and coroutines in turn. Who gets what a dead process held is told: `abandoned`, as EOWNERDEAD of a robust POSIX mutex
and WAIT_ABANDONED of Windows tell it. What the lock protects may then be half-changed.

`token` is a fencing token: it grows with every acquisition. Whatever is protected (a file, a table) should refuse a
token that is smaller than the largest it has seen: a holder that was cut off from the system, and does not know it yet,
then changes nothing (M. Kleppmann, How to do distributed locking, 2016).

Rejected: release by another process than the holder (`threading` lets any thread release; here the holder's death frees,
so there must be one holder).
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .shared import Shared, deadline

if TYPE_CHECKING:
    from typing import Self


class _Permits(Shared):
    """What both have."""

    __slots__ = ()
    INSTEAD = "use `async with`, or `await acquire_async()`"

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """`acquire` without blocking the event loop. False: not within `timeout` seconds (None: for ever)."""
        until, waited = deadline(timeout), False
        while True:
            seen = self.word
            if self.take() if waited else self.acquire(False):
                return True
            if not await self._told(seen, until):
                return self.acquire(False)
            waited = True

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Lock(_Permits):
    """`threading.Lock` across the processes of a system: `acquire`, `release`, `locked`, `with`; `acquire_async` and
    `async with` in coroutines.

    One process holds it at a time; any thread of that process may release it, others may not. The death of the holder
    frees it. Not reentrant. A holder that is stopped (SIGSTOP) keeps it.

    Raises (from all methods): `SystemDied` when the system ends while this waits, or has ended; RuntimeError where a
    call that may block is made in a coroutine.
    """

    __slots__ = ()
    KIND, WHAT = 1, "lock"

    def locked(self) -> bool:
        """True while anybody holds it."""
        return not self.count

    @property
    def token(self) -> int:
        """The number of this process's acquisition, larger than all before it. RuntimeError: it does not hold the
        lock."""
        while True:
            number, held = self.number, self.held
            if self.number == number:  # nobody took it or gave it back between the two looks
                break
        if not held:
            raise RuntimeError(f"{self!r} is not held by this process: there is no token")
        return number

    def holder(self) -> str | None:
        """Who holds it, in words (`actor://demo/store (process 4711)`), None: nobody. For logs and errors: it may have
        changed since.
        """
        owner = self.owner
        return None if self.count else self._describe(owner)

    def _state(self) -> str:
        return "locked" if self.locked() else "unlocked"

    def _not_held(self) -> NoReturn:
        whose = self.holder()
        raise RuntimeError(f"release unlocked lock {self.name!r}" + (f": it is held by {whose}" if whose else ""))


class Semaphore(_Permits):
    """`threading.Semaphore` across the processes of a system (`BoundedSemaphore` if it was made with `bounded=True`):
    `acquire`, `release`, `with`; `acquire_async` and `async with` in coroutines.

    A process that dies gives back what it had acquired and not released. A release by a process that has acquired
    nothing adds a permit, as in `threading`.
    """

    __slots__ = ()
    KIND, WHAT = 2, "semaphore"

    @property
    def value(self) -> int:
        """Permits that are free now."""
        return self.count

    def _state(self) -> str:
        return f"value={self.count}{f'/{self.limit}' if self._limits['bounded'] else ''}"

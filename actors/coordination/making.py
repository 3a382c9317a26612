"""What an `ActorSystem` makes to coordinate by: `system.lock(name)` and the rest, a part of that class.

Rule: made when the name is first used, wherever that is; everywhere else the same call (or a message) gives the same
object. The modules behind are imported when they are first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import SpecError

if TYPE_CHECKING:
    from ..client import Client
    from .barrier import Barrier
    from .event import Event
    from .file import File
    from .permits import Lock, Semaphore

MOST = 65_535  # permits, parties


class Coordinating:
    """Locks, semaphores, barriers, events and files of a system."""

    _client: Client

    def lock(self, name: str) -> Lock:
        """The lock of this name, for all processes of the system: `threading.Lock`, freed when its holder dies.

        Names of locks, semaphores, barriers and events are one set, and are written as actors' names are. SpecError: the
        name is none, or stands for something else; SystemDied.
        """
        from .permits import Lock

        return Lock.opened(self._client, name)

    def semaphore(self, name: str, n: int = 1, *, bounded: bool = False) -> Semaphore:
        """The semaphore of this name, `threading.Semaphore` with n permits (`BoundedSemaphore` if bounded), which a
        process that dies gives back. Errors as of `lock`, also where it was made with another n.
        """
        from .permits import Semaphore

        return Semaphore.opened(self._client, name, n=_number("semaphore", n, 0), bounded=bool(bounded))

    def barrier(
        self, name: str, n: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> Barrier:
        """The barrier of this name for n parties, `threading.Barrier`, broken when a process that waits at it dies.

        action, timeout: this process's own. The action of the process that arrives last is called. Errors as of
        `semaphore`.
        """
        from .barrier import Barrier

        made = Barrier.opened(self._client, name, n=_number("barrier", n, 1))
        made.configure(action, timeout)
        return made

    def event(self, name: str) -> Event:
        """The event of this name, `threading.Event`. Errors as of `lock`."""
        from .event import Event

        return Event.opened(self._client, name)

    def file(self, path: str | os.PathLike[str], *, timeout: float | None = None) -> File:
        """A file for one process at a time: `with system.file(path) as f:` (or `async with`).

        timeout: seconds to wait for other users (None: for ever), then TimeoutError. The file need not exist, its folder
        must. The right is the kernel's to give and to take: it counts for every process of the user that asks in this
        way, of whatever system, and ends with its holder's death.
        """
        from .file import File

        return File(path, timeout=timeout)


def _number(what: str, n: int, least: int) -> int:
    if type(n) is not int or not least <= n <= MOST:
        raise SpecError(f"{what}: n must be a whole number from {least} to {MOST}, not {n!r}")
    return n

"""What a lock, a semaphore, a barrier and an event have in common: a name in a system.

Rule: an object is a name. The guardian makes its page of memory when the name is first used, hands it to each process
that opens it, and keeps it until the system ends. Threads wait in the kernel, on the word in that page; coroutines ask
the guardian to be told, and a process that makes a change says so to the guardian only while one waits.

What a process holds is the process's, not a thread's: any thread of it may release, and its death (or the end of its
connection) frees it.

Rejected: a thread for each coroutine that waits; polling from coroutines (20 ms late, and those who sleep come first).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, ClassVar

from ..address import check_name
from ..client import Client, clients
from ..errors import ActorsError, SpecError
from ..transports._ring import Sync

if TYPE_CHECKING:
    from typing import Self

CONTENDED = 1 << 12  # of the word: see transports/sync.h
ONE = 1 << 16


class Shared(Sync):
    """By name, in every process of a system."""

    __slots__ = ("__weakref__", "_client", "_limits", "_system", "name")

    KIND: ClassVar[int]
    WHAT: ClassVar[str]
    INSTEAD: ClassVar[str]  # of a blocking call, in a coroutine

    name: str
    _system: str
    _limits: dict[str, Any]  # what it was made with
    _client: Client | None  # in which it was opened last

    def __init__(self, system: str, name: str, limits: dict[str, Any]) -> None:
        self._system, self.name, self._limits, self._client = system, name, limits, None

    @classmethod
    def of(cls, system: str, name: str, limits: dict[str, Any]) -> Self:
        """This process's object of that name, not necessarily open yet."""
        client = clients.get(system)
        known = client.shared.get(name) if client is not None else None
        return known if isinstance(known, cls) and known._limits == limits else cls(system, name, limits)

    @classmethod
    def opened(cls, client: Client, name: str, **limits: Any) -> Self:
        """The same, open. SpecError: the name stands for something else."""
        self = cls.of(client.system, check_name(name), limits)
        if not self.open:
            self._reopen()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (type(self), self._system, self.name, self._limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of system {self._system!r}{f': {self._state()}' if self.open else ''}>"

    def _state(self) -> str:
        """In words, for `repr`."""
        raise NotImplementedError

    # --- what C asks for

    def _reopen(self) -> None:
        """Open it in the connection that this process has now."""
        client = clients.get(self._system)
        if client is None and self._client is not None:
            raise self._client.system_died()
        if client is None:
            raise ActorsError(
                f"{self!r}: this process is not connected to system {self._system!r}; "
                f"use ActorSystem.attach({self._system!r})"
            )
        answer, fds = client.exchange("coordinate", name=self.name, kind=self.KIND, what=self.WHAT, limits=self._limits)
        if not fds:
            raise SpecError(f"system {self._system!r}: {answer['refused']}")
        try:
            self.map(fds[0], answer["slot"])
        finally:
            os.close(fds[0])
        self._client = client
        if client.shared.setdefault(self.name, self) is not self:
            client.doubles.add(self)

    def _lost(self) -> None:
        assert self._client is not None
        raise self._client.system_died()

    def _refuse(self) -> None:
        if self._client is not None and not self._client.endpoint.may_block():
            raise RuntimeError(f"{self!r}: this may block the event loop; in a coroutine, {self.INSTEAD}")

    def _blocks(self) -> None:
        """Before a call that may block. RuntimeError: not in this thread."""
        if not self.open:
            self._reopen()
        if asyncio._get_running_loop() is not None:
            self._refuse()

    def _tell(self, changes: int) -> None:
        client = self._client
        if client is not None and client.gone is None:
            with contextlib.suppress(ActorsError):  # the system has ended; who waited has heard of it
                client.send("changed", name=self.name, changes=changes)

    # --- coroutines

    async def _told(self, seen: int, deadline: float | None) -> bool:
        """Until the word is not `seen` any more, or what was given back is offered here. False: the time is over."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        client = self._client
        assert client is not None
        call = client.request("await", about=repr(self), name=self.name, seen=seen)
        try:
            async with asyncio.timeout(left):
                await call
        except (TimeoutError, asyncio.CancelledError) as error:
            if client.gone is None:
                client.send("leave", name=self.name, call=call.corr)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    # --- who

    def _describe(self, endpoint: int) -> str:
        """The process behind an endpoint, in words."""
        client = self._client
        if client is None or endpoint == client.me:
            return "this process"
        return str(client.exchange("whois", endpoint=endpoint)[0]["text"])


def _named(cls: type[Shared], system: str, name: str, limits: dict[str, Any]) -> Shared:
    return cls.of(system, name, limits)


def deadline(timeout: float | None) -> float | None:
    """On the monotonic clock."""
    return None if timeout is None else time.monotonic() + timeout

"""`NamedRing`: what a mailbox object knows before anything is put or taken: its name, and the ring behind it.

Rule: the name is the value (it is what is sent, compared and pickled); the ring is found when it is first needed, and
again after a fork that has attached. A process has one view of each ring, however many objects name it, since what it
has in hand is in its endpoint's name.
"""

from __future__ import annotations

import os
import queue
from typing import TYPE_CHECKING, Any

from .client import Client, clients
from .directory import take_ring
from .errors import ActorsError, MailboxCorrupt, SpecError
from .transports._ring import Corrupt, Ring

if TYPE_CHECKING:
    _ShutDown = Exception
else:
    _ShutDown = getattr(queue, "ShutDown", Exception)  # Python 3.13

CAPACITY = 16 << 20  # bytes


class MailboxClosed(ActorsError, _ShutDown):
    """The mailbox was closed: nothing can be put, or everything that was in it is over. On Python 3.13 and newer it is
    a `queue.ShutDown`, too.
    """


class NamedRing:
    """A shared ring by name."""

    __slots__ = ("_client", "_maxsize", "_me", "_ring", "_system", "_uid", "name")

    name: str

    def __init__(self, system: str, name: str) -> None:
        self._system, self.name, self._me, self._uid = system, name, 0, 0
        self._client: Client | None = None
        self._ring: Ring | None = None
        self._maxsize = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedRing) and (self.name, self._system) == (other.name, other._system)

    def __hash__(self) -> int:
        return hash((self._system, self.name))

    def __repr__(self) -> str:
        return f"<Mailbox {self.name!r} of system {self._system!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._system, self.name)

    # --- opening

    def _ring_or_none(self) -> Ring | None:
        """None: it was closed, and is empty."""
        try:
            return self._opened()[0]
        except MailboxClosed:
            return None

    def _opened(self) -> tuple[Ring, Client]:
        client = self._client
        if self._ring is not None and client is not None and client.gone is None and self._me == client.me:
            return self._ring, client
        return self._open(0, CAPACITY)

    def _open(self, maxsize: int, capacity: int) -> tuple[Ring, Client]:
        """Map it, making it if it is new. SpecError: it was made otherwise. MailboxClosed: there is nothing left to map."""
        client = clients.get(self._system)
        if client is None:
            raise ActorsError(
                f"{self!r}: this process is not connected to the system; use ActorSystem.attach({self._system!r})"
            )
        answer, fds = client.exchange("box", name=self.name, maxsize=maxsize, capacity=capacity)
        if not fds:
            raise MailboxClosed(f"{self!r} is closed, and nothing is left in it")
        ring = client.boxes.get(self.name)
        if ring is None:
            new = take_ring(fds)
            new.join(client.me, answer["maxsize"])
            ring = client.boxes.setdefault(self.name, new)
        else:
            for fd in fds:
                os.close(fd)
        self._client, self._me, self._ring = client, client.me, ring
        self._maxsize, self._uid = answer["maxsize"], answer["uid"]
        if maxsize not in (0, answer["maxsize"]) or capacity not in (CAPACITY, answer["capacity"]):
            known = f"maxsize={answer['maxsize']}, capacity={answer['capacity']}"
            raise SpecError(f"{self!r} was made with {known}: leave them out, or use another name")
        return ring, client

    # --- errors

    def _left(self) -> ActorsError:
        """The system is gone or closed, or this is a forked child."""
        return ActorsError(f"{self!r} is not open") if self._client is None else self._client.system_died()

    def _stuck(self, ring: Ring) -> str:
        return f"{self!r}: process {ring.keeper()} stopped (SIGSTOP?) in the middle of a get; continue or kill it"

    def _corrupt(self, error: Corrupt) -> MailboxCorrupt:
        return MailboxCorrupt(f"{self!r}: {error}; some process wrote over it. Close it and use another one")

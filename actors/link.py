"""The socket to a system's guardian.

Rule: `send` is one message without an answer; `exchange` is answered at once, over the socket (the guardian never
blocks), and alone carries descriptors. One thread at a time exchanges. What is answered later is a `Client.request`.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from typing import Any

from . import wire
from .errors import ActorsError, SystemDied


class Link:
    """A process's socket to the guardian, until it is `gone`."""

    def __init__(self, system: str, sock: socket.socket) -> None:
        self.system = system
        self.sock = sock
        self.lock = threading.Lock()
        self.sequence = itertools.count(1)
        self.gone: str | None = None  # why this connection is no longer one; behind "!": the whole text for its users
        self.forked = False  # cut off by a fork, and may join again
        self.guardian_pid = 0

    def send(self, op: str, **fields: Any) -> None:
        """One message to the guardian, no answer."""
        self._send({"op": op, **fields}, ())

    def exchange(self, op: str, fds: tuple[int, ...] = (), **fields: Any) -> tuple[wire.Message, list[int]]:
        """Ask the guardian for descriptors (or hand it some): answered at once, over the socket."""
        with self.lock:
            number = next(self.sequence)
            self._send({"op": op, "seq": number, **fields}, fds)
            while True:
                answer, got = wire.recv(self.sock)
                if answer is None:
                    raise self.system_died()
                if answer.get("seq") == number:
                    error = answer.get("error") or answer.get("lost")
                    if error:
                        raise ActorsError(f"system {self.system!r}: {op}: {error}" if "lost" in answer else error)
                    return answer, got
                for fd in got:  # the answer to an exchange that an exception interrupted
                    os.close(fd)

    def _send(self, message: wire.Message, fds: tuple[int, ...]) -> None:
        if self.gone is not None:
            raise self.system_died()
        try:
            wire.send(self.sock, message, fds)
        except (BrokenPipeError, ConnectionResetError):
            raise self.system_died() from None

    def system_died(self) -> ActorsError:
        if self.gone is not None and self.gone.startswith("!"):
            return ActorsError(self.gone[1:])
        return SystemDied(
            f"system {self.system!r} is gone ({self.gone or 'its guardian ended'}); start a new ActorSystem"
        )

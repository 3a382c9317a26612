"""What a service manager is told: sd_notify's protocol, which systemd and others (podman, s6's and runit's wrappers)
understand.

Rule: a datagram of lines `KEY=value` to the socket in NOTIFY_SOCKET; without one, nothing is sent and nothing costs. A
manager that can't be reached never disturbs the service: the first failure is said on stderr, and that is all.
Protocol: man 3 sd_notify, man 3 sd_watchdog_enabled.

Design: `take` reads the variables and removes them from the environment, since they are for this process alone: actors
and programs that they start must not speak for the service.
Rejected: the package sdnotify (a release in 2017, no watchdog, no removal of the variables), systemd-python and
cysystemd (libsystemd and a compiler, for one datagram).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import MutableMapping

PATIENCE = 1.0  # seconds that a manager may take to make room for a datagram
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Speaks to the service manager, if there is one.

    address: of its socket: a path, or "@" and an abstract name; "" for none.
    watchdog: seconds within which it must hear WATCHDOG=1 again and again; 0.0: it does not listen for that.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address, self.watchdog = address, watchdog if address else 0.0

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """What the environment says, which then says it to nobody else."""
        address, usec, pid = (environ.pop(name, "") for name in VARIABLES)
        if usec and not (usec.isdecimal() and int(usec)):
            _complain(f"WATCHDOG_USEC={usec} is no number of microseconds; there will be no watchdog messages")
            usec = ""
        ours = pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if usec and ours else 0.0)

    def tell(self, **fields: object) -> None:
        """Send these fields, in this order: `tell(READY=1, STATUS="12 actors run")`."""
        if not self.address:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        try:
            self._send(text.encode())
        except (OSError, ValueError) as error:
            _complain(f"the service manager at {self.address!r} can't be told {text!r}: {error}")
            self.address, self.watchdog = "", 0.0

    def _send(self, text: bytes) -> None:
        if self.address[0] not in "/@":
            raise ValueError("only paths and abstract names (@…) are supported")
        where = f"\0{self.address[1:]}" if self.address[0] == "@" else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.sendto(text, where)


def _complain(text: str) -> None:
    print(f"actors: {text}", file=sys.stderr, flush=True)

"""Faults on purpose: real signals to an actor's process, now or at a marked point of its life, and waiting for what
follows.

Rule: a signal goes to the process that has the actor now, through a descriptor that can't mean another process; waiting
is by the guardian's events, with a number of seconds that is only a safety net. (`ref.kill()` ends an actor for good;
`kill(ref)` here is a crash, after which its supervisor acts.)
"""

from __future__ import annotations

import os
import signal as signals
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import ActorsError
from ..ref import ActorRef
from ..system import ActorSystem
from .points import Point as Point
from .processes import process
from .until import until

TIMEOUT = 10.0  # seconds
SIGKILL = signals.SIGKILL


def kill(ref: ActorRef[Any], signal: int = SIGKILL) -> int:
    """Send a signal to the actor's process, now: the number of the incarnation that it hit, for `wait_restarted`.

    ActorDied: the actor has ended. ActorsError: it has no process at the moment (it waits for its restart).
    """
    while True:
        info = ref.info()
        if not info["pid"]:
            raise ActorsError(f"{ref.address} has no process to be killed now: it is {info['status']}")
        try:
            pidfd = os.pidfd_open(info["pid"])
        except ProcessLookupError:  # it has just died
            continue
        try:
            if ref.info()["pid"] == info["pid"]:  # so the descriptor is that process's
                signals.pidfd_send_signal(pidfd, signal)
                return int(info["incarnation"])
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)


def freeze(ref: ActorRef[Any]) -> None:
    """Stop its process (SIGSTOP) until `thaw`: it lives and does nothing. Returns when it has stopped."""
    kill(ref, signals.SIGSTOP)
    pid = ref.info()["pid"]
    until(lambda: (found := process(pid)) is None or found.state == "T", f"{ref.address} (pid {pid}) is stopped")


def thaw(ref: ActorRef[Any]) -> None:
    """Let its process go on (SIGCONT)."""
    kill(ref, signals.SIGCONT)


def wait_restarted(ref: ActorRef[Any], after: int, timeout: float = TIMEOUT) -> int:
    """Wait until an incarnation after number `after` is ready: its number. AssertionError: it ended, failed, or was not
    ready within `timeout` (real) seconds.
    """
    end = time.monotonic() + timeout
    with closing(ActorSystem.attach(ref._system)) as system, closing(system.events()) as events:
        while True:
            info = ref.info()
            if info["status"] == "running" and info["incarnation"] > after:
                return int(info["incarnation"])
            if info["status"] == "failed":
                raise AssertionError(f"{ref.address} is not restarted: it has failed ({info['reason']})")
            try:
                while events.get(max(0.0, end - time.monotonic())).ref != ref:
                    pass
            except TimeoutError:
                raise AssertionError(
                    f"{ref.address} has no incarnation after number {after} within {timeout:g} s: it is {info['status']}"
                    " (on a fake clock it waits for clock.advance)"
                ) from None


class Fault:
    """A signal that waits for an actor at a marked point."""

    def __init__(self, what: str, file: Path) -> None:
        self._what, self._file = what, file

    def __repr__(self) -> str:
        return f"<Fault {self._what}{' happened' if self.happened else ''}>"

    @property
    def happened(self) -> bool:
        """Has the signal been sent?"""
        return not self._file.exists()

    def wait(self, timeout: float = TIMEOUT) -> None:
        """Until it happened. AssertionError: not within `timeout` seconds."""
        until(lambda: self.happened, f"the actor comes to {self._what}", timeout)

    def cancel(self) -> None:
        """It will not happen any more."""
        self._file.unlink(missing_ok=True)


def kill_at(
    ref: ActorRef[Any], point: Point, signal: int = SIGKILL, *, method: Callable[..., Any] | str | None = None
) -> Fault:
    """Send a signal to the actor's process when it next comes to `point`; for an actor of a `TestSystem`.

    points: "before_handler" (a message waits and is not taken), "in_handler" (taken, its method is called next),
    "after_handler" (the method is done, nothing is answered), "after_reply" (answered, still in hand), "in_on_start",
    "in_on_stop". method: only at a message of this one.

    SpecError: no such point. ActorsError: its system is not of the kit. To hit an actor that is not started yet, see
    `TestSystem.kill_at`.
    """
    from .system import TestSystem

    return TestSystem.of(ref).kill_at(ref, point, signal, method=method)

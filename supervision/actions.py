"""What the tree asks of its guardian.

Rule: frozen values that name nodes by uid; the guardian carries them out in the order given. A worker's Spawn is
answered by exactly one `exited`, also when no process came to be. An `exited` is followed, at the latest when the
worker's own children are gone, by exactly one of Restarting, Failed and Ended for that uid. Ended comes exactly once a
uid and is the last that is said of it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ..exits import ExitReason


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this worker; incarnations count from 1."""

    uid: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Please stop: send the stop request. Repeated when a drain is cut short, then with the limit.

    seconds: how long it has before SIGTERM; None is no limit.
    final: for good, so close the mailbox and let it handle what was accepted. Otherwise another incarnation follows or
        may follow (restart of its group or by hand, failed supervisor): the mail waits for that one. If it turns out to
        be for good after all, Ended says so.
    """

    uid: int
    seconds: float | None
    final: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this signal to the worker's process."""

    uid: int
    signum: signal.Signals


@dataclass(frozen=True, slots=True)
class Ready:
    """The node is ready for the first time (a supervisor: all its children are). Whoever asked for its start gets the
    answer."""

    uid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The start that was asked for has failed; what was started of it is stopped again, in reverse. Ended of the same
    uid follows.

    cause: uid of the node that could not start, below `uid` or itself.
    """

    uid: int
    reason: ExitReason
    cause: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Ended for good: monitors fire, the mailbox is swept, the name is free. The tree has forgotten the uid."""

    uid: int
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Failed:
    """Its restarts are used up: monitors and waiters fire, the mail is kept for `resume`. Also for each node below a
    failed supervisor."""

    uid: int
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Restarting:
    """The incarnation ended and another will follow: for a worker at its exit, for a supervisor when it escalated.

    delay: seconds of backoff; a restart of its group may add the time that its siblings take to stop.
    """

    uid: int
    reason: ExitReason
    delay: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """Ready again, after a Restarting, a restart by hand or a resume."""

    uid: int


@dataclass(frozen=True, slots=True)
class Recycled:
    """The worker's process is replaced although it did not fail. Restarting and Restarted of the same uid follow.

    reason: which limit it has reached.
    """

    uid: int
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Escalated:
    """This supervisor used up its restarts: it stops its children and fails in turn, for the same reason.

    cause: uid of the node that failed first.
    """

    uid: int
    reason: ExitReason
    cause: int


@dataclass(frozen=True, slots=True)
class AllStopped:
    """After `stop_all` or `kill_all`: nothing is left below the root."""


Action = (
    Spawn
    | Ask
    | Signal
    | Ready
    | StartFailed
    | Ended
    | Failed
    | Restarting
    | Restarted
    | Recycled
    | Escalated
    | AllStopped
)

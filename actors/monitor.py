"""Monitors: being told, exactly once, that an actor has ended.

Rule: the guardian keeps the list and says `DOWN`; here is only who wants to hear it. The word about an actor that has
ended already comes just like any other, so a monitor can never miss.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import wire
from .exits import ExitReason
from .message import Kind

if TYPE_CHECKING:
    from .client import Client
    from .ref import ActorRef

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Down:
    """The end of an actor, or (with `incarnations=True`, `restarting` true) of one incarnation of it."""

    ref: ActorRef[Any]
    reason: ExitReason
    restarting: bool = False


class Monitor:
    """A standing wish to hear of an actor's end."""

    __slots__ = ("_callback", "_client", "_id", "_ref", "cancelled")

    def __init__(self, client: Client, ref: ActorRef[Any], callback: Callable[[Monitor, Down], object]) -> None:
        self._client, self._ref, self._callback, self._id = client, ref, callback, next(_ids)
        self.cancelled = False

    def cancel(self) -> None:
        """Hear nothing more. After it returns no new call begins."""
        self.cancelled = True
        if self._client.monitors.pop(self._id, None) is not None and self._client.gone is None:
            self._client.send("demonitor", monitor=self._id)

    def system_gone(self, why: str) -> None:
        """There is no guardian any more to say what became of the actor; that it ends with the system is certain."""
        _call(self, Down(self._ref, ExitReason("unreachable", error=f"its system is gone: {why}")))


def watch(
    client: Client, ref: ActorRef[Any], callback: Callable[[Monitor, Down], object], incarnations: bool
) -> Monitor:
    """Ask the guardian to tell this process; its door's owner then calls back. A crash right after it returned is heard,
    too: so the guardian's word is waited for where an incarnation's end counts.
    """
    monitor = Monitor(client, ref, callback)
    client.monitors[monitor._id] = monitor
    client.handlers[int(Kind.DOWN)] = lambda body, _sender, _corr: _down(client, body)
    try:
        say = client.exchange if incarnations else client.send
        say("monitor", uid=ref.uid, monitor=monitor._id, incarnations=incarnations)
    except BaseException:
        client.monitors.pop(monitor._id, None)
        raise
    return monitor


def _down(client: Client, body: bytes) -> None:
    said = wire.loads(body)
    monitors = client.monitors
    monitor = monitors.get(said["monitor"]) if said["restarting"] else monitors.pop(said["monitor"], None)
    if monitor is None:
        return
    _call(monitor, Down(monitor._ref, ExitReason.from_wire(said["reason"]), said["restarting"]))


def _call(monitor: Monitor, down: Down) -> None:
    try:
        monitor._callback(monitor, down)
    except Exception:
        logging.getLogger("actors").exception("monitor callback for %s failed", down.ref.address)

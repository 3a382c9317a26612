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

import msgpack

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

    __slots__ = ("_callback", "_client", "_id")

    def __init__(self, client: Client, callback: Callable[[Down], object]) -> None:
        self._client, self._callback, self._id = client, callback, next(_ids)

    def cancel(self) -> None:
        """Hear nothing more. After it returns no new call begins."""
        if self._client.monitors.pop(self._id, None) is not None and self._client.gone is None:
            self._client.send("demonitor", monitor=self._id)


def watch(client: Client, uid: int, callback: Callable[[Down], object], incarnations: bool) -> Monitor:
    """Ask the guardian to tell this process; its door's owner then calls back."""
    monitor = Monitor(client, callback)
    client.monitors[monitor._id] = monitor
    client.handlers[int(Kind.DOWN)] = lambda body, _sender, _corr: _down(client, body)
    client.send("monitor", uid=uid, monitor=monitor._id, incarnations=incarnations)
    return monitor


def _down(client: Client, body: bytes) -> None:
    from .ref import ActorRef

    said = msgpack.unpackb(body)
    monitors = client.monitors
    monitor = monitors.get(said["monitor"]) if said["restarting"] else monitors.pop(said["monitor"], None)
    if monitor is None:
        return
    down = Down(
        ActorRef(client.system, said["name"], said["uid"]), ExitReason.from_wire(said["reason"]), said["restarting"]
    )
    try:
        monitor._callback(down)
    except Exception:
        logging.getLogger("actors").exception("monitor callback for %s failed", down.ref.address)

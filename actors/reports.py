"""What a system reports as it happens: events and dead letters, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .codec import decode_call
from .exits import ExitReason
from .message import HANDLE, KEYWORDS
from .ref import ActorRef

if TYPE_CHECKING:
    from .client import Client


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an actor.

    kind: started, crashed, exited, restarting, restarted, recycled, stopped, failed, escalated or unrestored (its
    `restore()` failed, and it began afresh). reason: why, where there is a why. time: seconds since the epoch. pid: of the
    process concerned, None when there is none. details: what else is known (`delay` of a restart, `cause` of an
    escalation: the name of the actor that failed first).
    """

    kind: str
    ref: ActorRef[Any]
    reason: ExitReason | None
    pid: int | None
    time: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody will handle: (method, args, kwargs) as it was sent, to whom, and why not.

    `message` is the text of the problem when it can't be decoded here (its class is not importable, or it was large and
    is gone).
    """

    message: Any
    target: ActorRef[Any]
    reason: ExitReason


def event_from_wire(client: Client, said: dict[str, Any]) -> Event:
    reason = ExitReason.from_wire(said.pop("reason")) if said.get("reason") else said.pop("reason", None)
    ref: ActorRef[Any] = ActorRef(client.system, said.pop("name"), said.pop("uid"))
    return Event(said.pop("event"), ref, reason, said.pop("pid") or None, said.pop("time"), said)


def dead_letter_from_wire(client: Client, said: list[Any]) -> DeadLetter:
    uid, name, reason, _, flags, body = said
    return DeadLetter(_message(body, flags), ActorRef(client.system, name, uid), ExitReason.from_wire(reason))


def _message(body: bytes, flags: int) -> Any:
    if flags & HANDLE:
        return "a large message, no longer kept"
    try:
        call = decode_call(body, flags)
    except Exception as error:
        return f"undecodable here: {error}"
    return (call[0], tuple(call[2:]), call[1]) if flags & KEYWORDS else (call[0], tuple(call[1:]), {})

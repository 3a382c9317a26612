"""What `Program` and `Fifo` share as actors: their receiver, the request to stop, an end without a handler.

Rule: an actor of pipes may have all its handlers waiting on a pipe, so what ends it must need none: it hears of a stop
where the loop does, and leaves by `crash` or `leave_normally` from a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ..address import check_name
from ..context import current
from ..errors import SpecError
from ..failures import describe, formatted
from ..message import Kind
from ..ref import ActorRef, message_name
from .outlet import Outlet, Pull, Push

RECEIVE = "receive"  # the method that gets frames where none is named


def checked_receiver(to: object, method: Any) -> str:
    """The name of the receiving method. SpecError: these can't receive frames."""
    if isinstance(to, str):
        check_name(to.rpartition("://")[2], "to")
    elif to is not None and not isinstance(to, ActorRef):
        raise SpecError(f"to is {to!r}: give the reference of an actor, or its name")
    try:
        return message_name(method)
    except (AttributeError, TypeError) as error:
        raise SpecError(f"method is {method!r}: {error}") from None


def outlet(to: ActorRef[Any] | str | None, method: str) -> Outlet:
    """Where frames go: to an actor, or (None) to those who ask. ActorNotFound: none of that name runs."""
    if to is None:
        return Pull()
    return Push(current().system.lookup(to) if isinstance(to, str) else to, method)


def when_asked_to_stop(call: Callable[[], object]) -> None:
    """Call this when the guardian asks the actor to stop, before the loop acts on it."""
    handlers = current().client.handlers
    inner = handlers[int(Kind.STOP)]

    def asked(body: bytes, sender: int, corr: int) -> None:
        call()
        inner(body, sender, corr)

    handlers[int(Kind.STOP)] = asked


def crash(error: BaseException) -> NoReturn:
    """End the process as an exception of a handler would, `on_error` or not."""
    current().client.send("bye", kind="exception", error=describe(error), traceback=formatted(error), started=True)
    raise SystemExit(1)


def leave_normally() -> NoReturn:
    """End the process as `self.stop()` would."""
    current().client.send("bye", kind="normal")
    raise SystemExit(0)

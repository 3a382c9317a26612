"""What a running actor can reach: the one context of this process.

Rule: one actor, one process, so the context is the process's (`current`), set before the constructor runs; that is why
`self.ref` and the rest work in a constructor without `super().__init__()`. Rejected: a context passed to every handler,
which every signature would have to carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ActorsError

if TYPE_CHECKING:
    from .client import Client
    from .ref import ActorRef
    from .system import ActorSystem


class Agenda(Protocol):
    """The loop's side of a context: what the actor does next besides its mail."""

    def later(
        self, seconds: float, every: bool, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Timer: ...
    def leave(self) -> None: ...
    def caller(self) -> int: ...
    def down(self, ref: ActorRef[Any], incarnations: bool) -> Any: ...


class Timer:
    """A call in the future, or many; `cancel` ends it. Made by `Actor.after` and `Actor.every`; ends with its
    incarnation.
    """

    __slots__ = ("_cancel", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._cancel: Callable[[], object] = lambda: None

    def cancel(self) -> None:
        """No call begins after this returns. Calling it twice is harmless."""
        self.cancelled = True
        self._cancel()


class Context:
    """Who this process is."""

    def __init__(self, client: Client, system: ActorSystem, ref: ActorRef[Any], agenda: Agenda, log: Any) -> None:
        self.client, self.system, self.ref, self.agenda, self.log = client, system, ref, agenda, log


_current: Context | None = None


def enter(context: Context | None) -> None:
    """Make this the process's context."""
    global _current
    _current = context


def current() -> Context:
    """The process's context. ActorsError: this process is no actor."""
    if _current is None:
        raise ActorsError("only a running actor has this: the object was made directly, not by `system.spawn`")
    return _current

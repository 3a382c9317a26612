"""Actors in processes: Erlang/OTP's semantics for Python programs that span processes.

The names below are the public surface; they are imported when they are first used, so that a process that needs one of them pays for one of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actor import Actor as Actor
    from .context import Timer as Timer
    from .errors import (
        ActorDied as ActorDied,
        ActorNotFound as ActorNotFound,
        ActorsError as ActorsError,
        AskTimeout as AskTimeout,
        CodecError as CodecError,
        MailboxCorrupt as MailboxCorrupt,
        MailboxFull as MailboxFull,
        RemoteError as RemoteError,
        SpawnError as SpawnError,
        SpecError as SpecError,
        SystemDied as SystemDied,
        Unreachable as Unreachable,
    )
    from .exits import ExitReason as ExitReason
    from .mailbox import MailboxOptions as MailboxOptions
    from .monitor import Down as Down, Monitor as Monitor
    from .ref import ActorRef as ActorRef
    from .reply import Reply as Reply
    from .reports import DeadLetter as DeadLetter, Event as Event
    from .supervision import Backoff as Backoff, Child as Child, Supervisor as Supervisor
    from .system import ActorSystem as ActorSystem

_HOMES = {
    "actor": ("Actor",),
    "context": ("Timer",),
    "errors": (
        "ActorDied", "ActorNotFound", "ActorsError", "AskTimeout", "CodecError", "MailboxCorrupt", "MailboxFull", "RemoteError", "SpawnError",
        "SpecError", "SystemDied", "Unreachable",
    ),
    "exits": ("ExitReason",),
    "mailbox": ("MailboxOptions",),
    "monitor": ("Down", "Monitor"),
    "ref": ("ActorRef",),
    "reply": ("Reply",),
    "reports": ("DeadLetter", "Event"),
    "supervision": ("Backoff", "Child", "Supervisor"),
    "system": ("ActorSystem",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605 - computed from the one list above
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actors' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

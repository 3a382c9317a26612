"""Actors in processes: Erlang/OTP's semantics for Python programs that span processes.

The names below are the public surface; they are imported when they are first used, so that a process that needs one of
them pays for one of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actor import Actor as Actor
    from .box import Mailbox as Mailbox
    from .context import Timer as Timer
    from .errors import (
        ActorDied as ActorDied,
    )
    from .errors import (
        ActorNotFound as ActorNotFound,
    )
    from .errors import (
        ActorsError as ActorsError,
    )
    from .errors import (
        AskTimeout as AskTimeout,
    )
    from .errors import (
        CodecError as CodecError,
    )
    from .errors import (
        FramingError as FramingError,
    )
    from .errors import (
        MailboxCorrupt as MailboxCorrupt,
    )
    from .errors import (
        MailboxFull as MailboxFull,
    )
    from .errors import (
        OutOfMemory as OutOfMemory,
    )
    from .errors import (
        RemoteError as RemoteError,
    )
    from .errors import (
        SpawnError as SpawnError,
    )
    from .errors import (
        SpecError as SpecError,
    )
    from .errors import (
        StageError as StageError,
    )
    from .errors import (
        SystemDied as SystemDied,
    )
    from .errors import (
        Unreachable as Unreachable,
    )
    from .executor import ActorPoolExecutor as ActorPoolExecutor
    from .executor import PoolBroken as PoolBroken
    from .executor import WorkerDied as WorkerDied
    from .exits import ExitReason as ExitReason
    from .mailbox import MailboxOptions as MailboxOptions
    from .monitor import Down as Down
    from .monitor import Monitor as Monitor
    from .named_ring import MailboxClosed as MailboxClosed
    from .pipes import Fifo as Fifo
    from .pipes import Program as Program
    from .pool import BroadcastRef as BroadcastRef
    from .pool import PoolRef as PoolRef
    from .ref import ActorRef as ActorRef
    from .reply import Reply as Reply
    from .reports import DeadLetter as DeadLetter
    from .reports import Event as Event
    from .shared import Shared as Shared
    from .supervision import Backoff as Backoff
    from .supervision import Child as Child
    from .supervision import Supervisor as Supervisor
    from .system import ActorSystem as ActorSystem
    from .topic import Topic as Topic

_HOMES = {
    "actor": ("Actor",),
    "box": ("Mailbox",),
    "context": ("Timer",),
    "errors": (
        "ActorDied",
        "ActorNotFound",
        "ActorsError",
        "AskTimeout",
        "CodecError",
        "FramingError",
        "MailboxCorrupt",
        "MailboxFull",
        "OutOfMemory",
        "RemoteError",
        "SpawnError",
        "SpecError",
        "StageError",
        "SystemDied",
        "Unreachable",
    ),
    "executor": ("ActorPoolExecutor", "PoolBroken", "WorkerDied"),
    "exits": ("ExitReason",),
    "mailbox": ("MailboxOptions",),
    "monitor": ("Down", "Monitor"),
    "pipes": ("Fifo", "Program"),
    "named_ring": ("MailboxClosed",),
    "pool": ("BroadcastRef", "PoolRef"),
    "ref": ("ActorRef",),
    "reply": ("Reply",),
    "reports": ("DeadLetter", "Event"),
    "shared": ("Shared",),
    "supervision": ("Backoff", "Child", "Supervisor"),
    "system": ("ActorSystem",),
    "topic": ("Topic",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Actor",
    "ActorDied",
    "ActorNotFound",
    "ActorPoolExecutor",
    "ActorRef",
    "ActorSystem",
    "ActorsError",
    "AskTimeout",
    "Backoff",
    "BroadcastRef",
    "Child",
    "CodecError",
    "DeadLetter",
    "Down",
    "Event",
    "ExitReason",
    "Fifo",
    "FramingError",
    "Mailbox",
    "MailboxClosed",
    "MailboxCorrupt",
    "MailboxFull",
    "MailboxOptions",
    "Monitor",
    "OutOfMemory",
    "PoolBroken",
    "PoolRef",
    "Program",
    "RemoteError",
    "Reply",
    "Shared",
    "SpawnError",
    "SpecError",
    "StageError",
    "Supervisor",
    "SystemDied",
    "Timer",
    "Topic",
    "Unreachable",
    "WorkerDied",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actors' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

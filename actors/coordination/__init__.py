"""Locks, semaphores, barriers and events by name, for all processes of a system, and files for one process at a time.

    shared     what the four have in common: opened by name, sendable, waited for by threads and by coroutines
    permits    Lock, Semaphore
    barrier    Barrier
    event      Event
    file       File
    making     `system.lock(...)` and the rest

They are made by an `ActorSystem` (or received in a message), never by hand; the names here are for annotations.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .barrier import Barrier as Barrier
    from .event import Event as Event
    from .file import File as File
    from .permits import Lock as Lock
    from .permits import Semaphore as Semaphore

_HOME = {"Barrier": "barrier", "Event": "event", "File": "file", "Lock": "permits", "Semaphore": "permits"}

__all__ = ["Barrier", "Event", "File", "Lock", "Semaphore"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actors.coordination' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value

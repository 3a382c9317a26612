"""The test kit: what tests of actors need, at home in pytest and usable without it.

Rule: the names below are the public surface, imported when they are first used; pytest itself is needed by `plugin`
alone, which pytest loads by itself once this package is installed and which gives the fixtures `system`, `probe`,
`clock` and `leak_guard`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import Clock as Clock
    from .faults import Fault as Fault
    from .faults import freeze as freeze
    from .faults import kill as kill
    from .faults import kill_at as kill_at
    from .faults import thaw as thaw
    from .faults import wait_restarted as wait_restarted
    from .leaks import LeakGuard as LeakGuard
    from .local_actor import Local as Local
    from .local_actor import local as local
    from .probe import Call as Call
    from .probe import Probe as Probe
    from .system import TestSystem as TestSystem
    from .world import Sent as Sent
    from .world import Spawned as Spawned
    from .world import Stub as Stub
    from .world import stub as stub

_HOMES = {
    "clock": ("Clock",),
    "faults": ("Fault", "freeze", "kill", "kill_at", "thaw", "wait_restarted"),
    "leaks": ("LeakGuard",),
    "local_actor": ("Local", "local"),
    "probe": ("Call", "Probe"),
    "system": ("TestSystem",),
    "world": ("Sent", "Spawned", "Stub", "stub"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Call",
    "Clock",
    "Fault",
    "LeakGuard",
    "Local",
    "Probe",
    "Sent",
    "Spawned",
    "Stub",
    "TestSystem",
    "freeze",
    "kill",
    "kill_at",
    "local",
    "stub",
    "thaw",
    "wait_restarted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actors.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

"""What fault tests share: a journal that survives death, a history that is judged, a guard against leaks, and processes
as /proc shows them.
"""

from actors.testing.leaks import LeakGuard, system_name
from actors.testing.processes import (
    RUN,
    Family,
    Process,
    alive,
    children,
    descendants,
    family,
    kill,
    marked,
    process,
    processes,
)
from actors.testing.until import until

from .gate import Gate
from .history import History
from .journal import Journal
from .resources import Resources
from .script import Script
from .service import Service
from .trap import Trap
from .waiting import Waiting

__all__ = [
    "RUN",
    "Family",
    "Gate",
    "History",
    "Journal",
    "LeakGuard",
    "Process",
    "Resources",
    "Script",
    "Service",
    "Trap",
    "Waiting",
    "alive",
    "children",
    "descendants",
    "family",
    "kill",
    "marked",
    "process",
    "processes",
    "system_name",
    "until",
]

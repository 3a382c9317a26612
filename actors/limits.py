"""What one actor's process may use, and how long it may go without progress: `Limits`.

Rule: a value, checked when it is made, where the user's line is in the traceback; `apply` is called in the actor's own
process, before any of the user's code. What the kernel refuses there is a start that failed, with a text that names the
option: an actor never runs without a limit that it was to have.

Design: `nice`, `affinity` and `rlimits` are the kernel's to enforce. `max_messages` is counted by the actor itself,
exactly; `progress_timeout` and `max_memory` are watched by the guardian (guardian/vitals.py). A limit of resources is
the soft one, as with `ulimit -S`: at a soft limit of CPU the kernel says SIGXCPU, at a hard one SIGKILL, which tells
nobody why.

Rejected: RLIMIT_RSS for `max_memory` (Linux ignores it), RLIMIT_AS (counts mappings, not memory), a cgroup for each
actor (needs rights that most programs don't have).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import SpecError

LOWEST, HIGHEST = -20, 19  # of niceness
UNLIMITED = -1  # resource.RLIM_INFINITY
MOST = 2**63 - 1
NONE: tuple[Any, ...] = (None, 0, {}, math.inf)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one actor. Raises SpecError, naming the field, for senseless values.

    Attributes:
        progress_timeout: seconds that a message in hand, a timer's call or a hook may take, and that mail may wait for
            an actor that does nothing; beyond, its process is ended as hung. None: no limit.
        max_memory: bytes of memory of the process's own; beyond, it is replaced after the message in hand. None: no
            limit.
        max_messages: messages that one process handles before it is replaced. None: no limit.
        nice: added to the niceness of the system's processes, as nice(1) does; below 0 needs CAP_SYS_NICE.
        affinity: numbers of the processors that it may run on; None: all that the program may.
        rlimits: soft limits by the names of `resource` without RLIMIT_ ("AS", "NOFILE", "CORE", "CPU", …), each in the
            unit of setrlimit(2), -1 for none. A hard limit that is lower is raised, where that is allowed.
    """

    progress_timeout: float | None = None
    max_memory: int | None = None
    max_messages: int | None = None
    nice: int = 0
    affinity: Iterable[int] | None = None
    rlimits: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        timeout = self.progress_timeout
        if timeout is not None and (not isinstance(timeout, int | float) or timeout is True or not timeout > 0):
            raise SpecError(f"progress_timeout must be None or more than 0 seconds, not {timeout!r}")
        for name in ("max_memory", "max_messages"):
            most = getattr(self, name)
            if most is not None and not _whole(most, 1):
                unit = "bytes" if name == "max_memory" else "messages"
                raise SpecError(f"{name} must be None or a whole number of {unit} from 1 on, not {most!r}")
        if not _whole(self.nice, LOWEST) or self.nice > HIGHEST:
            raise SpecError(f"nice must be a whole number from {LOWEST} to {HIGHEST}, not {self.nice!r}")
        if self.affinity is not None:
            object.__setattr__(self, "affinity", _processors(self.affinity))
        if self.rlimits is not None:
            object.__setattr__(self, "rlimits", _named(self.rlimits))

    def to_wire(self) -> dict[str, Any]:
        """As a dict of plain types; what limits nothing is left out."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) not in NONE}


def apply(wire: Mapping[str, Any]) -> None:
    """Set what the kernel enforces, for this process. OSError or ValueError, naming the option that was refused."""
    if "nice" in wire:
        _try(f"nice={wire['nice']}", os.nice, wire["nice"])
    if "affinity" in wire:
        _try(f"affinity={wire['affinity']}", os.sched_setaffinity, 0, wire["affinity"])
    for name, value in wire.get("rlimits", {}).items():
        _try(f"rlimits[{name!r}]={value}", _limit, name, value)


def _limit(name: str, value: int) -> None:
    import resource

    number = getattr(resource, f"RLIMIT_{name}")
    _, hard = resource.getrlimit(number)
    if hard != UNLIMITED and (value == UNLIMITED or value > hard):
        hard = value
    resource.setrlimit(number, (value, hard))


def _try(what: str, function: Any, *args: Any) -> None:
    try:
        function(*args)
    except OSError as error:
        raise type(error)(error.errno, f"{what} was refused: {error.strerror}") from None
    except (ValueError, OverflowError) as error:  # what resource makes of EPERM, and numbers that no kernel takes
        raise ValueError(f"{what} was refused: {error}") from None


def _processors(given: Iterable[int]) -> tuple[int, ...]:
    numbers = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else ()
    if not numbers or not all(_whole(number, 0) for number in numbers):
        raise SpecError(f"affinity must be None or the numbers of one or more processors, from 0 on, not {given!r}")
    return tuple(sorted(set(numbers)))


def _named(given: Mapping[str, int]) -> dict[str, int]:
    import resource

    if not isinstance(given, Mapping):
        raise SpecError(f"rlimits must be a mapping of names to numbers, such as {{'NOFILE': 256}}, not {given!r}")
    known = sorted(name.removeprefix("RLIMIT_") for name in vars(resource) if name.startswith("RLIMIT_"))
    for name, value in given.items():
        if name not in known:
            raise SpecError(f"rlimits: {name!r} is no resource; there are {', '.join(known)}")
        if not _whole(value, UNLIMITED) or value > MOST:
            raise SpecError(f"rlimits[{name!r}] must be a whole number from 0 on, or -1 for no limit, not {value!r}")
    return dict(given)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

"""What the tree must know of a node: when to restart it and how long to wait for it.

Rule: plain data, validated when made, the same for workers and supervisors, and all that the pure tree reads of a
specification. A worker's `max_restarts` limits its own restarts, a supervisor's those of its children; likewise
`backoff`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ..errors import SpecError
from .backoff import Backoff
from .intensity import Intensity

Restart = Literal["permanent", "transient", "temporary"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Restart, shutdown and start options of one node. Raises SpecError, naming the field, for senseless values.

    Attributes:
        restart: "permanent" (always), "transient" (after an abnormal exit only), "temporary" (never).
        shutdown: seconds between the request to stop and SIGTERM; 0 is SIGKILL at once, also for all
            below it; math.inf waits for ever.
        max_restarts: restarts allowed in `within` seconds (a worker's own, a supervisor's children's); None is any
            number.
        within: length of that window in seconds.
        backoff: delays between restarts; None takes the supervisor's.
        start_timeout: seconds from the process' start to its readiness; math.inf waits for ever.
        significant: its end by itself counts for its supervisor's `auto_shutdown`. Never of a "permanent" one, which has
            no such end.
        auto_shutdown: when a supervisor ends by itself, as OTP's do: "never"; with "any_significant" of its children;
            with the last of them ("all_significant").
    """

    restart: Restart = "permanent"
    shutdown: float = 5.0
    max_restarts: int | None = None
    within: float = 5.0
    backoff: Backoff | None = None
    start_timeout: float = 30.0
    significant: bool = False
    auto_shutdown: AutoShutdown = "never"

    def __post_init__(self) -> None:
        if self.restart not in get_args(Restart):
            raise SpecError(f"restart must be one of {', '.join(get_args(Restart))}, not {self.restart!r}")
        _check("shutdown", self.shutdown, "0 or more seconds (math.inf: no limit)", lambda value: value >= 0)
        _check("within", self.within, "more than 0 seconds", lambda value: value > 0)
        _check("start_timeout", self.start_timeout, "more than 0 seconds (math.inf: no limit)", lambda value: value > 0)
        if self.max_restarts is not None and (not _is_int(self.max_restarts) or self.max_restarts < 0):
            raise SpecError(f"max_restarts must be None or a whole number from 0 on, not {self.max_restarts!r}")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise SpecError(f"backoff must be a Backoff, not {self.backoff!r}")
        if not isinstance(self.significant, bool):
            raise SpecError(f"significant must be True or False, not {self.significant!r}")
        if self.significant and self.restart == "permanent":
            raise SpecError('significant must be False where restart is "permanent": it never ends by itself')
        if self.auto_shutdown not in get_args(AutoShutdown):
            raise SpecError(
                f"auto_shutdown must be one of {', '.join(get_args(AutoShutdown))}, not {self.auto_shutdown!r}"
            )

    def check_below(self, above: Policy) -> None:
        """SpecError: it can't be a child of the supervisor of that policy."""
        if self.significant and above.auto_shutdown == "never":
            raise SpecError(
                'significant must be False where the supervisor\'s auto_shutdown is "never"; '
                'give the supervisor auto_shutdown="any_significant" or "all_significant"'
            )

    @property
    def intensity(self) -> Intensity:
        """`max_restarts` in `within` seconds, as the function that counts them."""
        return Intensity(self.max_restarts, self.within)

    def wants_restart(self, abnormal: bool) -> bool:
        """OTP's table: does a node of this restart type come back after such an exit?"""
        match self.restart:
            case "permanent":
                return True
            case "transient":
                return abnormal
            case "temporary":
                return False

    def to_wire(self) -> dict[str, Any]:
        """As a dict of plain types that msgpack carries."""
        wire = {field.name: getattr(self, field.name) for field in fields(self)}
        wire["backoff"] = None if self.backoff is None else self.backoff.to_wire()
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Policy:
        """The reverse of `to_wire`. TypeError for unknown fields, SpecError for bad values."""
        backoff = wire.get("backoff")
        return cls(**{**wire, "backoff": None if backoff is None else Backoff.from_wire(backoff)})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(name: str, value: float, wanted: str, valid: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not valid(value):
        raise SpecError(f"{name} must be {wanted}, not {value!r}")

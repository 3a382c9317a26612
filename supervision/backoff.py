"""How long to wait before a restart.

Rule: pure; the caller counts the attempts and brings the random numbers. The first restart after a stable time is
immediate, since most crashes are one bad message; from the second on the delay doubles up to a ceiling, spread by
jitter so that actors felled by one cause (a database that is away) do not come back in step. Rejected: OTP's plain
immediate restarts, which turn a crash loop into a busy loop.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SpecError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between restarts. Raises SpecError for values that make no sense.

    Attributes:
        initial: seconds before the second restart in a row.
        maximum: ceiling in seconds, before jitter.
        factor: what each further delay is multiplied by, at least 1.
        jitter: share by which a delay is spread to both sides, 0 to 1.
        stable: a child that was up for so many seconds starts anew, with an immediate restart.
    """

    initial: float = 0.01
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.2
    stable: float = 10.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SpecError(f"backoff: {name} must be a number, not {value!r}")
        if not 0 <= self.initial <= self.maximum < math.inf:
            raise SpecError(
                f"backoff: initial must be 0 to maximum, finite seconds, not {self.initial!r} and {self.maximum!r}"
            )
        if not 1 <= self.factor < math.inf:
            raise SpecError(f"backoff: factor must be 1 or more, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise SpecError(f"backoff: jitter must be between 0 and 1, not {self.jitter!r}")
        if not self.stable >= 0:
            raise SpecError(f"backoff: stable must be 0 or more seconds, not {self.stable!r}")

    def delay(self, attempt: int, random: random.Random) -> float:
        """Seconds to wait before restart number `attempt`; 0 is the first one after a stable time, and immediate."""
        if attempt <= 0:
            return 0.0
        steps = min(attempt - 1, 1000)  # 1.01**1000 has long met any ceiling; more only overflows the float
        try:
            grown = min(self.maximum, self.initial * self.factor**steps)
        except OverflowError:
            grown = self.maximum
        return grown * (1 + self.jitter * random.uniform(-1, 1))

    def to_wire(self) -> dict[str, float]:
        """As a dict of floats."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Backoff:
        """The reverse of `to_wire`. TypeError for unknown fields, SpecError for bad values."""
        return cls(**wire)

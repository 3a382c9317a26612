"""How an actor's mailbox is made: `MailboxOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .errors import SpecError

SMALLEST, LARGEST = 4096, 1 << 40


@dataclass(frozen=True, slots=True)
class MailboxOptions:
    """Size and manners of a mailbox.

    capacity: bytes it may hold (rounded up to a power of two, at least 4096); a ceiling: memory appears as it is used.
    overflow: what a sender meets when it is full: `block` (wait), `raise` (`MailboxFull`), `drop` (the message becomes
    a dead letter).
    """

    capacity: int = 1 << 20
    overflow: Literal["block", "raise", "drop"] = "block"

    def __post_init__(self) -> None:
        if not isinstance(self.capacity, int) or not SMALLEST <= self.capacity <= LARGEST:
            raise SpecError(
                f"MailboxOptions.capacity is {self.capacity!r}: give a number of bytes from {SMALLEST} to {LARGEST}"
            )
        if self.overflow not in ("block", "raise", "drop"):
            raise SpecError(f"MailboxOptions.overflow is {self.overflow!r}: use 'block', 'raise' or 'drop'")

    def to_wire(self) -> dict[str, Any]:
        return {"capacity": 1 << (self.capacity - 1).bit_length(), "overflow": self.overflow}

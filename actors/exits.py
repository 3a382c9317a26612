"""How a process ended, as a value.

Rule: an exit is data, never an exception; the kernel's own report decides (`from_wait`), and what the process said of
itself before it left only adds the text. Supervisors, monitors, links and callers all see the same value. `str()` is a
sentence fragment that fits after the actor's name: "etl/parser was killed by SIGSEGV".
Rejected: one class per kind (isinstance ladders, and a codec for each), and shells' 128+n numbers, which can't tell
exit(139) from SIGSEGV.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

ExitKind = Literal["normal", "shutdown", "exception", "signal", "exit", "hung", "unreachable"]


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why an actor or one of its incarnations ended.

    Attributes:
        kind: "normal" (it stopped itself), "shutdown" (it was asked to stop), "exception" (its own code raised),
            "signal" (killed), "exit" (its process left with `code`), "hung" (no progress, so it was killed),
            "unreachable" (its node is out of reach).
        signal: the signal that killed it; None for other kinds, and for real-time signals, which have no name (their
            number is in `code`).
        code: the exit code, 0 to 255.
        error: what is known in words, the exception's type and text first.
        oom: True when the kernel killed it to free memory.
    """

    kind: ExitKind
    signal: signals.Signals | None = None
    code: int | None = None
    error: str | None = None
    oom: bool = False

    @classmethod
    def from_wait(cls, si_code: int, si_status: int) -> ExitReason:
        """The reason in the `si_code` and `si_status` of `os.waitid`. ValueError when they don't speak of an end
        (stopped, continued)."""
        if si_code == os.CLD_EXITED:
            return cls("exit", code=si_status)
        if si_code not in (os.CLD_KILLED, os.CLD_DUMPED):
            raise ValueError(f"si_code {si_code} does not report the end of a process; wait with os.WEXITED")
        try:
            return cls("signal", signal=signals.Signals(si_status))
        except ValueError:  # real-time signals between SIGRTMIN and SIGRTMAX are no members of Signals
            return cls("signal", code=si_status)

    @property
    def abnormal(self) -> bool:
        """OTP's sense: True for everything but "normal", "shutdown" and an exit with code 0. A transient child is
        restarted if so."""
        return not (self.kind in ("normal", "shutdown") or (self.kind == "exit" and self.code == 0))

    def __str__(self) -> str:
        return self._what() + (" (out of memory)" if self.oom else "")

    def _what(self) -> str:
        match self.kind:
            case "signal":
                text = f"killed by {self.signal.name if self.signal else f'signal {self.code}'}"
                return f"{text} {self.error}" if self.error else text
            case "exit":
                return f"exited with code {self.code}{f' {self.error}' if self.error else ''}"
            case "exception":
                return f"raised {self.error}" if self.error else "raised an exception"
        text = {"normal": "stopped itself", "shutdown": "shut down"}.get(self.kind, self.kind)
        return f"{text}: {self.error}" if self.error else text

    def to_wire(self) -> dict[str, Any]:
        """As a dict of plain types that msgpack carries; what is not set is left out."""
        wire: dict[str, Any] = {"kind": self.kind}
        if self.signal is not None:
            wire["signal"] = int(self.signal)
        if self.code is not None:
            wire["code"] = self.code
        if self.error is not None:
            wire["error"] = self.error
        if self.oom:
            wire["oom"] = True
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ExitReason:
        """The reverse of `to_wire`. ValueError for an unknown kind or signal, KeyError when the kind is missing."""
        kind: ExitKind = wire["kind"]
        if kind not in get_args(ExitKind):
            raise ValueError(f"unknown kind of exit: {kind!r}")
        number = wire.get("signal")
        signal = None if number is None else signals.Signals(number)
        return cls(kind, signal, wire.get("code"), wire.get("error"), bool(wire.get("oom", False)))

"""Are processes at rest? All of them sleep, and none has run while we looked.

Rule: what is sent to a process wakes it at once (the kernel marks it as running before the sender's call returns), so as
long as every thread sleeps nothing is on its way. Looking takes time, so it is done twice: if no thread was switched to
in between, by the kernel's count, they all slept at one moment. This needs no cooperation and sees births, deaths,
answers and timers alike; what waits for the world outside (a real sleep, a socket, a subprocess) rests.

Rejected: counting messages sent and handled, which neither sees a handler between two calls nor a process being born.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from .processes import children, process

PAUSE = 0.0005  # seconds between two looks
_PROC = Path("/proc")

Switches = dict[str, str]  # thread -> its counts of context switches


class Busy(Exception):
    """Somebody is not at rest; the text says who."""


def wait_for_rest(guardian: int, seconds: float) -> None:
    """Until the guardian and all its children are at rest. Busy: they were not, for that long."""
    end = time.monotonic() + seconds
    before: Switches | None = None
    while True:
        try:
            now = look([guardian, *children(guardian)])
            if now == before:
                return
            busy, before = "they take turns", now
        except Busy as error:
            busy, before = str(error), None
        if time.monotonic() >= end:
            raise Busy(busy)
        time.sleep(PAUSE)


def look(pids: Iterable[int]) -> Switches:
    """The context switches of all threads of these processes. Busy: one of them runs."""
    found: Switches = {}
    for pid in pids:
        for task in _tasks(pid):
            try:
                lines = (task / "status").read_text().splitlines()
            except OSError:
                raise Busy(f"process {pid} ends") from None
            state = _value(lines, "State:")
            if state[:1] not in ("S", "T", "t"):
                raise Busy(f"{_title(pid)} (pid {pid}) is {state}")
            found[task.name] = _value(lines, "voluntary_ctxt_switches:") + _value(lines, "nonvoluntary_ctxt_switches:")
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        raise Busy(f"process {pid} ends") from None


def _value(lines: list[str], name: str) -> str:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "?")


def _title(pid: int) -> str:
    known = process(pid)
    return known.title if known else "a process"

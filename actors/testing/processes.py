"""Processes as the kernel lists them: who lives, whose child, under which title.

Rule: everything is read from /proc at the moment of the call; a process that ends meanwhile is simply not there. No
process is ever looked for by name alone: titles are only looked at among those that a test has started (`family`,
`RUN`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .until import until

RUN = "ACTORS_TEST_RUN"  # environment variable that marks every process of this test run
_PROC = Path("/proc")


class Process(NamedTuple):
    """One line of `ps`."""

    pid: int
    parent: int
    state: str  # R, S, D, T, Z …
    title: str

    @property
    def lives(self) -> bool:
        return self.state not in "ZX"


def process(pid: int) -> Process | None:
    """What is known of a process; None when there is none. A zombie is one."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        title = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return Process(pid, int(parent), state, title or f"({name})")


def processes() -> Iterator[Process]:
    """All of this machine."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := process(int(entry.name))):
            yield found


def alive(pid: int) -> bool:
    """True while it runs or is stopped; a zombie is dead."""
    found = process(pid)
    return found is not None and found.lives


def children(pid: int) -> list[int]:
    """The direct children of a process, whichever thread made them."""
    found: list[int] = []
    for task in (_PROC / str(pid) / "task").glob("*"):
        try:
            found.extend(int(each) for each in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descendants(pid: int) -> list[Process]:
    """Children, their children, and so on; zombies too."""
    below: dict[int, list[Process]] = {}
    for each in processes():
        below.setdefault(each.parent, []).append(each)
    found: list[Process] = []
    rest = [pid]
    while rest:
        found.extend(below.get(current := rest.pop(), ()))
        rest.extend(each.pid for each in below.get(current, ()))
    return found


def marked(value: str) -> list[Process]:
    """Processes that were started with RUN=value in their environment, wherever they were adopted since. (Those that
    changed their title may have overwritten it; they are known by that title.)
    """
    wanted = f"{RUN}={value}".encode()
    found = []
    for each in processes():
        try:
            if wanted in (_PROC / str(each.pid) / "environ").read_bytes().split(b"\0"):
                found.append(each)
        except (OSError, ProcessLookupError):
            continue
    return found


class Family(NamedTuple):
    """The processes of one system that are not actors."""

    warden: int
    guardian: int
    zygote: int


def family(guardian: int) -> Family:
    """The family of a system, by its guardian's pid; waits for its zygote (one that takes the place of another, say)."""
    known = process(guardian)
    assert known is not None, f"no guardian {guardian}"
    zygotes = until(lambda: [pid for pid in children(guardian) if _is_zygote(pid)], f"guardian {guardian} has a zygote")
    return Family(known.parent, guardian, zygotes[0])


def _is_zygote(pid: int) -> bool:
    found = process(pid)
    return found is not None and found.lives and found.title.startswith("actors: ") and found.title.endswith(" zygote")


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return

"""How a running system looks on a terminal: its tree, and its actors by what they do.

Rule: text from data (`ActorSystem.tree()` and /proc), so that everything here can be tested without a terminal; who
prints and when is the command line's business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Info = dict[str, Any]
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def flat(info: Info) -> Iterator[Info]:
    """Every node below, parents first."""
    for child in info["children"]:
        yield child
        yield from flat(child)


def columns(rows: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table; the columns of `text` go to the left, all others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in text else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


# --- the tree


def drawn(root: Info) -> str:
    """The tree of a system, a line a node."""
    head = ("", "", "pid", "restarts", "mail", "handled")
    return columns([head, (root["system"], "", str(root["pid"]), "", "", ""), *_branches(root)], text=(0, 1))


def _branches(info: Info, above: str = "") -> Iterator[tuple[str, ...]]:
    for child in info["children"]:
        mark, below = ("└─ ", "   ") if child is info["children"][-1] else ("├─ ", "│  ")
        yield (above + mark + child["name"].removeprefix(f"{info.get('name')}/"), *_state(child))
        yield from _branches(child, above + below)


def _state(info: Info) -> tuple[str, ...]:
    if info["kind"] == "supervisor":
        return info["status"], "", "", "", ""
    mail, handled = info["mailbox"]["depth"], info["handled"]
    return info["status"], str(info["pid"] or "-"), str(info["restarts"]), f"{mail:,}", f"{handled:,}"


# --- the busiest


@dataclass(frozen=True, slots=True)
class Sample:
    """A system at one moment: its nodes, and each process's processor seconds and resident bytes."""

    time: float
    root: Info
    used: dict[int, tuple[float, int]]

    @classmethod
    def of(cls, root: Info) -> Sample:
        pids = [info["pid"] for info in flat(root) if info["pid"]]
        return cls(time.monotonic(), root, {pid: used for pid in pids if (used := _used(pid))})


def busiest(now: Sample, before: Sample | None) -> str:
    """A line an actor, those with the most processor time since `before` first. Without a sample before, shares and
    rates are 0.
    """
    head = ("actor", "status", "pid", "CPU %", "MB", "msg/s", "mail", "kB", "busy s", "restarts")
    actors = [info for info in flat(now.root) if info["kind"] == "worker"]
    rows = sorted(((_load(info, now, before), info) for info in actors), key=lambda row: row[0], reverse=True)
    title = f"{now.root['system']}: {len(actors)} actors, guardian {now.root['pid']}"
    return f"{title}\n{columns([head, *(_row(info, load, now, before) for load, info in rows)], text=(0, 1))}"


def _row(info: Info, load: float, now: Sample, before: Sample | None) -> tuple[str, ...]:
    _, resident = now.used.get(info["pid"], (0.0, 0))
    mailbox, busy = info["mailbox"], info["busy_since"]
    return (
        info["name"],
        info["status"],
        str(info["pid"] or "-"),
        f"{load * 100:.1f}",
        f"{resident / 1e6:.1f}",
        f"{_rate(info, now, before):,.0f}",
        f"{mailbox['depth']:,}",
        f"{mailbox['bytes'] / 1e3:,.1f}",
        f"{(time.monotonic_ns() - busy) / 1e9:.1f}" if busy else "-",
        str(info["restarts"]),
    )


def _load(info: Info, now: Sample, before: Sample | None) -> float:
    """Share of a processor since the sample before; 0 for a process that was not there then."""
    pid = info["pid"]
    if before is None or pid not in now.used or pid not in before.used:
        return 0.0
    return (now.used[pid][0] - before.used[pid][0]) / (now.time - before.time)


def _rate(info: Info, now: Sample, before: Sample | None) -> float:
    """Messages handled a second since the sample before."""
    if before is None:
        return 0.0
    earlier = {other["uid"]: int(other["handled"]) for other in flat(before.root)}
    handled = int(info["handled"])
    return (handled - earlier.get(info["uid"], handled)) / (now.time - before.time)


def _used(pid: int) -> tuple[float, int] | None:
    """(processor seconds, resident bytes) of a process; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICK, int(fields[21]) * PAGE

"""Where the time of a run went: as data, as a table and as a picture.

Rule: of each stage's workers' time it is known what they did: worked; waited for items (starved); waited because what
comes after has no room (blocked). Whoever works most and waits least is what the others wait for: the bottleneck. The
source and whoever iterates count as stages of one worker.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine

COLUMNS = ("workers", "items", "results", "busy", "starved", "blocked", "restarts", "skipped")
WIDTHS = (8, 12, 12, 7, 9, 9, 10, 9)


@dataclass(frozen=True, slots=True)
class Share:
    """One stage. Seconds are of all its workers together.

    items: inputs that were processed. results: what came of them. busy, starved, blocked: seconds. waiting: inputs
    that lie before it now. each: seconds of work an item, lately.
    """

    name: str
    workers: int
    items: int
    results: int
    busy: float
    starved: float
    blocked: float
    waiting: int
    restarts: int
    skipped: int
    each: float

    @property
    def load(self) -> float:
        """Share of its workers' time in which they worked."""
        whole = self.busy + self.starved + self.blocked
        return self.busy / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A run so far. `source`: seconds spent in the source; `consumer`: in the code that iterates."""

    seconds: float
    source: float
    consumer: float
    stages: tuple[Share, ...] = field(default=())

    @property
    def bottleneck(self) -> str:
        """What the others wait for: a stage's name, "source" or "consumer"."""
        loads = {share.name: share.load for share in self.stages}
        loads["source"] = self.source / self.seconds if self.seconds else 0.0
        loads["consumer"] = self.consumer / self.seconds if self.seconds else 0.0
        return max(loads, key=lambda name: loads[name])

    def as_data(self) -> dict[str, Any]:
        """For programs: plain types."""
        return {**asdict(self), "bottleneck": self.bottleneck}

    def table(self) -> str:
        """For people."""
        columns = zip(COLUMNS, WIDTHS, strict=True)
        head = f"{'stage':<20}" + "".join(f"{column:>{width}}" for column, width in columns)
        rows = [head, *(_row(share, share.name == self.bottleneck) for share in self.stages)]
        rows.append(f"{self.seconds:.2f} s: {self.source:.2f} s in the source, {self.consumer:.2f} s in the consumer")
        rows.append(f"bottleneck: {self.bottleneck}")
        return "\n".join(rows)

    def __str__(self) -> str:
        return self.table()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a picture: .svg, or .png (which needs Pillow: the extra `png`). SpecError: another kind of file, or
        Pillow is missing.
        """
        from .drawing import write
        from .picture import picture

        write(picture(self), Path(path))


def profile(engine: Engine) -> Profile:
    """Of a run, now or at its end."""
    end = engine.ended if engine.over else time.monotonic()
    seconds = max(0.0, end - engine.begun)
    source = engine.source.seconds if engine.source is not None else 0.0
    return Profile(
        seconds, source, engine.consumer, tuple(_share(engine, index) for index in range(len(engine.stages)))
    )


def _share(engine: Engine, index: int) -> Share:
    station, stage = engine.flow.stations[index], engine.stages[index]
    whole = station.busy + station.starved + station.blocked
    rest = max(0.0, stage.workers * (engine.looked - engine.begun) - whole)  # on the way between program and worker
    return Share(
        stage.name, stage.workers, station.done, station.made, station.busy, station.starved + rest, station.blocked,
        station.items, engine.restarts[index], station.skipped, station.seconds_an_item,
    )  # fmt: skip


def _row(share: Share, slowest: bool) -> str:
    whole = max(share.busy + share.starved + share.blocked, 1e-9)
    counts = (f"{share.workers}", f"{share.items:,}", f"{share.results:,}")
    times = (f"{seconds / whole:.0%}" for seconds in (share.busy, share.starved, share.blocked))
    cells = (*counts, *times, f"{share.restarts}", f"{share.skipped}")
    name = f"{share.name}{' *' if slowest else ''}"
    return f"{name:<20}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))

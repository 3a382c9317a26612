"""Where a run is, in a file, so that one that was killed goes on from there.

Rule: a result counts as handed out when the next one is asked for (or the run ends). The file then says how many items
of the source need not be taken again, and how many results of each stage, made again of the items after them, are to
be left out: every result has been, or will be, handed out, the last one before a kill perhaps twice.

The position is found backwards: of what was handed out the last whole inputs of the last stage, of these the last
whole inputs of the stage before, and so on. So nothing has to know which result comes of which item of the source.

The file is replaced as a whole, at most every SECONDS, and synced; a run that ends well removes it.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError
from .stage import Stage

if TYPE_CHECKING:
    from .engine import Engine
    from .station import Station

SECONDS = 0.2
FORMAT = 1


class Position:
    """Read when it is made, written as results are acknowledged. SpecError for stages that can't be resumed, and for a
    file of another pipeline.
    """

    def __init__(self, path: str | os.PathLike[str], engine: Engine, stages: Sequence[Stage]) -> None:
        self.path, self.engine = Path(path), engine
        self.names = [stage.name for stage in stages]
        for stage in stages:
            if not stage.ordered:
                raise SpecError(f"checkpoint: stage {stage.name!r} must be ordered")
            if stage.finishes:
                raise SpecError(f"checkpoint: stage {stage.name!r} gathers for its finish(), which can't be resumed")
        self.inputs, drops = self._read()
        for station, drop in zip(engine.flow.stations, drops, strict=True):
            station.drop = drop
            station.marks = deque([(0, 0)])
        self.base = self.inputs  # items of the source that this run does not take
        self.drops = drops  # results of each stage that this run leaves out
        self.given = self.acknowledged = 0
        self.written = time.monotonic()

    def _read(self) -> tuple[int, list[int]]:
        try:
            data = json.loads(self.path.read_text())
        except FileNotFoundError:
            return 0, [0] * len(self.names)
        except ValueError:
            data = {}
        if data.get("format") != FORMAT or data.get("stages") != self.names:
            mine = ", ".join(self.names)
            raise SpecError(
                f"checkpoint: {str(self.path)!r} is no position of a pipeline of {mine}; remove or rename it"
            )
        return int(data["inputs"]), [int(drop) for drop in data["drops"]]

    def acknowledge(self) -> None:
        """The next result is asked for: all before it are done with."""
        self.acknowledged = self.given
        self.given += 1
        if time.monotonic() - self.written >= SECONDS:
            self.write()

    def write(self) -> None:
        """Say where the run is."""
        reached, drops = behind(self.engine.flow.stations, self.acknowledged, self.drops)
        data = {"format": FORMAT, "stages": self.names, "inputs": self.base + reached, "drops": drops}
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w") as file:
            file.write(json.dumps(data))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        self.written = time.monotonic()

    def close(self) -> None:
        """The run ends early."""
        if self.path.parent.exists() and self.acknowledged:
            self.write()

    def remove(self) -> None:
        """The run has ended well."""
        self.path.unlink(missing_ok=True)
        self.acknowledged = 0


def behind(stations: Sequence[Station], given: int, dropped: Sequence[int]) -> tuple[int, list[int]]:
    """When so many results were handed out: (items of the source of which all was, results of each stage that are made again
    of the items after them). dropped: results of each stage that this run leaves out.
    """
    reached, again = given, list[int]()
    for station, left_out in zip(reversed(stations), reversed(dropped), strict=True):
        marks = station.marks
        assert marks is not None
        reached += left_out
        while len(marks) > 1 and marks[1][1] <= reached:
            marks.popleft()
        inputs, results = marks[0]
        again.insert(0, reached - results)
        reached = inputs
    return reached, again

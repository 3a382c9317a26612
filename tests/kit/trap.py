"""A trap that an actor's process walks into at a marked point of its life, to be killed there.

Rule: one file for each point. `set` lays it; the process that passes the point takes it away (so it holds one process
only), writes down that it is there and stays there for ever. Picklable: it is its folder.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from actors.testing.until import until

from .journal import Journal


class Trap:
    """Traps by name in one folder."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.caught = Journal(self.folder / "caught")

    def __reduce__(self) -> tuple[type[Trap], tuple[str]]:
        return Trap, (str(self.folder),)

    # --- in the test

    def set(self, point: str) -> None:
        """The next process that passes this point stays there."""
        (self.folder / point).touch()

    def wait(self, point: str, times: int) -> int:
        """Wait until processes were caught there so many times; the pid of the last."""

        def pids() -> list[int]:
            return [int(pid) for where, pid in self.caught.rows() if where == point]

        until(lambda: len(pids()) >= times, f"a process is at {point!r}")
        return pids()[-1]

    # --- in the actor

    def passing(self, point: str) -> None:
        """The marked point, in blocking code."""
        if self._springs(point):
            while True:
                signal.pause()

    async def passing_async(self, point: str) -> None:
        """The marked point, in a coroutine."""
        if self._springs(point):
            await asyncio.Event().wait()

    def _springs(self, point: str) -> bool:
        try:
            (self.folder / point).unlink()
        except FileNotFoundError:
            return False
        self.caught.write(point, os.getpid())
        return True

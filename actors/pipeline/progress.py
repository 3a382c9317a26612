"""What a run shows of itself: a live table while somebody looks, and a summary at the end.

Rule: it is written to stderr, and only if that is a terminal; with rich installed live, without it a line a second.
A thread of its own draws, since the program's may be anywhere; it only reads counters.
"""

from __future__ import annotations

import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .profile import Profile, profile

if TYPE_CHECKING:
    from .engine import Engine

SECONDS = 0.2  # between two pictures; without rich, five times that


class Progress:
    """Shown from `start` to `stop`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shown = sys.stderr.isatty()
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.last = (time.monotonic(), 0)
        self.rate = 0.0

    def start(self) -> None:
        if self.shown:
            draw = self._live if find_spec("rich") else self._lines
            self.thread = threading.Thread(target=draw, name="actors: progress", daemon=True)
            self.thread.start()

    def stop(self, error: BaseException | None) -> None:
        """The last picture; the table, unless the run failed."""
        self.over.set()
        if self.thread is not None:
            self.thread.join()
        if self.shown and error is None:
            print(profile(self.engine).table(), file=sys.stderr)

    def _live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            while not self.over.wait(SECONDS):
                live.update(self._table(profile(self.engine)), refresh=True)

    def _table(self, now: Profile) -> Any:
        from rich.table import Table

        table = Table(title=self.line(now), title_justify="left", box=None)
        for column in ("stage", "waiting", "done", "busy", "", "restarts", "skipped"):
            table.add_column(column, justify="left" if column in ("stage", "") else "right")
        for share in now.stages:
            bar = "█" * round(20 * share.load)
            table.add_row(
                share.name, f"{share.waiting:,}", f"{share.items:,}", f"{share.load:.0%}", f"{bar:<20}",
                str(share.restarts), str(share.skipped),
            )  # fmt: skip
        return table

    def _lines(self) -> None:
        while not self.over.wait(5 * SECONDS):
            print(self.line(profile(self.engine)), file=sys.stderr, flush=True)

    def line(self, now: Profile) -> str:
        """One line: results so far, their rate over the last moments, and who is waited for."""
        results, when = now.stages[-1].results, time.monotonic()
        (before, had), self.last = self.last, (when, results)
        rate = (results - had) / max(when - before, 1e-6)
        self.rate = rate if not self.rate else 0.7 * self.rate + 0.3 * rate
        return f"{results:,} results, {self.rate:,.0f}/s, {now.seconds:.0f} s, slowest: {now.bottleneck}"

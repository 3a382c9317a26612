"""What happened, written down by processes that may die at any moment, and read by the test.

Rule: one line, one `write` to a file opened for appending: whole or not there, in one order for all writers, and it
survives the writer's SIGKILL. An actor opens its journal by path; nothing needs closing.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.testing.until import until


class Journal:
    """An append-only list of lines in a file. Picklable: it is its path."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._fd = -1

    def __reduce__(self) -> tuple[type[Journal], tuple[str]]:
        return Journal, (self.path,)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def write(self, *words: object) -> None:
        """Append one line."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def lines(self) -> list[str]:
        """All lines so far."""
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []

    def rows(self) -> list[list[str]]:
        """All lines so far, in words."""
        return [line.split() for line in self.lines()]

    def until(self, *words: object, times: int = 1) -> None:
        """Wait until a line of these words was written `times` times."""
        line = " ".join(map(str, words))
        until(lambda: self.lines().count(line) >= times, f"{times} x {line!r} in {self.path}")

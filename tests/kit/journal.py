"""What happened, written down by processes that may die at any moment, and read by the test.

Rule: one line, one `write` to a file opened for appending, in one order for all writers, and it survives the writer's SIGKILL.
The kernel looks for a SIGKILL between two pages, so a line over a page's end may be cut there: each begins on a line of its
own and ends with END, and what lacks that was not written. (Shell commands write plain lines, into files of their own.) An
actor opens its journal by path; nothing needs closing.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.testing.until import until

END = "\x1e"  # ASCII's record separator


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
        os.write(self._fd, ("\n" + " ".join(map(str, words)) + END + "\n").encode())

    def lines(self) -> list[str]:
        """All lines so far."""
        path = Path(self.path)
        lines = [line for line in path.read_text().split("\n") if line] if path.exists() else []
        whole = [line[:-1] for line in lines if line.endswith(END)]
        return whole or lines

    def rows(self) -> list[list[str]]:
        """All lines so far, in words."""
        return [line.split() for line in self.lines()]

    def until(self, *words: object, times: int = 1) -> None:
        """Wait until a line of these words was written `times` times."""
        line = " ".join(map(str, words))
        until(lambda: self.lines().count(line) >= times, f"{times} x {line!r} in {self.path}")

"""What a program says on the side (stderr), line by line in the system's log, with its actor's address.

Rule: it never stops the program and never grows: a long line is cut into several, and more lines a second than a
reader could follow are counted, not kept. A carriage return ends a line as well, since progress is shown that way.
The last lines are remembered, for whoever reports how the program has ended.
"""

from __future__ import annotations

import re
import time
from collections import deque

from ..context import current
from ..log import send_line
from .source import Source

LONGEST = 8192  # bytes of a line
LINES = 1000  # a second
REMEMBERED = 20  # lines
_END = re.compile(rb"[\r\n]+")


class Diary:
    """Keeps one stream."""

    def __init__(self, source: Source, stream: str) -> None:
        self._source, self._stream = source, stream
        self._second, self._lines, self._left_out = 0.0, 0, 0
        self._last: deque[bytes] = deque(maxlen=REMEMBERED)

    async def keep(self) -> None:
        """Until the stream's end."""
        rest = b""
        while data := await self._source.read():
            *lines, rest = _END.split(rest + data)
            if len(rest) > LONGEST:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._write(line)
        self._write(rest)
        self._close_second()

    def last(self, characters: int) -> str:
        """So much of the last lines."""
        return b"\n".join(self._last).decode(errors="replace")[-characters:].strip()

    def _write(self, line: bytes) -> None:
        for begin in range(0, len(line), LONGEST):
            self._write_short(line[begin : begin + LONGEST])

    def _write_short(self, line: bytes) -> None:
        if not line.strip():
            return
        self._last.append(line)
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._close_second()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            self._left_out += 1
        else:
            say(line.decode(errors="backslashreplace"), "info", stream=self._stream)

    def _close_second(self) -> None:
        if self._left_out:
            say(f"{self._left_out} more lines within a second are left out", "warning", stream=self._stream)
            self._left_out = 0


def say(text: str, level: str, **more: str) -> None:
    """A line about this actor's program in the log."""
    context = current()
    send_line(context.client, {"event": text, "level": level, "actor": context.ref.address, **more})

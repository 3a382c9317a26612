"""What a program says on the side (stderr), line by line in the system's log, with its actor's address.

Rule: it never stops the program and never grows: a long line is cut into several, and more lines a second than a
reader could follow are counted, not kept. A carriage return ends a line as well, since progress is shown that way.
"""

from __future__ import annotations

import re
import time

from ..context import current
from ..log import send_line
from .source import Source

LONGEST = 8192  # bytes of a line
LINES = 1000  # a second
_END = re.compile(rb"[\r\n]+")


class Diary:
    """Keeps one stream."""

    def __init__(self, source: Source, stream: str) -> None:
        self._source, self._stream = source, stream
        self._second, self._lines, self._left_out = 0.0, 0, 0

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

    def _write(self, line: bytes) -> None:
        for begin in range(0, len(line), LONGEST):
            self._write_short(line[begin : begin + LONGEST])

    def _write_short(self, line: bytes) -> None:
        if not line.strip():
            return
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._close_second()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES:
            self._left_out += 1
        else:
            self._say(line.decode(errors="backslashreplace"), "info")

    def _close_second(self) -> None:
        if self._left_out:
            self._say(f"{self._left_out} more lines within a second are left out", "warning")
            self._left_out = 0

    def _say(self, text: str, level: str) -> None:
        context = current()
        send_line(context.client, {"event": text, "level": level, "actor": context.ref.address, "stream": self._stream})

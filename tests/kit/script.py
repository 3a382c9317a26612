"""A user's program: a Python script in a process of its own, which a test may kill.

Rule: it runs in a session of its own, so a signal to its group (Ctrl-C) reaches it and not the test; it says where it
is by printing lines (`expect`), and everything that it printed is part of every failure's text.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from types import TracebackType


class Script:
    """A running script; a context manager that leaves no process of its own."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.lines: list[str] = []
        self._rest = b""
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Script:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def expect(self, prefix: str, seconds: float = 20.0) -> str:
        """What follows `prefix` in the next line that begins with it. AssertionError: it ended or was silent instead."""
        end = time.monotonic() + seconds
        while True:
            line = self._line(end)
            assert line is not None, f"the script did not print {prefix!r}, but:\n{self.output}"
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()

    def drain(self, seconds: float = 20.0) -> str:
        """Everything it printed, once no process holds its output any more. AssertionError: one still does after
        `seconds`.
        """
        end = time.monotonic() + seconds
        while self._line(end) is not None:
            pass
        assert time.monotonic() < end, (
            f"somebody still holds the script's output after {seconds:g} s; so far:\n{self.output}"
        )
        return self.output

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the program's whole group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the program alone."""
        self.process.kill()
        self.process.wait()

    def _line(self, end: float) -> str | None:
        """The next line; None at its end or when the time is over."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0] or not (part := os.read(fd, 1 << 16)):
                if not self._rest:
                    return None
                part = b"\n"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        self.lines.append(line.decode(errors="replace"))
        return self.lines[-1]

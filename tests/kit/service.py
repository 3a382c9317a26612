"""`actors run` in a process of its own, in a folder with the modules of its tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 30.0  # a service that takes longer to end hangs


class Service:
    """Runs in a session of its own until it ends or is killed (`stop`)."""

    def __init__(
        self, folder: Path, *arguments: str, before: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        """arguments: of `actors run`. before: a command that runs it. environ: what it has besides this process's."""
        command = [*before, sys.executable, "-m", "actors", "run", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environ or {})}, start_new_session=True,
        )  # fmt: skip

    def line(self) -> str:
        """The next line of its output, which is the event that tests wait for."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def complaint(self) -> str:
        """The next line of its stderr."""
        assert self.process.stderr
        return self.process.stderr.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        """As a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, the rest of stdout, stderr."""
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def stop(self) -> None:
        """Whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)

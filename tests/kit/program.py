"""A user's program as a whole: a folder of files, one command, what it printed and what it left behind.

Rule: it is a real process with a real command line, so that how it was started is part of the test. It must leave
nothing: no process of its systems (found by title: their names hold its pid), no socket of theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from actors.testing.processes import processes
from actors.testing.until import until

SECONDS = 60.0  # a program that takes longer hangs


class Program:
    """A folder with files."""

    def __init__(self, folder: Path, **files: str) -> None:
        """files: module names (with underscores for dots) and texts."""
        self.folder = folder
        for name, text in files.items():
            self.write(f"{name}.py", text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def run(
        self,
        *arguments: object,
        python: str | os.PathLike[str] = sys.executable,
        text: str = "",
        cwd: Path | None = None,
        environ: Mapping[str, str | None] | None = None,
        code: int = 0,
        quiet: bool = True,
    ) -> list[str]:
        """Run `python arguments…` here: the lines that it printed.

        text: for its stdin. environ: what differs from this process's; None: not there. code: its expected exit code.
        quiet: it must write nothing to stderr; else stderr comes after stdout in what is returned.
        """
        return self.command(python, *arguments, text=text, cwd=cwd, environ=environ, code=code, quiet=quiet)

    def command(
        self,
        *command: object,
        text: str = "",
        cwd: Path | None = None,
        environ: Mapping[str, str | None] | None = None,
        code: int = 0,
        quiet: bool = True,
    ) -> list[str]:
        """Run any command here, likewise."""
        variables: dict[str, str | None] = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}
        with subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd or self.folder,
            env={name: value for name, value in variables.items() if value is not None}, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                out, errors = process.communicate(textwrap.dedent(text), SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                out, errors = process.communicate()
                raise AssertionError(f"it hangs; it printed:\n{out}\n{errors}") from None
        assert process.returncode == code, f"exit code {process.returncode}, not {code}; it printed:\n{out}\n{errors}"
        assert not quiet or not errors, f"it wrote to stderr:\n{errors}\nand printed:\n{out}"
        until(lambda: not _left(process.pid), "nothing of the program's systems to be left")
        return (out if quiet else out + errors).splitlines()


def _left(pid: int) -> list[str]:
    """What is still there of systems that this process (or one that it forked) has started without giving a name."""
    mark = f"system-{pid}-"
    found = [each.title for each in processes() if each.title.startswith("actors: ") and mark in each.title]
    sockets = Path("/proc/net/unix").read_text().splitlines()
    return found + [line.split()[-1] for line in sockets if "@actors/" in line and mark in line]

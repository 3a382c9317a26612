"""Actors that tests of supervision share.

Rule: in a module that actor processes can import, so that a birth takes milliseconds and hundreds can be had.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from actors import Actor, ExitReason

from .journal import Journal


class Part(Actor):
    """Writes down when it starts and stops; its next starts fail as often as the file `unlucky` says."""

    def __init__(self, journal: Journal, unlucky: str = "") -> None:
        self.journal, self.unlucky = journal, unlucky

    def on_start(self) -> None:
        if self.unlucky and (left := int(Path(self.unlucky).read_text())):
            Path(self.unlucky).write_text(str(left - 1))
            raise ValueError("not this time")
        self.journal.write("start", self.ref.name)

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("stop", self.ref.name)

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        self.stop()

    def exit(self, code: int) -> None:
        os._exit(code)

    def fail(self) -> None:
        raise ValueError("told to")


class Hanging(Part):
    def hang(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.journal.write("hangs", self.ref.name)
        while True:
            signal.pause()


class Parent(Part):
    def on_start(self) -> None:
        for name in ("x", "y"):
            self.spawn(Middle, self.journal, name=name)


class Middle(Part):
    def on_start(self) -> None:
        self.spawn(Part, self.journal, name="leaf")

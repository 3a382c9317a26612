"""An actor that ends in every way."""

from __future__ import annotations

import os

from actors import Actor

from .gate import Gate


class Plain(Actor):
    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError("told to")

    def leave(self) -> None:
        self.stop()

    def exit(self, code: int) -> None:
        os._exit(code)

    def kill_yourself(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

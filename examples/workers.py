"""The actors of `tree.toml`: a clock ticks, a squarer computes, a printer prints.

The squarer can't do threes and is started again by its supervisor. When the clock has ticked enough it stops itself and
the squarer, which finishes what it has and stops the printer, which finishes what it has: nothing is left to do, and
`actors run` ends.
"""

from __future__ import annotations

from actors import Actor, ExitReason


class Printer(Actor):
    def show(self, text: str) -> None:
        print(text)


class Squarer(Actor):
    def on_start(self) -> None:
        self.printer = self.system.lookup("squares/printer", Printer)

    def square(self, number: int) -> None:
        if number == 3:
            raise ValueError("three is too much for me")  # in a tell nobody waits, so the supervisor acts
        self.printer.tell(Printer.show, f"{number} squared is {number * number}")

    def on_stop(self, reason: ExitReason) -> None:
        if not reason.abnormal:
            self.printer.stop()


class Clock(Actor):
    def __init__(self, ticks: int, seconds: float) -> None:
        self.ticks = ticks
        self.seconds = seconds
        self.number = 0

    def on_start(self) -> None:
        self.squarer = self.system.lookup("squares/squarer", Squarer)
        self.every(self.seconds, self.tick)

    def tick(self) -> None:
        self.number += 1
        self.squarer.tell(Squarer.square, self.number)
        if self.number == self.ticks:
            self.squarer.stop()
            self.stop()

"""Marked points in an actor's life, at which a test lets a signal hit its process.

Rule: a fault is a file, named for the actor and the point: the test writes it, the first process of that actor that
passes the point takes it away and sends itself the signal. So it is there as soon as the test's call returns, whatever
the actor does at the moment; it hits one process once; and it holds for an incarnation that is not born yet. A point
without a fault costs one failed `open`, and only in systems of the kit.

Rejected: telling the actor by message (it may be in a handler, or not born), and a debugger (which changes timing).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from ..errors import SpecError

Point = Literal["before_handler", "in_handler", "after_handler", "after_reply", "in_on_start", "in_on_stop"]


class Points:
    """The faults of one system: a folder. Used by the test (`set`) and by actors (`passing`)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def _path(self, actor: str, point: str) -> str:
        return f"{self.folder}/{quote(actor, safe='')}.{point}"

    # --- in the test

    def set(self, actor: str, point: Point, signal: int, method: str | None) -> Path:
        """Lay a fault; the file that is there until it has happened. SpecError: no such point, or one that knows no methods."""
        if point not in get_args(Point):
            raise SpecError(f"there is no point {point!r}; use one of {', '.join(get_args(Point))}")
        if method is not None and "handler" not in point and point != "after_reply":
            raise SpecError(f"no message is in hand {point}, so a method can't be given")
        if method is not None and point == "before_handler":
            raise SpecError("before_handler the message is not read yet, so a method can't be given; use in_handler")
        path = Path(self._path(actor, point))
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"signal": int(signal), "method": method}))
        new.rename(path)  # whole or not there
        return path

    def left(self) -> list[str]:
        """Faults that have not happened, as sentences."""
        return [
            f"{path.name.rpartition('.')[0].replace('%2F', '/')} never came to {path.suffix[1:]!r}"
            for path in sorted(Path(self.folder).iterdir())
        ]

    # --- in the actor

    def passing(self, actor: str, point: Point, method: Callable[[], str]) -> None:
        """The point: does nothing, or ends (or stops) this process."""
        path = self._path(actor, point)
        try:
            with open(path) as file:  # noqa: PTH123 - once a point
                fault = json.load(file)
        except FileNotFoundError:
            return
        if fault["method"] is None or fault["method"] == method():
            os.unlink(path)  # noqa: PTH108
            os.kill(os.getpid(), fault["signal"])

"""A call in a thread of its own, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Waiting:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self.thread = threading.Thread(target=self._run, args=[call])
        self.thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.outcome = call()
        except BaseException as error:
            self.outcome = error

    def waits(self, seconds: float = 0.15) -> bool:
        """Has it not ended, although it had the time?"""
        self.thread.join(seconds)
        return self.thread.is_alive()

    def result(self) -> Any:
        """What the call returned or raised."""
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.outcome

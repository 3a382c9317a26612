"""What the program's structlog got, as dictionaries."""

from __future__ import annotations

import threading
from typing import Any

import structlog

from actors.testing.until import until


class Lines:
    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def __call__(self, logger: Any, method: str, line: dict[str, Any]) -> Any:
        with self.lock:
            self.all.append({**line, "log_level": method})
        raise structlog.DropEvent

    def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [line for line in self.all if line["event"] == event]
            return len(found) >= count

        until(there, f"{count} lines {event!r} among {self.all}")
        return found

    def of(self, text: str) -> list[dict[str, Any]]:
        """Those so far whose event has this text."""
        return [line for line in self.all if text in line["event"]]

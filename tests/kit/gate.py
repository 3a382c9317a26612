"""A gate that an actor's handler waits at until the test opens it.

Rule: a named pipe: the handler blocks in `open` for reading, the test's open for writing lets it go on. A handler that
is killed at the gate leaves nothing. Picklable: it is its path.
"""

from __future__ import annotations

import os
from pathlib import Path


class Gate:
    """Closed until `open` is called; then for whoever waits at that moment. Several waiters have a gate each: the kernel
    lets all go that are at one, and an `open` for the next of them would wait for ever."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        if not Path(self.path).exists():
            os.mkfifo(self.path)

    def __reduce__(self) -> tuple[type[Gate], tuple[str]]:
        return Gate, (self.path,)

    def wait(self) -> None:
        """In the handler: block until the gate is opened."""
        os.close(os.open(self.path, os.O_RDONLY))

    def open(self) -> None:
        """In the test: let the waiter pass; blocks until there is one."""
        os.close(os.open(self.path, os.O_WRONLY))

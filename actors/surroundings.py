"""What surrounds a program and shall surround its actors as well: working directory, environment, import path, arguments,
interpreter options.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def changes(was: dict[str, Any] | None) -> dict[str, Any]:
    """How this process differs from what actor processes start with: the program that began the system, as it was
    then.
    """
    now, path = dict(os.environ), import_path()
    if was is None:
        return {"cwd": working_directory(), "environ": now, "whole": True, "path": path, "argv": sys.argv}
    changed: dict[str, str | None] = {name: value for name, value in now.items() if was["environ"].get(name) != value}
    changed.update({name: None for name in was["environ"] if name not in now})
    return {
        "cwd": working_directory(),
        "environ": changed,
        "path": [entry for entry in path if entry not in was["path"]],
        "argv": sys.argv,
    }


def working_directory() -> str | None:
    """None: it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - as it is sent
    except FileNotFoundError:
        return None


def import_path() -> list[str]:
    """`sys.path` as it is for a process with another working directory."""
    here = working_directory()
    entries = [entry or here for entry in sys.path if isinstance(entry, str)]
    return [os.path.join(here or "", entry) for entry in entries if entry]  # noqa: PTH118


def interpreter_flags() -> list[str]:
    """The options that this interpreter was started with (-X dev, -W error, -O, …)."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]

"""The floor under every figure: the same round trip in C (`floor.c`), compiled when it is wanted and where a compiler
is there.

    python -m actors.bench.floor ask.floor-spin
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from .peers.python import main

SOURCE = Path(__file__).with_name("floor.c")


def compiler() -> str | None:
    """The C compiler's command, None when there is none."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")


def floor(kind: str) -> float:
    command = compiler()
    assert command, "the runner measures the floor only where a compiler is there"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        subprocess.run([command, "-O2", "-std=gnu11", "-o", program, SOURCE], check=True)
        return float(subprocess.run([program, kind], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main({f"ask.floor-{kind}": partial(floor, kind) for kind in ("spin", "pipe")})

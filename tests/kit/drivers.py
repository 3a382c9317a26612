"""Programs beside the tests of rings and locks that play one scenario and print their findings as JSON."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "fault"

Run = Callable[..., dict[str, Any]]


def scenarios(driver: str, ring: str, rng: random.Random) -> Run:
    """A call that runs one scenario of a driver and returns its findings; its seed is printed. ring: a build of the
    extension, or "python".
    """

    def run(scenario: str, *arguments: int) -> dict[str, Any]:
        seed = rng.randrange(1 << 32)
        print(f"{scenario}: seed {seed}")
        command = [sys.executable, str(FOLDER / driver), ring, scenario, str(seed), *map(str, arguments)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        findings: dict[str, Any] = json.loads(output)
        print(findings)
        return findings

    return run


def wrong(findings: dict[str, Any], *facts: str) -> dict[str, Any]:
    """The findings that should be zero and are not."""
    return {key: value for key, value in findings.items() if value and key not in facts}

"""Around every fault test: the guard against leaks, and a journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import ActorSystem
from kit import Journal, LeakGuard, system_name


@pytest.fixture(autouse=True)
def nothing_is_left(leak_guard: LeakGuard) -> LeakGuard:
    return leak_guard


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Where actors write down what they do."""
    return Journal(tmp_path / "journal")


@pytest.fixture
def system(nothing_is_left: LeakGuard) -> Iterator[ActorSystem]:
    """A system of this test's own, closed at its end by the shutdown times."""
    running = ActorSystem(system_name())
    try:
        yield running
    finally:
        running.close("stop")

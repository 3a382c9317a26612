"""CPython's own tests of `threading`'s Lock, Semaphore, Barrier and Event, run on ours.

What is left out tests what ours are not: see the table in docs/decisions/0020-… under "Differences".
"""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from actors import ActorSystem

lock_tests = pytest.importorskip("test.lock_tests", reason="this Python comes without its own tests")

LEFT_OUT = {
    "test_repr": "ours say the name and the system, not an address",
    "test_locked_repr": "the same",
    "test_at_fork_reinit": "private to threading; a forked child is outside the system until it attaches",
    "test_weakref_deleted": "an object lives as long as the connection, as the name does",
}
_names = itertools.count(1)


def made(system: ActorSystem) -> dict[str, dict[str, Callable[..., Any]]]:
    """CPython's classes of tests, and what they make their objects with."""

    def name() -> str:
        return f"object-{next(_names)}"

    return {
        "LockTests": {"locktype": lambda: system.lock(name())},
        "SemaphoreTests": {"semtype": lambda value=1: system.semaphore(name(), value)},
        "BoundedSemaphoreTests": {"semtype": lambda value=1: system.semaphore(name(), value, bounded=True)},
        "EventTests": {"eventtype": lambda: system.event(name())},
        "BarrierTests": {
            "barriertype": lambda parties, action=None, timeout=None: system.barrier(name(), parties, action, timeout)
        },
    }


CASES = [
    (kind, case)
    for kind in ("LockTests", "SemaphoreTests", "BoundedSemaphoreTests", "EventTests", "BarrierTests")
    for case in unittest.defaultTestLoader.getTestCaseNames(getattr(lock_tests, kind))
    if case not in LEFT_OUT
]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_it_does_what_threadings_does(system: ActorSystem, kind: str, case: str) -> None:
    """One of CPython's cases."""
    factories = {name: staticmethod(factory) for name, factory in made(system)[kind].items()}
    result = unittest.TestResult()
    type(kind, (getattr(lock_tests, kind),), factories)(case).run(result)
    problems = [text for _, text in [*result.errors, *result.failures]]
    assert problems == []
    assert result.testsRun == 1

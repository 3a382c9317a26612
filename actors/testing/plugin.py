"""The pytest plugin: fixtures and the marker `actors`. Loaded by every pytest run on a machine that has this package, so
it imports pytest and nothing else until a fixture is used.

A project's own fixtures of the same names win, as always in pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .clock import Clock
    from .leaks import LeakGuard
    from .probe import Probe
    from .system import TestSystem

MARKER = (
    "actors(name=None, clock='real', ask_timeout=None, preload=(), log_level='info', leaks=True): "
    "options of the fixture `system`"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def leak_guard(request: pytest.FixtureRequest) -> Iterator[LeakGuard]:
    """Nothing may be left when the test and its younger fixtures are over: processes, descriptors, threads, memory of
    actors. After a test that failed only processes count, since its traceback holds the rest.
    """
    from .leaks import LeakGuard

    failed = request.session.testsfailed
    guard = LeakGuard()
    guard.start()
    yield guard
    request.node.funcargs.clear()  # pytest keeps what fixtures gave (a system with its mappings) until after this
    guard.check(processes_only=request.session.testsfailed > failed)


@pytest.fixture
def system(request: pytest.FixtureRequest) -> Iterator[TestSystem]:
    """A system of actors for this test alone, stopped at its end, with a check for leaks. The marker `actors` has its
    options; a test that asks for the fixture `clock` has virtual time.
    """
    from .system import TestSystem

    options = _options(request)
    if options.pop("leaks", True):
        request.getfixturevalue("leak_guard")
    failed = request.session.testsfailed
    running = TestSystem(**options)
    try:
        yield running
    finally:
        running.close("stop")
        late = running.faults_left()
        del running  # a failure's traceback would hold it
    if late and request.session.testsfailed == failed:
        pytest.fail("kill_at was called for nothing: " + "; ".join(late), pytrace=False)


@pytest.fixture
def probe(system: TestSystem) -> Probe[Any]:
    """A probe of the fixture `system`; `system.probe()` makes more."""
    return system.probe()


@pytest.fixture
def clock(system: TestSystem) -> Clock:
    """The virtual time of the fixture `system`, which stands still but for `clock.advance(seconds)`."""
    return system.clock


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("actors"))):  # the nearest one wins
        if marker.args:
            raise pytest.UsageError(f"{request.node.nodeid}: the marker actors takes keywords only: {MARKER}")
        options.update(marker.kwargs)
    if "clock" in request.fixturenames:
        options.setdefault("clock", "fake")
    return options

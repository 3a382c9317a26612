"""What every test can ask for: a guard against leaks and reproducible chance; and what holds for every test.

The seed of a run is printed in its first lines and, for each test that uses it, in the output that a failure shows;
`--seed N` repeats it.

A hang is a failure, not a wait. pytest-timeout ends the test itself. Its fixtures are watched here, by a thread that needs
nothing of this interpreter and ends the process (xdist starts another one): pytest-timeout and pytest's own faulthandler both
stop watching once a test has failed, so that a fixture that hangs after a failure, or the test's next run, hung for ever.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
from collections.abc import Iterator

import pytest

from kit import LeakGuard

STDERR = pytest.StashKey[int]()  # before tests' output is captured


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of everything that tests choose by chance")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell ignores it for what it runs in the background,
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # and every program that a test starts would inherit that
    if config.option.seed is None:  # workers of xdist are told the seed of the session that they belong to
        config.option.seed = random.SystemRandom().randrange(1 << 32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _watch(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    _watch(item)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    faulthandler.cancel_dump_traceback_later()  # a worker that waits for work is no hang


def _watch(item: pytest.Item) -> None:
    """End the process, with all stacks, if the test's own timeout does not end this phase."""
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0] if marker else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=item.config.stash[STDERR])


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance, the same for the same `--seed` and test."""
    seed = f"{request.config.option.seed}/{request.node.nodeid}"
    print(f"seed of this test: {seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def module_leak_guard() -> Iterator[LeakGuard]:
    """The same around all tests of a module, for modules that share a system."""
    with LeakGuard() as guard:
        yield guard

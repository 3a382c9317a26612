"""What every test can ask for: a guard against leaks and reproducible chance; and what holds for every test.

The seed of a run is printed in its first lines and, for each test that uses it, in the output that a failure shows;
`--seed N` repeats it.

A hang is a failure, not a wait: a thread that needs nothing of this interpreter watches set-up, test and clean-up, each for
`@pytest.mark.timeout(seconds)`, and ends the process, with all stacks (xdist goes on in another one). Rejected: pytest-timeout,
which ends the test alone; it lives on SIGALRM, as some tests do, and stops watching once a test has failed, so that its clean-up
or its next run hung for ever.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import Gate, Journal, LeakGuard

TIMEOUT = 180.0  # seconds
STDERR = pytest.StashKey[int]()  # before tests' output is captured


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of everything that tests choose by chance")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)
    # a shell ignores them for what it runs in the background, and every program that a test starts would inherit that
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
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
def pytest_runtest_call(item: pytest.Item) -> None:
    _watch(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    _watch(item)


def pytest_runtest_logfinish() -> None:
    faulthandler.cancel_dump_traceback_later()  # a worker that waits for work is no hang


def _watch(item: pytest.Item) -> None:
    marker = item.get_closest_marker("timeout")
    faulthandler.dump_traceback_later(marker.args[0] if marker else TIMEOUT, exit=True, file=item.config.stash[STDERR])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Where actors write down what they do."""
    return Journal(tmp_path / "journal")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """What actors wait at until the test opens it."""
    return Gate(tmp_path / "gate")


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

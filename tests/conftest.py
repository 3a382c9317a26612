"""What every test can ask for: a guard against leaks and reproducible chance.

The seed of a run is printed in its first lines and, for each test that uses it, in the output that a failure shows;
`--seed N` repeats it.
"""

from __future__ import annotations

import faulthandler
import random
from collections.abc import Iterator

import pytest

from kit import LeakGuard


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of everything that tests choose by chance")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:  # workers of xdist are told the seed of the session that they belong to
        config.option.seed = random.SystemRandom().randrange(1 << 32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed}"


@pytest.fixture(autouse=True)
def long_tests_are_not_dumped(request: pytest.FixtureRequest) -> None:
    """The dump of a thread that runs may crash it, and a nightly test runs longer than others may."""
    if request.node.get_closest_marker("nightly"):
        faulthandler.cancel_dump_traceback_later()


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

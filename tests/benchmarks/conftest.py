"""Benchmarks come last: what else runs in the session must not disturb them, and a broken library is found without
them.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("bench") is not None)

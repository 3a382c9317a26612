"""What unit tests share."""

import pytest

from kit.play import Play


@pytest.fixture
def play() -> Play:
    """A supervision tree and what it was told and did."""
    return Play()

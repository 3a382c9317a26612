"""`is_plain` decides the way of every message: neither the C function nor its twin passes what msgpack would change."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from actors import codec
from actors.transports import fallback


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture(params=[codec.is_plain, fallback.is_plain], ids=["built", "python"])
def is_plain(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "s", b"b", [], {}, [{"k": [1, {2: None}]}], deep(90)])
def test_plain_values_are_plain(is_plain: Any, value: Any) -> None:
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [
        (),
        set(),
        bytearray(),
        memoryview(b""),
        OrderedDict(),
        1j,
        object(),
        [1, (2,)],
        {(1,): 2},
        {1: [2, {3: ()}]},
        deep(500),
    ],
    ids=lambda value: repr(value)[:20].partition(" at 0x")[0],  # no addresses: xdist compares them
)
def test_anything_else_is_not(is_plain: Any, value: Any) -> None:
    assert not is_plain(value)


def test_a_cycle_is_not_plain(is_plain: Any) -> None:
    value: list[Any] = []
    value += [value, value]
    assert not is_plain(value)

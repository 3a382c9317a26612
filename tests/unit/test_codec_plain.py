"""`is_plain` decides the way of every message: neither the C function nor its twin passes what msgpack would change."""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from typing import Any

import pytest

from actors import codec


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture(params=["built", "python"])
def is_plain(request: pytest.FixtureRequest) -> Any:
    if request.param == "built":
        return codec.is_plain
    return lambda value: codec._is_plain(value, 100)


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


def test_without_the_extension_the_codec_works_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "actors.transports._ring", None)  # importing it fails now
    spec = importlib.util.find_spec("actors.codec")
    assert spec is not None and spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert fresh.is_plain is not codec.is_plain or codec.is_plain.__module__ == "actors.codec"
    value = [1, {"k": (2, bytearray(b"3"))}]
    assert fresh.decode(*fresh.encode(value)) == value

"""`Ring.tell` packs and pushes a call in one step, and leaves everything that needs a thought to Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from msgpack import Packer, unpackb

from actors import transports
from actors.transports import _ring
from actors.transports._ring import Ring

pytestmark = pytest.mark.skipif(transports.KIND == "python", reason="the ring in Python leaves all to Python")


@pytest.fixture
def ring() -> Ring:
    fd = _ring.create(1 << 13)
    try:
        return Ring(fd, -1)
    finally:
        os.close(fd)


@pytest.fixture
def packers() -> list[Callable[[Any], bytes]]:
    return [Packer().pack, Packer().pack]


def test_a_plain_call_arrives_as_a_tell(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    last = packers[-1]
    assert ring.tell("add", (1, "ü", [None, {"a": 2.5}]), packers, 7) is None
    record = ring.take()
    assert record is not None and record[:5] == (1, 0, 7, 0, 0)
    assert unpackb(record[7]) == ["add", 1, "ü", [None, {"a": 2.5}]]
    assert len(packers) == 2 and packers[-1] is last


def test_what_is_not_plain_is_not_packed(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    for value in (object(), (1,), {1}, "\ud800", 1 << 64, bytes(1 << 17)):
        assert ring.tell("add", (value,), packers, 7) is False
    assert ring.take() is None and len(packers) == 2


def test_without_a_packer_nothing_is_sent(ring: Ring) -> None:
    assert ring.tell("add", (), [], 7) is False
    assert ring.take() is None


def test_a_large_body_comes_back_and_its_packer_is_let_go(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    body = ring.tell("add", (bytes(3000),), packers, 7)
    assert isinstance(body, bytes) and unpackb(body) == ["add", bytes(3000)]
    assert ring.take() is None and len(packers) == 1


def test_where_there_is_no_room_the_body_comes_back(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    sent = 0
    while (body := ring.tell("add", (sent, bytes(1000)), packers, 7)) is None:
        sent += 1
    assert body and unpackb(body) == ["add", sent, bytes(1000)] and sent > 3
    for number in range(sent):
        record = ring.take()
        assert record is not None and unpackb(record[7])[1] == number
    ring.close()
    assert ring.tell("add", (), packers, 7) == Packer().pack(["add"])


def test_what_a_packer_raises_comes_out_and_it_is_gone(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    def broken(value: Any) -> bytes:
        raise OverflowError(value)

    packers.append(broken)
    with pytest.raises(OverflowError):
        ring.tell("add", (), packers, 7)
    assert broken not in packers and ring.take() is None
    assert ring.tell("add", (), packers, 7) is None


def test_a_packer_that_sends_itself_finds_another_one(ring: Ring, packers: list[Callable[[Any], bytes]]) -> None:
    def nested(value: Any) -> bytes:
        assert ring.tell("inner", (), packers, 7) is None
        return packers[-1](value)

    packers.append(nested)
    assert ring.tell("outer", (), packers, 7) is None
    names = [unpackb(record[7])[0] for record in (ring.take(), ring.take()) if record]
    assert names == ["inner", "outer"]


def test_arguments_of_the_wrong_kind_are_refused(ring: Ring) -> None:
    with pytest.raises(TypeError):
        ring.tell("add", [], [], 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ring.tell("add", (), (), 7)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        ring.tell("add", (), [], -1)

"""Columns of numbers: what comes out is what went in, bit by bit, and whatever is no column is refused."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import pytest

from actors.pipeline.chunk import NUMBERS, Chunk, pack, part, unpack
from actors.transports import _ring as built
from actors.transports import fallback

BIG = 2**63


@pytest.fixture(params=[built, fallback], ids=["built", "python"])
def numbers(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(
    "values", [[0], [-BIG, BIG - 1, 0, -1], [0.5, -0.0, math.inf, -math.inf, 5e-324], list(range(1000))]
)
def test_columns_come_back(numbers: Any, values: list[Any]) -> None:
    column = numbers.pack_numbers(values)
    back = numbers.unpack_numbers(column, 0, len(values))
    assert back == values
    assert list(map(type, back)) == list(map(type, values))
    assert list(map(str, back)) == list(map(str, values))  # the sign of a zero
    assert numbers.unpack_numbers(column, 1, len(values)) == values[1:]
    assert numbers.unpack_numbers(column, 1, 1) == []


def test_a_nan_keeps_its_bits(numbers: Any) -> None:
    [value] = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))
    [back] = numbers.unpack_numbers(numbers.pack_numbers([value]), 0, 1)
    assert struct.pack("<d", back) == struct.pack("<d", value)


class Count(int):
    pass


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1, 2.0],
        [1.0, 2],
        [1, True],
        [True, False],
        [1, None],
        [BIG],
        [0, -BIG - 1],
        [Count(1)],
        [1, Count(1)],
        ["1"],
    ],
)
def test_anything_else_is_no_column(numbers: Any, values: list[Any]) -> None:
    assert numbers.pack_numbers(values) is None


@pytest.mark.parametrize("bounds", [(0, 4), (2, 1), (-1, 2)])
@pytest.mark.parametrize("column", [b"q" + bytes(24), b"d" + bytes(24), b"q" + bytes(25)])
def test_bounds_that_make_no_sense_are_refused(numbers: Any, column: bytes, bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no column"):
        numbers.unpack_numbers(column, *bounds)


@pytest.mark.parametrize("column", [b"", b"x" + bytes(8)])
def test_what_is_no_column_is_refused(numbers: Any, column: bytes) -> None:
    with pytest.raises(ValueError, match="no column"):
        numbers.unpack_numbers(column, 0, 1)


def test_only_lists_are_packed(numbers: Any) -> None:
    with pytest.raises(TypeError):
        numbers.pack_numbers((1, 2))


def test_both_make_the_same(rng: random.Random) -> None:
    """One process may have packed what another unpacks."""
    for values in ([rng.randrange(-BIG, BIG) for _ in range(100)], [rng.uniform(-1e300, 1e300) for _ in range(100)]):
        assert built.pack_numbers(values) == fallback.pack_numbers(values)


@pytest.mark.parametrize("items", [[1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5], [1, 2, 3.0, True], ["a", None, 3, b"d"]])
def test_a_chunk_in_parts_is_its_items(items: list[Any]) -> None:
    chunk = pack(items)
    assert (chunk.flags == NUMBERS) == (len(set(map(type, items))) == 1)
    found = [value for each in part([chunk], 1, 3) for value in unpack(each)]
    assert (found, list(map(type, found))) == (items[1:3], list(map(type, items[1:3])))
    assert unpack(Chunk(*chunk)) == items

"""What arrives equals what was sent, type and value; bytes that make no sense are a CodecError and nothing else."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from actors import codec
from actors.codec import KEYWORDS, PICKLED
from actors.errors import CodecError


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    CRIMSON = 1  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Order:
    key: Any
    lines: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    key: Any


class Text(str):
    """A subclass of a builtin, with state of its own."""


def same(a: Any, b: Any) -> bool:
    """Equal in type and value all the way down, where NaN equals NaN, 0.0 is not -0.0, and orders and folds count."""
    if type(a) is not type(b):
        return False
    match a:
        case float() | complex() | Decimal() | np.generic():
            return repr(a) == repr(b)
        case np.ndarray():
            return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
        case set() | frozenset():
            rest = list(b)
            for part in a:
                twin = next((i for i, other in enumerate(rest) if same(part, other)), None)
                if twin is None:
                    return False
                del rest[twin]
            return not rest
        case dict():
            return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
        case list() | tuple() | deque():
            return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
        case memoryview():
            return a.format == b.format and a.shape == b.shape and a.tobytes() == b.tobytes()
        case Order():
            return same(vars(a), vars(b))
        case Fixed():
            return same(a.key, b.key)
    return bool(a == b) and getattr(a, "fold", 0) == getattr(b, "fold", 0) and repr(a) == repr(b)


zones = st.one_of(
    st.none(),
    st.timezones(),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=5)),
)
texts = st.one_of(st.text(max_size=20), st.text(st.characters(categories=["Cs", "L"]), max_size=3))
paths = st.text(st.characters(exclude_characters="\0"), max_size=12)

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**66), 2**66), st.floats(), st.text(max_size=20), st.binary(max_size=20)
)
hashable_atoms = st.one_of(
    plain,
    texts,
    st.complex_numbers(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.fractions(),
    st.uuids(allow_nil=True),
    st.uuids(version=1),
    st.dates(),
    st.times(timezones=zones),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.timedeltas(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.sampled_from([Colour.RED, Colour.GREEN, Level.HIGH, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    paths.map(pathlib.PosixPath),
    paths.map(pathlib.PurePosixPath),
    paths.map(pathlib.PureWindowsPath),
    st.text(max_size=5).map(Text),
    st.sampled_from([int, len, Colour, pathlib.Path, Ellipsis, NotImplemented]),
)
dtypes = st.one_of(
    npst.scalar_dtypes(),
    npst.unicode_string_dtypes(),
    npst.byte_string_dtypes(),
    npst.array_dtypes(),
)
arrays = npst.arrays(dtypes, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
scalars = npst.arrays(npst.scalar_dtypes(), ()).map(lambda array: array[()])
unhashable_atoms = st.one_of(
    st.binary(max_size=20).map(bytearray),
    st.binary(max_size=20).map(memoryview),
    arrays,
    arrays.map(np.transpose),
    st.just(Decimal("-sNaN12")),
    scalars,
)


def containers(parts: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(parts, max_size=4),
        st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(keys, parts, max_size=3),
        st.dictionaries(keys, parts, max_size=3).map(OrderedDict),
        st.dictionaries(keys, parts, max_size=3).map(lambda d: defaultdict(list, d)),
        st.dictionaries(keys, st.integers(0, 9), max_size=3).map(Counter),
        st.lists(parts, max_size=3).map(deque),
        st.builds(Order, parts, parts),
        st.builds(Point, parts, parts),
        st.builds(Fixed, parts),
    )


keys = st.recursive(
    hashable_atoms,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3).map(tuple), st.frozensets(parts, max_size=3), st.builds(Point, parts, parts)
    ),
    max_leaves=4,
)
sets = st.one_of(st.sets(keys, max_size=4), st.frozensets(keys, max_size=4))
values = st.recursive(
    st.one_of(hashable_atoms, unhashable_atoms, sets), lambda parts: containers(parts, keys), max_leaves=12
)


@given(values)
@example([bytearray(b"a"), {"view": memoryview(b"b")}, (memoryview(b"c"),)])
@example({float("nan"): -0.0, (1, bytes(2)): 2**64, True: "\ud800"})
def test_what_arrives_equals_what_was_sent_in_type_and_value(value: Any) -> None:
    """decode(encode(v)) is v again, deeply."""
    assert same(codec.decode(*codec.encode(value)), value)


@given(st.recursive(plain, lambda parts: st.one_of(st.lists(parts), st.dictionaries(plain, parts))))
def test_what_msgpack_has_needs_no_pickle(value: Any) -> None:
    """Whatever is built of None, bool, int of any size, float, str, bytes, list and dict crosses every link."""
    body, flags = codec.encode(value)
    assert flags == 0
    assert same(codec.decode(body, flags), value)


@given(st.text(min_size=1), st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=2))
def test_a_call_arrives_with_its_arguments_in_order(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """KEYWORDS says that the keyword arguments are there, in second place."""
    body, flags = codec.encode_call(name, tuple(args), kwargs)
    assert bool(flags & KEYWORDS) == bool(kwargs)
    assert same(codec.decode_call(body, flags), [name, kwargs, *args] if kwargs else [name, *args])


@given(values)
def test_encoding_leaves_the_value_alone(value: Any) -> None:
    """Encoding twice gives equal messages: nothing is consumed or changed."""
    first, second = codec.encode(value), codec.encode(value)
    assert same(codec.decode(*first), codec.decode(*second))


def _decode_or_refuse(body: bytes) -> None:
    try:
        codec.decode(body, 0)
        codec.decode_call(body, 0)
    except CodecError:
        pass


@given(st.binary(max_size=200))
def test_random_bytes_raise_a_codec_error_or_nothing(body: bytes) -> None:
    _decode_or_refuse(body)


@given(values, st.data())
@settings(max_examples=400)
def test_damaged_messages_raise_a_codec_error_or_nothing(value: Any, data: st.DataObject) -> None:
    """One byte changed, or cut off anywhere."""
    body, flags = codec.encode(value)
    if flags & PICKLED or not body:
        return
    at = data.draw(st.integers(0, len(body) - 1))
    _decode_or_refuse(body[:at])
    _decode_or_refuse(body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :])


@given(st.integers(0, 127), values)
@settings(max_examples=400)
def test_an_extension_with_foreign_data_raises_a_codec_error_or_nothing(code: int, value: Any) -> None:
    """Every extension meets data that another one would have written."""
    inner, flags = codec.encode(value)
    if not flags:
        _decode_or_refuse(bytes([0xC9]) + len(inner).to_bytes(4) + bytes([code]) + inner)


@pytest.mark.parametrize("code", range(128))
def test_an_empty_extension_raises_a_codec_error_or_nothing(code: int) -> None:
    _decode_or_refuse(bytes([0xC7, 0, code]))


def test_fractions_go_by_pickle() -> None:
    """The pickle way is really taken in these tests."""
    assert codec.encode(Fraction(1, 3))[1] == PICKLED

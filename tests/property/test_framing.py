"""Framings: what arrives equals what was sent, however the bytes were cut; mistakes and lengths are found as soon as they
can be, and nothing piles up.
"""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import FramingError, SpecError
from actors.pipes.framing import Codec, Netstrings, codec

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
KEYS = st.text(max_size=5) | st.integers(0, 9)
FRAMES: dict[str, st.SearchStrategy[Any]] = {
    "lines": st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30),
    "netstring": st.binary(max_size=30),
    "msgpack": st.recursive(
        ATOMS, lambda part: st.lists(part, max_size=4) | st.dictionaries(KEYS, part, max_size=4), max_leaves=8
    ),
}
FRAMED = sorted(FRAMES)


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The same bytes in pieces, some of them empty."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(12)))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


def fed(reader: Codec, pieces: list[bytes]) -> tuple[list[Any], type[Exception] | None]:
    """The frames, to the end of the stream or up to the first mistake, and the mistake."""
    frames: list[Any] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                frames.append(frame)  # one by one: those before a mistake count
        frames.extend(reader.end())
    except FramingError as error:
        return frames, type(error)
    return frames, None


@pytest.mark.parametrize("framing", FRAMED)
@given(data=st.data(), chance=st.randoms(use_true_random=False))
def test_any_cutting_gives_the_frames_that_were_sent(framing: str, data: st.DataObject, chance: random.Random) -> None:
    """Encoded one after the other, cut anywhere, fed piece by piece."""
    sent = data.draw(st.lists(FRAMES[framing], max_size=8))
    stream = b"".join(codec(framing).encode(each) for each in sent)
    assert fed(codec(framing), cut(stream, chance)) == (sent, None)


@given(pieces=st.lists(st.binary(max_size=30)))
def test_raw_gives_the_bytes_as_they_come(pieces: list[bytes]) -> None:
    """A frame is what one read gave; nothing is added, and no bytes are no frame."""
    reader = codec("raw")
    assert fed(reader, [reader.encode(piece) for piece in pieces]) == ([piece for piece in pieces if piece], None)


@pytest.mark.parametrize("framing", FRAMED)
@settings(max_examples=300)
@given(
    stream=st.one_of(st.binary(max_size=60), st.text("0123:,\n\x00ab", max_size=40).map(str.encode)),
    chance=st.randoms(use_true_random=False),
    limit=st.integers(1, 12),
)
def test_any_cutting_of_any_bytes_gives_the_same_frames_and_the_same_verdict(
    framing: str, stream: bytes, chance: random.Random, limit: int
) -> None:
    """Garbage, unended frames and frames over the limit are found, or not, whatever the pieces."""
    whole = fed(codec(framing, limit), [stream])
    assert repr(fed(codec(framing, limit), cut(stream, chance))) == repr(whole)  # NaN is not equal to itself


@pytest.mark.parametrize("framing", FRAMED)
@given(size=st.integers(0, 40), chance=st.randoms(use_true_random=False))
def test_a_frame_over_the_limit_is_an_error_that_names_it(framing: str, size: int, chance: random.Random) -> None:
    """At the limit it passes, one byte more does not, and the frames before it are given. (A msgpack object counts with
    its header, two bytes here.)
    """
    value: Any = "x" * size if framing == "lines" else b"x" * size
    length = len(msgpack.packb(value)) if framing == "msgpack" else size
    stream = codec(framing).encode(value) * 2
    if length:
        assert fed(codec(framing, length), cut(stream, chance)) == ([value, value], None)
    if length > 1:
        small = codec(framing).encode("" if framing == "lines" else b"" if framing == "netstring" else 1)
        frames, error = fed(codec(framing, length - 1), cut(small + stream, chance))
        assert (len(frames), error) == (1, FramingError)
        with pytest.raises(FramingError, match=f"limit={length - 1}"):
            list(codec(framing, length - 1).feed(stream))


@pytest.mark.parametrize("framing", FRAMED)
def test_an_endless_frame_is_refused_before_it_fills_the_memory(framing: str) -> None:
    """Each begins a frame that never ends; what was held back is not much more than the limit."""
    limit, piece = 10_000, b"1" * 1000
    begin = {"lines": b"", "netstring": b"10001:", "msgpack": msgpack.packb(b"1" * 10_001)[:3]}[framing]
    reader, taken = codec(framing, limit), 0
    with pytest.raises(FramingError):
        list(reader.feed(begin))
        while True:
            list(reader.feed(piece))
            taken += len(piece)
    assert taken <= limit


def test_many_frames_in_one_piece_take_time_that_grows_with_them_only() -> None:
    """No copy of the rest for each frame: half a million netstrings in one piece are read in one go."""
    frames = sum(1 for _ in Netstrings(100).feed(b"1:x," * 500_000))
    assert frames == 500_000


@pytest.mark.parametrize(
    ("framing", "stream", "text"),
    [
        ("netstring", b"5:hello;", "no ',' at its end"),
        ("netstring", b"hello", "begins with its length"),
        ("netstring", b"05:hello,", "begins with its length"),
        ("netstring", b":,", "begins with its length"),
        ("netstring", b"-1:,", "begins with its length"),
        ("netstring", b"5:hel", "after 5 of 8 bytes"),
        ("msgpack", b"\xc1", "not msgpack"),
        ("msgpack", b"\xa2\xff\xff", "not msgpack"),
        ("msgpack", b"\x92\x01", "inside a msgpack object, after 2 bytes"),
        ("lines", b"ok\n\xff\n", "not utf-8"),
    ],
)
def test_a_mistake_is_named(framing: str, stream: bytes, text: str) -> None:
    """What is wrong, and with what."""
    reader = codec(framing)
    with pytest.raises(FramingError, match=text):
        list(reader.feed(stream)) + list(reader.end())


def test_the_last_line_need_not_end() -> None:
    """As every tool has it; an empty rest is no line, an empty line is one."""
    assert fed(codec("lines"), [b"a\n\nb"]) == (["a", "", "b"], None)
    assert fed(codec("lines"), [b"a\n"]) == (["a"], None)


def test_lines_are_text_or_bytes() -> None:
    """By their encoding, in both directions."""
    assert fed(codec("lines", encoding=None), [b"\xff\n"]) == ([b"\xff"], None)
    assert fed(codec("lines", encoding="latin-1"), [b"\xff\n"]) == (["ÿ"], None)
    assert codec("lines", encoding="latin-1").encode("ÿ") == b"\xff\n"
    assert codec("lines").encode(b"\xff") == b"\xff\n"


@pytest.mark.parametrize(
    ("framing", "value", "error"),
    [
        ("lines", "a\nb", ValueError),
        ("lines", 1, TypeError),
        ("netstring", "text", TypeError),
        ("raw", "text", TypeError),
        ("msgpack", object(), TypeError),
    ],
)
def test_what_is_no_frame_is_refused(framing: str, value: object, error: type[Exception]) -> None:
    """Before any byte of it is written."""
    with pytest.raises(error):
        codec(framing).encode(value)


@pytest.mark.parametrize(
    "options", [("chunks",), ("lines", 0), ("lines", 1.5), ("lines", 10, "utf-16"), ("lines", 10, "no such")]
)
def test_senseless_options_are_refused(options: tuple[Any, ...]) -> None:
    """When the codec is made, before anything starts."""
    with pytest.raises(SpecError):
        codec(*options)

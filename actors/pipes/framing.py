"""How messages stand in a stream of bytes: lines, netstrings, msgpack, or as they come.

Rule: pure and incremental. `feed` takes bytes, cut anywhere, and gives the frames that they complete; the same bytes
give the same frames however they are cut, and those before a mistake are given before it is raised. What is held back
is never more than `limit` and one chunk: a longer frame is an error as soon as that is known. `encode` is the reverse.

Rejected: `asyncio.StreamReader` (its `readuntil` searches and copies the buffer for every line), and length prefixes of
2 or 4 bytes as in OTP's `{packet, N}` (netstrings do the same, readable, and tell garbage from data).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol, get_args

import msgpack

from ..errors import FramingError, SpecError

Framing = Literal["lines", "netstring", "raw", "msgpack"]
LIMIT = 16 << 20  # bytes of a frame
_SHOWN = 40  # bytes of a wrong frame in an error's text


class Codec(Protocol):
    """One framing, for one stream."""

    def encode(self, value: Any) -> bytes:
        """A message as bytes. TypeError, ValueError: it can't be one in this framing."""
        ...

    def feed(self, data: bytes) -> Iterator[Any]:
        """The frames that these bytes complete; to be taken to the end. FramingError: what follows makes no sense."""
        ...

    def end(self) -> Iterator[Any]:
        """The stream has ended: what that completes. FramingError: it ended inside a frame."""
        ...


def codec(framing: str, limit: int = LIMIT, encoding: str | None = "utf-8", errors: str = "strict") -> Codec:
    """A new codec. SpecError: there is no such framing, or its options make no sense.

    limit: bytes that a frame may have (not for "raw", whose frames are what one read gives). encoding: of "lines", which
    are then str; None leaves them bytes. errors: what becomes of bytes that are not of that encoding, as in `open`.
    """
    if framing not in get_args(Framing):
        raise SpecError(f"framing is {framing!r}: use one of {', '.join(get_args(Framing))}")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise SpecError(f"limit is {limit!r}: give the most bytes that a frame may have")
    match framing:
        case "lines":
            return Lines(limit, encoding, errors)
        case "netstring":
            return Netstrings(limit)
        case "msgpack":
            return Msgpack(limit)
    return Raw()


class Raw:
    """Bytes as they come."""

    def encode(self, value: Any) -> bytes:
        return _bytes(value, "raw")

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def end(self) -> Iterator[bytes]:
        return iter(())


class Lines:
    """A line a frame, without its newline; the last one need not have any."""

    def __init__(self, limit: int, encoding: str | None, errors: str) -> None:
        if encoding is not None:
            try:
                fits = "\n".encode(encoding) == b"\n"
            except LookupError:
                fits = False
            if not fits:
                raise SpecError(f"encoding is {encoding!r}: use one that has ASCII's newline, or None for bytes")
        self._limit, self._encoding, self._errors = limit, encoding, errors
        self._parts: list[bytes] = []  # of the line that has no end yet
        self._held = 0

    def encode(self, value: Any) -> bytes:
        if isinstance(value, str):
            value = value.encode(self._encoding or "utf-8", self._errors)
        line = _bytes(value, "lines")
        if b"\n" in line:
            raise ValueError("a line can't contain a newline (framing='lines' adds one); send one message a line")
        return line + b"\n"

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._parts, self._held = [], 0
        for line in lines:
            self._check(len(line), line)
            yield self._text(line)
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
            self._check(self._held, self._parts[0])

    def end(self) -> Iterator[bytes | str]:
        line, self._parts, self._held = b"".join(self._parts), [], 0
        if line:
            yield self._text(line)

    def _check(self, size: int, begins: bytes) -> None:
        if size > self._limit:
            raise _too_long("line", begins, self._limit)

    def _text(self, line: bytes) -> bytes | str:
        if self._encoding is None:
            return line
        try:
            return line.decode(self._encoding, self._errors)
        except UnicodeDecodeError as error:
            shown = line[max(0, error.start - _SHOWN // 2) : error.start + _SHOWN // 2]
            raise FramingError(
                f"a line is not {self._encoding}: {error.reason} at byte {error.start}, near {shown!r}; "
                "use encoding=None for bytes, or the encoding that it has"
            ) from None


class Netstrings:
    """`5:hello,` a frame (cr.yp.to/proto/netstrings.txt)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digits = len(str(limit))
        self._buffer = bytearray()

    def encode(self, value: Any) -> bytes:
        data = _bytes(value, "netstring")
        return b"%d:%b," % (len(data), data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        at = 0
        try:
            while (begin := self._header(at)) is not None:
                end = begin[0] + begin[1]
                if len(self._buffer) <= end:
                    return
                if self._buffer[end] != ord(","):
                    raise FramingError(f"a netstring of {begin[1]} bytes has no ',' at its end; {self._shown(at)}")
                yield bytes(memoryview(self._buffer)[begin[0] : end])
                at = end + 1
        finally:
            del self._buffer[:at]

    def end(self) -> Iterator[bytes]:
        if self._buffer:
            begin = self._header(0)
            wanted = f"{begin[0] + begin[1] + 1}" if begin else "more"
            raise FramingError(f"the stream ended inside a netstring, after {len(self._buffer)} of {wanted} bytes")
        return iter(())

    def _header(self, at: int) -> tuple[int, int] | None:
        """Where the data of the frame at `at` begins, and its length; None: not known yet."""
        colon = self._buffer.find(b":", at, at + self._digits + 1)
        header = bytes(self._buffer[at : at + self._digits + 1] if colon < 0 else self._buffer[at:colon])
        if (not header.isdigit() and (header or colon >= 0)) or (header.startswith(b"0") and header != b"0"):
            raise FramingError(f"a netstring begins with its length and ':'; {self._shown(at)}")
        if header and int(header) > self._limit:
            raise FramingError(f"a netstring of {int(header)} bytes or more is longer than limit={self._limit}")
        return None if colon < 0 else (colon + 1, int(header))

    def _shown(self, at: int) -> str:
        return f"here stands {bytes(self._buffer[at : at + _SHOWN])!r}"


class Msgpack:
    """One msgpack object after the other, as plain data; extension types stay `msgpack.ExtType`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fed = self._taken = 0
        self._unpacker = msgpack.Unpacker(
            strict_map_key=False,
            max_buffer_size=(1 << 31) - 1,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=limit,
            max_map_len=limit,
            max_ext_len=limit,
        )

    def encode(self, value: Any) -> bytes:
        packed: bytes = msgpack.packb(value)
        return packed

    def feed(self, data: bytes) -> Iterator[Any]:
        self._unpacker.feed(data)
        self._fed += len(data)
        while True:
            try:
                value = self._unpacker.unpack()
            except msgpack.OutOfData:
                self._check(self._fed)
                return
            except (ValueError, msgpack.UnpackException) as error:
                raise FramingError(f"not msgpack, or more than limit={self._limit} bytes: {_said(error)}") from error
            self._check(self._unpacker.tell())
            self._taken = self._unpacker.tell()
            yield value

    def end(self) -> Iterator[Any]:
        if self._fed > self._taken:
            raise FramingError(f"the stream ended inside a msgpack object, after {self._fed - self._taken} bytes")
        return iter(())

    def _check(self, end: int) -> None:
        if end - self._taken > self._limit:
            raise FramingError(f"a msgpack object is longer than limit={self._limit} bytes")


def _bytes(value: Any, framing: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    also = " or str" if framing == "lines" else ""
    raise TypeError(f"framing={framing!r} carries bytes{also}, not {type(value).__name__}")


def _too_long(what: str, begins: bytes, limit: int) -> FramingError:
    return FramingError(f"a {what} that begins with {begins[:_SHOWN]!r} is longer than limit={limit} bytes")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}{f' ({error})' if str(error) else ''}"

"""Parcels: a message whose large buffers travel beside it.

Rule: while a message is encoded, whoever comes upon a large buffer (an array, bytes, a buffer of a pickle) may `place` it
and writes the number that it gets; while it is decoded, `arrived` gives the buffer of that number. The encoded body then
is a `Parcel`, bytes with `parts`. How the parts get to the other process is not known here (arena.py).

A parcel may be in a message itself, as what was encoded before: its parts are then parts of that message, and whoever
only passes it on neither opens nor copies it.

A part that lies in shared memory already (a view of what was received or shared) is known by its `Span` and is lent on,
not copied.

Rejected: placing buffers into shared memory at once, before it is known to whom the message goes and whether the rest of
it can be encoded; parts in a thread's variable until the sender takes them, which a finalizer that sends could take first.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, Final, NamedTuple

from .transports._ring import LARGE, Span, address

MOST: Final = 64  # parts of a message; what is beyond stays in its body

__all__ = [
    "LARGE",
    "Lent",
    "Parcel",
    "arrived",
    "collected",
    "contents",
    "disclosed",
    "drop",
    "enclosed",
    "goes_beside",
    "holder",
    "outer",
    "place",
    "unpacking",
    "weight",
    "whole",
]


class Lent(NamedTuple):
    """Part of a span of shared memory."""

    span: Span
    offset: int  # in the segment
    length: int

    def view(self) -> memoryview:
        begin = self.offset - self.span.offset
        return memoryview(self.span)[begin : begin + self.length]


Part = Any  # to send: a C-contiguous buffer, Span or Lent; received: a Span, or bytes if there were too many


class Parcel(bytes):
    """An encoded body and the parts that it refers to by number. whole: the last part is the body itself."""

    parts: list[Part]
    whole: bool = False

    @classmethod
    def of(cls, body: bytes, parts: list[Part], whole: bool = False) -> Parcel:
        self = cls(body)
        self.parts, self.whole = parts, whole
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel.of, (bytes(self), [bytes(contents(part)) for part in self.parts])


_whole: set[int] = set()  # threads that encode what must hold all of itself
_outgoing: dict[int, list[Part]] = {}  # thread -> parts of the message that it is encoding
_incoming: dict[int, list[Part]] = {}  # thread -> those of the message that it is decoding


def goes_beside(length: int) -> bool:
    """Shall a buffer of so many bytes be placed?"""
    return length >= LARGE and get_ident() not in _whole


def place(buffer: Any, holder: Any = None) -> int:
    """Send this buffer beside the message: its number, or -1: there are as many as there can be.

    buffer: C-contiguous, not changed before the message is sent. holder: the object whose memory it is, if that may be a
    `Span`.
    """
    me = get_ident()
    parts = _outgoing.setdefault(me, [])
    if len(parts) >= MOST or me in _whole:
        return -1
    if type(holder) is Span:
        at = address(buffer) - holder.address
        buffer = Lent(holder, holder.offset + at, memoryview(buffer).nbytes)
    parts.append(buffer)
    return len(parts) - 1


def weight(body: bytes) -> int:
    """Bytes of a body, those beside it included."""
    parts = body.parts if isinstance(body, Parcel) else ()
    return len(body) + sum(part.length if type(part) in (Span, Lent) else memoryview(part).nbytes for part in parts)


def contents(part: Part) -> Any:
    """The buffer that a part stands for."""
    return part.view() if type(part) is Lent else part


def enclosed(parcel: Parcel) -> list[Any]:
    """What is written for a parcel in a message: its body, and of each part the number there, or (there are as many as
    there can be) its bytes.
    """
    numbers = [place(Lent(part, part.offset, part.length) if type(part) is Span else part) for part in parcel.parts]
    parts = zip(numbers, parcel.parts, strict=True)
    return [bytes(parcel), [number if number >= 0 else bytearray(contents(part)) for number, part in parts]]


def disclosed(written: list[Any]) -> Parcel:
    """The parcel of which `enclosed` made this."""
    body, parts = written
    return Parcel.of(body, [arrived(part) if type(part) is int else part for part in parts])


def holder(view: memoryview) -> Any:
    """The object whose memory it is."""
    found: Any = view.obj
    while type(found).__module__ == "numpy" and getattr(found, "base", None) is not None:
        found = found.base
    return found.obj if type(found) is memoryview else found


def outer() -> list[Part] | None:
    """Begin a message: what to give `collected` (or `drop`) at its end, since one may be encoded while another is."""
    return _outgoing.pop(get_ident(), None) if _outgoing else None


def collected(body: bytes, before: list[Part] | None) -> bytes:
    """The end of a message: a Parcel if anything was placed."""
    parts = drop(before) if _outgoing or before is not None else None
    return Parcel.of(body, parts) if parts else body


def drop(before: list[Part] | None) -> list[Part] | None:
    """The end of a message, or of a try to encode it: what was placed."""
    parts = _outgoing.pop(get_ident(), None)
    if before is not None:
        _outgoing[get_ident()] = before
    return parts


class whole:  # noqa: N801 - a statement: `with whole():`
    """While it lasts, nothing of what this thread encodes is placed beside it."""

    def __enter__(self) -> None:
        _whole.add(get_ident())

    def __exit__(self, *_: object) -> None:
        _whole.discard(get_ident())


class unpacking:  # noqa: N801 - a statement: `with unpacking(parts):`
    """While it lasts, this thread's `arrived` gives these parts."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.before: list[Part] | None = None

    def __enter__(self) -> None:
        self.before = _incoming.get(get_ident())
        _incoming[get_ident()] = self.parts

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del _incoming[get_ident()]
        else:
            _incoming[get_ident()] = self.before


def arrived(number: int) -> Any:
    """The part of the message that is being decoded. LookupError: it has none of that number."""
    return _incoming[get_ident()][number]

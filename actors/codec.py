"""Messages as bytes: what arrives equals what was sent, type and value.

Rule: a value is packed in the caller's frame, completely, so that it may change afterwards, and an unsendable one
raises `CodecError` there. Three ways, in this order:

1. plain values (None, bool, int, float, str, bytes, list, dict, nothing derived from them) by msgpack, as it is;
2. tuples, sets, times, dataclasses, arrays and so on as msgpack extensions (extensions.py, classes.py, arrays.py);
   Large bytes and arrays are not in the body but beside it: it is a `Parcel` then (parcels.py), and HANDLE says so;
3. if anything in it has no extension, the whole body by pickle (pickling.py), and the flag PICKLED says so.

Sharing inside a message is not kept on the first two ways (the same list twice arrives as two lists); cycles take the
third.

msgpack's traps, and what is done about them: it packs bytearray and memoryview as bytes without asking (they are
boxed first); its Packer is not reentrant, and extensions run Python code in it (each call takes one from a pool, and
a failed one is never returned); it keeps the largest buffer it ever needed (big ones are dropped). Rejected: msgspec,
three times as fast at 0.2 us, for whatever it can't carry it turns into something near; pickle alone, which a link to
another machine must refuse.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any, Final, TypeVar

from msgpack import ExtType, Packer, Timestamp, unpackb

from . import arrays, classes, extensions, parcels  # noqa: F401 - the first two add their extensions
from .errors import CodecError
from .extensions import BY_CODE, BY_TYPE, ByPickle, Restore
from .pickling import Step, dumps, loads, unsendable
from .transports._ring import is_plain

T = TypeVar("T")

HOMES: Final = {41: ".shared"}
"""Modules whose types a process may receive before it has imported them, by extension code."""

PICKLED: Final = 1
"""Flag: the body is a pickle; without it, msgpack."""

KEYWORDS: Final = 2
"""Flag of a call: its second item is the dict of keyword arguments."""

HANDLE: Final = 4
"""Flag: the body is a `Parcel`, with parts beside it (parcels.py)."""

_POOLED: Final = 16  # packers kept; nested extensions use one a level
_KEPT: Final = 1 << 20  # bytes: a packer whose buffer grew beyond is not kept

_PICKLE_INSTEAD: Final = (
    ByPickle,
    ValueError,  # lone surrogates, nested too deeply, more than 4 GiB
    RuntimeError,  # a cycle through an extension (RecursionError)
)

PACKERS: Final[list[Callable[[Any], bytes]]] = []  # free ones; list.pop and append are atomic


def encode(value: Any) -> tuple[bytes, int]:
    """The value as (body, flags). Raises CodecError, naming the attribute, if it can't be sent."""
    try:
        if is_plain(value):
            return _pack(value), 0
        return _pack_all(value, 0)
    except _PICKLE_INSTEAD:
        pass
    try:
        return _pickle(value, PICKLED)
    except Exception as error:
        raise unsendable("the value", [("it", value)], error) from error


def decode(body: bytes, flags: int) -> Any:
    """What `encode` was given. Raises CodecError, and nothing else, if the body makes no sense here."""
    try:
        if flags & HANDLE:
            return _open(body, flags)
        if flags & PICKLED:
            return loads(body)
        return unpack(body)
    except Exception as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> CodecError:
    """What `decode` raises for what was raised while it read."""
    if isinstance(error, CodecError):
        return error
    return CodecError(f"a message can't be read: {type(error).__name__}: {error}")


def encode_whole(value: Any) -> tuple[bytes, int]:
    """`encode` with nothing beside the body: for what is kept. Raises CodecError."""
    with parcels.whole():
        return encode(value)


def inlined(body: bytes, flags: int) -> tuple[bytes, int]:
    """The same message with nothing beside it. Raises CodecError."""
    body, plain = encode_whole(decode(body, flags))
    return body, plain | flags & KEYWORDS


def encode_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, int]:
    """A call as (body, flags). Raises CodecError, naming argument and attribute, if it can't be sent."""
    if kwargs:
        call, flags = [name, kwargs, *args], KEYWORDS
    else:
        call, flags = [name, *args], 0
    try:
        if is_plain(call):
            return _pack(call), flags
        return _pack_all(call, flags)
    except _PICKLE_INSTEAD:
        pass
    try:
        return _pickle(call, flags | PICKLED)
    except Exception as error:
        labelled: list[Step] = [(f"argument {index}", value) for index, value in enumerate(args, 1)]
        labelled += ((f"argument {key!r}", value) for key, value in kwargs.items())
        raise unsendable(f"the call {name}()", labelled, error) from error


def decode_call(body: bytes, flags: int) -> list[Any]:
    """[name, *args], or [name, kwargs, *args] with KEYWORDS. Raises CodecError like `decode`."""
    call = decode(body, flags)
    if type(call) is not list or not call:
        raise CodecError("a message can't be read: it is no call")
    return call


def register(kind: type[T], code: int, pack: Callable[[T], Any], unpack: Callable[[Any], T]) -> None:
    """Send values of exactly this type as an extension: at the receiver, `unpack` gets what `pack` returned.

    pack: returns any sendable value. code: 40..127, one a type, the same in all processes; ValueError if it is taken.
    """
    if code < 40:
        raise ValueError(f"extension code {code} of {kind.__qualname__} is the codec's: choose one from 40 to 127")
    extensions.register(kind, code, pack, unpack)


# --- inside


def _pack_all(value: Any, flags: int) -> tuple[bytes, int]:
    """By msgpack, with extensions; large buffers beside the body."""
    before = parcels.outer()
    try:
        body = _pack(_boxed(value))
    except BaseException:
        parcels.drop(before)
        raise
    body = parcels.collected(body, before)
    return body, flags | HANDLE if type(body) is parcels.Parcel else flags


def _pickle(value: Any, flags: int) -> tuple[bytes, int]:
    """By pickle, likewise."""
    before = parcels.outer()
    try:
        body = dumps(value, _beside)
    except BaseException:
        parcels.drop(before)
        raise
    body = parcels.collected(body, before)
    return body, flags | HANDLE if type(body) is parcels.Parcel else flags


def _beside(buffer: PickleBuffer) -> bool:
    """Whether a pickle's buffer stays in the pickle."""
    raw = buffer.raw()
    return raw.nbytes < parcels.LARGE or parcels.place(raw, parcels.holder(raw)) < 0


def _open(body: bytes, flags: int) -> Any:
    parts = body.parts if isinstance(body, parcels.Parcel) else []
    parts = [parcels.contents(part) for part in parts]  # lent ones were not sent: they are still here
    if flags & PICKLED:
        return loads(body, buffers=parts)
    with parcels.unpacking(parts):
        return unpack(body)


def _pack(value: Any) -> bytes:
    try:
        pack = PACKERS.pop()
    except IndexError:
        pack = Packer(default=_extend, strict_types=True).pack
    body = pack(value)
    if len(body) <= _KEPT and len(PACKERS) < _POOLED:
        PACKERS.append(pack)
    return body


class _Box:
    """Hides from the packer what it would pack as something else."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _boxed(value: Any) -> Any:
    """The value with every bytearray and memoryview boxed that msgpack would come upon by itself, and large bytes, which
    travel beside the message."""
    kind = type(value)
    if kind is list:
        return value if is_plain(value) else [_boxed(part) for part in value]
    if kind is dict:
        return value if is_plain(value) else {_boxed(key): _boxed(part) for key, part in value.items()}
    if kind is bytearray or kind is memoryview or (kind is bytes and parcels.goes_beside(len(value))):
        return _Box(value)
    if kind is ExtType or kind is Timestamp:
        raise ByPickle
    return value


def _extend(value: Any) -> ExtType:
    if type(value) is _Box:
        value = value.value
        if type(value) is not memoryview and parcels.goes_beside(len(value)):
            number = parcels.place(value)
            if number >= 0:
                return tuple.__new__(ExtType, (_BESIDE[type(value)], number.to_bytes(2, "little")))
            if type(value) is bytes:
                raise ByPickle
    extension = BY_TYPE.get(type(value)) or extensions.of(type(value))
    if extension is None:
        raise ByPickle
    code, pack, leaf = extension
    data = pack(value)
    if not leaf:
        data = _pack(data if is_plain(data) else _boxed(data))
    return tuple.__new__(ExtType, (code, data))  # its own constructor takes 0.3 us for checks


def _restore(code: int, data: bytes) -> Any:
    try:
        restore, leaf = BY_CODE[code]
    except KeyError:
        importlib.import_module(HOMES[code], __package__)  # which registers it
        restore, leaf = BY_CODE[code]
    return restore(data if leaf else unpack(data))


UNPACKING: Final[dict[str, Any]] = {"ext_hook": _restore, "strict_map_key": False}
"""What `unpackb` needs to know: bound to it, they would cost a loop of actor messages as much as the decoding itself."""

unpack: Callable[[bytes], Any] = functools.partial(unpackb, **UNPACKING)
"""The value of a body without flags. Raises whatever msgpack and the extensions do."""


def _from_beside(kind: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    return lambda data: kind(parcels.arrived(int.from_bytes(data, "little")))


_BESIDE: Final[dict[Any, int]] = {bytes: 30, bytearray: 31}
_PARCEL: Final = 32
for _kind, _code in _BESIDE.items():
    BY_CODE[_code] = Restore(_from_beside(_kind), True)
extensions.register(parcels.Parcel, _PARCEL, parcels.enclosed, parcels.disclosed)

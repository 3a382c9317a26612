"""Extension types: how a value that msgpack lacks crosses with its exact type.

Rule: one code a type, for good; a code is part of the wire format. An extension turns a value into data and back. A
*leaf* gives the data's bytes itself; any other gives a value (mostly a list of its parts) which the codec encodes in
turn, so that parts may be anything. What has no extension, or is in a state that one can't carry, raises `ByPickle`,
and the whole message goes by pickle.

Types are matched exactly, never by inheritance: an `OrderedDict` packed as a dict would arrive as one. Codes 0 to 39
belong to the codec, 40 to 127 to the modules above it (`codec.register`). Rejected: msgpack's own timestamp (code
-1), which knows neither naive times nor `fold`; and pickles inside extensions, which would hide them from a link that
must refuse pickle.
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID, SafeUUID

T = TypeVar("T")
MAILBOX, TOPIC = 44, 45  # codes of values whose modules are imported when the first one arrives


class ByPickle(Exception):
    """No extension carries this value as it is now: the message has to go by pickle."""


class Extension(NamedTuple):
    """How values of one type are packed."""

    code: int
    pack: Callable[[Any], Any]
    leaf: bool


class Restore(NamedTuple):
    """How the data of one code is unpacked."""

    unpack: Callable[[Any], Any]
    leaf: bool


Finder = Callable[[type], Extension | None]

BY_TYPE: Final[dict[type, Extension]] = {}
BY_CODE: Final[dict[int, Restore]] = {}
FINDERS: Final[list[Finder]] = []  # asked in order for a type that is not in BY_TYPE


def register(
    kind: type[T], code: int, pack: Callable[[T], Any], unpack: Callable[[Any], T], *, leaf: bool = False
) -> None:
    """Give `kind` the extension `code`. Raises ValueError if the code is another type's."""
    known = BY_TYPE.get(kind)
    if not 0 <= code <= 127 or (code in BY_CODE and (known is None or known.code != code)):
        raise ValueError(f"extension code {code} of {kind.__qualname__} is taken or not in 0..127: choose another")
    BY_TYPE[kind] = Extension(code, pack, leaf)
    BY_CODE[code] = Restore(unpack, leaf)


def of(kind: type) -> Extension | None:
    """The extension of exactly this type, or None: its values go by pickle."""
    found = BY_TYPE.get(kind)
    if found is None:
        for find in FINDERS:
            if (found := find(kind)) is not None:
                break
    return found


# --- numbers and bytes

_COMPLEX: Final = struct.Struct("<dd")


def _int_to_bytes(number: int) -> bytes:  # only those beyond 64 bits come here
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _int_from_bytes(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


# --- times

_TIMEDELTA: Final = struct.Struct("<iii")
_IN_UTC: Final = 0  # stands for UTC, by far the most frequent one


def _zone_out(zone: tzinfo | None) -> Any:
    return _IN_UTC if zone is UTC else zone


def _zone_in(zone: Any) -> Any:
    return UTC if type(zone) is int and zone == _IN_UTC else zone


def _datetime_out(value: datetime) -> list[Any]:
    day = [value.year, value.month, value.day]
    return [*day, value.hour, value.minute, value.second, value.microsecond, value.fold, _zone_out(value.tzinfo)]


def _datetime_in(fields: list[Any]) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = fields
    return datetime(year, month, day, hour, minute, second, microsecond, _zone_in(zone), fold=fold)


def _time_out(value: time) -> list[Any]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold, _zone_out(value.tzinfo)]


def _time_in(fields: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = fields
    return time(hour, minute, second, microsecond, _zone_in(zone), fold=fold)


def _timezone_out(zone: timezone) -> list[Any]:
    return list(zone.__getinitargs__())  # type: ignore[attr-defined]  # (offset,) or (offset, name), as pickle has it


def _find_zoneinfo(kind: type) -> Extension | None:
    """Found late, because importing zoneinfo costs milliseconds that most programs need not spend."""
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is None or kind is not zoneinfo.ZoneInfo:
        return None
    return Extension(16, _zoneinfo_out, True)


def _zoneinfo_out(zone: Any) -> bytes:
    if zone.key is None or type(zone)(zone.key) is not zone:  # of a file or of no_cache: equal to itself only
        raise ByPickle
    return str(zone.key).encode()


def _zoneinfo_in(data: bytes) -> tzinfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo(data.decode())


# --- texts in disguise


def _path_out(path: PurePath) -> bytes:
    return str(path).encode("utf-8", "surrogatepass")  # names that are no UTF-8 are lone surrogates in Python


def _path_in(kind: type[T]) -> Callable[[bytes], T]:
    return lambda data: kind(data.decode("utf-8", "surrogatepass"))  # type: ignore[call-arg]


_SAFETY: Final = {SafeUUID.unknown: b"", SafeUUID.safe: b"s", SafeUUID.unsafe: b"u"}
_SAFE: Final = {mark: safety for safety, mark in _SAFETY.items()}


def _uuid_in(data: bytes) -> UUID:
    return UUID(bytes=data[:16], is_safe=_SAFE[data[16:]])


register(tuple, 1, list, tuple)
register(set, 2, list, set)
register(frozenset, 3, list, frozenset)
register(bytearray, 4, bytes, bytearray, leaf=True)
register(int, 5, _int_to_bytes, _int_from_bytes, leaf=True)
register(complex, 6, lambda c: _COMPLEX.pack(c.real, c.imag), lambda data: complex(*_COMPLEX.unpack(data)), leaf=True)
register(range, 7, lambda r: [r.start, r.stop, r.step], lambda parts: range(*parts))
register(Decimal, 9, lambda d: str(d).encode(), lambda data: Decimal(data.decode()), leaf=True)
register(UUID, 10, lambda u: u.bytes + _SAFETY[u.is_safe], _uuid_in, leaf=True)
register(datetime, 11, _datetime_out, _datetime_in)
register(date, 12, lambda d: d.toordinal().to_bytes(3), lambda data: date.fromordinal(int.from_bytes(data)), leaf=True)
register(time, 13, _time_out, _time_in)
register(
    timedelta,
    14,
    lambda d: _TIMEDELTA.pack(d.days, d.seconds, d.microseconds),
    lambda data: timedelta(*_TIMEDELTA.unpack(data)),
    leaf=True,
)
register(timezone, 15, _timezone_out, lambda parts: timezone(*parts))


def _late(module: str, name: str) -> Restore:
    return Restore(lambda parts: getattr(importlib.import_module(module, __package__), name)(*parts), False)


BY_CODE[MAILBOX] = _late(".box", "Mailbox")
BY_CODE[TOPIC] = _late(".topic", "Topic")
BY_CODE[16] = Restore(_zoneinfo_in, True)
FINDERS.append(_find_zoneinfo)
register(PosixPath, 17, _path_out, _path_in(PosixPath), leaf=True)
register(PurePosixPath, 18, _path_out, _path_in(PurePosixPath), leaf=True)
register(PureWindowsPath, 19, _path_out, _path_in(PureWindowsPath), leaf=True)

"""is_plain(): may this value go by msgpack as it is, and come back equal in type and value? As plain.c has it."""

from __future__ import annotations

from typing import Any, Final, cast

from .layout import LARGE

_DEPTH: Final = 100
_ATOMS: Final = frozenset({type(None), bool, float})


def is_plain(value: object, /) -> bool:
    """See _ring.pyi."""
    return _plain(value, _DEPTH)


def _plain(value: object, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        text = cast("str", value)
        return text.isascii() or _is_utf8(text)
    if kind in _ATOMS:
        return True
    if kind is int:
        return -(2**63) <= cast("int", value) < 2**64
    if kind is bytes:
        return len(cast("bytes", value)) < LARGE
    if kind is list:
        return depth > 0 and all(_plain(part, depth - 1) for part in cast("list[Any]", value))
    if kind is dict:
        parts = cast("dict[Any, Any]", value).items()
        return depth > 0 and all(_plain(key, depth - 1) and _plain(part, depth - 1) for key, part in parts)
    return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

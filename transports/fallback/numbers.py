"""pack_numbers(), unpack_numbers(): a list of numbers as a column of machine words. As numbers.c has it."""

from __future__ import annotations

from array import array
from typing import Any, Final

_LETTERS: Final = {int: "q", float: "d"}
_WORD: Final = 8


def pack_numbers(items: list[Any], /) -> bytes | None:
    """See _ring.pyi."""
    if type(items) is not list:
        raise TypeError("a list, please")
    kinds = set(map(type, items))
    letter = _LETTERS.get(kinds.pop()) if len(kinds) == 1 else None
    if letter is None:
        return None
    try:
        return letter.encode() + array(letter, items).tobytes()
    except OverflowError:
        return None


def unpack_numbers(column: bytes, low: int, high: int, /) -> list[Any]:
    """See _ring.pyi."""
    letter = column[:1].decode("latin-1")
    if letter not in _LETTERS.values() or not 0 <= low <= high <= (len(column) - 1) // _WORD:
        raise ValueError(f"no column of {high} numbers")
    numbers = array(letter)
    numbers.frombytes(column[1 + low * _WORD : 1 + high * _WORD])
    return numbers.tolist()

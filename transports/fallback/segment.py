"""Large data: Ledger, Segment and Span, as segment.c has them, but that a Span is a copy.

Rule: a lease is one word in the ledger. It is dropped by one store of whoever has it; to take one is to find a free word
and write it, in turns (exclusive.py).

A Span holds the bytes themselves, copied when it is made: only from Python 3.12 on could a class of Python's lend memory
that is not its own, and the reader's copy is what the extension is for.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from functools import partial
from typing import Any, Final, final

from . import libc
from .exclusive import Exclusive
from .layout import M64
from .ring import memory_file

PAGE: Final = 4096
WORDS: Final = PAGE // 8


def memory(size: int, name: str, /) -> int:
    """A memfd of so many bytes, sealed against resizing, close-on-exec. OSError (descriptors, memory)."""
    fd = memory_file(name)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def address(buffer: Any, /) -> int:
    """Where the bytes of a C-contiguous buffer are."""
    if type(buffer) is Span:
        return buffer.address
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise BufferError("a buffer is C-contiguous")
    return _address(view) if view.nbytes else 0


class _Buffer(ctypes.Structure):
    """Py_buffer of the stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("rest", ctypes.c_void_p * 4),
    )


def _address(view: memoryview) -> int:
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(found), 0)
    at = int(found.buf or 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return at


def _sealed(fd: int) -> int:
    """The size of a file that can't shrink, or 0."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        os.fstat(fd)  # a descriptor that is none is another error
        del error
        return 0
    return os.fstat(fd).st_size if seals & fcntl.F_SEAL_SHRINK else 0


class _Mapped:
    __slots__ = ("base", "bytes", "length")
    base: int
    bytes: memoryview
    length: int

    def map(self, fd: int, size: int, writable: bool) -> None:
        self.base = libc.map_shared(fd, size, writable)
        self.length, self.bytes = size, libc.memory_at(self.base, size, writable)

    def __del__(self, unmap: Any = libc.unmap) -> None:
        if getattr(self, "base", 0):
            self.bytes.release()
            unmap(self.base, self.length)


@final
class Ledger(_Mapped):
    """See _ring.pyi."""

    __slots__ = ("page", "segments", "turn")

    def __init__(self, fd: int, /) -> None:
        size = _sealed(fd)
        if size < PAGE or size % PAGE:
            raise ValueError(f"descriptor {fd} is no ledger")
        self.map(fd, size, True)
        self.segments, self.page, self.turn = size // PAGE, self.bytes.cast("Q"), Exclusive(fd)

    def __del__(self, unmap: Any = libc.unmap) -> None:
        if getattr(self, "base", 0):
            self.page.release()
        super().__del__(unmap)

    def _first(self, index: int) -> int:
        if not 0 <= index < self.segments:
            raise ValueError(f"the ledger has no segment {index}")
        return index * WORDS

    def take(self, index: int, word: int, /) -> int:
        first, page = self._first(index), self.page
        for slot in range(first, first + WORDS):
            if page[slot] == 0 and self.turn.run(partial(_set, page, slot, word)):
                return slot - first
        return -1

    def drop(self, index: int, slot: int, word: int, /) -> bool:
        first, page = self._first(index), self.page
        if not 0 <= slot < WORDS or not word or page[first + slot] != word:
            return False
        page[first + slot] = 0
        return True

    def held(self, index: int, word: int = 0, mask: int = -1, /) -> int:
        page = self._page(index)
        if not word:
            return WORDS - page.count(0)
        mask &= M64
        return sum(each & mask == word for each in page)

    def words(self, index: int, /) -> list[tuple[int, int]]:
        return [(slot, word) for slot, word in enumerate(self._page(index)) if word]

    def _page(self, index: int) -> list[int]:
        first = self._first(index)
        return self.page[first : first + WORDS].tolist()


def _set(page: memoryview, at: int, word: int) -> bool:
    if page[at]:
        return False
    page[at] = word
    return True


@final
class Segment(_Mapped):
    """See _ring.pyi."""

    __slots__ = ("present", "writable")

    def __init__(self, fd: int, writable: bool = False, /) -> None:
        size = _sealed(fd)
        if size <= 0:
            raise ValueError(f"descriptor {fd} is no segment")
        self.map(fd, size, bool(writable))
        self.writable, self.present = bool(writable), 0

    @property
    def size(self) -> int:
        return self.length

    def write(self, source: Any, /) -> bool:
        view = memoryview(source)
        if not view.c_contiguous:
            raise BufferError("a buffer is C-contiguous")
        length = view.nbytes
        if not self.writable or length > self.length:
            kind = "writable" if self.writable else "read-only"
            raise ValueError(f"{length} bytes can't be written into a {kind} segment of {self.length}")
        if not self._populate(length):
            return False
        if length:
            self.bytes[:length] = view.cast("B")
        return True

    def _populate(self, length: int) -> bool:
        """Pages for the first so many bytes: an error where touching them would be a SIGBUS or the OOM killer."""
        if length <= self.present:
            return True
        start, end = self.present & ~(PAGE - 1), min((length + PAGE - 1) & ~(PAGE - 1), self.length)
        if not libc.populate(self.base + start, end - start):
            return False
        self.present = length
        return True


@final
class Span(bytes):
    """A readable part of a segment, copied, and the lease that lets it be lent on without another copy."""

    id: int
    offset: int
    _lease: tuple[Ledger, int, int, int]  # ledger, slot, word, pid of who holds it

    def __new__(cls, segment: Segment, id: int, offset: int, length: int, ledger: Ledger, word: int, /) -> Span:
        if type(segment) is not Segment or type(ledger) is not Ledger:
            raise TypeError("Span() takes a Segment and a Ledger")
        if not (0 <= offset <= segment.size and 0 <= length <= segment.size - offset):
            raise ValueError(f"a segment of {segment.size} bytes has no {length} at {offset}")
        slot = ledger.take(id & 0xFFFFFFFF, word)
        if slot < 0:
            raise BufferError("the segment has as many holders as it can have")
        try:
            self = super().__new__(cls, segment.bytes[offset : offset + length])
        except BaseException:
            ledger.drop(id & 0xFFFFFFFF, slot, word)
            raise
        self.id, self.offset, self._lease = id, offset, (ledger, slot, word, os.getpid())
        return self

    def __del__(self, getpid: Any = os.getpid) -> None:
        with contextlib.suppress(AttributeError):  # not made to the end
            ledger, slot, word, pid = self._lease
            if pid == getpid():
                ledger.drop(self.id & 0xFFFFFFFF, slot, word)

    @property
    def length(self) -> int:
        return len(self)

    @property
    def address(self) -> int:
        return _address(memoryview(self)) if len(self) else 0

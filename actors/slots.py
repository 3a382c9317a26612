"""Where an actor's last snapshot lies: two pieces of shared memory that outlive its process.

Rule: a snapshot is written beside the last one, then published by one aligned 8-byte store, so a death at any
instruction leaves a whole one. The word that is stored says which slot is meant and up to which position of the mailbox
messages are in it; it is all that the guardian, which keeps the descriptors, ever reads.

Layout, of each slot: word (in slot 0 only), from byte 64 on a fixed head, the body, and the answer to the last message
where it may have to be sent again. The first page of each is
mapped, and whatever fits into it is written there in a fifth of a microsecond; a larger body goes by `pwrite`, which
grows the file and says when there is no memory (touching a mapping would be a SIGBUS). What a burst needed goes back.

Rejected: one file with two regions (they must move to grow, and can't shrink); a new memfd for every snapshot (an
exchange with the guardian and fresh pages each time); a checksum in place of the word (the guardian would have to read
the body to know what was handled).
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Final

from .errors import ActorsError

VERSION: Final = 1
PAGE: Final = 4096
_PUBLISHED: Final = 2  # bit of the word; the lowest one is the slot, the rest the position
_AT: Final = 64  # of the head, on a cache line of its own
_HEAD: Final = struct.Struct("<IIQQ QQIIQ")  # version; flags, position and length; the answer's fields and length
_BODY: Final = _AT + _HEAD.size
_SLACK: Final = 1 << 20  # bytes that a slot may be larger than its body and than the body is

Answer = tuple[int, int, int, bytes, int]  # sender of the ask, corr, kind, body, flags
Snapshot = tuple[bytes, int, int, Answer]  # body, flags, position; answer (corr 0: none)
NO_ANSWER: Final[Answer] = (0, 0, 0, b"", 0)


class Slots:
    """One actor's pair."""

    def __init__(self, fds: list[int] | None = None) -> None:
        """Those of an earlier incarnation, or new ones; the descriptors are this object's. OSError: none to be had, or
        no memory.
        """
        import mmap  # only actors that keep state need it

        self.fds = list(fds or ())
        with contextlib.ExitStack() as undo:
            undo.callback(self._close_fds)
            for slot in range(len(self.fds), 2):
                self.fds.append(os.memfd_create(f"actors:snapshot{slot}", os.MFD_CLOEXEC))
                os.pwrite(self.fds[slot], bytes(PAGE), 0)
            self.pages = [mmap.mmap(fd, PAGE) for fd in self.fds]
            undo.pop_all()
        self.sizes = [os.fstat(fd).st_size for fd in self.fds]
        self.word = memoryview(self.pages[0]).cast("Q")

    @property
    def position(self) -> int:
        """Messages before this position of the mailbox are in the published snapshot."""
        return self.word[0] >> 2

    def write(self, body: bytes, flags: int, position: int, answer: Answer = NO_ANSWER) -> None:
        """Put a snapshot beside the published one, then publish it. OSError: no memory; the published one stays."""
        slot = (self.word[0] & 1) ^ 1
        sender, corr, kind, text, form = answer
        end = _BODY + len(body)
        size = end + len(text)
        page = self.pages[slot]
        if size <= PAGE:
            page[_BODY:end] = body
            page[end:size] = text
        else:
            _write(self.fds[slot], body, _BODY)
            _write(self.fds[slot], text, end)
        _HEAD.pack_into(page, _AT, VERSION, flags, position, len(body), sender, corr, kind, form, len(text))
        self.publish(position << 2 | _PUBLISHED | slot)
        if size > self.sizes[slot]:
            self.sizes[slot] = size
        elif self.sizes[slot] - size > size + _SLACK:
            self.sizes[slot] = max(size, PAGE)
            os.ftruncate(self.fds[slot], self.sizes[slot])

    def publish(self, word: int) -> None:
        """The one store that makes a snapshot the last one."""
        self.word[0] = word

    def read(self) -> Snapshot | None:
        """The last snapshot; None: nothing was published. ActorsError: its head makes no sense."""
        word = self.word[0]
        if not word & _PUBLISHED:
            return None
        version, flags, position, length, *answer, more = _HEAD.unpack_from(self.pages[word & 1], _AT)
        sender, corr, kind, form = answer
        if version != VERSION or position != word >> 2 or _BODY + length + more > self.sizes[word & 1]:
            raise ActorsError(f"the snapshot's head makes no sense (version {version}, {length} bytes)")
        fd = self.fds[word & 1]
        text = _read(fd, more, _BODY + length)
        return _read(fd, length, _BODY), flags, position, (sender, corr, kind, text, form)

    def close(self) -> None:
        """Let go of this process's share."""
        self.word.release()
        for page in self.pages:
            page.close()
        self._close_fds()

    def _close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)


def _write(fd: int, body: bytes, at: int) -> None:
    left = memoryview(body)
    while left:
        written = os.pwrite(fd, left, at)
        left, at = left[written:], at + written


def _read(fd: int, length: int, at: int) -> bytes:
    parts, got = [], 0
    while got < length and (part := os.pread(fd, length - got, at + got)):
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def published(fds: list[int]) -> int:
    """The position of the published snapshot, read through its slots' descriptors; 0: there is none, or it includes no
    message.
    """
    return int.from_bytes(os.pread(fds[0], 8, 0), "little") >> 2 if fds else 0

"""What glibc's malloc keeps of the memory that was freed.

Rule: it takes the largest chunk that was ever given back as the measure of what to keep (mallopt(3), M_MMAP_THRESHOLD and
M_TRIM_THRESHOLD). Who works with data that was never such a chunk, since it lies in shared memory or comes through a
pipe, has each of its own chunks mapped, faulted in and unmapped anew. The one chunk that teaches it is never touched.

Rejected: mallopt itself, which ends the learning for good.
"""

from __future__ import annotations

from contextlib import suppress

MOST = 31 << 20  # bytes: from larger chunks glibc learns nothing

_kept = 0


def keep_freed(size: int) -> None:
    """Let malloc keep chunks of up to so many bytes for the next ones, in this process. Other allocators don't mind."""
    global _kept
    size = min(size, MOST)
    if size > _kept:
        _kept = size
        with suppress(MemoryError):  # under a limit of memory there is nothing to be kept
            bytes(size)

"""The ring in Python, for where there is no compiler: everything that _ring.pyi names, slower.

Rule: the same memory, the same promises, the same tests; what is weaker is in docs/decisions/0025. It stands in for the
extension under its name (../__init__.py), so that nothing above knows which of the two it has.

Rejected: unix sockets in the rings' place. What was read would die with its reader, the guardian could neither see what
was in hand nor count what waits, and everything above would be written twice.
"""

import errno
import os

from .inbox import Inbox, News, ReplyBase
from .layout import CLOSED, EMPTY, FULL, HEADER, LARGE, LEFT, NOMEM, RECORD, SLOT, STUCK, Corrupt
from .libc import prctl
from .numbers import pack_numbers, unpack_numbers
from .plain import is_plain
from .ring import Record, Ring, create
from .segment import Ledger, Segment, Span, address, memory
from .sync import Sync, create_sync

__all__ = [
    "CLOSED",
    "EMPTY",
    "FULL",
    "HEADER",
    "LARGE",
    "LEFT",
    "NOMEM",
    "RECORD",
    "SLOT",
    "STUCK",
    "Corrupt",
    "Inbox",
    "Ledger",
    "News",
    "Record",
    "ReplyBase",
    "Ring",
    "Segment",
    "Span",
    "Sync",
    "address",
    "create",
    "create_sync",
    "is_plain",
    "memory",
    "pack_numbers",
    "prctl",
    "sibling",
    "stamp",
    "unpack_numbers",
]


def sibling() -> int:
    """It takes C to come back from a fork that Python does not know of: OSError (ENOTSUP). Fork twice instead."""
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def stamp(signum: int, fd: int, /) -> None:
    """Nothing can follow a C handler but C, so nothing is done: who reads there waits until it is quiet."""

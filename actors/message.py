"""The fixed header of every record that crosses a ring: its kind and its flags.

Rule: whoever forwards or reports a record (the guardian) needs this file and never the record's body. Bodies are
msgpack or pickle (`codec.py`), except those that say otherwise below. A record's other header fields: sender (endpoint
id of the process that sent it), corr (correlation of an ask, 0 for a tell) and deadline (CLOCK_MONOTONIC nanoseconds, 0
for none).
"""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What a record is."""

    # in a mailbox
    TELL = 1
    ASK = 2
    ITEM = 3  # in a named mailbox
    # answers, in a reply lane (from callees) or a control lane (from the guardian); the first one for a correlation wins
    VALUE = 10
    ERROR = 11  # an encoded exception
    DIED = 12  # msgpack {uid, name, reason, restarting}
    CANCELLED = 13  # no body: the call was dropped or its handler cancelled
    EXPIRED = 14  # no body: the deadline had passed when the call was taken
    REFUSED = 15  # msgpack [error class, text]: the guardian says no
    # news, in a control lane, from the guardian only
    STOP = 20  # msgpack {final, drain}: final: handle what was accepted, then end; else leave the mail to the next incarnation
    CANCEL = 21  # corr and sender of a call that its asker gave up
    DOWN = 22  # msgpack {monitor, uid, name, reason, restarting}
    EVENT = 23  # msgpack of one event
    LOG = 24  # msgpack of one log line
    DEAD = 25  # msgpack [name, reason, flags, kind, body]: a dead letter
    ENDED = 26  # msgpack {uid, reason}: an actor whose mailbox this process has mapped is gone for good
    GONE = 27  # msgpack endpoint id: a process whose reply lane was mapped is gone
    TICK = 29  # no body: virtual time has moved, and timers of this actor are due (systems of the test kit)
    TOPIC = 30  # msgpack [name, version, [[uid, name, method], …]]: who hears a topic now
    POOL = 36  # msgpack {uid, members, routing}: the members of a pool that this process sends to have changed
    INTERRUPT = 28  # the program gave up waiting for a graceful close
    TRIM = 33  # no body: give back the segments that you don't use, others need memory
    UNMAP = 34  # msgpack id: a segment is no more


PICKLED = 1  # flag: the body is pickle, else msgpack
KEYWORDS = 2  # flag: a call's second item is the keyword dict
HANDLE = (
    4  # flag: parts of the body lie beside it (arena.py); from the guardian: it is the number of a blob that it keeps
)
BEGUN = 1  # flag of a DIED: the call had been started

ROOT = 0  # uid of the system's root supervisor
GUARDIAN = 1  # endpoint id of the guardian

"""The ring: many producers, one consumer, variable-length records in a sealed memfd. See ring.h for layout and rules."""

from collections.abc import Buffer
from typing import Any, final

# what `push` says instead of a position (values, not exceptions)
FULL: int      # -1 no room within the timeout
CLOSED: int    # -2 the consumer's owner closed the ring
STUCK: int     # -3 the lock's owner did not move within the timeout (see Ring.owner)
NOMEM: int     # -4 the machine or the cgroup has no memory for the next pages

HEADER: int    # bytes of the ring's first page
RECORD: int    # bytes of a record's fixed header
SLOT: int      # bytes of a reply lane that an asker reserves for each ask: an answer whose record fits in it always has room

class Corrupt(RuntimeError): """A header in the ring makes no sense ("mailbox corrupt: ..."): nothing outside the mapping was read."""

def create(capacity: int, name: str = "actors", /) -> int:
    """A new empty ring's memfd (sealed against resizing, close-on-exec). capacity: bytes, a power of two >= 4096."""

# (kind, flags, sender, corr, deadline, tries, position, body)
Record = tuple[int, int, int, int, int, int, int, bytes]

class Ring:
    """A mapped ring. The descriptor may be closed after construction; `bell` is an eventfd that wakes the consumer (kept as a number; with `owns` it is closed with the ring)."""
    def __new__(cls, fd: int, bell: int = -1, owns: bool = False, /) -> "Ring": ...   # ValueError: not sealed, wrong size, magic or version
    @property
    def capacity(self) -> int: ...
    bell: int
    # --- producers (any number; robust lock; the GIL is released before waiting for lock or room)
    def push(self, body: Buffer, kind: int, flags: int, sender: int, corr: int, deadline: int, timeout: float, /) -> int:
        """The record's position (>= 0) or FULL, CLOSED, STUCK, NOMEM. timeout: seconds, < 0 for ever, 0 never waits for room (and ~10 ms at most for the lock).
        ValueError: the record can never fit. Signals are handled while waiting (KeyboardInterrupt leaves nothing half-written)."""
    def answer(self, body: Buffer, kind: int, flags: int, sender: int, corr: int, /) -> int:
        """Push into a reply lane, never waiting for room: a record of at most SLOT bytes always fits as long as askers keep at most capacity/2/SLOT asks open;
        a larger one is taken only while the ring holds no more than capacity/2 with it, else FULL (the caller then sends it by handle)."""
    def put(self, body: Buffer, kind: int, flags: int, sender: int, corr: int, /) -> bool:
        """Push without a lock, for a lane with ONE producer (the guardian's control lane). False: no room now."""
    def cancel(self, position: int, sender: int, corr: int, /) -> bool:
        """Drop a record that is still NEW (taken under the producers' lock, identity checked). True: it will never be handled."""
    # --- consumer
    def take(self) -> Record | None:
        """The next NEW record, now STARTED (in hand); records already DONE are passed over. None: nothing there. Corrupt."""
    def done(self, position: int, /) -> None:
        """The record is handled: DONE; the head advances over all DONE records at the front and waiting producers are woken."""
    # --- the owner of the mailbox (guardian): none of these takes the producers' lock
    def grant(self, attempt: int, /) -> None: """Open attempt `attempt` (> 0) for one claim."""
    def claim(self, attempt: int, /) -> bool: """Compare-and-swap: this process becomes the consumer of attempt `attempt`. Resets the reading position to the head."""
    def revoke(self, attempt: int, /) -> bool: """Take an unclaimed attempt back. False: it was claimed."""
    def in_hand(self, tries: int, /) -> list[Record]:
        """After the consumer's death: STARTED records whose tries < `tries` become NEW with tries + 1; the others become DONE and are returned, oldest first. The head advances."""
    def sweep(self, kind: int = -1, /) -> list[Record]: """After close and quiet: all records not DONE (of this kind) become DONE and are returned."""
    def owed(self) -> bool: """Ring the bell if the reader sleeps and something is in the ring. True: rung."""
    def ring(self) -> None: """Wake the consumer whatever it does (sleeping -> 0, write the bell)."""
    def close(self, code: int = 1, /) -> None: """Set the closed word (non-zero), wake producers that wait for room: they get CLOSED."""
    def reopen(self) -> None: ...
    @property
    def closed(self) -> int: ...
    def quiet(self) -> bool: """True when no producer that saw the ring open can still publish (lock free or its owner dead, seen once after close). Loop on it with a short timer."""
    def owner(self) -> int: """tid of the lock's owner, 0 if free."""
    waiting: int      # uid that the consumer's process blocks on (0: none), a word in the header readable by everybody who maps it
    def stats(self) -> dict[str, int]:
        """head, tail, capacity, accepted (records ever published), handled (records ever done), busy_since (CLOCK_MONOTONIC ns of the oldest take in hand, 0 idle), sleeping, recovered (owner deaths), closed, pid (consumer), populated."""

class ReplyBase:
    """The C part of a pending answer. kind -1: pending. `waitfd`: eventfd of the one thread that blocks on it (-1 none). `cbs`: list or None."""
    kind: int
    flags: int
    sender: int
    body: bytes | None
    cbs: list[Any] | None
    waitfd: int

News = tuple[int, int, int, int, bytes]     # (kind, flags, sender, corr, body)

@final
class Inbox:
    """One process's receiving side: reply lane, control lane and (actors) mail, one bell (eventfd; several rings may share it), one rule when to spin and when to sleep."""
    def __new__(cls, bell: int, replies: Ring | None, control: Ring | None, mail: Ring | None = None, /) -> "Inbox": ...
    def collect(self, table: dict[int, ReplyBase], fire: list[ReplyBase], news: list[News], spin: float, mine: ReplyBase | None, clear: bool, /) -> int:
        """One call, atomic under the GIL: (clear the bell,) disarm, spin up to `spin` us, move every record of replies and control to its place, arm both again.
        A record with corr != 0 found in `table` fills that ReplyBase (kind, flags, sender, body), removes it from the table, writes its waitfd if it is not `mine`, and appends it to `fire` if it has cbs.
        A reply-lane record whose corr is unknown is dropped (late answer); a control record whose corr is 0 or unknown is appended to `news`. Returns the number of records moved. Spin stops early when anything arrives."""
    def next(self, spin: float, /) -> Record | int | None:
        """For the actor's loop: mark the record in hand DONE (unless held), then: control or replies waiting -> 1 (call collect); a mail record -> taken and in hand;
        else spin; else arm all three and look again; None: armed, sleep on the bell."""
    def hold(self) -> int: """The record in hand will be finished by `mail.done(position)` later (an async handler): returns its position."""
    def finish(self) -> None: """Mark the record in hand DONE now, if there is one."""
    def clear(self) -> None: """Read the bell's eventfd."""

# --- processes
def sibling() -> int:
    """fork() whose parent is my parent (clone3 CLONE_PARENT); 0 in the child. Single-threaded callers only. OSError."""
def prctl(option: int, argument: int = 0, /) -> int: ...
def is_plain(value: object, /) -> bool:
    """True when the value is built only of exact None, bool, int, float, str, bytes, list and dict (depth <= 100): what msgpack carries with its exact type and no hook."""

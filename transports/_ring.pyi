"""The ring: many producers, one consumer, variable-length records in a sealed memfd.

Layout in layout.h, rules in ring.h. All calls are atomic under the GIL unless they say that they release it.
"""

from collections.abc import Callable
from typing import Any, Literal, final

from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

# what `push` and `answer` say instead of a position (values, not exceptions)
FULL: int  # -1 no room within the timeout
CLOSED: int  # -2 the consumer's owner closed the ring
STUCK: int  # -3 the lock's owner did not move within the timeout (see Ring.owner)
EMPTY: int  # -6 `get`: nothing to take within the timeout
LEFT: int  # -7 this process has left the shared ring
NOMEM: int  # -4 the machine or the cgroup has no memory for the next pages

HEADER: int  # bytes of the ring's first page
RECORD: int  # bytes of a record's fixed header
SLOT: int  # bytes of a reply lane that an asker reserves for each ask: an answer whose record fits in it has room

class Corrupt(RuntimeError):
    """A header in the ring makes no sense ("mailbox corrupt: ..."): some process wrote over it. Nothing outside the
    mapping was read. The ring is as it was found; close it and report what it held as lost."""

def create(capacity: int, name: str = "actors", /) -> int:
    """A new empty ring's memfd, sealed against resizing, close-on-exec; it costs one page until it is used.

    capacity: bytes, a power of two from 4096 to 2**31. ValueError; OSError (descriptors, memory).
    """

Record = tuple[int, int, int, int, int, int, int, bytes]  # (kind, flags, sender, corr, deadline, tries, position, body)
News = tuple[int, int, int, int, bytes]  # (kind, flags, sender, corr, body)

@final
class Ring:
    """A mapped ring. The descriptor may be closed after construction.

    `bell` is an eventfd that wakes the consumer (kept as a number; with `owns` it is closed with the ring).
    kind and flags are 16-bit, sender, corr and deadline 64-bit unsigned numbers: their meaning is the caller's.
    """

    def __new__(cls, fd: int, bell: int = -1, owns: bool = False, /) -> Ring:
        """ValueError: not sealed, wrong size, magic or version. OSError: it can't be mapped."""
    @property
    def capacity(self) -> int: ...
    bell: int

    # --- producers (any number; robust lock; the GIL is released before waiting for lock or room)

    def push(
        self, body: Buffer, kind: int, flags: int, sender: int, corr: int, deadline: int, timeout: float, /
    ) -> int:
        """The record's position (>= 0) or FULL, CLOSED, STUCK, NOMEM.

        timeout: seconds, < 0 for ever, 0 never waits for room (and 10 ms at most for the lock). Signals are handled
        while it waits; what their handlers raise leaves nothing half-written. A body over 64 KiB is copied without
        the GIL. ValueError: the record can never fit. Corrupt.
        """
    def tell(
        self, name: str, args: tuple[Any, ...], packers: list[Callable[[Any], bytes]], sender: int, /
    ) -> bytes | Literal[False] | None:
        """Push the call [name, *args], packed by the last of `packers`, as a tell. None: done. Bytes: its body, which is over
        2 KiB or found no room, for `push`. False: it is not plain (`is_plain`), or there is no packer. Corrupt, and what the
        packer raises, whereupon it is gone from the list."""
    def answer(self, body: Buffer, kind: int, flags: int, sender: int, corr: int, /) -> int:
        """Push into a reply lane, never waiting for room, and for the lock at most 100 ms: a position, FULL, CLOSED,
        STUCK or NOMEM.

        A record of at most SLOT bytes always fits as long as the asker keeps at most capacity/2/SLOT asks open (one
        that it gave up counts until its answer came); a larger one is taken only while the ring holds no more than
        capacity/2 with it, else FULL (the caller then sends it by handle).
        """
    def put(self, body: Buffer, kind: int, flags: int, sender: int, corr: int, /) -> bool:
        """Push without a lock, for a lane of at most 1 MiB with ONE producer (the guardian's control lane), which must
        not `push` or `answer` there. False: no room (or memory) now. ValueError: too large a lane, or a record that
        can never fit."""
    def cancel(self, position: int, sender: int, corr: int, /) -> tuple[bytes, int] | None:
        """Drop a record that is still NEW (under the producers' lock, for which it waits 10 ms at most; identity
        checked): its body and flags; it will never be handled. None: it was not dropped. Not for reply and control lanes."""

    # --- consumer (one Ring object; its reading position is its own)

    def take(self) -> Record | None:
        """The next NEW record, now STARTED (in hand); what is over already is passed. None: nothing there. Corrupt."""
    def done(self, position: int, /) -> None:
        """The record in hand there is handled: DONE. The head moves over all that is over at the front, and producers
        that wait for room are woken. Nothing happens if it is not in hand. Corrupt."""

    @property
    def tail(self) -> int:
        """The position behind the last record that was published."""
    @property
    def reading(self) -> int:
        """The consumer's position: all records before it were taken, or were over already."""

    # --- the owner of the mailbox (guardian): none of these takes the producers' lock

    def grant(self, attempt: int, /) -> None:
        """Open attempt `attempt` (> 0) for one claim."""
    def claim(self, attempt: int, /) -> bool:
        """Compare-and-swap: this process becomes the consumer of `attempt`, and reads from the head. False: it is not
        open."""
    def revoke(self, attempt: int, /) -> bool:
        """Take an unclaimed attempt back. False: it was claimed (or is not the open one)."""
    def in_hand(self, tries: int, upto: int = 0, /) -> list[Record]:
        """After the consumer's death: STARTED records with fewer than `tries` tries become NEW with one more; the
        others, and all before position `upto`, become DONE and are returned, oldest first. The head advances, the
        counts are exact again. Corrupt."""
    def sweep(self, kind: int = -1, /) -> list[Record]:
        """All records not over (of this kind) become DONE and are returned. After the consumer's death; to leave
        nothing behind, after close and quiet. Corrupt."""
    def owed(self) -> bool:
        """Ring the bell if the reader sleeps (or was about to be rung by a producer that died) and something is in the
        ring. True: rung."""
    def ring(self) -> None:
        """Wake the consumer whatever it does."""
    def close(self, code: int = 1, /) -> None:
        """Set the closed word (non-zero) and wake the producers that wait for room: they get CLOSED."""
    def reopen(self) -> None:
        """Set the closed word to 0."""
    @property
    def closed(self) -> int: ...
    def quiet(self) -> bool:
        """True when the ring is closed and no producer that saw it open can still publish: the lock is free, or its
        owner dead. Once True it stays True until `reopen`. Call it again after a millisecond while it is False."""
    def owner(self) -> int:
        """tid of the lock's owner, 0: free, or its owner died."""
    waiting: (
        int  # uid that the consumer's process blocks on (0: none), a word that everybody who maps the ring can read
    )
    local_since: int  # CLOCK_MONOTONIC ns at which the consumer began a call that no record asked for (0: none)
    def stats(self) -> dict[str, int]:
        """head, tail (positions), capacity (bytes); accepted, handled (records ever published, ever over: their
        difference is what waits or is in hand, exact even after a SIGKILL); busy_since (CLOCK_MONOTONIC ns, a few ms
        coarse, of the oldest take in hand, 0 idle); local_since (the word of that name); sleeping (0, 1); recovered
        (deaths of lock owners); closed; pid (of the last consumer that claimed); populated (bytes)."""

    # --- several consumers (takers.h): a robust lock of their own; the GIL is released before waiting

    def join(self, me: int, most: int, /) -> None:
        """From now on this object is one view of a ring that several consumers share; all of them must join.

        me: this process's endpoint, under which the owner knows of its end. most: records that may wait at a time (0:
        any number); `push` then says FULL. ValueError: me is 0.
        """
    def leave(self) -> None:
        """Nothing is taken or ended in this process's name any more; whoever waits in it gets LEFT."""
    def abandon(self) -> None:
        """`leave` in a forked child."""
    def get(
        self, timeout: float, keep: bool, into: list[tuple[bytes, int, int, int]] | None, /
    ) -> tuple[bytes, int, int, int] | int:
        """The next record that nobody has in hand: (body, flags, tries, position); or EMPTY, CLOSED (and nothing is left
        that could come back from another process), LEFT (also where the owner has taken it back meanwhile), STUCK.

        timeout: seconds as in `push`. keep: it stays in hand until `end` or `give_back`; else it is over, unless its
        body lies elsewhere (flag 4). into: a list to which it is appended as well, so that it is known even if a signal
        handler raises as soon as this returns. An exception raised in here loses nothing. Corrupt.
        """
    def end(self, position: int, settles: bool, /) -> bool:
        """The record in hand is over; `settles`: without a `task_done`. False: it is not in this process's hand. Corrupt."""
    def give_back(self, position: int, /) -> bool:
        """The record in hand is the next one to be taken, with one try more. False, Corrupt: as `end`."""
    def waits(self) -> int:
        """How many records wait in nobody's hand."""
    def poll(self) -> bool:
        """From now on a producer strikes the bell (once). True: look first, there may be something already."""
    def task_done(self) -> bool:
        """One record is finished. False: more often than records were pushed."""
    def finished(self, timeout: float, /) -> bool | int:
        """Wait until all records ever pushed are settled or finished. False: not within `timeout` seconds; or LEFT."""
    def reclaim(self, endpoint: int, /) -> int:
        """By the owner, without a lock: what this dead endpoint had in hand waits again. How many. Corrupt."""
    def rouse(self) -> None:
        """By the owner: wake everybody who waits for anything here."""
    def keeper(self) -> int:
        """tid of the owner of the consumers' lock, 0: free, or its owner died."""

class ReplyBase:
    """The C part of a pending answer.

    kind: -1 while pending, written last. waitfd: eventfd of the one thread that blocks on it (-1 none). cbs: None, or
    a list of callbacks, whose content C never looks at.
    """

    kind: int
    flags: int
    sender: int
    body: bytes | None
    cbs: list[Any] | None
    waitfd: int

@final
class Inbox:
    """One process's receiving side: reply lane, control lane and (actors) mail, one bell (eventfd; several rings may
    share it), one rule when to spin and when to sleep. Several inboxes may share a Ring object."""

    def __new__(cls, bell: int, replies: Ring | None, control: Ring | None, mail: Ring | None = None, /) -> Inbox: ...
    def collect(
        self,
        table: dict[int, ReplyBase],
        fire: list[ReplyBase],
        news: list[News],
        spin: float,
        mine: ReplyBase | None,
        clear: bool,
        /,
    ) -> int:
        """One call, atomic under the GIL: (clear the bell,) disarm, spin up to `spin` us if nothing is there and `mine`
        is pending, move every record of replies and control to its place, arm both again. Returns how many it moved.

        A record with corr != 0 found in `table` fills that ReplyBase (kind, flags, sender, body), removes it from the
        table, writes its waitfd if it is not `mine`, and appends it to `fire` if it has cbs, or if its flags (4) say that
        the body is the number of one that the guardian keeps. A reply whose corr is unknown is dropped (a late
        answer); a control record whose corr is 0 or unknown is appended to `news`.

        Mail's ring is not swallowed by `clear`: where the loop sleeps for mail that is there, the bell is struck again.
        Corrupt, TypeError, MemoryError: the record at fault is still there.
        """
    def next(self, spin: float, /) -> Record | int | None:
        """For the actor's loop: mark the record in hand DONE (unless held), then: control or replies waiting -> 1 (call
        collect); a mail record -> taken and in hand; else spin; else arm all, look again, and None: sleep on the bell.
        An empty ring with more than 1 MiB of memory then gives it back. Corrupt."""
    caller: int
    """The sender of the record that `run` has in hand."""
    left: int
    """Messages until `run` returns 0."""
    def run(
        self,
        spin: float,
        unpack: Callable[..., Any],
        options: dict[str, Any],
        methods: dict[str, Callable[..., Any]],
        news: list[News],
        /,
    ) -> Record | tuple[Record, Any] | int | None:
        """For the loop of an actor that handles one message at a time: as `next`, but calls (kind 1 and 2) without flags and
        deadline whose method is in `methods` are decoded, `unpack(body, **options)`, called and finished here, one after
        the other, until `left`, which counts down, is 0, or there are `news`.

        Returns a record for the caller to handle; (record, value): what a handler returned to an ask, or what is no plain
        value; 1: call collect; 0: `left` is; None: as `next`. The record is in hand. What a handler or `unpack` raises comes
        out, and its record is in hand, too (`current`). Corrupt."""
    def current(self) -> Record | None:
        """The record in hand. Corrupt: it was overwritten."""
    def hold(self) -> int:
        """The record in hand will be finished by `mail.done(position)` later (an async handler): returns its position.
        RuntimeError: there is none."""
    def finish(self) -> None:
        """Mark the record in hand DONE now, if there is one. Corrupt."""
    def clear(self) -> None:
        """Read the bell's eventfd. OSError: it is none."""

# --- large data (segment.c)

LARGE: int  # bytes from which a buffer travels in a segment of its own

def memory(size: int, name: str, /) -> int:
    """A memfd of so many bytes, sealed against resizing, close-on-exec. OSError (descriptors, memory)."""

def address(buffer: Buffer, /) -> int:
    """Where the bytes of a C-contiguous buffer are."""

@final
class Ledger:
    """Who has a lease on which segment: a page of words for each, in shared memory. ValueError for other indexes."""

    def __new__(cls, fd: int, /) -> Ledger: ...
    def take(self, index: int, word: int, /) -> int:
        """A lease in the name of `word` (not 0): its slot, or -1: the segment has as many holders as it can have."""
    def drop(self, index: int, slot: int, word: int, /) -> bool:
        """Give it back. False: it was not `word`'s."""
    def held(self, index: int, word: int = 0, mask: int = -1, /) -> int:
        """How many leases there are, or (word) how many whose words are `word` where `mask` has ones."""
    def words(self, index: int, /) -> list[tuple[int, int]]:
        """(slot, word) of all leases."""

@final
class Segment:
    """A mapped memfd. `writable` for its owner. ValueError: it is not sealed. OSError: it can't be mapped."""

    def __new__(cls, fd: int, writable: bool = False, /) -> Segment: ...
    @property
    def size(self) -> int: ...
    def write(self, source: Buffer, /) -> bool:
        """Copy it to the start, without the GIL if it is long. False: no memory. ValueError: too long, read-only."""

@final
class Span:
    """A read-only buffer in a segment; it has a lease as long as it, or a view of it, lives. The lease's index is the low
    half of `id`. BufferError: no lease could be had. ValueError: not within the segment."""

    def __new__(cls, segment: Segment, id: int, offset: int, length: int, ledger: Ledger, word: int, /) -> Span: ...
    @property
    def id(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def address(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# --- coordination (sync.h)

def create_sync(kind: int, limit: int, bounded: bool, first: int, /) -> int:
    """The memfd of a new lock (kind 1), semaphore (2), barrier (3) or event (4), sealed against resizing; it costs a page
    for each sixty processes that open it.

    limit: permits or parties, at most 65,535. bounded: a semaphore's count never passes `limit`. first: number of the
    state that it begins in; those of all changes are larger. ValueError; OSError (descriptors, memory).
    """

class Sync:
    """One lock, semaphore, barrier or event as one process sees it; subclasses are what users hold.

    A subclass has `_reopen` (open it with `map`, or raise), `_lost` (raise: it was cut off while it waited), `_refuse`
    (raise unless this thread, which runs an event loop, may block), `_not_held` (raise: release without acquire) and
    `_tell(n)` (have the guardian tell coroutines that n permits, or any change, are there).
    """

    @property
    def open(self) -> int: ...
    def map(self, fd: int, slot: int, /) -> None:
        """Open it as the process that has this slot. ValueError, OSError, MemoryError."""
    def shut(self) -> None:
        """Not open any more: those who sleep in it, and all later calls, ask `_lost` or `_reopen`."""

    # --- permits (locks, semaphores)
    def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """As in threading (of a semaphore timeout is None for ever). Waits in slices, between which signals are
        handled; in order of arrival."""
    def release(self, n: int = 1) -> None:
        """As in threading; n for semaphores only. RuntimeError: a lock that this process does not hold. ValueError."""
    def __enter__(self) -> bool: ...
    def __exit__(self, *error: object) -> None: ...
    def take(self) -> bool:
        """One permit, also one that is reserved for those who waited. Never blocks."""

    # --- the word, for barriers and events
    @property
    def word(self) -> int: ...
    @property
    def count(self) -> int:
        """Free permits; arrived parties; 1: the event is set."""
    @property
    def number(self) -> int:
        """Of the last change."""
    @property
    def held(self) -> int:
        """What this process holds: permits taken, parties that wait."""
    @property
    def abandoned(self) -> bool:
        """What this process took last had been left by a holder that died."""
    @property
    def owner(self) -> int:
        """Endpoint of the process that made the last change: of a taken lock, the holder. 0: the guardian."""
    @property
    def limit(self) -> int: ...
    def change(self, seen: int, fields: int, held: int, /) -> bool:
        """Compare-and-swap: `fields` are flags and count, `held` what this process holds then. False: the word is not
        `seen` any more."""
    def sleep(self, seen: int, seconds: float, /) -> bool:
        """Sleep a slice (100 ms) at most while the word is `seen`; signals are handled. True: woken."""
    def wake_all(self) -> None:
        """Wake everybody who sleeps, and have coroutines told."""

    # --- the guardian
    doorman: int  # coroutines that wait to be told
    def assign(self, slot: int, owner: int, /) -> None:
        """Give the slot to an endpoint. OSError: no memory."""
    def sweep(self, slot: int, /) -> int:
        """The slot's process is dead: free what it held, mark that, wake everybody. How much it held."""
    def pass_on(self, permits: int, /) -> None:
        """Nobody who was told wants these permits: wake sleepers, or let whoever comes have them."""

# --- processes

def sibling() -> int:
    """fork() whose parent is my parent (clone3 CLONE_PARENT); 0 in the child. Single-threaded callers only. OSError."""

def prctl(option: int, argument: int = 0, /) -> int:
    """prctl(2): its result; of PR_GET_PDEATHSIG and PR_GET_CHILD_SUBREAPER what they write. OSError."""

def stamp(signum: int, fd: int, /) -> None:
    """From now on the C handler that `signum` has is followed by a zero byte written to `fd`, so that who reads there
    knows where its text ends. ValueError: it has no such handler. OSError."""

def is_plain(value: object, /) -> bool:
    """True when msgpack carries the value as it is, exact type and no hook: built only of exact None, bool, int (-2**63
    to 2**64 - 1), float, str (no lone surrogates), bytes, list and dict (keys as well), at most 100 containers deep."""

def pack_numbers(items: list[Any], /) -> bytes | None:
    """A list of exact ints (-2**63 to 2**63 - 1) or of exact floats as a column of machine words; None: it is neither, or
    empty. TypeError: no list."""

def unpack_numbers(column: bytes, low: int, high: int, /) -> list[Any]:
    """Its numbers `low` to `high` (exclusive). ValueError: it is no column, or has not so many."""

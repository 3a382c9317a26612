"""State over a restart: when an actor's snapshot is taken, and how the next incarnation gets it.

Rule: a snapshot is taken when nothing is in hand, after every `snapshot_every` messages (and timer calls), and is
published with the position of the last message that it includes, before that message is done. At a death the guardian
compares: what was in hand and is included was handled, whatever `redeliver` says.

Order at the end of a message, when every message is followed by a snapshot: snapshot, answer, done. So what was
answered is in the state, whatever happens. A death between the first two is `ActorDied` to the asker, as any death in
hand; with `redeliver`, whose askers are to hear of no death, the answer is a part of the snapshot, and the next
incarnation sends it if the guardian says that it is owed. Large bodies are dropped after the snapshot, so that a message
that is handled again still has its own.

A snapshot that can't be taken is a failing hook: the actor crashes, its message is still in hand (handled again, or
reported), and the last good snapshot stays. With `on_error="continue"` that is reported once, until one succeeds again,
and the actor goes on.

Rejected: copying the state at a death (there is no moment for it); a snapshot by `fork` (the state is then pickled
behind the actor's back, 300 us a message); keeping messages until a snapshot includes them, for `snapshot_every` > 1
(they fill the mailbox, and what was handled and answered would be handled again); the answer before the snapshot (a
message that has used up its redeliveries would have been answered, and its effect be lost).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from . import arrays, codec
from .client import made
from .errors import CodecError, SpecError
from .failures import describe, formatted
from .loop import BATCH, PLAIN
from .slots import NO_ANSWER, Answer, Slots

if TYPE_CHECKING:
    from .loop import Loop

GOES_ON = "no snapshot could be taken; the actor goes on, and a restart would give it its last good one"


class Snapshots:
    """Those of one incarnation."""

    def __init__(self, instance: Any, loop: Loop, address: str, fds: list[int], redeliver: int) -> None:
        """fds: of the last incarnation's slots, if it left a snapshot. SpecError, OSError."""
        self.instance, self.loop, self.client, self.address = instance, loop, loop.client, address
        self.every, count = interval(instance), getattr(instance, "concurrency", 1)
        self.slots = Slots(fds) if fds else None
        self.position = self.slots.position if self.slots else 0  # messages before it are in the state
        self.ended = 0  # messages and timer calls since the last snapshot
        self.left = BATCH  # messages until the event loop gets a turn
        self.failing = False
        self.taking: asyncio.Event | None = None  # set when the async snapshot that is being taken is done
        self.keeps_answers = redeliver > 0
        self.handled: list[bytes] = []  # what waits for the snapshot: messages with parts to be released,
        self.answer: Answer = NO_ANSWER  # and the answer
        if self.every == 1:
            loop.release = self.handled.append
            if count == 1:
                loop.answer = self._hold

    def _hold(self, sender: int, corr: int, kind: int, body: bytes, flags: int) -> None:
        if flags & codec.HANDLE and self.keeps_answers:
            body, flags = codec.inlined(body, flags)
        self.answer = sender, corr, kind, body, flags

    # --- the next incarnation

    async def restore(self, owed: list[int]) -> bool:
        """Give the instance the last snapshot. owed: sender and corr of an ask whose handler came to its end, and who may
        not have its answer, if any. False: it does not take it; the snapshot is dropped, that is reported, and the
        instance is spoiled.
        """
        if self.slots is None:
            return True
        try:
            found = self.slots.read()
            if found is not None:
                body, flags, _, answer = found
                await self.loop.hook(self.instance.restore, _decoded(body, flags))
                if owed == list(answer[:2]):
                    self.client.answer(*answer)
        except Exception as error:
            self.slots.close()
            self.slots, self.position = None, 0
            self.client.send("unrestored", error=describe(error), traceback=formatted(error))
            return False
        return True

    # --- between two messages

    async def after(self, position: int) -> int:
        """A message (or with -1 a timer's call) has ended. Messages until the next look (1); -1: this one must stay in
        hand.
        """
        self.position = max(self.position, position + 1)
        self.ended += 1
        due = self.ended >= self.every and self.loop.failure is None and not self.loop.suspended()
        if due and not await self._take():
            return -1
        if self.answer[1]:
            answer, self.answer = self.answer, NO_ANSWER
            self.client.answer(*answer)
        while self.handled:
            self.client.release(self.handled.pop())
        self.left -= 1
        if self.left <= 0:
            self.left = BATCH
            await asyncio.sleep(0)
        await self.settled()
        return 1

    async def settled(self) -> None:
        """Wait while an async snapshot is being taken: nothing may change meanwhile."""
        while self.taking is not None:
            await self.taking.wait()

    async def last(self) -> None:
        """The actor leaves and may come back: what no snapshot includes yet shall not be lost. Raises what ends it."""
        if self.ended and not self.loop.draining and not await self._take():
            assert self.loop.failure is not None
            raise self.loop.failure

    # --- taking one

    async def _take(self) -> bool:
        """False: it failed, and that ends the actor."""
        try:
            state = self.loop.blocking(self.instance.snapshot)
            if state.__class__ not in PLAIN and hasattr(state, "__await__"):
                state = await self._awaited(state)
            self._store(state)
        except Exception as error:
            return self._failed(error)
        self.ended, self.failing = 0, False
        return True

    async def _awaited(self, pending: Awaitable[Any]) -> Any:
        self.taking = asyncio.Event()
        self.loop.endpoint.pump()
        try:
            return await pending
        finally:
            self.taking.set()
            self.taking = None

    def _store(self, state: Any) -> None:
        try:
            body, flags = codec.encode_whole(state)
        except CodecError as error:
            raise CodecError(f"{self.address}: what its snapshot() returned: {error}") from error
        if made and len(self.client.defined) < len(made):
            self.client.define()
        answer = self.answer if self.keeps_answers else NO_ANSWER
        if self.slots is not None:
            self.slots.write(body, flags, self.position, answer)
            return
        slots = Slots()
        try:
            slots.write(body, flags, self.position, answer)
            self.client.exchange("slots", tuple(slots.fds))
        except BaseException:
            slots.close()
            raise
        self.slots = slots

    def _failed(self, error: Exception) -> bool:
        if self.loop.crash_on_error:
            self.loop.failed(error, None)
            return False
        if not self.failing:
            self.failing = True
            self.client.send("failure", error=describe(error), traceback=formatted(error), record=None, what=GOES_ON)
        return True


def interval(instance: Any) -> int:
    """After how many messages its state is saved. SpecError."""
    count = getattr(instance, "snapshot_every", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SpecError(f"{type(instance).__name__}.snapshot_every must be a whole number from 1 on, not {count!r}")
    return count


def _decoded(body: bytes, flags: int) -> Any:
    """A state is its actor's own: arrays in it can be written to."""
    arrays.writable = True
    try:
        return codec.decode(body, flags)
    finally:
        arrays.writable = False

"""The actor in each process of a stage: takes batches of items, answers with batches of results.

Rule: an answer is soon there. It ends when the next results would make it late or large (PART_SECONDS and what `held` says):
between two inputs the rest goes back, for whoever is free; inside one, an iterator, the worker keeps it and is asked
for more. So a long input's results flow while it is worked on, and no answer outgrows memory.

What an input raises is part of the answer, never an exception of the actor: the process lives on. `skip` is how many
results of the first input others have had already, from a process that died in the middle of it.

A batch begins only when the one before it in this worker's mailbox was done by this very process (`after`); else it is
refused and comes back in its turn. So a stage with one worker sees its inputs in order, whatever dies.

One generator does the work for sync and async code: it yields what must be awaited, and only then costs a coroutine.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import resource
import signal
import time
from collections import deque
from collections.abc import Generator
from itertools import chain
from typing import Any

from ..actor import Actor
from ..context import current
from ..exits import ExitReason
from ..failures import describe, encode_error
from ..supervision import Backoff
from .batch import DONE, LOST, REFUSED, RETRIES, SKIPS, Spent
from .chunk import is_column, unpack
from .held import END_OF_INPUT, NOTHING, Held, Part, shown

PART_SECONDS = 0.02
QUICK = 0.00002  # seconds an input; below, the clock is looked at every LOOK seconds, after STRIDE inputs at the latest
LOOK, STRIDE = 0.0013, 512
PAGE = resource.getpagesize()
MORE = ("__await__", "__next__", "__anext__")  # a result that has one of these is more than a value
END = object()  # in place of an input: `finish` is to be called

Steps = Generator[Any, Any, list[Any]]


class Worker(Actor):
    """Made with what a stage says; see `Stage` for the meaning."""

    def __init__(
        self,
        work: Any,
        args: tuple[Any, ...],
        kind: str,
        on_error: str,
        retries: int,
        backoff: Backoff,
        timeout: float | None,
        max_memory: int | None,
        fragile: bool,
    ) -> None:
        self.on_error, self.retries, self.backoff = on_error, retries, backoff
        self.timeout, self.max_memory, self.fragile = timeout, max_memory, fragile
        self.arena = current().client.arena
        self.awaits = False  # its code is async
        self.whole = False  # an answer holds all that a batch makes
        self.token = random.SystemRandom().getrandbits(62) | 1
        self.last = -1  # first input of the batch that was done last
        self.held: Held | None = None
        self.stride = 1  # inputs between two looks at the clock
        self.plain = {bool, int, float, str, bytes, list, dict, tuple, set}  # types of results that are just that
        self.least = 1  # results a chunk, until it is known how large they are
        self.left = False  # its object has ended
        self.target: Any = None if kind == "function" else work(*args)
        self.call: Any = work  # what an input is given to
        if self.target is not None:
            self.call = self.target.process
        elif args:
            self.call = lambda item: work(item, *args)

    async def on_start(self) -> None:
        await self._forward("on_start")

    async def on_stop(self, reason: ExitReason) -> None:
        if not self.left:
            self.left = True
            await self._forward("on_stop", reason)

    async def on_down(self, ref: Any, reason: ExitReason) -> None:
        await self._forward("on_down", ref, reason)

    async def _forward(self, hook: str, *args: Any) -> None:
        await _called(getattr(self.target, hook, None), *args)

    # --- messages

    def work(self, first: int, after: int, token: int, chunks: list[Any], skip: int, want: int, careful: bool) -> Any:
        """Begin with a batch."""
        if self.fragile and token not in (0, self.token):
            return self._empty(LOST)
        if self.held is not None or (after >= 0 and after != self.last):
            return self._empty(REFUSED)
        inputs = chain.from_iterable(unpack(chunk, self.arena) for chunk in chunks)
        self.held = Held(first, inputs, skip, careful, chunks)
        return self._run(want)

    def more(self, want: int) -> Any:
        """Go on with the one in hand."""
        if self.held is None:
            return self._empty(REFUSED)
        return self._run(want)

    def finish(self, first: int, token: int, skip: int, want: int) -> Any:
        """The end of the input: what the stage has to say."""
        if self.fragile and token not in (0, self.token):
            return self._empty(LOST)
        self.held = Held(first, iter((END,)), skip, False)
        return self._run(want)

    def leave(self) -> Any:
        """The run has ended well: the stage's own `on_stop`, with all the time that it takes."""
        return self.on_stop(ExitReason("shutdown"))

    # --- the work

    def _run(self, want: int) -> Any:
        assert self.held is not None
        begin = time.perf_counter()
        end = math.inf if self.whole else begin + PART_SECONDS
        part = Part(self.held, want, self.least, end, self.on_error in SKIPS, None if self.whole else self.arena)
        steps = self._steps(part, begin)
        try:
            pending = next(steps)
        except StopIteration as end:
            return end.value
        self.awaits = True
        return self._awaiting(steps, pending)

    async def _awaiting(self, steps: Steps, pending: Any) -> list[Any]:
        resume: Any
        argument: Any
        while True:
            try:
                value = await pending
            except GeneratorExit:
                raise
            except BaseException as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # this worker's call, and not something that the stage's code waited for
                resume, argument = steps.throw, error
            else:
                resume, argument = steps.send, value
            try:
                pending = resume(argument)
            except StopIteration as end:
                answer: list[Any] = end.value
                return answer

    def _steps(self, part: Part, begin: float) -> Steps:
        """Work until the batch, the time or the room is over: the answer. Yields what must be awaited."""
        held, open_ = part.held, False
        while held.item is not NOTHING or self._advance(part):
            try:
                open_ = yield from self._one(part)
            except GeneratorExit:
                raise
            except BaseException as error:
                if (yield from self._failed(part, error)):
                    break
                continue
            if open_:
                break
            held.put_down()
            if len(part.values) >= part.limit and part.pack():
                break
            if held.careful:
                open_ = not self.whole and held.has_more()
                break
        if self.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return self._answer(part, open_, time.perf_counter() - begin)

    def _advance(self, part: Part) -> bool:
        """Take the next input in hand; those before it that have plain results are done at once. False: the answer
        ends.
        """
        held, values = part.held, part.values
        quick = self.timeout is None and not held.careful and not held.skip
        while held.ready or not (held.index > part.done_before and part.is_full()):
            if not quick or held.ready:
                held.take(held.next())
                if held.ready:
                    held.value = held.ready.popleft()
                return held.item is not NOTHING
            room = min(part.limit - len(values), self.stride)
            if not self._quickly(part, room) or held.item is not NOTHING:
                return held.item is not NOTHING
            if len(values) >= part.limit and part.pack():
                return False
        return False

    def _quickly(self, part: Part, most: int) -> bool:
        """Do so many inputs, up to the first that needs more care, which is then in hand. False: there is none left."""
        held, block, results = part.held, part.held.block(most), list[Any]()
        if not block:
            return False
        error: BaseException | None = None
        try:
            if block[0] is END:
                results.append(self.target.finish())
            else:
                results.extend(map(self.call, block))
        except BaseException as raised:
            error = raised
        if is_column(results) or self.plain.issuperset(map(type, results)):
            place = len(results)
            part.anchors.append((len(part.values), held.index))
            part.values += results
        else:
            place = self._plain_ones(part, results)
        held.index += place
        held.unread = block[place:]
        if place < len(block):
            held.take(held.next())
            if place < len(results):
                held.value, held.ready = results[place], deque(results[place + 1 :])
            else:
                held.error = error
        if place < len(results) or error is not None:
            self.stride = 1
        return True

    def _plain_ones(self, part: Part, results: list[Any]) -> int:
        """Take over results up to the first that is more than a value: how many."""
        index = part.held.index
        for place, value in enumerate(results):
            if value is None:
                continue
            if value.__class__ not in self.plain:
                if any(hasattr(value, name) for name in MORE):
                    return place
                self.plain.add(value.__class__)
            part.anchors.append((len(part.values), index + place))
            part.values.append(value)
        return len(results)

    def _one(self, part: Part) -> Generator[Any, Any, bool]:
        """Process the input in hand, or go on with it: True when there may be more of it, later."""
        held = part.held
        if held.current is None:
            error, held.error = held.error, None
            if error is not None:
                raise error
            value, held.value = held.value, NOTHING
            if value is NOTHING:
                self._arm()
                value = self.call(held.item) if held.item is not END else self.target.finish()
            if hasattr(value, "__await__"):
                value = yield value
            if not (hasattr(value, "__next__") or hasattr(value, "__anext__")):
                if value is not None:
                    part.put(value)
                return False
            held.current = value
        return (yield from self._drain(part))

    def _drain(self, part: Part) -> Generator[Any, Any, bool]:
        """Take results from an iterator."""
        current = part.held.current
        awaits = hasattr(current, "__anext__")
        while True:
            self._arm()
            try:
                value = (yield current.__anext__()) if awaits else next(current)
            except (StopIteration, StopAsyncIteration):
                return False
            part.put(value)
            if len(part.values) >= part.limit:
                part.pack()
            if part.failed is not None or part.is_full():
                return True

    def _failed(self, part: Part, error: BaseException) -> Generator[Any, Any, bool]:
        """What the policy says of an input that raised: True when the batch ends with it."""
        held = part.held
        held.current = None
        if isinstance(error, Spent):
            return self._spent(part, *error.args)
        if isinstance(error, StopIteration):  # as in a generator: it must not look like an end
            error = RuntimeError(f"it raised {type(error).__name__}")
        if self.on_error in RETRIES and held.tries < self.retries:
            held.tries += 1
            held.skip, held.made = max(held.skip, held.made), 0
            if self.timeout is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            pause = self.backoff.delay(held.tries, random.Random())
            if self.awaits:
                yield asyncio.sleep(pause)
            else:
                time.sleep(pause)
            return False
        self._give_up(part, error)
        return self.on_error not in SKIPS

    def _spent(self, part: Part, error: BaseException) -> bool:
        """Its object is of no more use. Where the policy is to go on, a new process does: what this one has done is
        skipped with it, and can't be done again. Nobody needs one at the end of the input.
        """
        new = self.last < 0 and not part.done_before
        if part.held.item is not END and (self.on_error in SKIPS or (new and self.on_error in RETRIES)):
            from ..pipes.plumbing import crash  # here: only a program's stage comes to this

            crash(error)
        self._give_up(part, error)
        return self.on_error not in SKIPS

    def _give_up(self, part: Part, error: BaseException) -> None:
        """Report the input in hand."""
        held = part.held
        name = END_OF_INPUT if held.item is END else shown(held.item)
        if self.on_error in SKIPS:
            part.skipped.append((held.index, name, describe(error)))
            held.put_down()
        else:
            part.failed = (name, *encode_error(error))

    def _arm(self) -> None:
        if self.timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, self.timeout)

    # --- answers

    def _answer(self, part: Part, open_: bool, seconds: float) -> list[Any]:
        if part.values:
            part.pack()
        self.least = part.least
        held = part.held
        open_ = open_ and part.failed is None
        done = held.index - part.done_before
        partial = max(held.made, held.skip)
        if not open_:
            self.held = None
            if part.failed is None and not held.has_more():
                self.last = held.first
        if done:
            self.stride = min(STRIDE, int(LOOK * done / seconds)) if seconds < QUICK * done else 1
        full = self.max_memory is not None and resident() > self.max_memory
        chunks = [list(chunk) for chunk in part.chunks]
        skipped = [list(each) for each in part.skipped]
        failed = None if part.failed is None else list(part.failed)
        return [DONE, chunks, done, partial, open_, seconds, skipped, failed, self.token, full]

    def _empty(self, status: int) -> list[Any]:
        return [status, [], 0, 0, False, 0.0, [], None, self.token, False]


def resident() -> int:
    """Bytes of this process's memory."""
    fd = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(fd, 100).split()[1]) * PAGE
    finally:
        os.close(fd)


async def _called(hook: Any, *args: Any) -> None:
    if hook is not None:
        value = hook(*args)
        if hasattr(value, "__await__"):
            await value

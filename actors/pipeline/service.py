"""`Service`: the actor that runs a pipeline as a part of a supervision tree; what `Pipeline.child` describes.

Rule: an item is taken out of its mailbox when everything that came of it is where it should go, and not before. Until then
it is in this process's hand (`Mailbox.take_async`), and goes back if that dies. So nothing is lost over any death, and what
is done twice is what was in hand at the death of this process; a worker's death repeats nothing.

The stages' workers are this actor's children: they end with it, and start with it again. Which items are done is read
from the marks of the stages (checkpoint.py), so stages must be ordered and gather nothing for a `finish`.

There is nobody to raise an error to: an item that can't be processed is logged and left out, and one that has come back
`attempts` times over deaths of this very process, too. Rejected: to let the first such item end the service, as in a run;
the items behind it, and every restart, would meet it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ..actor import Actor
from ..context import current
from ..errors import CodecError, SpecError
from ..named_ring import MailboxClosed
from ..ref import ActorRef
from ..taken import TakenAsync
from .checkpoint import behind
from .held import shown
from .run import Run
from .stage import Stage

ROOM = 64  # items of a pipe or a sender that wait for the first stage
LOOK = 0.02  # seconds between looks which items are done, while there are some that are not
IDLE = 0.1  # seconds between looks whether this actor shall end, while no item comes


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """Where items come from: exactly one of these, or none (then others `put` them)."""

    mailbox: str | None = None
    fifo: Path | None = None
    source: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.mailbox, self.fifo, self.source) if each is not None]
        if len(given) > 1:
            raise SpecError("a pipeline's child is fed by one of mailbox, fifo and source, not by several")
        if self.source is not None and not callable(self.source):
            raise SpecError(f"source must be a function that returns an iterable, not {self.source!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Sink:
    """Where results go: one of these, or nowhere."""

    to: ActorRef[Any] | str | None = None
    method: str = "receive"
    mailbox: str | None = None
    topic: str | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.to, self.mailbox, self.topic)) > 1:
            raise SpecError("a pipeline's results go to one of to, to_mailbox and to_topic, not to several")


class Service(Actor):
    """A running pipeline. Others may `put` items into it (a topic's `subscribe`, a pipe's `to`)."""

    concurrency = 8

    def __init__(self, stages: Sequence[Stage], name: str, feed: Feed, sink: Sink, attempts: int) -> None:
        self._feed, self._sink, self._attempts = feed, sink, attempts
        self._hands: deque[TakenAsync[Any] | None] = deque()  # of the items that are not done, the oldest first
        self._held = asyncio.Event()  # there is something in `_hands`
        self._queue: asyncio.Queue[Any] = asyncio.Queue(ROOM)
        self._given = self._done = 0  # results that are where they should go; items that are done
        self._receiver: ActorRef[Any] | None = None
        self._give_up = 0  # items left out before they came to a stage
        self._run = Run(stages, name, self._items(), system=self.system, parent=self.ref.uid)
        for station in self._run.engine.flow.stations:
            station.marks = deque([(0, 0)])

    async def on_start(self) -> None:
        """The workers are there when it has started."""
        await self._run.open_async()
        self.after(0, self._work)
        if self._feed.fifo is not None:
            from ..pipes.spawning import fifo

            factory, _, _ = fifo(self._feed.fifo, "r", self.ref, "put", "lines", {})
            await self.spawn_async(factory, name="fifo", shutdown=0.5)

    # --- what others may ask

    async def put(self, item: Any) -> None:
        """One more item; returns when there is room for it. What waits here is lost if this process dies."""
        await self._queue.put(item)

    def progress(self) -> dict[str, int]:
        """{taken: items so far, done: those that everything was made of, results: so many, left_out: items that could not
        be processed, restarts: of workers}.
        """
        return {
            "taken": self._done + len(self._hands),
            "done": self._done,
            "results": self._given,
            "left_out": self._run.skipped + self._give_up,
            "restarts": self._run.restarts,
        }

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of the stages has gone so far, as `Profile.stages`."""
        return [dataclasses.asdict(each) for each in self._run.profile().stages]

    # --- its work

    async def _work(self) -> None:
        """From the first item to the last."""
        looking = asyncio.create_task(self._look())
        try:
            async for result in self._run:
                await self._deliver(result)
                self._given += 1
            await self._acknowledge()
        finally:
            looking.cancel()
            await self._run.aclose()
            for hand in self._hands:
                if hand is not None:
                    with contextlib.suppress(Exception):
                        await hand.__aexit__(InterruptedError, None, None)  # it goes back
        self.stop()

    async def _look(self) -> None:
        """Items of which nothing comes are done, too."""
        while True:
            await self._held.wait()
            await asyncio.sleep(LOOK)
            await self._acknowledge()

    async def _acknowledge(self) -> None:
        """Let go of the items that are done."""
        stations = self._run.engine.flow.stations
        done, _ = behind(stations, self._given, [0] * len(stations))
        while self._done < done and self._hands:
            hand = self._hands.popleft()
            self._done += 1
            if hand is not None:
                await hand.__aexit__(None, None, None)
        if not self._hands:
            self._held.clear()

    def _hold(self, hand: TakenAsync[Any] | None) -> None:
        self._hands.append(hand)
        self._held.set()

    async def _deliver(self, result: Any) -> None:
        sink = self._sink
        if sink.mailbox is not None:
            await self.system.mailbox(sink.mailbox).put_async(result)
        elif sink.topic is not None:
            await self.system.topic(sink.topic).publish_async(result)
        elif sink.to is not None:
            ref = await self._lookup(sink.to) if isinstance(sink.to, str) else sink.to
            await ref.tell_async(sink.method, result)

    async def _lookup(self, name: str) -> ActorRef[Any]:
        """By name, again when the one that had it is gone."""
        if self._receiver is None or self._receiver.uid in current().client.ended:
            self._receiver = await self.system.lookup_async(name)
        return self._receiver

    # --- its items

    @property
    def _ending(self) -> bool:
        """Has it been asked to stop? Then nothing new is taken; what is in hand is done."""
        return current().client.endpoint.stopping()

    async def _items(self) -> AsyncIterator[Any]:
        feed = self._feed
        if feed.mailbox is not None:
            async for item in self._from_mailbox(feed.mailbox):
                yield item
            return
        async for item in self._from_queue() if feed.source is None else self._from_source(feed.source):
            self._hold(None)
            yield item

    async def _from_mailbox(self, name: str) -> AsyncIterator[Any]:
        box = self.system.mailbox(name)
        while not self._ending:
            hand = box.take_async()
            try:
                item = await hand.__aenter__()
            except MailboxClosed:
                return
            except CodecError as error:
                self._give_up += 1
                self.log.error("an item can't be read and is left out", mailbox=name, error=str(error))
                continue
            if hand.redelivered >= self._attempts:
                self._give_up += 1
                self.log.error(
                    "an item has come back too often and is left out", times=hand.redelivered, item=shown(item)
                )
                await hand.__aexit__(None, None, None)
                continue
            self._hold(hand)
            yield item

    async def _from_queue(self) -> AsyncIterator[Any]:
        while True:
            try:
                yield await asyncio.wait_for(self._queue.get(), IDLE)
            except TimeoutError:
                if self._ending and self._queue.empty():
                    return

    async def _from_source(self, source: Callable[[], Any]) -> AsyncIterator[Any]:
        items = source()
        if inspect.isawaitable(items):
            items = await items
        if hasattr(items, "__aiter__"):
            async for item in items:
                yield item
                if self._ending:
                    return
        else:
            for item in items:
                yield item
                await asyncio.sleep(0)
                if self._ending:
                    return

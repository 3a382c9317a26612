"""Sources of a pipeline's run: whatever can be iterated, either way, and let go of when the run ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors import ActorSystem
from actors.errors import CodecError
from actors.pipeline import Pipeline
from kit import descendants


def double(number: int) -> int:
    return number * 2


async def ticks(ended: list[str]) -> AsyncIterator[int]:
    try:
        for number in itertools.count():
            await asyncio.sleep(0)
            yield number
    finally:
        ended.append("ended")


@pytest.mark.parametrize("awaits", [False, True])
def test_what_can_be_iterated_both_ways_is_iterated_as_the_run_is(awaits: bool, system: ActorSystem) -> None:
    """A named mailbox, and a run of another pipeline."""
    box = system.mailbox(f"both-{awaits}")
    for number in range(100):
        box.put(number)
    box.close()
    run = Pipeline(double).run(Pipeline(double).run(box, system=system), system=system)

    async def collected() -> list[int]:
        return [item async for item in run]

    assert (asyncio.run(collected()) if awaits else list(run)) == [4 * n for n in range(100)]


@pytest.mark.parametrize("awaits", [False, True])
def test_what_came_before_an_item_that_cannot_be_sent_comes_out_first(awaits: bool, system: ActorSystem) -> None:
    """And the error says which item that is."""
    items = [*range(500), threading.Lock(), 7]

    async def given() -> AsyncIterator[object]:
        for item in items:
            yield item

    run = Pipeline(double).run(given() if awaits else items, system=system)
    found: list[int] = []

    async def collect() -> None:
        async for item in run:
            found.append(item)

    with pytest.raises(CodecError, match=r"item 500 of the source \(counted from 0\), a lock") as caught:
        asyncio.run(collect()) if awaits else found.extend(iter(run.__next__, None))
    assert found == [2 * n for n in range(500)]
    assert "cannot pickle" in str(caught.value.__cause__)


@pytest.mark.parametrize("how", ["break", "raise"])
@pytest.mark.usefixtures("leak_guard")
def test_leaving_a_loop_over_an_asynchronous_source_ends_the_run(how: str) -> None:
    """At once, not when the event loop ends; and the source is closed."""
    ended: list[str] = []

    async def leave() -> None:
        async for item in Pipeline(double).run(ticks(ended)):
            if item > 10:
                if how == "break":
                    return
                raise KeyError(item)

    async def main() -> None:
        try:
            await leave()
        except KeyError:
            assert how == "raise"
        assert not [each for each in descendants(os.getpid()) if each.lives and "/pipeline" in each.title]
        async with asyncio.timeout(10):
            while not ended or len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)

    asyncio.run(main())


def test_a_run_that_has_ended_lets_its_source_go(system: ActorSystem) -> None:
    """Like a loop over it: a generator that nobody else holds is closed, though the pipeline keeps its profile."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    pipeline = Pipeline(double)
    for item in pipeline.run(source(), system=system):
        if item > 10:
            break
    assert closed == [True]
    assert pipeline.profile().stages


def test_an_asynchronous_source_goes_on_where_its_checkpoint_is(system: ActorSystem, tmp_path: Path) -> None:
    async def some(end: int) -> list[int]:
        async with Pipeline(double).run(ticks([]), system=system, checkpoint=str(tmp_path / "position")) as run:
            found = []
            async for item in run:
                found.append(item)
                if item >= end:
                    break
            return found

    assert asyncio.run(some(200)) + asyncio.run(some(400))[1:] == list(range(0, 402, 2))

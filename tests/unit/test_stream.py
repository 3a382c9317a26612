"""Streams: endless iterators for threads and loops, which lose nothing until they are full and end when they are closed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from actors import stream as module
from actors.stream import Stream


def test_items_come_in_order() -> None:
    stream: Stream[int] = Stream()
    for number in range(5):
        stream.put(number)
    assert [next(stream) for _ in range(5)] == list(range(5))


def test_next_blocks_until_there_is_an_item() -> None:
    stream: Stream[int] = Stream()
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(next(stream)))
    thread.start()
    stream.put(7)
    thread.join(5)
    assert got == [7]


def test_get_gives_up_after_its_timeout() -> None:
    stream: Stream[int] = Stream()
    with pytest.raises(TimeoutError, match=r"nothing within 0\.01 s"):
        stream.get(0.01)
    stream.put(1)
    assert stream.get(0) == 1


def test_a_closed_stream_gives_what_it_has_and_ends() -> None:
    closed: list[Stream[int]] = []
    stream: Stream[int] = Stream(closed.append)
    stream.put(1)
    stream.close()
    stream.close()
    assert list(stream) == [1]
    assert list(stream) == []
    assert closed == [stream]


def test_closing_ends_those_who_wait() -> None:
    stream: Stream[int] = Stream()
    got: list[list[int]] = []
    threads = [threading.Thread(target=lambda: got.append(list(stream))) for _ in range(3)]
    for thread in threads:
        thread.start()
    stream.close()
    for thread in threads:
        thread.join(5)
    assert got == [[], [], []]


def test_a_reader_that_is_too_slow_loses_the_oldest_and_the_loss_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 3)
    stream: Stream[int] = Stream()
    for number in range(5):
        stream.put(number)
    stream.close()
    assert list(stream) == [2, 3, 4]
    assert stream.lost == 2


def test_async_for_waits_without_blocking_the_loop_and_ends_when_closed() -> None:
    stream: Stream[int] = Stream()

    async def read() -> list[int]:
        return [item async for item in stream]

    async def main() -> list[int]:
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        await asyncio.to_thread(stream.put, 1)
        await asyncio.to_thread(stream.put, 2)
        await asyncio.to_thread(stream.close)
        return await reading

    assert asyncio.run(main()) == [1, 2]


def test_a_loop_that_was_closed_while_it_waited_is_no_obstacle() -> None:
    stream: Stream[int] = Stream()

    async def main() -> None:
        task = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    stream.put(1)
    assert next(stream) == 1


def test_two_tasks_that_wait_get_one_item_each() -> None:
    stream: Stream[int] = Stream()

    async def main() -> list[int]:
        tasks = [asyncio.ensure_future(stream.__anext__()) for _ in range(2)]
        await asyncio.sleep(0)
        stream.put(1)
        stream.put(2)
        return sorted(await asyncio.gather(*tasks))

    assert asyncio.run(main()) == [1, 2]

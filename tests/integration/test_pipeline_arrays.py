"""Arrays in pipelines: read where they lie, lent on between stages, bounded in memory, and let go."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors import ActorSystem, transports
from actors.pipeline import Pipeline, Stage
from kit import until

MB = 1 << 20
Array = np.ndarray[Any, np.dtype[np.float64]]


def doubled(array: Array) -> Array:
    return array * 2


def same(array: Array) -> Array:
    assert not array.flags.writeable
    return array


def halves(array: Array) -> Iterator[Array]:
    yield from np.split(array, 2)


def summed(array: Array) -> float:
    return float(array.sum())


def place_of(array: Array) -> tuple[Array, bool]:
    """Itself, and whether its memory is a segment."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(each, 16) for each in line.split()[0].split("-"))
        if begin <= address < end:
            return array, "memfd:actors:segment" in line
    raise AssertionError("its memory is nowhere")


def memory(system: ActorSystem) -> dict[str, int]:
    found: dict[str, int] = system.tree()["memory"]
    return found


class Frames:
    """A stage that writes each result into the same buffer."""

    def __init__(self) -> None:
        self.buffer = np.zeros(20_000)

    def process(self, number: int) -> Array:
        self.buffer[:] = number
        return self.buffer


class Gather:
    """Keeps all that it gets until the end."""

    def __init__(self) -> None:
        self.kept: list[Array] = []

    def process(self, array: Array) -> None:
        self.kept.append(array)

    def finish(self) -> list[float]:
        return [float(array[0]) for array in self.kept]


class Latest:
    """Keeps the newest over a crash; its answers are kept, too."""

    def __init__(self) -> None:
        self.latest: Array | None = None

    def process(self, array: Array) -> Array:
        self.latest = array
        return array + 1

    def snapshot(self) -> Array | None:
        return self.latest

    def restore(self, state: Array | None) -> None:
        self.latest = state


@pytest.mark.skipif(transports.KIND == "python", reason="there a reader has a copy (transports/fallback/segment.py)")
def test_stages_read_arrays_where_they_lie_and_lend_them_on(system: ActorSystem) -> None:
    """What the source gave is read by the last stage in a segment, through two stages that pass it on."""
    run = Pipeline(same, same, place_of).run((np.full(MB, float(n)) for n in range(6)), system=system)
    for number, (array, lies_there) in enumerate(run):
        assert lies_there
        assert (array == number).all()
        assert not array.flags.writeable
        assert place_of(array)[1]  # here, too


def test_results_of_every_form_are_whole(system: ActorSystem) -> None:
    """Slices, several a result, more than a message can have beside it, and those beside small things."""
    values: list[Any] = [
        [np.full(20_000, float(n)) for n in range(100)],  # more large parts than a message takes
        {"a": np.arange(50_000.0), "b": bytes(300_000), "c": "small"},
        np.arange(60_000.0).reshape(200, 300)[:, 1:],
        memoryview(bytes(range(256)) * 1000),
        np.array([{"an": "object"}] * 3, dtype=object),
        7,
    ]
    found = list(Pipeline(identity, Stage(identity, workers=2)).run(values, system=system))
    for value, result in zip(values, found, strict=True):
        np.testing.assert_equal(result, value)
    pieces = list(Pipeline(halves, Stage(same, workers=2)).run([np.arange(100_000.0)] * 4, system=system))
    assert [float(piece[0]) for piece in pieces] == [0.0, 50_000.0] * 4


def identity(value: Any) -> Any:
    return value


def test_a_buffer_that_is_used_again_is_no_trouble(system: ActorSystem) -> None:
    """A source, and a stage, that write each item into the memory of the one before."""

    def source() -> Iterator[Array]:
        buffer = np.zeros(50_000)
        for number in range(40):
            buffer[:] = number
            yield buffer

    assert [array[-1] for array in Pipeline(same).run(source(), system=system)] == list(range(40))
    assert [array[-1] for array in Pipeline(Frames).run(range(200), system=system)] == list(range(200))


@pytest.mark.parametrize("keeps", [False, True])
def test_memory_is_bounded_and_given_back(system: ActorSystem, keeps: bool) -> None:
    """Between stages lie some arrays and no more, however slow the sink; afterwards nothing is in use."""
    most = 0
    stage = Latest if keeps else Stage(doubled)
    for number, _ in enumerate(Pipeline(same, stage, same).run((np.ones(MB) for _ in range(30)), system=system)):
        if number % 5 == 0:
            most = max(most, memory(system)["in_use"])
    assert most <= 20 * 8 * MB, f"{most / MB:.0f} MB"
    del _
    gc.collect()
    until(lambda: memory(system)["in_use"] == 0, "all leases to be given up")


def test_results_that_are_kept_leave_room_for_those_on_their_way() -> None:
    """The program and a stage gather three times what the system may have in segments."""
    with ActorSystem(memory=64 * MB) as system:
        kept = list(Pipeline(same).run((np.full(MB // 4, float(n)) for n in range(96)), system=system))
        assert [array[-1] for array in kept] == list(range(96))
        [firsts] = Pipeline(same, Gather).run((np.full(MB // 4, float(n)) for n in range(96)), system=system)
        assert firsts == list(range(96))


def test_an_asynchronous_source_and_loop(system: ActorSystem) -> None:
    async def source() -> AsyncIterator[Array]:
        for number in range(10):
            yield np.full(MB, float(number))

    async def main() -> list[float]:
        run = Pipeline(doubled, doubled).run(source(), system=system)
        return [float(array[0]) async for array in run]

    assert asyncio.run(main()) == [4.0 * n for n in range(10)]


def test_results_outlive_their_run() -> None:
    """A run with a system of its own: the arrays stay what they are when it is gone."""
    results = list(Pipeline(doubled).run(np.full(100_000, float(n)) for n in range(4)))
    assert [array.sum() for array in results] == [200_000.0 * n for n in range(4)]
    assert list(Pipeline(summed).run(results)) == [200_000.0 * n for n in range(4)]

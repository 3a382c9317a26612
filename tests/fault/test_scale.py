"""Stopping many actors costs so much for each: nothing in the guardian looks at all of them for each one."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator

import pytest

from actors import ActorSystem
from actors.supervision import Child, Supervisor
from kit import Journal, LeakGuard, system_name
from kit.parts import Part

DESCRIPTORS = 16_384


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def seconds_to_stop(system: ActorSystem, count: int, journal: Journal) -> float:
    tree = system.start(Supervisor(Child(Part, journal, count=count), name="many"))
    [ref.ask(Part.pid) for ref in tree.children().values()][-1].result(60)
    began = time.perf_counter()
    tree.stop()
    tree.wait(120)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("few", "many", "times"), [(20, 200, 15), pytest.param(20, 1000, 75, marks=pytest.mark.nightly)]
)
def test_the_time_to_stop_grows_with_the_number_of_actors_and_no_faster(
    few: int, many: int, times: int, many_descriptors: None, nothing_is_left: LeakGuard, journal: Journal
) -> None:
    """On a machine that others use, too, a long measurement suffers more than a short one: so it has a few tries."""
    ratios: list[float] = []
    with ActorSystem(system_name("scale")) as system:
        while not ratios or (ratios[-1] > times and len(ratios) < 4):
            short = statistics.median(seconds_to_stop(system, few, journal) for _ in range(5))
            ratios.append(seconds_to_stop(system, many, journal) / short)
            print(f"stopping {few}: {short * 1e3:.0f} ms, {many}: {ratios[-1]:.1f} times that")
    assert min(ratios) <= times

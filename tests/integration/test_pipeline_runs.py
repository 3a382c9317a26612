"""A run in the hands of several: threads that share its results, and one that closes it."""

from __future__ import annotations

import itertools
import threading

import cloudpickle
import pytest

from actors import ActorSystem
from actors.pipeline import Pipeline
from kit import until

pytestmark = pytest.mark.usefixtures("leak_guard")


def double(number: int) -> int:
    return number * 2


@pytest.mark.parametrize("items", [0, 50_000])
def test_threads_share_the_results(items: int, system: ActorSystem) -> None:
    """Each result goes to one of them, and each thread's loop ends."""
    run, found = Pipeline(double).run(range(items), system=system), list[list[int]]()

    def take() -> None:
        found.append(list(run))

    threads = [threading.Thread(target=take, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert sorted(itertools.chain.from_iterable(found)) == list(range(0, 2 * items, 2))


def test_a_loop_ends_when_another_thread_closes_the_run(system: ActorSystem) -> None:
    run = Pipeline(double, slow).run(range(1, 3), system=system)
    found = list[int]()
    thread = threading.Thread(target=lambda: found.extend(run), daemon=True)
    thread.start()
    until(lambda: run.engine.flow.stations[1].flights[0], "an item is in the last stage's hands")
    run.close()
    thread.join(30)
    assert not thread.is_alive()
    assert found == []


def slow(number: int) -> int:
    threading.Event().wait(60)
    return number


def test_a_pipeline_that_has_run_can_be_sent(system: ActorSystem) -> None:
    pipeline = Pipeline(double)
    assert list(pipeline.run([1], system=system)) == [2]
    again: Pipeline = cloudpickle.loads(cloudpickle.dumps(pipeline))
    assert list(again.run([1], system=system)) == [2]
    with pytest.raises(RuntimeError, match="has not run yet"):
        cloudpickle.loads(cloudpickle.dumps(pipeline)).profile()

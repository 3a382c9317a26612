"""`ActorPoolExecutor`: what the tests of CPython's process pool ask for (docs/executor.md has the list), in our words."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from actors import ActorPoolExecutor, CodecError, PoolBroken, SpecError
from kit import Gate, Journal, LeakGuard, until

STATE = "never set"
TABLE: dict[str, int] = {}


@pytest.fixture(scope="module")
def pool(module_leak_guard: LeakGuard) -> Iterator[ActorPoolExecutor]:
    """Two workers that the tests of this module share."""
    with ActorPoolExecutor(2) as executor:
        first = [executor.submit(time.sleep, 0.02) for _ in range(2)]
        until(lambda: len(executor._dispatcher.scheduler.workers) == 2, "both are up, before other guards look")
        concurrent.futures.wait(first)
        yield executor


@pytest.fixture
def single(leak_guard: LeakGuard) -> Iterator[ActorPoolExecutor]:
    """One worker, for one test."""
    with ActorPoolExecutor(1) as executor:
        yield executor


def multiply(a: int, b: int) -> int:
    return a * b


def fail(text: str) -> None:
    raise KeyError(text)  # a comment that the traceback shows


def held(gate: Gate, value: Any = None) -> Any:
    gate.wait()
    return value


# --- submit


def test_a_call_gives_its_value(pool: ActorPoolExecutor) -> None:
    assert pool.submit(pow, 2, 8).result() == 256
    assert pool.submit(multiply, 2, b=8).result() == 16


def test_keywords_may_have_any_name(pool: ActorPoolExecutor) -> None:
    def names(**keywords: int) -> dict[str, int]:
        return keywords

    assert pool.submit(names, self=1, fn=2, function=3).result() == {"self": 1, "fn": 2, "function": 3}
    with pytest.raises(TypeError):
        pool.submit()  # type: ignore[call-arg]


def test_lambdas_closures_partials_and_methods_work(pool: ActorPoolExecutor) -> None:
    factor = 3
    assert pool.submit(lambda x: x * factor, 5).result() == 15
    assert pool.submit(functools.partial(multiply, b=4), 5).result() == 20
    assert pool.submit("abc".upper).result() == "ABC"
    assert pool.submit(int, "ff", 16).result() == 255


def test_an_exception_has_its_type_its_arguments_and_the_workers_traceback(pool: ActorPoolExecutor) -> None:
    future = pool.submit(fail, "missing")
    with pytest.raises(KeyError) as caught:
        future.result()
    assert caught.value.args == ("missing",)
    assert isinstance(future.exception(), KeyError)
    shown = "".join(traceback.format_exception(caught.value))
    assert "raise KeyError(text)  # a comment that the traceback shows" in shown


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_interpreter_is_the_result_of_its_task(
    pool: ActorPoolExecutor, error: BaseException
) -> None:
    def leave() -> None:
        raise error

    assert type(pool.submit(leave).exception()) is type(error)
    assert pool.submit(abs, -1).result() == 1


def test_an_argument_that_cant_be_sent_is_the_futures_exception(pool: ActorPoolExecutor) -> None:
    future = pool.submit(abs, threading.Lock())
    assert future.done()
    with pytest.raises(CodecError, match="argument"):
        future.result()
    lock = threading.Lock()
    with pytest.raises(CodecError, match="lock"):
        pool.submit(lambda: lock).result()
    assert pool.submit(abs, -1).result() == 1


def test_a_result_that_cant_be_sent_is_the_futures_exception(pool: ActorPoolExecutor) -> None:
    with pytest.raises(CodecError, match="the result"):
        pool.submit(threading.Lock).result()


def test_large_arguments_and_results_arrive(pool: ActorPoolExecutor) -> None:
    data = os.urandom(3 << 20)
    futures = [pool.submit(bytes.__add__, data, b"x") for _ in range(5)]
    assert all(future.result() == data + b"x" for future in futures)


def test_a_coroutine_is_awaited_and_asyncio_run_works_in_a_task(pool: ActorPoolExecutor) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert pool.submit(later, 3).result() == 3
    assert pool.submit(lambda: asyncio.run(later(4))).result() == 4
    assert pool.submit(abs, -5).result() == 5


def test_arguments_are_let_go_when_the_task_is_over(pool: ActorPoolExecutor) -> None:
    class Big:
        pass

    kept = Big()
    gone = weakref.ref(kept)
    future = pool.submit(id, kept)
    future.result()
    del kept
    gc.collect()
    assert gone() is None


def test_many_tasks_run_in_at_most_so_many_workers(pool: ActorPoolExecutor) -> None:
    futures = [pool.submit(os.getpid) for _ in range(2000)]
    assert 1 <= len({future.result() for future in futures}) <= 2


def test_an_idle_worker_is_used_again_before_another_is_started(leak_guard: LeakGuard) -> None:
    with ActorPoolExecutor(4) as executor:
        assert len({executor.submit(os.getpid).result() for _ in range(10)}) == 1


def test_a_short_task_is_not_stranded_behind_a_long_one(pool: ActorPoolExecutor, gate: Gate) -> None:
    """One worker is held; all others' work, also what had been sent to it, is done by the other one."""
    long = pool.submit(held, gate, "long")
    others = [pool.submit(multiply, number, 2) for number in range(100)]
    assert [future.result(20) for future in others] == [number * 2 for number in range(100)]
    assert not long.done()
    gate.open()
    assert long.result(20) == "long"


# --- namespaces


def set_state(value: str) -> None:
    global STATE
    STATE = value
    TABLE[value] = 1


def get_state() -> tuple[str, dict[str, int]]:
    return STATE, TABLE


def test_an_initializers_globals_are_seen_by_tasks_and_by_no_one_else(leak_guard: LeakGuard) -> None:
    with ActorPoolExecutor(2, initializer=set_state, initargs=("ready",)) as executor:
        assert {str(executor.submit(get_state).result()) for _ in range(4)} == {"('ready', {'ready': 1})"}
    assert (STATE, TABLE) == ("never set", {})


# --- initializer


@pytest.mark.parametrize("way", ["raises", "exits", "dies"])
def test_a_failing_initializer_breaks_the_executor(way: str, leak_guard: LeakGuard) -> None:
    def initializer() -> None:
        if way == "raises":
            raise ValueError("no model")
        sys.exit(3) if way == "exits" else os._exit(3)

    with ActorPoolExecutor(2, initializer=initializer) as executor:
        futures = [executor.submit(abs, 1) for _ in range(6)]
        for future in futures:
            with pytest.raises(BrokenProcessPool) as caught:
                future.result(30)
            assert isinstance(caught.value, PoolBroken)
        with pytest.raises(PoolBroken):
            executor.submit(abs, 1)
        with pytest.raises(BrokenProcessPool):
            executor.map(abs, [1])
    if way == "raises":
        assert isinstance(caught.value.__cause__, ValueError)
        assert "no model" in str(caught.value)


def test_an_initializer_must_be_callable_and_sendable(leak_guard: LeakGuard) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ActorPoolExecutor(1, initializer=1)  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="initializer"):
        ActorPoolExecutor(1, initializer=abs, initargs=(threading.Lock(),))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"max_workers": 1.5}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": "2"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"mp_context": "fork"}, SpecError),
    ],
)
def test_senseless_options_are_refused_before_anything_starts(
    options: dict[str, Any], error: type[Exception], leak_guard: LeakGuard
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        ActorPoolExecutor(**options)


# --- map


def test_map_gives_results_in_order(pool: ActorPoolExecutor) -> None:
    expected = list(map(pow, range(40), range(40)))
    assert list(pool.map(pow, range(40), range(40))) == expected
    for chunksize in (1, 6, 40, 50):
        assert list(pool.map(pow, range(40), range(40), chunksize=chunksize)) == expected
    assert list(pool.map(abs, [])) == []
    assert list(pool.map(multiply, [1, 2, 3], [4, 5])) == [4, 10]
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(abs, [1], chunksize=0)


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_an_exception_comes_at_its_items_place(pool: ActorPoolExecutor, chunksize: int | None) -> None:
    results = pool.map(divmod, [1] * 20 + [1], [2] * 10 + [0] + [2] * 10, chunksize=chunksize)
    assert [next(results) for _ in range(10)] == [(0, 1)] * 10
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_ends_with_its_time(pool: ActorPoolExecutor, gate: Gate) -> None:
    results = pool.map(lambda n: n if n < 2 else held(gate), [0, 1, 2], timeout=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    assert pool.submit(abs, -1).result(20) == 1


def test_leaving_a_map_early_cancels_the_rest(single: ActorPoolExecutor, tmp_path: Path, gate: Gate) -> None:
    journal = Journal(tmp_path / "journal")

    def note(number: int) -> int:
        journal.write("ran", number)
        if number == 1:
            gate.wait()
        return number

    results = single.map(note, range(100), chunksize=1)
    assert next(results) == 0
    journal.until("ran", 1)
    results.close()  # type: ignore[attr-defined]
    gate.open()
    single.submit(abs, 1).result(20)
    assert journal.lines() == ["ran 0", "ran 1"]


def test_map_reads_its_input_at_once_and_keeps_no_result(pool: ActorPoolExecutor) -> None:
    read: list[int] = []
    results = pool.map(abs, (read.append(n) or n for n in range(5)))  # type: ignore[func-returns-value]
    assert read == [0, 1, 2, 3, 4]

    objects = pool.map(functools.partial(dict, a=1), [[]] * 3)
    first = next(objects)
    assert sys.getrefcount(first) <= 2
    assert list(results) == [0, 1, 2, 3, 4]


# --- futures


def test_states_of_a_future_and_cancelling_in_each(single: ActorPoolExecutor, gate: Gate) -> None:
    running = single.submit(held, gate, 1)
    until(running.running, "it runs")
    mailbox = single.submit(abs, -2)  # waits in the worker's mailbox
    queued = [single.submit(abs, -3) for _ in range(3)]
    assert not mailbox.running() and not queued[0].running()
    assert not mailbox.done() and not queued[0].done() and not running.done()
    assert not running.cancel()
    assert mailbox.cancel() and mailbox.cancelled() and mailbox.done() and not mailbox.running()
    assert queued[0].cancel() and queued[0].cancel()
    for cancelled in (mailbox, queued[0]):
        with pytest.raises(CancelledError):
            cancelled.result()
        with pytest.raises(CancelledError):
            cancelled.exception()
    with pytest.raises(TimeoutError):
        running.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        queued[1].result(timeout=0)
    gate.open()
    assert (running.result(20), queued[1].result(20), queued[2].result(20)) == (1, 3, 3)
    assert running.done() and not running.running() and not running.cancel() and not running.cancelled()
    assert running.exception() is None


def test_callbacks_are_called_once_in_order_and_at_once_when_it_is_over(pool: ActorPoolExecutor, gate: Gate) -> None:
    called: list[Any] = []
    future = pool.submit(held, gate, 5)
    future.add_done_callback(lambda f: called.append(("first", f.result())))
    future.add_done_callback(lambda f: 1 / 0)  # is logged
    future.add_done_callback(lambda f: called.append(("third", f is future)))
    gate.open()
    until(lambda: len(called) == 2, "both were called")
    future.add_done_callback(lambda f: called.append("at once"))
    assert called == [("first", 5), ("third", True), "at once"]
    gates = [gate, Gate(f"{gate.path}-2")]
    cancelled = [pool.submit(held, each) for each in gates] + [pool.submit(abs, n) for n in range(4)]
    cancelled[-1].add_done_callback(lambda f: called.append(f.cancelled()))
    assert cancelled[-1].cancel()
    until(lambda: called[-1] is True, "the callback of the cancelled one was called")
    for each in gates:
        each.open()
    assert [future.result(20) for future in cancelled[:-1]] == [None, None, 0, 1, 2]


def test_as_completed_and_wait(pool: ActorPoolExecutor, gate: Gate) -> None:
    futures = [pool.submit(abs, number) for number in range(50)]
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures, timeout=20)) == list(range(50))
    assert concurrent.futures.wait(futures, 20, ALL_COMPLETED).not_done == set()
    long, short, failing = pool.submit(held, gate), pool.submit(abs, 1), pool.submit(fail, "x")
    assert concurrent.futures.wait([long, short], 20, FIRST_COMPLETED).done == {short}
    assert failing in concurrent.futures.wait([long, failing], 20, FIRST_EXCEPTION).done
    assert concurrent.futures.wait([long], 0.01).not_done == {long}
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([long, short], timeout=0.01))
    gate.open()
    assert concurrent.futures.wait([long, short, failing], 20).not_done == set()


def test_only_its_executor_changes_a_future(pool: ActorPoolExecutor) -> None:
    future = pool.submit(abs, 1)
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    assert future.result() == 1
    assert "finished returned int" in repr(future)


def test_many_threads_submit_and_wait(pool: ActorPoolExecutor) -> None:
    def use(number: int) -> list[int]:
        return [pool.submit(multiply, number, n).result(30) for n in range(100)]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(use, range(8))) == [[a * n for n in range(100)] for a in range(8)]


def test_several_threads_wait_for_one_future(pool: ActorPoolExecutor, gate: Gate) -> None:
    future = pool.submit(held, gate, "all")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(future.result, 20) for _ in range(4)]
        gate.open()
        assert [each.result() for each in waiting] == ["all"] * 4


def test_asyncio_runs_on_it(pool: ActorPoolExecutor, gate: Gate) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(*(loop.run_in_executor(pool, multiply, n, 2) for n in range(200)))
        assert values == [n * 2 for n in range(200)]
        with pytest.raises(KeyError):
            await loop.run_in_executor(pool, fail, "x")
        late = loop.run_in_executor(pool, held, gate)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 0.01)
        gate.open()
        await late
        assert await asyncio.wrap_future(pool.submit(abs, -1)) == 1
        assert pool.submit(abs, -2).result() == 2  # blocks the loop, as with any executor

    asyncio.run(main())


# --- recycling


def test_a_worker_is_replaced_after_its_tasks_and_nothing_is_lost(leak_guard: LeakGuard) -> None:
    with ActorPoolExecutor(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result(20) for _ in range(4)]
        assert pids[0] == pids[1] == pids[2] != pids[3]
    with ActorPoolExecutor(2, max_tasks_per_child=1) as executor:
        futures = [executor.submit(os.getpid) for _ in range(20)]
        assert len({future.result(60) for future in futures}) == 20


def test_shutdown_right_after_submitting_to_workers_of_one_task(leak_guard: LeakGuard) -> None:
    executor = ActorPoolExecutor(3, max_tasks_per_child=1)
    futures = [executor.submit(multiply, n, n) for n in range(6)]
    executor.shutdown()
    assert [future.result() for future in futures] == [n * n for n in range(6)]

"""The executor while its workers, or the program, are hit by signals: every future ends exactly once, a death concerns
the task in hand alone, and what was submitted runs exactly once unless its worker died with it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from actors import ActorPoolExecutor, ActorSystem, WorkerDied
from kit import Journal, Script, until


def note(journal: Journal, number: int, seconds: float = 0.0) -> int:
    """A task that says when it begins and ends."""
    journal.write("begin", number, os.getpid())
    if seconds:
        time.sleep(seconds)
    journal.write("end", number, os.getpid())
    return number


def die(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(60)


def workers(system: ActorSystem) -> list[int]:
    return [child["pid"] for child in system.tree()["children"] if child["pid"]]


def judged(futures: dict[int, Any], journal: Journal, deaths: int, retries: int) -> collections.Counter[str]:
    """Every future has one outcome and it is the right one."""
    begun = collections.Counter(int(row[1]) for row in journal.rows() if row[0] == "begin")
    ended = collections.Counter(int(row[1]) for row in journal.rows() if row[0] == "end")
    outcomes: collections.Counter[str] = collections.Counter()
    for number, future in futures.items():
        assert future.done(), number
        if future.cancelled():
            outcomes["cancelled"] += 1
            assert begun[number] == 0, f"{number} was cancelled, and ran"
        elif (error := future.exception()) is not None:
            outcomes["died"] += 1
            assert isinstance(error, WorkerDied), (number, error)
            assert begun[number] <= retries + 1
        else:
            outcomes["returned"] += 1
            assert future.result() == number
            assert ended[number] >= 1 and begun[number] <= retries + 1, number
    assert outcomes["died"] <= deaths
    assert sum(begun.values()) <= len(futures) + deaths, "a task ran again whose worker had not died"
    return outcomes


@pytest.mark.parametrize("kills", [25, pytest.param(500, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("retries", [0, 3])
def test_a_storm_of_kills_concerns_the_tasks_in_hand_alone(
    kills: int, retries: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Two threads submit, one looks, one cancels; workers are killed at random all the time."""
    futures: dict[int, Any] = {}
    over, called = threading.Event(), collections.Counter[int]()
    with ActorPoolExecutor(2, system=system, retries=retries) as executor:

        def submit(first: int) -> None:
            number = first
            while not over.is_set():
                future = futures[number] = executor.submit(note, journal, number, rng.choice([0.0, 0.0, 0.002]))
                future.add_done_callback(lambda _, number=number: called.update([number]))  # type: ignore[misc]
                if number % 10 == first:
                    future.cancel()
                elif number % 3 == 0:
                    future.exception(60) if not future.cancelled() else None
                number += 2
                if number % 50 < 2:
                    time.sleep(0.01)

        threads = [threading.Thread(target=submit, args=[first]) for first in (0, 1)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            time.sleep(rng.uniform(0.0, 0.02))
            for pid in rng.sample(found := workers(system), min(len(found), 1)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
        over.set()
        for thread in threads:
            thread.join()
        done = sum(1 for _ in as_completed(futures.values(), 60))
        assert done == len(futures)
        assert executor.submit(note, journal, -1).result(60) == -1
    until(lambda: len(called) == len(futures), "every callback was called")
    assert set(called.values()) == {1}
    outcomes = judged(futures, journal, kills, retries)
    print(outcomes)
    assert outcomes["returned"] > 0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_fails_its_own_task_only(signum: int, system: ActorSystem) -> None:
    with ActorPoolExecutor(1, system=system) as executor:
        before = executor.submit(abs, -1)
        killed = executor.submit(die, signum)
        after = [executor.submit(abs, -number) for number in range(20)]
        error = killed.exception(30)
        assert (
            isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool) and isinstance(error, BrokenExecutor)
        )
        assert error.reason is not None and error.reason.signal == signum
        assert before.result(30) == 1
        assert [future.result(30) for future in after] == list(range(20))


def test_os_exit_fails_its_task_only_and_map_says_so_at_its_place(system: ActorSystem) -> None:
    with ActorPoolExecutor(2, system=system) as executor:
        results = executor.map(lambda n: os._exit(3) if n == 5 else n, range(10), chunksize=1)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(WorkerDied, match="exit"):
            next(results)
        assert list(executor.map(abs, range(1000))) == list(range(1000))


def test_a_task_is_tried_again_as_often_as_it_may(system: ActorSystem, journal: Journal) -> None:
    def fatal(deaths: int) -> str:
        journal.write("try")
        if len(journal.lines()) <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return "in the end"

    with ActorPoolExecutor(1, system=system, retries=2) as executor:
        assert executor.submit(fatal, 2).result(30) == "in the end"
        with pytest.raises(WorkerDied, match="3 workers"):
            executor.submit(fatal, 99).result(30)
        assert len(journal.lines()) == 3 + 3


def test_idle_workers_that_are_killed_are_replaced_when_there_is_work(system: ActorSystem, rng: random.Random) -> None:
    with ActorPoolExecutor(2, system=system) as executor:
        for number in range(20):
            assert executor.submit(abs, -number).result(30) == number
            for pid in workers(system):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(rng.choice([0, 0.002, 0.02]))


def test_recycling_under_load_loses_nothing(system: ActorSystem, journal: Journal) -> None:
    with ActorPoolExecutor(2, system=system, max_tasks_per_child=5) as executor:
        futures = {number: executor.submit(note, journal, number) for number in range(150)}
        assert [future.result(60) for future in futures.values()] == list(futures)
    per_worker = collections.Counter(row[2] for row in journal.rows() if row[0] == "end")
    assert max(per_worker.values()) <= 5
    assert judged(futures, journal, 0, 0)["returned"] == 150


@pytest.mark.parametrize("rounds", [20, pytest.param(300, marks=pytest.mark.nightly)])
def test_cancelling_at_random_is_exact(rounds: int, system: ActorSystem, journal: Journal, rng: random.Random) -> None:
    """What says that it is cancelled never runs, and everything else does, once."""
    futures: dict[int, Any] = {}
    with ActorPoolExecutor(2, system=system) as executor:
        executor.submit(note, journal, -1).result(30)
        for number in range(rounds * 20):
            futures[number] = executor.submit(note, journal, number)
            if number % 50 == 0:
                futures[number].exception(30)
            victim = rng.choice(list(futures)[-6:])
            if futures[victim].cancel():
                with pytest.raises(CancelledError):
                    futures[victim].result()
        executor.shutdown(cancel_futures=True)
    outcomes = judged(futures, journal, 0, 0)
    assert outcomes["cancelled"] > 0
    ran = collections.Counter(int(row[1]) for row in journal.rows() if row[0] == "end")
    assert set(ran.values()) == {1}
    assert len(ran) == outcomes["returned"] + 1


def test_the_guardians_death_ends_every_future(system: ActorSystem) -> None:
    executor = ActorPoolExecutor(2, system=system)
    futures = [executor.submit(time.sleep, 60) for _ in range(6)]
    until(futures[0].running, "it runs")
    os.kill(system.guardian_pid, signal.SIGKILL)
    for future in futures:
        assert isinstance(future.exception(30), BrokenProcessPool)
    with pytest.raises(BrokenProcessPool):
        executor.submit(abs, 1).result(10)
    executor.shutdown()


CTRL_C = """
import os, sys, time
from actors import ActorPoolExecutor

def busy(n):
    end = time.monotonic() + 0.0005 * (n % 3)
    while time.monotonic() < end:
        pass
    return n

executor = ActorPoolExecutor(2)
executor.submit(busy, 1).result()
print("pid", os.getpid(), flush=True)
caught, rounds = 0, int(sys.argv[1])
while caught < rounds:
    try:
        while True:
            number = 1
            print("go", flush=True)
            while True:
                number += 1
                fs = [executor.submit(busy, number + k) for k in range(number % 7 + 1)]
                assert [f.result(20) for f in fs] == [number + k for k in range(number % 7 + 1)]
                if number % 5 == 0:
                    assert list(executor.map(busy, range(20), timeout=20)) == list(range(20))
    except KeyboardInterrupt:
        caught += 1
    assert [f.result(20) for f in [executor.submit(busy, k) for k in range(10)]] == list(range(10))
print("left", len(executor._dispatcher.tasks), executor._dispatcher.scheduler.starting, flush=True)
executor.shutdown()
print("end", flush=True)
"""


@pytest.mark.parametrize("rounds", [25, pytest.param(500, marks=pytest.mark.nightly)])
def test_ctrl_c_anywhere_leaves_an_executor_that_works(
    rounds: int, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread is interrupted at random moments of submitting and waiting; after each the executor is whole."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    with Script(CTRL_C, rounds) as script:
        script.expect("pid")
        for _ in range(rounds):
            script.expect("go")
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(script.pid, signal.SIGINT)
        script.expect("end", 60)


@pytest.mark.parametrize("moment", ["with", "result", "exit"])
def test_ctrl_c_ends_a_program_and_its_workers(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the standard executor, whose workers the terminal interrupts, too: nobody waits for the tasks."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    code = f"""
    import os, time
    from actors import ActorPoolExecutor

    def forever():
        os.write(1, b"busy\\n")  # in one piece: there are two of them
        time.sleep(600)

    if {moment == "exit"}:
        executor = ActorPoolExecutor(2)
        futures = [executor.submit(forever) for _ in range(10)]
        futures[0].result()
    with ActorPoolExecutor(2) as executor:
        futures = [executor.submit(forever) for _ in range(10)]
        if {moment == "result"}:
            futures[0].result()
    """
    with Script(code) as script:
        script.expect("busy")
        script.expect("busy")
        start = time.monotonic()
        script.interrupt()
        assert "KeyboardInterrupt" in script.drain(30)
        script.process.wait(30)
        assert time.monotonic() - start < 10  # not 600


def test_killing_the_workers_at_any_moment_ends_every_future(system: ActorSystem, rng: random.Random) -> None:
    for _ in range(15):
        executor = ActorPoolExecutor(2, system=system, retries=3)
        futures = [executor.submit(time.sleep, rng.choice([0.0, 0.001, 60])) for _ in range(20)]
        time.sleep(rng.uniform(0.0, 0.02))
        executor.kill_workers()
        for future in futures:
            assert future.cancelled() or future.exception(30) is None or isinstance(future.exception(), WorkerDied)

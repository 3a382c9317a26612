"""`ActorPoolExecutor`: its end by shutdown, kill, garbage or the interpreter's exit, and whole programs that use it."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from actors import ActorPoolExecutor, ActorSystem, CodecError
from kit import Gate, LeakGuard, until
from kit.program import Program


@pytest.fixture
def single(leak_guard: LeakGuard) -> Iterator[ActorPoolExecutor]:
    """One worker, for one test."""
    with ActorPoolExecutor(1) as executor:
        yield executor


def multiply(a: int, b: int) -> int:
    return a * b


def held(gate: Gate, value: Any = None) -> Any:
    gate.wait()
    return value


def held_after_the_first(folder: Path, gate: Gate) -> None:
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        gate.wait()


# --- shutdown


def test_after_shutdown_nothing_is_taken_and_all_is_done(leak_guard: LeakGuard) -> None:
    executor = ActorPoolExecutor(2)
    futures = [executor.submit(multiply, n, 2) for n in range(50)]
    results = executor.map(abs, range(5))
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [n * 2 for n in range(50)]
    assert list(results) == list(range(5))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_shutdown_without_a_task_and_twice(leak_guard: LeakGuard) -> None:
    executor = ActorPoolExecutor(1)
    executor.shutdown(wait=False)
    executor.shutdown()


def test_shutdown_may_cancel_what_waits(leak_guard: LeakGuard, gate: Gate) -> None:
    executor = ActorPoolExecutor(1)
    running = executor.submit(held, gate, "done")
    until(running.running, "it runs")
    waiting = [executor.submit(abs, 1) for _ in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    gate.open()
    assert running.result(20) == "done"
    executor.shutdown()


def test_shutdown_without_waiting_lets_work_go_on(leak_guard: LeakGuard, gate: Gate) -> None:
    executor = ActorPoolExecutor(1)
    gates = [Gate(f"{gate.path}-{number}") for number in range(3)]
    futures = [executor.submit(held, each, n) for n, each in enumerate(gates)]
    executor.shutdown(wait=False)
    for each in gates:
        each.open()
    assert [future.result(20) for future in futures] == [0, 1, 2]
    executor.shutdown()


def test_a_callback_may_shut_it_down(leak_guard: LeakGuard) -> None:
    executor = ActorPoolExecutor(1)
    over = threading.Event()

    def end(_: object) -> None:
        executor.shutdown(wait=False)
        over.set()

    executor.submit(abs, 1).add_done_callback(end)
    assert over.wait(20)
    executor.shutdown()


def test_an_executor_that_nobody_holds_finishes_and_ends(leak_guard: LeakGuard) -> None:
    executor = ActorPoolExecutor(1)
    system, future = executor._dispatcher.system, executor.submit(multiply, 6, 7)
    over = executor._dispatcher.end.over
    del executor
    gc.collect()
    assert future.result(20) == 42
    assert over.wait(20)
    with pytest.raises(Exception, match="closed"):
        system.tree()


def test_kill_workers_ends_at_once(leak_guard: LeakGuard, gate: Gate) -> None:
    executor = ActorPoolExecutor(1, retries=5)
    running = executor.submit(held, gate)
    until(running.running, "it runs")
    waiting = [executor.submit(abs, 1) for _ in range(3)]
    executor.kill_workers()
    with pytest.raises(BrokenProcessPool):
        running.result(20)
    assert all(future.cancelled() for future in waiting)


def test_the_workers_may_belong_to_a_system_that_goes_on(own: ActorSystem) -> None:
    with ActorPoolExecutor(2, system=own) as executor:
        assert list(executor.map(abs, range(100))) == list(range(100))
        assert own.tree()["children"]
    assert own.tree()["children"] == []


def test_a_worker_that_still_starts_is_gone_when_shutdown_returns(own: ActorSystem, tmp_path: Path, gate: Gate) -> None:
    """The first worker does it all; the initializer of the second one waits."""
    with ActorPoolExecutor(2, system=own, initializer=held_after_the_first, initargs=(tmp_path, gate)) as executor:
        futures = [executor.submit(abs, number) for number in range(10)]
        assert [future.result() for future in futures] == list(range(10))
        assert executor._dispatcher.scheduler.starting == 1

        def open_when_it_waits() -> None:
            until(lambda: bool(executor._dispatcher.crew.rings), "shutdown waits")
            gate.open()

        threading.Thread(target=open_when_it_waits, daemon=True).start()
    assert own.tree()["children"] == []


def test_the_end_of_the_system_ends_every_future(own: ActorSystem, gate: Gate) -> None:
    executor = ActorPoolExecutor(1, system=own)
    futures = [executor.submit(held, gate) for _ in range(5)]
    until(futures[0].running, "it runs")
    own.close("kill")
    for future in futures:
        assert isinstance(future.exception(20), BrokenProcessPool)
    with pytest.raises(BrokenProcessPool):
        executor.submit(abs, 1)
    executor.shutdown()


def test_it_can_not_be_sent(single: ActorPoolExecutor) -> None:
    with pytest.raises(CodecError, match="ActorPoolExecutor"):
        single.submit(id, single).result()


# --- whole programs


def test_the_interpreter_finishes_what_was_submitted_before_it_exits(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        main="""
        import sys, time
        from actors import ActorPoolExecutor

        def work(n):
            time.sleep(0.05)
            print("did", n, flush=True)

        executor = ActorPoolExecutor(1)
        futures = [executor.submit(work, n) for n in range(3)]
        if len(sys.argv) > 1:
            executor.shutdown(wait=False)
        print("end of main", flush=True)
        """,
    )
    assert program.run("main.py") == ["end of main", "did 0", "did 1", "did 2"]
    assert program.run("main.py", "shutdown") == ["end of main", "did 0", "did 1", "did 2"]


def test_a_script_needs_no_main_guard_and_its_initializer_works(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        main="""
        from actors import ActorPoolExecutor

        model = None

        def load(name):
            global model
            model = name.upper()

        def predict(x):
            return f"{model}:{x}"

        with ActorPoolExecutor(2, initializer=load, initargs=("net",)) as executor:
            print(*executor.map(predict, range(3)))
        """,
    )
    assert program.run("main.py") == ["NET:0 NET:1 NET:2"]


def test_variables_of_main_are_the_workers_until_the_program_changes_them(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        main="""
        from actors import ActorPoolExecutor

        scale, seen, calls = 1, [], 0

        def helper(x):
            return x * scale

        def task(x):
            global calls
            calls += 1
            seen.append(x)
            return helper(x), list(seen), calls

        with ActorPoolExecutor(1) as executor:
            print(executor.submit(task, 1).result())
            scale = 10
            print(executor.submit(task, 2).result())
            seen = ["new"]
            print(executor.submit(task, 3).result())
            helper = str
            print(executor.submit(task, 4).result())
        print(seen, calls)
        """,
    )
    assert program.run("main.py") == [
        "(1, [1], 1)",
        "(20, [1, 2], 2)",
        "(30, ['new', 3], 3)",
        "('4', ['new', 3, 4], 4)",
        "['new'] 0",
    ]


def test_in_a_forked_child_it_says_so_and_the_parents_goes_on(single: ActorPoolExecutor) -> None:
    assert single.submit(abs, -1).result() == 1
    pending = single.submit(time.sleep, 0.05)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            single.submit(abs, 1)
        except RuntimeError as error:
            code = 0 if "forked" in str(error) else 2
        try:
            pending.result(5)
            code += 4
        except Exception:
            pass
        single.shutdown()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert pending.result(20) is None
    assert single.submit(abs, -2).result() == 2

"""Pipelines: what comes out is what a plain loop makes, in every style of stage, and nothing is left."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorsError, ActorSystem, SpawnError
from actors.errors import CodecError, SpecError, StageError
from actors.pipeline import Pipeline, Stage
from actors.supervision import Backoff
from kit import Journal

QUICK = Backoff(0.001, 0.01)


# --- stages


def double(number: int) -> int:
    return number * 2


def odd(number: int) -> int | None:
    return number if number % 2 else None


def count_to(number: int) -> Iterator[tuple[int, int]]:
    for each in range(number):
        yield number, each


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


async def count_later(number: int) -> AsyncIterator[int]:
    for each in range(number):
        await asyncio.sleep(0)
        yield each


class Scale:
    def __init__(self, factor: int, *, offset: int = 0) -> None:
        self.factor, self.offset = factor, offset

    def process(self, number: int) -> int:
        return number * self.factor + self.offset


class Total(Actor):
    """Says at the end what it has gathered."""

    def __init__(self, journal: str = "") -> None:
        self.total = 0
        self.journal = journal

    def process(self, number: int) -> None:
        self.total += number

    def finish(self) -> int:
        return self.total

    def on_stop(self, reason: object) -> None:
        if self.journal:
            Journal(self.journal).write("on_stop")


class Averages:
    async def process(self, number: int) -> None:
        self.seen = [*getattr(self, "seen", []), number]

    async def finish(self) -> AsyncIterator[float]:
        return self._each()

    async def _each(self) -> AsyncIterator[float]:
        for end in range(1, len(self.seen) + 1):
            yield sum(self.seen[:end]) / end


def fail_at(number: int, *bad: int) -> int:
    if number in bad:
        raise ValueError(f"bad {number}")
    return number


def shuffled(number: int) -> int:
    time.sleep(0.002 if number % 7 == 0 else 0)
    return number


# --- what comes out


STAGES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "a function": (lambda: double, [2 * n for n in range(200)]),
    "a function with arguments": (lambda: Stage(pow, 2), [n**2 for n in range(200)]),
    "a builtin class": (lambda: str, [str(n) for n in range(200)]),
    "a lambda": (lambda: lambda n: n + 1, [n + 1 for n in range(200)]),
    "a filter": (lambda: odd, [n for n in range(200) if n % 2]),
    "a generator": (lambda: count_to, [(n, each) for n in range(200) for each in range(n)]),
    "an iterator": (lambda: lambda n: iter([n, -n]), [x for n in range(200) for x in (n, -n)]),
    "a list is one item": (lambda: lambda n: [n], [[n] for n in range(200)]),
    "an async function": (lambda: double_later, [2 * n for n in range(200)]),
    "an async generator": (lambda: count_later, [each for n in range(200) for each in range(n)]),
    "a class": (lambda: Stage(Scale, 3), [3 * n for n in range(200)]),
    "a class by partial": (lambda: Stage(functools.partial(Scale, 3, offset=1)), [3 * n + 1 for n in range(200)]),
    "an actor class": (lambda: Total, [sum(range(200))]),
    "an async class": (lambda: Averages, [n / 2 for n in range(200)]),
}


@pytest.mark.parametrize("name", STAGES)
def test_what_comes_out_is_what_a_plain_loop_makes(name: str, system: ActorSystem) -> None:
    """Type, value and order, whatever a stage is made of."""
    make, expected = STAGES[name]
    assert list(Pipeline(make()).run(range(200), system=system)) == expected


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_order_is_kept_over_several_stages_and_workers(workers: int, system: ActorSystem) -> None:
    """Fan-out, filters and iterators in a row, with items that take different times."""
    pipeline = Pipeline(
        Stage(shuffled, workers=workers),
        Stage(odd, workers=workers),
        Stage(count_to, workers=workers),
        Stage(double_pair),
    )
    expected = [2 * each for n in range(120) if n % 2 for each in range(n)]
    assert list(pipeline.run(range(120), system=system)) == expected


def double_pair(pair: tuple[int, int]) -> int:
    return 2 * pair[1]


def test_unordered_gives_all_of_them(system: ActorSystem) -> None:
    """The same items, in whatever order they are ready."""
    found = list(Pipeline(Stage(shuffled, workers=2, ordered=False)).run(range(300), system=system))
    assert sorted(found) == list(range(300))


@pytest.mark.parametrize("source", [[], [1]])
def test_no_item_and_one_item(source: list[int], system: ActorSystem) -> None:
    assert list(Pipeline(double, double).run(source, system=system)) == [4 * n for n in source]


def test_a_pipeline_runs_twice_and_at_once(system: ActorSystem) -> None:
    pipeline = Pipeline(double)
    one, other = pipeline.run(range(50), system=system), pipeline.run(range(50), system=system)
    assert list(zip(one, other, strict=True)) == [(2 * n, 2 * n) for n in range(50)]


def test_every_worker_finishes_once(system: ActorSystem) -> None:
    """The sum of what the workers say at the end is the sum of all items; and each one's `on_stop` runs."""
    found = list(Pipeline(Stage(Total, workers=3)).run(range(1000), system=system))
    assert len(found) == 3 and sum(found) == sum(range(1000))


@pytest.mark.usefixtures("leak_guard")
def test_objects_end_in_their_own_time(tmp_path: Path) -> None:
    """`on_stop` runs at the end of a run, and when it is given up."""
    path = str(tmp_path / "journal")
    assert list(Pipeline(Stage(Total, path)).run([1])) == [1]
    for _ in Pipeline(double, Stage(Total, path), lambda n: n).run(range(10)):
        break
    assert Journal(path).lines() == ["on_stop"] * 2


def test_it_runs_in_an_event_loop(system: ActorSystem) -> None:
    """`async for`, over sources of both kinds."""

    async def source() -> AsyncIterator[int]:
        for n in range(300):
            await asyncio.sleep(0)
            yield n

    async def collect() -> tuple[list[int], list[int]]:
        pipeline = Pipeline(Stage(double, workers=2), double)
        plain = [item async for item in pipeline.run(range(300), system=system)]
        return plain, [item async for item in pipeline.run(source(), system=system)]

    expected = [4 * n for n in range(300)]
    assert asyncio.run(collect()) == (expected, expected)


def test_an_asynchronous_source_needs_async_for(system: ActorSystem) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="async for"):
        list(Pipeline(double).run(source(), system=system))


def test_a_live_source_flows_at_once(system: ActorSystem) -> None:
    """The result of an item is handed out before the source gives the next, when the next takes long."""
    given: list[int] = []

    def source() -> Iterator[int]:
        for n in range(4):
            time.sleep(0.3 if n else 0.05)
            given.append(n)
            yield n

    ahead = [len(given) - n for n, _ in enumerate(Pipeline(double).run(source(), system=system))]
    assert ahead[1:] == [1, 1, 1]


def test_a_source_is_not_taken_far_ahead_of_a_slow_consumer(system: ActorSystem) -> None:
    """Items of a kilobyte: some windows of bytes between, not the whole source."""
    source = (bytes(10_000) for _ in itertools.count())
    taken = itertools.count()
    run = Pipeline(len, double).run((next(taken), item)[1] for item in source)
    with run:
        next(run)
        assert next(taken) < 5_000


# --- what goes wrong


@pytest.mark.parametrize("workers", [1, 2])
def test_what_came_before_a_failing_item_comes_out_first(workers: int, system: ActorSystem) -> None:
    """Then a StageError that shows the item and has the exception as its cause."""
    found = []
    with pytest.raises(StageError, match=r"stage 'fail_at' could not process 70: ValueError: bad 70") as caught:
        for item in Pipeline(double, Stage(fail_at, 70, 90, workers=workers), double).run(range(100), system=system):
            found.append(item)
    assert found == [4 * n for n in range(35)]
    assert (caught.value.stage, caught.value.item) == ("fail_at", 70)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "in fail_at" in str(caught.value.__cause__.__cause__)  # the traceback there


def test_a_failing_item_is_skipped_and_counted(system: ActorSystem, caplog: pytest.LogCaptureFixture) -> None:
    run = Pipeline(Stage(fail_at, 3, 50, workers=2, on_error="skip")).run(range(100), system=system)
    assert list(run) == [n for n in range(100) if n not in (3, 50)]
    assert run.skipped == 2
    assert "stage 'fail_at' skipped 50: ValueError: bad 50" in caplog.text


class Flaky:
    """Fails so many times at each item, then works; an iterator in the middle of it."""

    def __init__(self, times: int) -> None:
        self.left: dict[int, int] = {}
        self.times = times

    def process(self, number: int) -> Iterator[tuple[int, int]]:
        for each in range(5):
            if each == 3 and self.left.setdefault(number, self.times):
                self.left[number] -= 1
                raise OSError("not yet")
            yield number, each


def test_a_failing_item_is_retried_and_repeats_no_result(system: ActorSystem) -> None:
    run = Pipeline(Stage(Flaky, 2, on_error="retry", retries=2, backoff=QUICK)).run(range(20), system=system)
    assert list(run) == [(n, each) for n in range(20) for each in range(5)]


def test_past_its_retries_it_raises(system: ActorSystem) -> None:
    found = []
    with pytest.raises(StageError, match="OSError: not yet"):
        for item in Pipeline(Stage(Flaky, 3, on_error="retry", retries=2, backoff=QUICK)).run(range(20), system=system):
            found.append(item)
    assert found == [(0, 0), (0, 1), (0, 2)]


def unsendable_at(number: int, bad: int) -> Any:
    return threading.Lock() if number == bad else number


@pytest.mark.parametrize("policy", ["raise", "skip", "retry"])
def test_a_result_that_cannot_be_sent(policy: Any, system: ActorSystem, caplog: pytest.LogCaptureFixture) -> None:
    """It is an error of its item."""
    run = Pipeline(Stage(unsendable_at, 40, on_error=policy, backoff=QUICK)).run(range(100), system=system)
    found = []
    if policy == "skip":
        assert list(run) == [n for n in range(100) if n != 40]
        assert run.skipped == 1
        assert "skipped 40: CodecError: a result (lock)" in caplog.text
        return
    with pytest.raises(StageError) as caught:
        for item in run:
            found.append(item)
    assert found == list(range(40))
    assert caught.value.item == 40 and isinstance(caught.value.__cause__, CodecError)


def exit_at(number: int, bad: int, how: str) -> int:
    if number == bad:
        if how == "sys.exit":
            raise SystemExit(3)
        if how == "os._exit":
            os._exit(0)
        os.kill(os.getpid(), getattr(signal, how))
    return number


@pytest.mark.parametrize("how", ["sys.exit", "os._exit", "SIGSEGV", "SIGKILL"])
@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_an_item_that_ends_its_process(
    policy: Any, how: str, system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found among the many of its batch, and the policy applies to it alone."""
    run = Pipeline(Stage(exit_at, 611, how, workers=2, on_error=policy)).run(range(1000), system=system)
    found = []
    if policy == "skip":
        assert list(run) == [n for n in range(1000) if n != 611]
        assert run.skipped == 1
        assert "skipped 611: " in caplog.text
        return
    with pytest.raises(StageError, match="could not process 611") as caught:
        for item in run:
            found.append(item)
    assert found == list(range(611)) and caught.value.item == 611


def cancelled_at(number: int, bad: int) -> int:
    if number == bad:
        raise asyncio.CancelledError
    return number


async def cancelled_later_at(number: int, bad: int) -> int:
    return cancelled_at(number, bad)


@pytest.mark.parametrize("work", [cancelled_at, cancelled_later_at])
def test_code_that_was_cancelled_has_failed(work: Any, system: ActorSystem) -> None:
    """Somebody's cancellation inside a stage is neither the worker's end nor that of the run."""
    run = Pipeline(Stage(work, 40, on_error="skip")).run(range(100), system=system)
    assert list(run) == [n for n in range(100) if n != 40]
    assert (run.skipped, run.restarts) == (1, 0)


def hang_at(number: int, bad: int, journal: Journal | None = None) -> int:
    if number == bad:
        if journal is not None:
            journal.write("hangs")
            if len(journal.lines()) > 1:
                return number
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        time.sleep(60)
    return number


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_an_item_that_takes_too_long(policy: Any, system: ActorSystem) -> None:
    run = Pipeline(Stage(hang_at, 7, timeout=0.3, on_error=policy)).run(range(20), system=system)
    found = []
    if policy == "skip":
        assert list(run) == [n for n in range(20) if n != 7]
        assert run.skipped == 1
        return
    with pytest.raises(StageError, match=r"could not process 7: took longer than 0.3 s"):
        for item in run:
            found.append(item)
    assert found == list(range(7))


def test_an_item_that_took_too_long_is_tried_again(system: ActorSystem, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    run = Pipeline(Stage(hang_at, 7, journal, timeout=0.3, on_error="retry")).run(range(20), system=system)
    assert list(run) == list(range(20))
    assert len(journal.lines()) == 2 and run.restarts == 1


leaked: list[bytes] = []


def leak(number: int) -> int:
    leaked.append(os.urandom(1 << 20))
    return os.getpid()


def test_a_worker_that_grows_is_replaced(system: ActorSystem) -> None:
    """Between two batches; no item is lost or repeated, and no growth is without end."""
    found = list(Pipeline(Stage(leak, batch=4, max_memory=90 << 20)).run(range(200), system=system))
    assert len(found) == 200
    assert len(set(found)) > 2


class Broken:
    """Can't be made where the file is."""

    def __init__(self, path: str) -> None:
        if Path(path).exists():
            raise OSError("no database")
        self.path = path

    def process(self, number: int) -> int:
        Path(self.path).touch()
        os._exit(1)


def test_a_worker_that_cannot_be_made(system: ActorSystem, tmp_path: Path) -> None:
    with pytest.raises(SpawnError, match="no database"):
        list(Pipeline(double, Stage(Broken, str(tmp_path))).run(range(10), system=system))


def test_a_worker_that_cannot_be_made_again(system: ActorSystem, tmp_path: Path) -> None:
    """Nobody waits for ever for it."""
    with pytest.raises(StageError, match=r"stage 'broken' .*does not start again .*no database"):
        list(Pipeline(Stage(Broken, str(tmp_path / "now"))).run(range(10), system=system))


def test_what_the_source_raises_comes_after_what_came_before(system: ActorSystem) -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise LookupError("no more")

    found = []
    with pytest.raises(LookupError, match="no more"):
        for item in Pipeline(double, Stage(double)).run(source(), system=system):
            found.append(item)
    assert found == [4 * n for n in range(10)]


# --- the end


@pytest.mark.usefixtures("leak_guard")
def test_leaving_the_loop_ends_the_run() -> None:
    """`break`, an exception and `close`, each while there is more to come; prompt, and nothing is left."""
    begin = time.monotonic()
    for item in Pipeline(Stage(double, workers=2)).run(itertools.count()):
        if item > 100:
            break
    with pytest.raises(KeyError):
        for item in Pipeline(double).run(itertools.count()):
            raise KeyError(item)
    run = Pipeline(double).run(itertools.count())
    assert next(run) == 0
    run.close()
    run.close()
    assert list(run) == []
    with Pipeline(double).run(itertools.count()) as run:
        assert [next(run), next(run)] == [0, 2]
    assert time.monotonic() - begin < 15


def test_a_loop_that_is_left_can_be_entered_again(system: ActorSystem) -> None:
    run = Pipeline(double).run(range(100), system=system)
    first = list(itertools.islice(run, 10))
    assert first + list(run) == [2 * n for n in range(100)]


@pytest.mark.usefixtures("leak_guard")
def test_a_run_that_is_never_asked_starts_nothing() -> None:
    Pipeline(double).run(itertools.count())


@pytest.mark.usefixtures("leak_guard")
def test_a_cancelled_task_ends_its_run() -> None:
    async def forever() -> None:
        async for _ in Pipeline(double).run(itertools.count()):
            await asyncio.sleep(0.01)

    async def main() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0.6)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# --- what is wrong at once


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Stage(3), "give a function, a class with process"),  # type: ignore[arg-type]
        (lambda: Stage(Scale(1)), "give its class"),  # type: ignore[arg-type]
        (lambda: Stage([]), "a program is a list of strings"),
        (lambda: Stage(Actor), "Actor has no method process"),
        (lambda: Stage(double, workers=0), "stage 'double': workers must be a whole number from 1 on, not 0"),
        (lambda: Stage(double, on_error="stop"), "stage 'double': on_error must be one of raise, skip, retry"),  # type: ignore[arg-type]
        (lambda: Stage(double, timeout=0), "stage 'double': timeout must be"),
        (lambda: Stage(double, batch=-1), "stage 'double': batch"),
        (lambda: Stage(double, retries=True), "stage 'double': retries"),
        (lambda: Stage(double, name="a b"), "name must be made of"),
        (lambda: Stage(Total, max_memory=1 << 30), "stage 'total': max_memory"),
        (lambda: Pipeline(), "at least one stage"),
        (lambda: Pipeline(Stage(double, name="a"), Stage(odd, name="a")), "two stages have the same name"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(make: Callable[[], object], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        make()


def test_policy_and_order_can_be_those_of_the_whole_pipeline(system: ActorSystem) -> None:
    """A bare function has no other place to say it; a stage's own word goes first."""
    pipeline = Pipeline(Stage(fail_at, 3), Stage(double, workers=2), ordered=False, on_error="skip")
    assert sorted(pipeline.run(range(5), system=system)) == [0, 2, 4, 8]
    assert [(stage.ordered, stage.on_error) for stage in pipeline.stages] == [(False, "skip")] * 2
    own = Pipeline(Stage(double, on_error="retry", ordered=False), double, on_error="skip")
    assert [(stage.ordered, stage.on_error) for stage in own.stages] == [(False, "retry"), (True, "skip")]
    with pytest.raises(SpecError, match="pipeline 'pipeline': on_error must be one of raise, skip, retry, not 'x'"):
        Pipeline(double, on_error="x")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="pipeline 'pipeline': ordered must be True or False, not 0"):
        Pipeline(double, ordered=0)  # type: ignore[arg-type]


def test_stages_of_one_function_get_names_of_their_own() -> None:
    assert [stage.name for stage in Pipeline(double, double, Stage(double, name="third")).stages] == [
        "double", "double-2", "third"
    ]  # fmt: skip


class Runner(Actor):
    def blocking(self) -> list[int]:
        return list(Pipeline(abs).run([-1, -2], system=self.system))

    async def awaiting(self) -> list[int]:
        return [item async for item in Pipeline(abs).run([-1, -2], system=self.system)]


def test_a_run_on_an_actors_own_system_is_awaited(system: ActorSystem) -> None:
    runner = system.spawn(Runner)
    assert runner.ask(Runner.awaiting).result(30) == [1, 2]
    with pytest.raises(ActorsError, match="async for"):
        runner.ask(Runner.blocking).result(30)
    runner.stop()
    runner.wait(10)

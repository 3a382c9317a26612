"""The executor's pure parts: who gets which task, and how `map` cuts its input."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.executor.chunks import cut, sizes
from actors.executor.scheduler import DEPTH, Scheduler, Worker


def scheduler(workers: int, limit: int = 8, per_worker: int | None = None) -> tuple[Scheduler[str], list[Worker[str]]]:
    made: Scheduler[str] = Scheduler(limit, per_worker)
    made.workers = [Worker() for _ in range(workers)]
    return made, list(made.workers)


def sent(made: Scheduler[str], now: float = 0.0) -> dict[str, int]:
    """All that is to be sent now: task -> number of its worker."""
    found = {}
    while (pair := made.next(now)) is not None:
        found[pair[0]] = made.workers.index(pair[1])
    return found


def test_idle_workers_come_first_then_each_gets_one_more_and_the_rest_waits() -> None:
    made, _ = scheduler(2)
    made.queue.extend("abcdef")
    assert [sorted(sent(made)), list(made.queue)] == [["a", "b", "c", "d"], ["e", "f"]]
    assert [len(worker.held) for worker in made.workers] == [DEPTH, DEPTH]


def test_an_idle_worker_calls_back_what_waits_behind_another_task() -> None:
    made, (first, second) = scheduler(2)
    made.queue.extend("abc")
    assert sent(made) == {"a": 0, "b": 1, "c": 0}
    made.over("b", second, 1.0)
    assert made.to_recall(1.0) == ("c", first)
    made.back("c", first)
    assert sent(made, 1.0) == {"c": 1}


def test_what_waits_too_long_behind_a_long_task_goes_to_whoever_has_short_ones() -> None:
    made, (first, second) = scheduler(2)
    made.queue.extend("abcdef")
    assert sent(made) == {"a": 0, "b": 1, "c": 0, "d": 1}
    made.over("b", second, 0.5)
    assert made.to_recall(0.005) is None
    assert made.to_recall(0.5) == ("c", first)
    made.back("c", first)
    assert sent(made, 0.5) == {"c": 1, "e": 0}


def test_what_can_not_be_called_back_is_not_called_back_again() -> None:
    made, (first, second) = scheduler(2)
    made.queue.extend("abc")
    sent(made)
    made.over("b", second, 1.0)
    assert made.to_recall(1.0) is not None
    made.begun(first)
    assert made.to_recall(99.0) is None


def test_workers_are_started_for_what_waits_and_not_beyond_the_limit() -> None:
    made, _ = scheduler(0, limit=3)
    made.queue.extend("ab")
    assert (made.to_start(), made.to_start()) == (2, 0)
    made.queue.extend("cdef")
    assert (made.to_start(), made.starting) == (1, 3)


def test_no_worker_is_started_while_one_is_idle() -> None:
    made, _ = scheduler(1)
    assert made.to_start() == 0


def test_a_worker_that_had_its_tasks_retires_when_its_last_is_over() -> None:
    made, (worker,) = scheduler(1, per_worker=2)
    made.queue.extend("abc")
    assert sent(made) == {"a": 0, "b": 0}
    made.over("a", worker, 1.0)
    assert (sent(made), made.to_retire()) == ({}, [])
    made.over("b", worker, 2.0)
    assert (made.to_retire(), made.workers, made.to_start()) == ([worker], [], 1)


@given(st.integers(0, 20_000), st.integers(1, 64))
def test_chunks_are_all_of_the_input_and_begin_and_end_small(count: int, workers: int) -> None:
    found = list(sizes(count, workers))
    assert sum(found) == count
    assert all(size >= 1 for size in found)
    assert [found[0], found[-1]] == [1, 1] if count else not found
    assert len(found) < 50 + 30 * workers
    assert [item for chunk in cut(list(range(count)), iter(found)) for item in chunk] == list(range(count))


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["add", "end", "die", "begin", "recall"]), max_size=60), st.integers(1, 3), st.data())
def test_every_task_ends_once_whatever_happens(events: list[str], limit: int, data: st.DataObject) -> None:
    """A model: tasks are added, ended and called back, workers begin and die, in any order; none is lost or doubled."""
    made: Scheduler[int] = Scheduler(limit, data.draw(st.sampled_from([None, 1, 3])))
    added, ended, now = 0, [], 0.0
    for event in [*events, *["begin", "end"] * 200]:
        now += 0.006
        busy = [worker for worker in made.workers if worker.held]
        if event == "add":
            made.queue.append(added)
            added += 1
        elif event == "begin" and made.starting:
            made.starting -= 1
            made.workers.append(Worker())
        elif event == "end" and busy:
            worker = data.draw(st.sampled_from(busy)) if len(ended) < 20 else busy[0]
            ended.append(worker.held[0])
            made.over(worker.held[0], worker, now)
        elif event == "die" and busy:
            made.lose(busy[0])
            made.queue.extendleft(busy[0].held)
        elif event == "recall" and (found := made.to_recall(now)) is not None:
            made.back(*found)
        while made.next(now) is not None:
            pass
        made.to_start()
        made.to_retire()
        assert len(made.workers) + made.starting <= limit
        assert all(len(worker.held) <= DEPTH for worker in made.workers)
    assert sorted(ended) == list(range(added))

"""`pipeline.child()`: a pipeline as a long-lived part of a supervision tree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorSystem, Mailbox, SpawnError
from actors.errors import SpecError
from actors.pipeline import Pipeline, Stage
from actors.pipeline.service import Service
from actors.supervision import Supervisor
from kit import Journal, until


def double(number: int) -> int:
    if number == 13:
        raise ValueError("bad luck")
    return 2 * number


def odd(number: int) -> int | None:
    return number if number % 4 else None


def nothing(_item: object) -> None:
    return None


class Collector(Actor):
    def __init__(self) -> None:
        self.got: list[Any] = []

    def receive(self, item: Any) -> None:
        self.got.append(item)

    def all(self) -> list[Any]:
        return self.got


def collected(own: ActorSystem, name: str, count: int) -> list[Any]:
    ref = own.lookup(name, Collector)
    return until(lambda: got if len(got := ref.ask(Collector.all).result(20)) >= count else None, f"{count} results")  # type: ignore[return-value]


def test_from_one_mailbox_to_another(own: ActorSystem) -> None:
    jobs: Mailbox[int] = own.mailbox("jobs")
    out: Mailbox[int] = own.mailbox("out")
    for number in range(100):
        jobs.put(number)
    pipeline = Pipeline(Stage(double, workers=2), odd, name="etl")
    tree = own.start(Supervisor(pipeline.child(mailbox="jobs", to_mailbox="out"), name="tree"))
    expected = [2 * n for n in range(100) if n != 13 and 2 * n % 4]
    assert [out.get(timeout=20) for _ in expected] == expected
    service = tree["etl"]
    until(lambda: service.ask(Service.progress).result(20)["done"] == 100, "all are done")
    assert service.ask(Service.progress).result(20) == {
        "taken": 100, "done": 100, "results": len(expected), "left_out": 1, "restarts": 0,
    }  # fmt: skip
    assert [stage["name"] for stage in service.ask(Service.profile).result(20)] == ["double", "odd"]
    jobs.close()
    assert service.wait(20).kind == "normal"


def test_its_workers_are_its_children(own: ActorSystem) -> None:
    tree = own.start(Supervisor(Pipeline(Stage(double, workers=2), name="etl").child(mailbox="jobs"), name="tree"))
    [service] = own.tree()["children"][0]["children"]
    [stages] = service["children"]
    assert [each["name"].rsplit("/")[-1] for each in stages["children"]] == ["double.1", "double.2"]
    tree.stop()
    tree.wait(20)


def test_to_an_actor_by_its_name_and_by_its_reference(own: ActorSystem) -> None:
    jobs: Mailbox[int] = own.mailbox("jobs")
    first, second = (own.spawn(Collector, name=name) for name in ("first", "second"))
    pipeline = Pipeline(double)
    own.start(
        Supervisor(
            pipeline.child(mailbox="jobs", to="first", name="by-name"),
            pipeline.child(mailbox="jobs", to=second, method=Collector.receive, name="by-reference"),
            name="tree",
        )
    )
    for number in range(50, 100):
        jobs.put(number)
    until(
        lambda: len(first.ask(Collector.all).result(20)) + len(second.ask(Collector.all).result(20)) == 50, "all came"
    )
    both = first.ask(Collector.all).result(20) + second.ask(Collector.all).result(20)
    assert sorted(both) == [2 * number for number in range(50, 100)]


def test_to_a_topic(own: ActorSystem) -> None:
    heard = own.spawn(Collector, name="heard")
    own.topic("doubles").subscribe(heard, Collector.receive)
    jobs: Mailbox[int] = own.mailbox("jobs")
    own.start(Supervisor(Pipeline(double).child(mailbox="jobs", to_topic="doubles"), name="tree"))
    jobs.put(4)
    assert collected(own, "heard", 1) == [8]


def numbers() -> Iterator[int]:
    return iter(range(20, 40))


async def numbers_later() -> AsyncIterator[int]:
    for number in range(20, 40):
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("source", [numbers, numbers_later])
def test_from_a_source_until_its_end(own: ActorSystem, source: Callable[[], Any]) -> None:
    own.spawn(Collector, name="sink")
    tree = own.start(Supervisor(Pipeline(double).child(source=source, to="sink", name="etl"), name="tree"))
    assert collected(own, "sink", 20) == [2 * number for number in range(20, 40)]
    until(lambda: "etl" not in tree.children(), "it has ended by itself")


def test_from_a_named_pipe_whose_writers_come_and_go(own: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    own.spawn(Collector, name="sink")
    tree = own.start(Supervisor(Pipeline(str.upper).child(fifo=path, to="sink", name="etl"), name="tree"))
    for number in range(5):
        with path.open("w") as pipe:
            pipe.write(f"a{number}\nb{number}\n")
    assert collected(own, "sink", 10) == [f"{letter}{number}" for number in range(5) for letter in "AB"]
    tree.stop()
    tree.wait(20)
    assert not path.exists()


def test_others_put_items_into_it(own: ActorSystem) -> None:
    own.spawn(Collector, name="sink")
    tree = own.start(Supervisor(Pipeline(double).child(to="sink", name="etl"), name="tree"))
    for number in range(200, 400):
        tree["etl"].ask(Service.put, number).result(20)
    assert collected(own, "sink", 200) == [2 * number for number in range(200, 400)]


def test_a_stop_does_what_is_in_hand_and_leaves_the_rest_in_the_mailbox(own: ActorSystem, journal: Journal) -> None:
    jobs: Mailbox[int] = own.mailbox("jobs")

    def slow(number: int) -> int:
        journal.write("does", number)
        return number

    own.spawn(Collector, name="sink")
    tree = own.start(
        Supervisor(Pipeline(Stage(slow, batch=1), name="etl").child(mailbox="jobs", to="sink"), name="tree")
    )
    for number in range(2000):
        jobs.put(number)
    until(lambda: len(journal.rows()) > 20, "it works")
    tree.stop()
    tree.wait(30)
    done = [int(row[1]) for row in journal.rows()]
    assert done == list(range(len(done)))
    assert collected(own, "sink", len(done)) == done
    assert jobs.qsize() == 2000 - len(done)
    assert jobs.get(timeout=5) == len(done)


def test_an_item_is_retried_and_then_left_out(own: ActorSystem, journal: Journal) -> None:
    def never(number: int) -> int:
        journal.write("tries", number)
        raise OSError("not now")

    jobs: Mailbox[int] = own.mailbox("jobs")
    stage = Stage(never, on_error="retry", retries=2)
    tree = own.start(Supervisor(Pipeline(stage, name="etl").child(mailbox="jobs"), name="tree"))
    jobs.put(1)
    until(lambda: tree["etl"].ask(Service.progress).result(20)["left_out"] == 1, "it is left out")
    assert len(journal.rows()) == 3
    until(lambda: tree["etl"].ask(Service.progress).result(20)["done"] == 1, "and done")


def test_items_of_which_nothing_comes_are_done_as_well(own: ActorSystem) -> None:
    jobs: Mailbox[int] = own.mailbox("jobs")
    tree = own.start(Supervisor(Pipeline(nothing, name="etl").child(mailbox="jobs"), name="tree"))
    for number in range(30):
        jobs.put(number)
    until(lambda: tree["etl"].ask(Service.progress).result(20)["done"] == 30, "all are done")


class Broken:
    def __init__(self) -> None:
        raise ValueError("no database")

    def process(self, item: object) -> object:
        return item


def test_a_stage_that_can_not_start_fails_the_start_of_the_tree(own: ActorSystem) -> None:
    with pytest.raises(SpawnError, match="no database"):
        own.start(Supervisor(Pipeline(Broken).child(mailbox="jobs"), name="tree"))


class Gatherer:
    def process(self, item: object) -> None: ...
    def finish(self) -> int:
        return 1


def test_what_makes_no_sense_is_refused_where_it_is_written(own: ActorSystem) -> None:
    pipeline = Pipeline(double)
    with pytest.raises(SpecError, match="one of mailbox, fifo and source"):
        pipeline.child(mailbox="jobs", fifo="pipe")
    with pytest.raises(SpecError, match="one of to, to_mailbox and to_topic"):
        pipeline.child(mailbox="jobs", to="a", to_topic="b")
    with pytest.raises(SpecError, match="must be a function"):
        pipeline.child(source=[1, 2])  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="attempts"):
        pipeline.child(mailbox="jobs", attempts=0)
    with pytest.raises(SpecError, match="ordered"):
        Pipeline(Stage(double, ordered=False)).child(mailbox="jobs")
    with pytest.raises(SpecError, match="finish"):
        Pipeline(Gatherer).child(mailbox="jobs")
    assert os.getpid()  # nothing was started by any of it
    assert own.tree()["children"] == []

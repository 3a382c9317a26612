"""Deaths among actors that are tied to each other: children, links, monitors, supervised groups."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, ExitReason
from actors.supervision import Backoff, Child, Supervisor
from kit import Journal, alive, children, kill, process, until

AT_ONCE = Backoff(0.0, 0.0)
MANY: dict[str, Any] = {"max_restarts": 1_000_000, "within": 1.0, "backoff": AT_ONCE}
KILLED = ExitReason("signal", signal=signal.SIGKILL)


class Worker(Actor):
    """Answers, links, monitors, has children."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def pid(self) -> int:
        return os.getpid()

    def tie(self, other: ActorRef[Any]) -> None:
        self.link(other)

    def watch(self, other: ActorRef[Any]) -> None:
        self.monitor(other)

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        self.journal.write("down", self.ref.name, ref.name, os.getpid())


class Parent(Worker):
    """Starts two children, one of which has a child."""

    def on_start(self) -> None:
        self.first = self.spawn(Worker, self.journal, name="first")
        self.second = self.spawn(Middle, self.journal, name="second")


class Middle(Worker):
    def on_start(self) -> None:
        self.spawn(Worker, self.journal, name="grandchild")


FAMILY = ["parent", "parent/first", "parent/second", "parent/second/grandchild"]


def pids(system: ActorSystem, names: list[str]) -> dict[str, int]:
    """Asked of the actors themselves."""
    return {name: system.lookup(name, Worker).ask(Worker.pid).result(20) for name in names}


def actors(system: ActorSystem) -> list[str]:
    """Names of all actors that have a living process."""
    found = [process(pid) for pid in children(system.guardian_pid)]
    return sorted(each.title.partition("/")[2] for each in found if each and each.lives and "/" in each.title)


def test_the_children_of_a_killed_actor_end_before_it_comes_back_with_new_ones(
    system: ActorSystem, journal: Journal
) -> None:
    """SIGKILL of the parent: all below it end, and the next incarnation starts children of the same names."""
    parent = system.spawn(Parent, journal, name="parent", backoff=AT_ONCE)
    old = pids(system, FAMILY)
    old_child = system.lookup("parent/second/grandchild", Worker)
    kill(old["parent"])
    assert old_child.wait(20).kind in ("shutdown", "signal")
    assert parent.ask(Worker.pid).result(20) != old["parent"]
    new = pids(system, FAMILY)
    assert not set(old.values()) & set(new.values())
    assert not any(map(alive, old.values()))
    assert actors(system) == FAMILY


def test_a_killed_child_comes_back_below_its_living_parent(system: ActorSystem, journal: Journal) -> None:
    """The parent and its other children are untouched."""
    system.spawn(Parent, journal, name="parent")
    old = pids(system, FAMILY)
    kill(old["parent/first"])
    new = pids(system, FAMILY)
    assert {name for name in FAMILY if old[name] != new[name]} == {"parent/first"}


@pytest.mark.parametrize("length", [2, 10])
def test_a_kill_runs_through_a_chain_of_links_once(length: int, system: ActorSystem, journal: Journal) -> None:
    """Actors linked in a row, temporary: one is killed, all end, each is reported once; one that is not linked lives."""
    events = system.events()
    chain = [system.spawn(Worker, journal, restart="temporary") for _ in range(length)]
    other = system.spawn(Worker, journal)
    for left, right in itertools.pairwise(chain):
        left.ask(Worker.tie, right).result(10)
    kill(chain[length // 2].info()["pid"])
    reasons = [worker.wait(10) for worker in chain]
    assert reasons[length // 2] == KILLED
    assert {reason.signal for reason in reasons} == {signal.SIGKILL}
    assert all("linked" in str(reason.error) for reason in reasons if reason != KILLED)
    assert other.ask(Worker.pid).result(10)
    events.close()
    stopped = [event.ref for event in events if event.kind == "stopped"]
    assert sorted(ref.name for ref in stopped) == sorted(ref.name for ref in chain)


def test_linked_actors_that_are_killed_together_are_reported_once_each(system: ActorSystem, journal: Journal) -> None:
    """Both die of the same cause or of each other, but only once."""
    for _ in range(10):
        pair = [system.spawn(Worker, journal, restart="temporary") for _ in range(2)]
        pair[0].ask(Worker.tie, pair[1]).result(10)
        downs: list[Any] = []
        for worker in pair:
            worker.monitor(downs.append)
        for pid in [worker.info()["pid"] for worker in pair]:
            kill(pid)
        assert [worker.wait(10).signal for worker in pair] == [signal.SIGKILL] * 2
        until(lambda: len(downs) >= 2, "both monitors heard")  # noqa: B023 - called here and now
        assert {down.ref for down in downs} == set(pair)
        assert len(downs) == 2


def test_an_actor_hears_once_of_each_of_many_deaths_that_come_together(system: ActorSystem, journal: Journal) -> None:
    """One watcher, 25 victims killed in one go."""
    watcher = system.spawn(Worker, journal, name="watcher")
    victims = [system.spawn(Worker, journal, restart="temporary") for _ in range(25)]
    for victim in victims:
        watcher.ask(Worker.watch, victim).result(10)
    for pid in [victim.info()["pid"] for victim in victims]:
        kill(pid)
    until(lambda: len(journal.lines()) >= 25, "it heard of all")
    assert watcher.ask(Worker.pid).result(10)
    assert sorted(row[2] for row in journal.rows()) == sorted(victim.name for victim in victims)


def test_a_monitor_ends_with_the_incarnation_that_set_it(system: ActorSystem, journal: Journal) -> None:
    """The watcher is killed, then the watched: the next incarnation of the watcher hears nothing of it."""
    watcher = system.spawn(Worker, journal, name="watcher")
    watched = system.spawn(Worker, journal, name="watched", restart="temporary")
    watcher.ask(Worker.watch, watched).result(10)
    kill(watcher.info()["pid"])
    assert watcher.ask(Worker.pid).result(20)
    watched.kill()
    watched.wait(10)
    assert watcher.ask(Worker.pid).result(20)  # it has been through its mail
    assert journal.lines() == []


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_supervised_tree_comes_back_whole_from_any_storm_of_kills(
    strategy: Any, kills: int, system: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """Random members are killed, often while others are being restarted; afterwards every member has one process and
    answers, and nothing else is left."""
    tree = Supervisor(
        Child(Worker, journal, name="a", backoff=AT_ONCE, restart="permanent"),
        Supervisor(
            Child(Worker, journal, name="b1", backoff=AT_ONCE),
            Child(Worker, journal, name="b2", backoff=AT_ONCE),
            name="b", strategy=strategy, **MANY,
        ),
        Child(Worker, journal, name="c", backoff=AT_ONCE),
        name="tree", strategy=strategy, **MANY,
    )  # fmt: skip
    system.start(tree)
    names = ["tree/a", "tree/b/b1", "tree/b/b2", "tree/c"]
    for _ in range(kills):
        victims = [pid for pid in children(system.guardian_pid) if (found := process(pid)) and "/" in found.title]
        for pid in rng.sample(victims, min(len(victims), rng.choice([1, 1, 2, 4]))):
            kill(pid)
        time.sleep(rng.choice([0.0, 0.0005, 0.005, 0.03]))
    until(lambda: all(answers(system, name) for name in names), "every member answers", 30.0)
    until(lambda: actors(system) == names, "no process is there twice")


def answers(system: ActorSystem, name: str) -> int:
    """The pid of an actor; 0: its process died of the question, or is about to be stopped for another's sake."""
    try:
        return system.lookup(name, Worker).using(timeout=5).ask(Worker.pid).result()
    except ActorDied:
        return 0

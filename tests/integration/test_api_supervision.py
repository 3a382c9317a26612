"""Supervision as a program sees it: specifications, trees, strategies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Actor,
    ActorDied,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorSystem,
    Down,
    ExitReason,
    MailboxOptions,
    SpawnError,
    SpecError,
)
from actors.supervision import Backoff, Child, Supervisor
from kit import Gate, Journal, until
from kit.plain import Plain

AT_ONCE = Backoff(0.0, 0.0)


class Part(Plain):
    """Writes down when it starts and stops."""

    def __init__(self, journal: Journal, me: str) -> None:
        self.journal, self.me = journal, me

    def on_start(self) -> None:
        self.journal.write("start", self.me)

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("stop", self.me)


def pids(tree: Any) -> dict[str, int]:
    return {name: ref.ask("pid").result(10) for name, ref in tree.children().items()}


# --- specifications


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Child(42), r"child 42: the factory must be a class or other callable, not 42"),
        (lambda: Child(Plain, name="a b"), r"child 'a b': name must be made of letters"),
        (lambda: Child(Plain, count=0), r"child 'plain': count must be a whole number from 1 on, not 0"),
        (lambda: Child(Plain, restart="often"), r"child 'plain': restart must be one of permanent, transient, temporary, not 'often'"),
        (lambda: Child(Plain, shutdown=-1.0), r"child 'plain': shutdown must be 0 or more seconds"),
        (lambda: Child(Plain, redeliver=-1), r"child 'plain': redeliver must be a whole number from 0 on, not -1"),
        (lambda: Child(Plain, mailbox=5), r"child 'plain': mailbox must be None or MailboxOptions\(…\), not 5"),
        (lambda: Child(Plain, progress_timeout="1"), r"child 'plain': progress_timeout must be None or more than 0 seconds, not '1'"),
        (lambda: Child(Plain, on_error="ignore"), r"child 'plain': on_error must be one of crash, continue, not 'ignore'"),
        (lambda: Supervisor(Child(Plain), name="s", strategy="all_for_one"), r"supervisor 's': strategy must be one of one_for_one"),
        (lambda: Supervisor(Child(Plain, name="x"), Child(Plain, name="x"), name="s"), r"supervisor 's': two children are called 'x'"),
        (lambda: Supervisor(Plain, name="s"), r"supervisor 's': children must be Child or Supervisor, not .*wrap a class in Child"),
        (lambda: Supervisor(max_restarts=-1), r"max_restarts must be None or a whole number from 0 on, not -1"),
        (lambda: Supervisor(within=0), r"within must be more than 0 seconds"),
    ],
)  # fmt: skip
def test_a_specification_that_makes_no_sense_is_refused_where_it_is_made(make: Any, text: str) -> None:
    with pytest.raises(SpecError, match=text) as error:
        make()
    assert isinstance(error.value, ValueError)


# --- trees


def test_start_returns_when_every_child_is_ready_in_order(own: ActorSystem, journal: Journal) -> None:
    tree = Supervisor(
        Supervisor(Child(Part, journal, "store", name="store", restart="transient", shutdown=10.0), name="stores"),
        Child(Part, journal, "parser", name="parser", count=2),
        Child(Part, journal, "reader", name="reader"),
        name="etl", strategy="rest_for_one", max_restarts=5, within=30.0, backoff=Backoff(0.01, 5.0, jitter=0.2),
    )  # fmt: skip
    etl = own.start(tree)
    assert journal.lines() == ["start store", "start parser", "start parser", "start reader"]
    assert list(etl.children()) == ["stores", "parser/1", "parser/2", "reader"]
    assert own.lookup("etl/reader", Part).ask(Part.pid).result(5) == etl["reader"].info()["pid"]
    assert etl["stores"]["store"].address == f"actor://{own.name}/etl/stores/store"
    assert own.lookup("etl/parser/2", Part) == etl["parser/2"]


def test_what_is_further_down_is_reached_by_its_name_or_path(own: ActorSystem) -> None:
    low = Supervisor(Child(Plain, name="store"), Child(Plain, name="twin"), name="one")
    etl = own.start(Supervisor(low, Supervisor(Child(Plain, name="twin"), name="two"), name="etl"))
    assert etl["store"] == etl["one/store"] == own.lookup("etl/one/store", Plain)
    before = etl["store"].ask(Plain.pid).result(10)
    etl.restart("store")
    assert etl["store"].ask(Plain.pid).result(10) != before
    with pytest.raises(ActorNotFound, match="'etl' has more than one 'twin'; say which: one/twin, two/twin"):
        etl.stop("twin")
    with pytest.raises(
        ActorNotFound, match="'etl' has no child 'tor'; it has: one, one/store, one/twin, two, two/twin"
    ):
        etl.stop("tor")
    with pytest.raises(SpecError, match="add takes a Child or a Supervisor, not <class"):
        etl.add(Plain)  # type: ignore[arg-type]


def test_a_tree_stops_in_reverse_order(own: ActorSystem, journal: Journal) -> None:
    etl = own.start(Supervisor(*[Child(Part, journal, name, name=name) for name in "abc"], name="etl"))
    etl.stop()
    assert etl.wait(10).kind == "shutdown"
    assert journal.lines()[3:] == ["stop c", "stop b", "stop a"]


def test_a_supervisor_can_be_looked_up_waited_for_and_stopped_but_takes_no_messages(own: ActorSystem) -> None:
    own.start(Supervisor(Child(Plain, name="a"), name="etl"))
    ref = own.lookup("etl")
    assert [child["name"] for child in ref.info()["children"]] == ["etl/a"]
    for call in (lambda: ref.tell("pid"), lambda: ref.ask("pid").result(5)):
        with pytest.raises(ActorsError, match=f"{ref.address} is a supervisor and takes no messages"):
            call()
    ref.stop()
    assert ref.wait(10).kind == "shutdown"


def test_start_async_does_the_same(own: ActorSystem, journal: Journal) -> None:
    async def main() -> list[str]:
        etl = await own.start_async(Supervisor(Child(Part, journal, "a", name="a"), name="etl"))
        return list(etl.children())

    assert asyncio.run(main()) == ["a"]


def test_a_child_alone_is_no_tree(own: ActorSystem) -> None:
    with pytest.raises(SpecError, match=r"start takes a Supervisor, not Child\('plain'\); wrap it in Supervisor"):
        own.start(Child(Plain))  # type: ignore[arg-type]


def test_a_child_that_does_not_start_stops_those_before_it_and_is_named(own: ActorSystem, journal: Journal) -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise RuntimeError("no database")

    with pytest.raises(
        SpawnError, match=f"actor://{own.name}/etl/broken did not start: raised RuntimeError: no database"
    ):
        own.start(Supervisor(Child(Part, journal, "a", name="a"), Child(Broken, name="broken"), name="etl"))
    until(lambda: journal.lines() == ["start a", "stop a"], "the first was stopped again")
    until(lambda: own.tree()["children"] == [], "nothing is left")
    own.start(Supervisor(Child(Part, journal, "a", name="a"), name="etl"))  # the name is free


def test_children_can_be_restarted_stopped_and_added(own: ActorSystem, journal: Journal) -> None:
    etl = own.start(Supervisor(*[Child(Part, journal, name, name=name) for name in "ab"], name="etl"))
    before = pids(etl)
    etl.restart("a")
    until(lambda: pids(etl)["a"] != before["a"], "another process")
    assert pids(etl)["b"] == before["b"]
    assert etl["a"].info()["restarts"] == 0
    etl.stop("b")
    until(lambda: list(etl.children()) == ["a"], "b is gone")
    added = etl.add(Child(Part, journal, "c", name="c"))
    assert isinstance(added, ActorRef)
    assert added.ask(Part.pid).result(5) > 0
    assert list(etl.children()) == ["a", "c"]
    nested = etl.add(Supervisor(Child(Plain, name="deep"), name="more"))
    assert nested["deep"].ask(Plain.pid).result(5) > 0
    with pytest.raises(SpawnError, match="the name 'etl/c' is taken"):
        etl.add(Child(Plain, name="c"))
    with pytest.raises(ActorNotFound, match=r"'etl' has no child 'nobody'; it has: a, c, more"):
        etl.restart("nobody")


def test_children_are_added_one_at_a_time_and_numbered_if_they_have_no_name(own: ActorSystem) -> None:
    etl = own.start(Supervisor(Child(Plain), name="etl"))
    assert [etl.add(Child(Plain)).name for _ in range(2)] == ["etl/plain-2", "etl/plain-3"]
    with pytest.raises(SpecError, match="add takes one child at a time"):
        etl.add(Child(Plain, name="more", count=2))


def test_a_removed_child_is_gone_and_its_name_is_free(own: ActorSystem, journal: Journal) -> None:
    """Running or FAILED; who is not there is named, with those that are."""
    etl = own.start(Supervisor(Child(Plain, name="a"), Child(Plain, name="b"), name="etl", max_restarts=0))
    first = etl["a"]
    etl.remove("a")
    assert list(etl.children()) == ["b"]
    assert first.wait(0.001).kind == "shutdown"
    assert etl.add(Child(Plain, name="a")).ask("pid").result(5) > 0  # type: ignore[union-attr]
    etl["b"].tell(Plain.fail)
    etl["b"].wait(5)
    assert etl["b"].info()["status"] == "failed"
    etl.remove("b")
    assert list(etl.children()) == ["a"]
    with pytest.raises(ActorNotFound, match=r"'etl' has no child 'b'; it has: a"):
        etl.remove("b")


def test_a_significant_child_that_has_done_its_work_ends_the_tree(own: ActorSystem, journal: Journal) -> None:
    """In reverse order, for the reason "shutdown"; the name is free, and the system goes on."""
    parts = [
        Child(Part, journal, "helper", name="helper"),
        Child(Part, journal, "job", name="job", restart="transient", significant=True),
        Child(Part, journal, "last", name="last"),
    ]
    top = own.start(Supervisor(*parts, name="batch", auto_shutdown="any_significant"))
    job = top["job"]
    job.tell(Part.leave)
    assert top.wait(10) == ExitReason("shutdown")
    assert job.wait(10) == ExitReason("normal")
    assert journal.lines()[3:] == ["stop job", "stop last", "stop helper"]
    assert own.tree()["children"] == []


def test_a_job_that_is_done_before_its_siblings_are_ready_ends_a_tree_that_has_started(own: ActorSystem) -> None:
    top = own.start(Supervisor(
        Child(Hasty, name="job", restart="temporary", significant=True), Child(Unhurried, name="slow"),
        name="batch", auto_shutdown="all_significant",
    ))  # fmt: skip
    assert top.wait(10) == ExitReason("shutdown")


class Hasty(Actor):
    def on_start(self) -> None:
        self.stop()


class Unhurried(Actor):
    def on_start(self) -> None:
        with contextlib.suppress(ActorNotFound):  # it was faster
            self.system.lookup("batch/job").wait(10)


def test_a_significant_child_is_not_added_where_it_would_mean_nothing(own: ActorSystem) -> None:
    etl = own.start(Supervisor(name="etl"))
    with pytest.raises(
        SpecError, match=r"child 'plain' of 'etl': significant must be False where the supervisor's auto_shutdown is"
    ):
        etl.add(Child(Plain, restart="transient", significant=True))
    assert etl.children() == {}


def test_what_was_resumed_takes_mail_at_once_also_before_its_turn_to_start(own: ActorSystem, tmp_path: Path) -> None:
    """The first of a FAILED group hangs in its start; the second takes mail from the moment of `resume` on."""
    gate = Gate(tmp_path / "gate")
    inner = Supervisor(
        Child(Gated, gate, str(tmp_path / "closed"), name="first"),
        Child(Plain, name="second"),
        name="inner",
        max_restarts=0,
    )
    top = own.start(Supervisor(inner, name="top", max_restarts=0))
    second = top["inner"]["second"]
    (tmp_path / "closed").touch()
    os.kill(top["inner"]["first"].info()["pid"], signal.SIGKILL)
    top["inner"].wait(10)
    top.resume("inner")
    until(lambda: top["inner"]["first"].info()["status"] == "starting", "the first starts")
    pid = second.ask(Plain.pid)
    gate.open()
    assert pid.result(10) > 0


class Gated(Plain):
    def __init__(self, gate: Gate, closed: str) -> None:
        if Path(closed).exists():
            gate.wait()


def test_permanent_is_a_childs_default(own: ActorSystem) -> None:
    etl = own.start(Supervisor(Child(Plain, name="a"), name="etl"))
    first = pids(etl)["a"]
    etl["a"].tell(Plain.leave)
    until(lambda: pids(etl)["a"] != first, "it was restarted")


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one_for_one", {"b"}), ("one_for_all", {"a", "b", "c"}), ("rest_for_one", {"b", "c"})],
)
def test_strategies_restart_whom_they_say(own: ActorSystem, strategy: Any, restarted: set[str]) -> None:
    etl = own.start(
        Supervisor(*[Child(Plain, name=name) for name in "abc"], name="etl", strategy=strategy, backoff=AT_ONCE)
    )
    before = pids(etl)
    etl["b"].tell(Plain.fail)
    until(lambda: {name for name, pid in pids(etl).items() if pid != before[name]} == restarted, "the right ones")


def test_mail_waits_while_a_group_restarts(own: ActorSystem) -> None:
    etl = own.start(
        Supervisor(*[Child(Plain, name=name) for name in "ab"], name="etl", strategy="one_for_all", backoff=AT_ONCE)
    )
    etl["a"].tell(Plain.fail)
    replies = [etl["b"].ask(Plain.pid) for _ in range(20)]
    assert all(reply.result(10) > 0 for reply in replies)


def test_too_many_restarts_escalate_to_the_supervisor_above(own: ActorSystem) -> None:
    events = own.events()
    inner = Supervisor(Child(Plain, name="weak"), name="inner", max_restarts=1, within=60.0, backoff=AT_ONCE)
    outer = own.start(
        Supervisor(inner, Child(Plain, name="strong"), name="outer", max_restarts=5, within=60.0, backoff=AT_ONCE)
    )
    strong = outer["strong"].ask(Plain.pid).result(5)
    weak = own.lookup("outer/inner/weak", Plain)
    for _ in range(2):
        weak.tell(Plain.fail)
        weak.ask(Plain.pid).result(10)
    kinds = []
    while "escalated" not in kinds:
        event = events.get(10)
        kinds.append(event.kind)
    assert event.ref.name == "outer/inner"
    assert weak.ask(Plain.pid).result(10) > 0
    assert outer["strong"].ask(Plain.pid).result(5) == strong


def test_in_a_root_supervisor_the_child_that_used_up_the_restarts_fails_and_its_siblings_are_untouched(
    own: ActorSystem,
) -> None:
    tree = Supervisor(*[Child(Plain, name=name) for name in "ab"], name="etl", max_restarts=0, backoff=AT_ONCE)
    etl = own.start(tree)
    first, other = etl["a"], etl["b"]
    pid = other.ask(Plain.pid).result(5)
    downs: list[Down] = []
    first.monitor(downs.append)
    first.tell(Plain.fail)
    assert "told to" in str(first.wait(10))
    until(lambda: len(downs) == 1, "the monitor fires")
    assert first.info()["status"] == "failed"
    with pytest.raises(ActorDied):
        first.tell(Plain.pid)
    assert other.ask(Plain.pid).result(5) == pid
    etl.resume("a")
    until(lambda: first.info()["status"] == "running", "it runs again")
    assert first.ask(Plain.pid).result(10) > 0


def test_a_failed_supervisor_resumes_with_all_that_is_below_it(own: ActorSystem) -> None:
    inner = Supervisor(*[Child(Plain, name=name) for name in "ab"], name="inner", max_restarts=0, backoff=AT_ONCE)
    outer = own.start(Supervisor(inner, name="outer", max_restarts=0, backoff=AT_ONCE))
    first, second = outer["inner"]["a"], outer["inner"]["b"]
    first.tell(Plain.fail)
    assert "told to" in str(outer["inner"].wait(10))
    until(lambda: second.info()["status"] == "failed", "its sibling is down, too")
    for ref in (first, second):
        with pytest.raises(ActorDied):
            ref.ask(Plain.pid).result(5)
    outer.resume("inner")
    until(lambda: {ref.info()["status"] for ref in (first, second)} == {"running"}, "both run again")
    assert [ref.ask(Plain.pid).result(10) > 0 for ref in (first, second)] == [True, True]


def test_failed_keeps_queued_tells_and_ends_queued_asks(own: ActorSystem, tmp_path: Path, journal: Journal) -> None:
    class Keeper(Actor):
        def hold_and_fail(self, gate: Gate) -> None:
            gate.wait()
            raise ValueError("told to")

        def note(self, journal: Journal, number: int) -> None:
            journal.write(number)

    gate = Gate(tmp_path / "gate")
    keeper = own.spawn(Keeper, max_restarts=0)
    downs: list[Down] = []
    keeper.monitor(downs.append)
    keeper.tell(Keeper.hold_and_fail, gate)
    for number in range(5):
        keeper.tell(Keeper.note, journal, number)
    asked = keeper.ask(Keeper.note, journal, 99)
    gate.open()
    assert isinstance(asked.exception(10), ActorDied)
    assert keeper.wait(10).kind == "exception"
    until(lambda: len(downs) == 1, "the monitor fires")
    assert not downs[0].restarting
    for call in (lambda: keeper.tell(Keeper.note, journal, 7), lambda: keeper.ask(Keeper.note, journal, 7).result(5)):
        with pytest.raises(ActorDied):
            call()
    assert keeper.info()["status"] == "failed"
    keeper.resume()
    journal.until(4)
    assert journal.lines() == ["0", "1", "2", "3", "4"]


def test_a_mailbox_and_options_of_a_child_are_taken(own: ActorSystem) -> None:
    etl = own.start(
        Supervisor(
            Child(Plain, name="a", mailbox=MailboxOptions(capacity=4096), on_error="continue", redeliver=1), name="etl"
        )
    )
    first = pids(etl)["a"]
    etl["a"].tell(Plain.fail)
    assert pids(etl)["a"] == first  # on_error="continue"

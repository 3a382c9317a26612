"""OTP's supervision on real processes and real signals: restart types, strategies, intensity, escalation, backoff."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import ActorRef, ActorSystem, Event, ExitReason
from actors.supervision import Backoff, Child, Supervisor
from kit import Journal, LeakGuard, alive, children, kill, process, system_name, until
from kit.parts import Hanging, Parent, Part

AT_ONCE = Backoff(0.0, 0.0)
FREELY: dict[str, Any] = {"max_restarts": None, "backoff": AT_ONCE}
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM)


@pytest.fixture(scope="module")
def shared(module_leak_guard: LeakGuard) -> Iterator[ActorSystem]:
    with ActorSystem(system_name("supervision")) as system:
        system.spawn(Part, Journal(os.devnull), name="bystander").ask(Part.pid).result(
            10
        )  # its own descriptors are there now
        system.events().close()
        yield system


@pytest.fixture
def tree(shared: ActorSystem) -> Iterator[Any]:
    """Starts trees that end with the test."""
    started: list[Any] = []

    def start(*parts: Any, **options: Any) -> Any:
        started.append(shared.start(Supervisor(*parts, **{"name": f"top{len(started)}", **options})))
        return started[-1]

    yield start
    for each in started:
        each.stop()
        each.wait(20)


def pids(top: Any) -> dict[str, int]:
    """Asked of the actors themselves, so all of them run."""
    return {name: ref.ask("pid").result(20) for name, ref in top.children().items()}


def rows(journal: Journal, since: int = 0) -> list[str]:
    return [line.replace(line.split()[1], line.rsplit("/", 1)[-1]) for line in journal.lines()[since:]]


def heard(events: Any, kind: str, name: str) -> list[Event]:
    """All events up to this one."""
    found: list[Event] = []
    while not (found and found[-1].kind == kind and found[-1].ref.name == name):
        found.append(events.get(10))
    events.close()
    return found


# --- restart types


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("how", "restarted"), [("leave", {"permanent"}), ("stop", set()), ("crash", {"permanent", "transient"})]
)
def test_otps_nine_cells(how: str, restarted: set[str], times: int, tree: Any, journal: Journal) -> None:
    """permanent, transient, temporary x normal, shutdown, abnormal. Who is stopped by hand does not come back."""
    for _ in range(times):
        kinds: list[Any] = ["permanent", "transient", "temporary"]
        top = tree(*[Child(Part, journal, name=kind, restart=kind) for kind in kinds], **FREELY)
        before = pids(top)
        refs = top.children()
        for name, ref in refs.items():
            if how == "leave":
                ref.tell(Part.leave)
            elif how == "stop":
                ref.stop()
            else:
                kill(before[name])
        for name in refs.keys() - restarted:
            refs[name].wait(10)
        left = [kind for kind in kinds if kind in restarted]
        until(lambda top=top, left=left: list(top.children()) == left, "the others are gone")
        after = pids(top)
        assert not set(after.values()) & set(before.values())


# --- strategies


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_strategy_restarts_in_order_whom_it_says_after_any_signal(
    strategy: Any, times: int, tree: Any, journal: Journal, rng: random.Random
) -> None:
    """The others keep their processes; those stop in reverse, the killed one apart, and start in order."""
    names = list("abcde")
    top = tree(*[Child(Part, journal, name=name) for name in names], strategy=strategy, **FREELY)
    for _ in range(times):
        before, since = pids(top), len(journal.lines())
        victim = rng.choice(names)
        at = names.index(victim)
        group = {"one_for_one": [victim], "one_for_all": names, "rest_for_one": names[at:]}[strategy]
        kill(before[victim], rng.choice(SIGNALS))
        until(lambda since=since, group=group: rows(journal, since).count(f"start {group[-1]}"), "they are back")
        after = pids(top)
        assert {name for name in names if after[name] != before[name]} == set(group)
        stops = [f"stop {name}" for name in reversed(group) if name != victim]
        assert rows(journal, since) == stops + [f"start {name}" for name in group]


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_second_child_that_is_killed_meanwhile_changes_nothing_in_the_end(
    strategy: Any, times: int, tree: Any, journal: Journal, rng: random.Random
) -> None:
    """Two of a group die within a millisecond or so, in any order: all that had to come back is back, once, in order."""
    names = list("abcd")
    top = tree(*[Child(Part, journal, name=name) for name in names], strategy=strategy, **FREELY)
    for _ in range(times):
        before = pids(top)
        first, second = rng.sample(names, 2)
        kill(before[first])
        time.sleep(rng.choice([0.0, 0.0005, 0.002]))  # where in the restart the second falls is chance
        kill(before[second])
        least = names if strategy == "one_for_all" else names[min(names.index(first), names.index(second)) :]
        until(
            lambda before=before, least=least: not any(alive(before[name]) for name in least), "the old ones are gone"
        )
        after = pids(top)
        assert {name for name in names if after[name] != before[name]} == set(least)
        starts = [line.split()[1] for line in rows(journal) if line.startswith("start")][-len(least) :]
        assert starts == least
        assert sum(alive(pid) for pid in after.values()) == len(names)


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_a_restarted_sibling_whose_start_fails_is_tried_again_with_those_after_it(
    times: int, tree: Any, journal: Journal, tmp_path: Path, rng: random.Random
) -> None:
    unlucky = tmp_path / "unlucky"
    unlucky.write_text("0")
    parts = [Child(Part, journal, str(unlucky) if name == "c" else "", name=name) for name in "abcd"]
    top = tree(*parts, strategy="rest_for_one", **FREELY)
    for _ in range(times):
        before, since, fails = pids(top), len(journal.lines()), rng.randint(1, 3)
        unlucky.write_text(str(fails))
        kill(before["b"])
        until(lambda since=since: rows(journal, since).count("start d"), "the last is back")
        assert pids(top)["a"] == before["a"]
        assert rows(journal, since) == ["stop d", "stop c", "start b", "start c", "start d"]
        assert unlucky.read_text() == "0"


# --- too many restarts


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_exactly_so_many_restarts_are_allowed_and_one_more_escalates(
    times: int, tree: Any, journal: Journal, shared: ActorSystem
) -> None:
    """Within a window that is never over, three restarts are the child's, the fourth is its supervisor's."""
    parts = [Child(Part, journal, name=name) for name in "ab"]
    inner = Supervisor(*parts, name="inner", max_restarts=3, within=3600.0, backoff=AT_ONCE)
    top = tree(inner, **FREELY)
    for _ in range(times):
        events = shared.events()
        other = top["inner"]["b"].ask(Part.pid).result(10)
        for _ in range(3):
            kill(top["inner"]["a"].ask(Part.pid).result(10))
        pid = top["inner"]["a"].ask(Part.pid).result(10)
        assert top["inner"]["b"].ask(Part.pid).result(10) == other
        kill(pid)
        until(lambda other=other: not alive(other), "its sibling goes with it")
        assert top["inner"]["a"].ask(Part.pid).result(10) != pid
        top["inner"]["b"].ask(Part.pid).result(10)
        seen = heard(events, "restarted", f"{top.name}/inner")
        escalated = [event for event in seen if event.kind == "escalated"]
        assert [(event.ref.name, event.details["cause"]) for event in escalated] == [
            (f"{top.name}/inner", f"{top.name}/inner/a")
        ]
        assert escalated[0].reason == ExitReason("signal", signal=signal.SIGKILL)


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_escalation_through_four_levels_keeps_the_first_cause(
    times: int, tree: Any, journal: Journal, shared: ActorSystem, rng: random.Random
) -> None:
    """No restarts anywhere: the worker's death takes each level above with it; at the top the second level has FAILED,
    for the worker's reason; its neighbour lives, and `resume` brings all of it back."""
    none: dict[str, Any] = {"max_restarts": 0, "within": 3600.0, "backoff": AT_ONCE}
    third = Supervisor(Child(Part, journal, name="worker"), name="three", **none)
    second = Supervisor(third, Child(Part, journal, name="beside"), name="two", **none)
    top = tree(Supervisor(second, name="one", **none), Child(Part, journal, name="neighbour"), **none)
    neighbour = top["neighbour"].ask(Part.pid).result(10)
    for _ in range(times):
        events = shared.events()
        worker = top["one"]["two"]["three"]["worker"]
        cause = rng.choice(SIGNALS[:3])
        kill(worker.ask(Part.pid).result(10), cause)
        assert top["one"].wait(20) == ExitReason("signal", signal=cause)
        assert worker.wait(20) == ExitReason("signal", signal=cause)
        seen = heard(events, "failed", worker.name)
        levels = [event.ref.name.rsplit("/", 1)[-1] for event in seen if event.kind == "escalated"]
        assert levels == ["three", "two", "one"]
        assert {event.details["cause"] for event in seen if event.kind == "escalated"} == {worker.name}
        assert {str(event.reason) for event in seen if event.kind in ("escalated", "failed")} == {
            f"killed by {cause.name}"
        }
        assert top["neighbour"].ask(Part.pid).result(10) == neighbour
        top.resume("one")
        until(lambda: top["one"].children(), "it is resumed")
        top["one"]["two"]["beside"].ask(Part.pid).result(10)


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_a_stop_in_the_middle_of_a_restart_loop_wins(
    times: int, shared: ActorSystem, journal: Journal, tmp_path: Path, rng: random.Random
) -> None:
    """OTP's hanging_restart_loop: a child that can never start again keeps nobody from stopping its supervisor."""
    unlucky = tmp_path / "unlucky"
    for number in range(times):
        unlucky.write_text("0")
        strategy: Any = rng.choice(["one_for_one", "one_for_all", "rest_for_one"])
        parts = [Child(Part, journal, name="a"), Child(Part, journal, str(unlucky), name="b")]
        top = shared.start(Supervisor(*parts, name=f"loop{number}", strategy=strategy, **FREELY))
        pid = top["b"].ask(Part.pid).result(10)
        unlucky.write_text("1000000")
        kill(pid)
        until(lambda: int(unlucky.read_text() or "1000000") < 1000000 - rng.randint(1, 5), "it loops")
        top.stop()
        assert top.wait(20) == ExitReason("shutdown")


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_crash_loop_waits_ever_longer_within_its_jitter_and_burns_no_cpu(
    times: int, shared: ActorSystem, journal: Journal
) -> None:
    """0, 20, 40, 80, 160, 160 ms, each spread by a fifth; a stable time brings the first one back."""
    backoff = Backoff(0.02, 0.16, jitter=0.2, stable=3600.0)
    expected = [0.0, 0.02, 0.04, 0.08, 0.16, 0.16]
    for _ in range(times):
        events: Any = shared.events()
        ref = shared.spawn(Part, journal, backoff=backoff)
        waits = []
        for _ in expected:
            pid, began = ref.ask(Part.pid).result(10), time.monotonic()
            kill(pid)
            ref.ask(Part.pid).result(10)
            waits.append(time.monotonic() - began)
        ref.stop()
        mine = [event for event in heard(events, "stopped", ref.name) if event.ref == ref]
        delays = [event.details["delay"] for event in mine if event.kind == "restarting"]
        assert len(delays) == len(expected)
        assert all(0.79 * wanted <= delay <= 1.21 * wanted for delay, wanted in zip(delays, expected, strict=True)), (
            delays
        )
        assert all(wait >= delay for wait, delay in zip(waits, delays, strict=True)), "nobody comes back early"


def test_a_child_in_a_crash_loop_takes_less_than_a_twentieth_of_a_core(
    shared: ActorSystem, journal: Journal, tmp_path: Path
) -> None:
    """With the default backoff, from its second second on."""
    unlucky = tmp_path / "unlucky"
    unlucky.write_text("0")
    ref = shared.spawn(Part, journal, str(unlucky))
    unlucky.write_text("1000000")
    kill(ref.info()["pid"])
    until(lambda: ref.info()["restarts"] >= 7, "it crashes again and again", 20)

    def used() -> float:
        """CPU seconds of the guardian and all that it has, the dead included."""
        total = 0
        for pid in (shared.guardian_pid, *children(shared.guardian_pid)):
            if (found := process(pid)) is not None and found.lives:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
        return total / os.sysconf("SC_CLK_TCK")

    cpu, began = used(), time.monotonic()
    ref_restarts = ref.info()["restarts"]
    until(lambda: ref.info()["restarts"] >= ref_restarts + 2, "two more crashes", 30)
    share = (used() - cpu) / (time.monotonic() - began)
    ref.stop()
    ref.wait(10)
    assert share < 0.05 + 0.10, f"{share:.1%} of a core (a tenth of it is for this test's own looking)"


# --- shutdown order


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_tree_of_three_levels_and_fifty_leaves_stops_in_exact_reverse(
    times: int, shared: ActorSystem, journal: Journal
) -> None:
    for number in range(times):
        since = len(journal.lines())
        groups = [
            Supervisor(*[Supervisor(Child(Part, journal, name="leaf", count=5), name=f"n{inner}") for inner in range(5)], name=f"g{outer}")
            for outer in range(2)
        ]  # fmt: skip
        top = shared.start(Supervisor(*groups, name=f"wide{number}"))
        top.stop()
        top.wait(30)
        lines = [line.split() for line in journal.lines()[since:]]
        started = [name for what, name in lines if what == "start"]
        assert len(started) == 50
        assert [name for what, name in lines if what == "stop"] == started[::-1]


def test_who_does_not_stop_costs_its_own_time_and_no_more(shared: ActorSystem, journal: Journal) -> None:
    """Two of ten leaves hang in a handler; each is killed after its 0.2 s, and a tenth of that for SIGTERM."""
    parts = [
        Child(Hanging if number in (3, 7) else Part, journal, name=f"p{number}", shutdown=0.2) for number in range(10)
    ]
    top = shared.start(Supervisor(*parts, name="slow"))
    refs: dict[str, ActorRef[Any]] = top.children()
    for name in ("p3", "p7"):
        refs[name].tell(Hanging.hang)
        journal.until("hangs", f"slow/{name}")
    began = time.monotonic()
    top.stop()
    top.wait(30)
    assert 2 * 0.2 <= time.monotonic() - began < 2 * 0.25 + 5.0
    assert {name for name, ref in refs.items() if ref.wait(1).kind == "signal"} == {"p3", "p7"}


# --- actors with children


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.nightly)])
def test_a_killed_parents_whole_subtree_is_replaced_and_no_orphan_outlives_it_by_a_second(
    times: int, tree: Any, shared: ActorSystem, journal: Journal, rng: random.Random
) -> None:
    """The parent, or one in the middle: what was below it is gone within a second, and there again, once."""
    top = tree(Child(Parent, journal, name="parent"), **FREELY)
    names = [f"{top.name}/parent{rest}" for rest in ("", "/x", "/x/leaf", "/y", "/y/leaf")]

    def pids_of_all() -> dict[str, int]:
        """As the guardian sees them, once all of them are there."""
        found = {
            info["name"]: info["pid"] for info in flat(shared.tree()) if info["status"] == "running" and info["pid"]
        }
        return found if found.keys() >= set(names) else {}

    for _ in range(times):
        before = until(pids_of_all, "all are there")
        victim = rng.choice([names[0], names[1]])
        kill(before[victim])
        doomed = [name for name in names if name.startswith(victim)]
        until(
            lambda before=before, doomed=doomed: not any(alive(before[name]) for name in doomed), "no orphan", 1.0 + 4.0
        )
        after = until(
            lambda before=before, victim=victim: (new := pids_of_all()) and new[victim] != before[victim] and new,
            "all are back",
        )
        assert {name for name in names if after[name] != before[name]} == set(doomed)


def flat(info: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in info["children"]:
        yield child
        yield from flat(child)

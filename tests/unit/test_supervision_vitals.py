"""A hang, and a replacement that is no failure: what the tree decides, by table."""

from __future__ import annotations

import math
import signal
from random import Random
from typing import Literal

import pytest

from actors.exits import ExitReason
from actors.supervision import Policy
from actors.supervision.actions import (
    Action,
    Ask,
    Ended,
    Failed,
    Ready,
    Recycled,
    Restarted,
    Restarting,
    Signal,
    Spawn,
)  # fmt: skip
from actors.supervision.tree import Tree

HUNG = ExitReason("hung", error="no progress for 1 s: a message in hand")
FULL = ExitReason("shutdown", error="max_messages=3: it has handled as many")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("signal", signal=signal.SIGKILL)
TERM, KILL = Signal(1, signal.SIGTERM), Signal(1, signal.SIGKILL)


def running(
    restart: Literal["permanent", "transient", "temporary"] = "transient",
    shutdown: float = 5.0,
    limit: int | None = None,
) -> Tree:
    """A tree with one worker, uid 1, ready since second 0."""
    tree = Tree(Random(1))
    policy = Policy(restart=restart, shutdown=shutdown, max_restarts=limit)
    assert tree.add(1, 0, "worker", "worker", policy, 0.0) == [Spawn(1, 1)]
    assert tree.ready(1, 0.0) == [Ready(1)]
    return tree


def test_a_hung_process_gets_sigterm_then_sigkill_and_its_end_is_called_hung() -> None:
    """Whatever the kernel reports of it."""
    tree = running()
    assert tree.hung(1, HUNG, 1.0) == [TERM]
    assert tree.deadline == 1.5
    assert tree.due(1.5) == [KILL]
    assert tree.due(100.0) == []
    assert tree.exited(1, KILLED, 2.0) == [Restarting(1, HUNG, 0.0), Spawn(1, 2)]
    assert tree.restarts(1) == 1


def test_a_stopped_process_gets_sigkill_at_once() -> None:
    """It would hear nothing else, and SIGCONT must not bring it back to life."""
    tree = running()
    assert tree.hung(1, HUNG, 1.0, stopped=True) == [KILL]
    assert tree.deadline is None


def test_a_process_hangs_once() -> None:
    """A second judgement, or one about an incarnation that is gone, changes nothing."""
    tree = running()
    tree.hung(1, HUNG, 1.0)
    assert tree.hung(1, HUNG, 1.1) == []
    tree.exited(1, KILLED, 2.0)
    assert tree.hung(1, HUNG, 2.1) == []  # not ready yet: that has a limit of its own
    tree.ready(1, 3.0)
    assert tree.hung(1, HUNG, 3.1, incarnation=1) == []


@pytest.mark.parametrize(("restart", "comes_back"), [("permanent", True), ("transient", True), ("temporary", False)])
def test_a_hang_is_an_abnormal_end(restart: Literal["permanent", "transient", "temporary"], comes_back: bool) -> None:
    """The policy decides, as after a crash."""
    tree = running(restart)
    tree.hung(1, HUNG, 1.0)
    decided = tree.exited(1, KILLED, 2.0)
    assert (Spawn(1, 2) in decided, Ended(1, HUNG) in decided) == (comes_back, not comes_back)


def test_hangs_count_as_restarts() -> None:
    """One is allowed; the second is one too many."""
    tree = running(limit=1)
    for incarnation in (2, 3):
        tree.hung(1, HUNG, 1.0)
        decided = tree.exited(1, KILLED, 1.0)
        if incarnation == 2:
            assert Spawn(1, 2) in decided
            tree.ready(1, 1.0)
    assert decided == [Failed(1, HUNG)]


def test_a_hang_in_the_middle_of_a_stop_without_a_limit_ends_it() -> None:
    """The stop goes on when the process is dead."""
    tree = running(shutdown=math.inf)
    assert tree.stop(1, 1.0) == [Ask(1, None, True)]
    assert tree.hung(1, HUNG, 2.0) == [TERM]
    assert tree.due(3.0) == [KILL]
    assert tree.exited(1, KILLED, 3.0) == [Ended(1, HUNG)]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_recycled_process_is_replaced_at_once_whatever_its_type_and_it_does_not_count(
    restart: Literal["permanent", "transient", "temporary"],
) -> None:
    """No time limit, no backoff, no restart."""
    tree = running(restart, limit=0)
    for incarnation in range(2, 10):
        assert tree.recycle(1, FULL, 1.0) == [Recycled(1, FULL), Ask(1, None, False)]
        assert tree.recycle(1, FULL, 1.0) == []  # it is being done
        assert tree.deadline is None
        assert tree.exited(1, SHUTDOWN, 50.0) == [Restarting(1, SHUTDOWN, 0.0), Spawn(1, incarnation)]
        assert tree.ready(1, 50.0) == [Restarted(1)]
    assert tree.restarts(1) == 0


def test_a_recycled_process_that_is_killed_meanwhile_is_replaced_all_the_same() -> None:
    """Nobody counts how it went."""
    tree = running(limit=0)
    tree.recycle(1, FULL, 1.0)
    assert tree.exited(1, KILLED, 2.0) == [Restarting(1, KILLED, 0.0), Spawn(1, 2)]


def test_a_drain_goes_on_in_the_next_process() -> None:
    """A process that has handled all that it may leaves in the middle of a stop: the next one is asked when it is ready."""
    tree = running()
    assert tree.stop(1, 1.0, drain=True) == [Ask(1, None, True)]
    for incarnation in (2, 3):
        assert tree.recycle(1, FULL, 2.0) == [Recycled(1, FULL)]
        assert tree.exited(1, SHUTDOWN, 2.0) == [Restarting(1, SHUTDOWN, 0.0), Spawn(1, incarnation)]
        assert tree.ready(1, 3.0) == [Restarted(1), Ask(1, None, True)]
        assert tree.deadline is None
    assert tree.exited(1, SHUTDOWN, 4.0) == [Ended(1, SHUTDOWN)]


def test_the_time_to_stop_is_shared_by_all_processes_that_it_takes() -> None:
    """Five seconds from the request on, however many are recycled."""
    tree = running(shutdown=5.0)
    tree.stop(1, 10.0)
    tree.recycle(1, FULL, 12.0)
    assert Spawn(1, 2) in tree.exited(1, SHUTDOWN, 12.0)
    assert tree.deadline == 15.0
    tree.ready(1, 13.0)
    assert tree.deadline == 15.0
    assert tree.due(15.0) == [TERM]
    assert tree.recycle(1, FULL, 15.1) == []  # its time is over
    assert tree.exited(1, KILLED, 15.2) == [Ended(1, KILLED)]


def test_a_stop_that_comes_while_it_is_recycled_is_done_by_the_next_process() -> None:
    """The mail that was left for it is handled first."""
    tree = running()
    tree.recycle(1, FULL, 1.0)
    assert tree.stop(1, 2.0) == [Ask(1, 5.0, False)]  # this process is to leave the mail to the next one
    assert tree.exited(1, SHUTDOWN, 3.0) == [Restarting(1, SHUTDOWN, 0.0), Spawn(1, 2)]
    assert tree.ready(1, 4.0) == [Restarted(1), Ask(1, 5.0, True)]
    assert tree.deadline == 7.0


def test_a_next_process_that_does_not_even_start_is_the_last() -> None:
    """In a drain nothing would end the attempts."""
    tree = running()
    tree.stop(1, 1.0, drain=True)
    tree.recycle(1, FULL, 2.0)
    tree.exited(1, SHUTDOWN, 2.0)
    failed = ExitReason("exception", code=1, error="ValueError: no")
    assert tree.exited(1, failed, 3.0) == [Ended(1, failed)]


def test_a_kill_is_not_recycled() -> None:
    """Neither before nor afterwards."""
    tree = running()
    tree.recycle(1, FULL, 1.0)
    assert tree.kill(1, 2.0) == [KILL]
    assert tree.recycle(1, FULL, 2.0) == []
    assert tree.exited(1, KILLED, 3.0) == [Ended(1, KILLED)]


def test_one_child_of_a_group_is_recycled_alone() -> None:
    """The others did nothing."""
    tree = Tree(Random(1))
    tree.add(1, 0, "top", "supervisor", Policy(shutdown=math.inf), 0.0, "one_for_all", start=False)
    for uid in (2, 3, 4):
        tree.add(uid, 1, f"child-{uid}", "worker", Policy(), 0.0)
    tree.start(1, 0.0)
    for uid in (2, 3, 4):
        tree.ready(uid, 0.0)
    assert tree.recycle(3, FULL, 1.0) == [Recycled(3, FULL), Ask(3, None, False)]
    assert tree.exited(3, SHUTDOWN, 2.0) == [Restarting(3, SHUTDOWN, 0.0), Spawn(3, 2)]
    assert tree.ready(3, 3.0) == [Restarted(3)]


def names(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_a_child_of_the_recycled_actor_stops_before_the_next_process_starts() -> None:
    """Children end with their parent's process, however that ends."""
    tree = running()
    tree.add(2, 1, "child", "worker", Policy(), 0.0)
    tree.ready(2, 0.0)
    tree.recycle(1, FULL, 1.0)
    assert names(tree.exited(1, SHUTDOWN, 2.0)) == ["Restarting", "Ask"]
    assert names(tree.exited(2, SHUTDOWN, 3.0)) == ["Ended", "Spawn"]

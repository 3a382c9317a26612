"""Significant children end their supervisor as OTP's documents say; senseless combinations are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Actor, SpecError
from actors.exits import ExitReason
from actors.supervision import Child, Policy, Supervisor
from actors.supervision.actions import Ended
from kit.play import CRASH, NORMAL, Play, running, supervisor, worker

ANY, ALL = "any_significant", "all_significant"
SHUTDOWN = ExitReason("shutdown")


def significant(name: str, restart: str = "transient", **policy: Any) -> Any:
    return worker(name, restart=restart, significant=True, **policy)


@pytest.mark.parametrize(
    ("restart", "reason", "ends"),
    [("transient", NORMAL, True), ("transient", SHUTDOWN, True), ("transient", ExitReason("exit", code=0), True),
     ("transient", CRASH, False), ("temporary", NORMAL, True), ("temporary", CRASH, True)],
)  # fmt: skip
def test_any_significant_child_that_ends_by_itself_ends_its_supervisor(
    play: Play, restart: str, reason: ExitReason, ends: bool
) -> None:
    """The rest stops in reverse; all but the child itself have ended for the reason "shutdown"."""
    running(play, supervisor("top", worker("a"), significant("b", restart), worker("c"), auto_shutdown=ANY))
    words = play.exit("b", reason)
    if not ends:
        assert "spawn b" in words
        return
    assert sorted(words) == ["ask c", "ended b"]
    assert play.reasons(Ended) == [("b", reason)]
    assert play.exit("c", SHUTDOWN) == ["ended c", "ask a"]
    assert play.exit("a", SHUTDOWN) == ["ended a", "ended top"]
    assert play.reasons(Ended) == [("a", SHUTDOWN), ("top", SHUTDOWN)]


def test_all_significant_waits_for_the_last_of_them(play: Play) -> None:
    spec = supervisor("top", significant("a"), worker("b"), significant("c", "temporary"), auto_shutdown=ALL)
    running(play, spec)
    assert play.exit("c", CRASH) == ["ended c"]
    assert play.status("top") == "running"
    assert sorted(play.exit("a", NORMAL)) == ["ask b", "ended a"]
    assert play.exit("b", SHUTDOWN) == ["ended b", "ended top"]


def test_a_significant_child_in_backoff_is_one_that_has_not_ended(play: Play) -> None:
    running(play, supervisor("top", significant("a"), significant("b"), auto_shutdown=ALL))
    play.exit("a")
    play.ready("a")
    play.exit("a")
    assert play.status("a") == "backoff"
    assert play.exit("b", NORMAL) == ["ended b"]
    assert play.status("top") == "running"


def test_a_child_that_has_failed_may_be_resumed_and_has_not_ended(play: Play) -> None:
    running(play, supervisor("top", significant("a"), significant("b"), auto_shutdown=ALL, max_restarts=0))
    play.exit("a")
    assert play.status("a") == "failed"
    assert play.exit("b", NORMAL) == ["ended b"]
    assert play.status("top") == "running"
    play.do("resume", "a")
    play.ready("a")
    assert play.exit("a", NORMAL) == ["ended a", "ended top"]


def test_other_children_may_end_as_they_like(play: Play) -> None:
    running(play, supervisor("top", worker("a", restart="temporary"), significant("b"), auto_shutdown=ANY))
    assert play.exit("a", NORMAL) == ["ended a"]
    assert play.status("top") == "running"


@pytest.mark.parametrize("command", ["stop", "kill"])
def test_a_significant_child_that_is_stopped_by_hand_ends_nobody(play: Play, command: str) -> None:
    running(play, supervisor("top", significant("a"), worker("b"), auto_shutdown=ANY))
    play.do(command, "a")
    assert play.exit("a", SHUTDOWN) == ["ended a"]
    assert play.status("top") == "running"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_significant_child_that_ends_with_its_group_ends_nobody(play: Play, strategy: str) -> None:
    """A temporary one does not come back from a restart of its group: the supervisor's doing, not its own."""
    spec = supervisor("top", worker("a"), significant("b", "temporary"), strategy=strategy, auto_shutdown=ANY)
    running(play, spec)
    play.exit("a")
    assert play.exit("b", SHUTDOWN)[0] == "ended b"
    play.ready("a")
    assert play.status("top") == "running"


def test_a_start_is_finished_before_the_supervisor_ends(play: Play) -> None:
    """Whoever waits for it hears that it has started, as in OTP."""
    play.add(supervisor("top", significant("a"), worker("b"), auto_shutdown=ANY))
    assert play.ready("a") == ["ready a", "spawn b"]
    assert play.exit("a", NORMAL) == ["ended a"]
    assert play.ready("b") == ["ready b", "ready top", "ask b"]
    assert play.exit("b", SHUTDOWN) == ["ended b", "ended top"]


def test_a_start_that_fails_has_failed_whoever_ended_before(play: Play) -> None:
    play.add(supervisor("top", significant("a"), worker("b"), auto_shutdown=ANY))
    play.ready("a")
    play.exit("a", NORMAL)
    assert play.start_failed("b") == ["ended b", "start failed top", "ended top"]


@pytest.mark.parametrize(
    ("restart", "outcome"), [("permanent", "starting"), ("transient", "gone"), ("temporary", "gone")]
)
def test_what_the_supervisor_above_makes_of_it_is_a_matter_of_the_restart_type(
    play: Play, restart: str, outcome: str
) -> None:
    """It is a normal end: only a permanent supervisor comes back, counted, without those that have ended."""
    inner = supervisor("inner", significant("a"), worker("b"), auto_shutdown=ANY, restart=restart)
    running(play, supervisor("top", inner, worker("c")))
    play.exit("a", NORMAL)
    words = play.exit("b", SHUTDOWN)
    if outcome == "gone":
        assert words[-1] == "ended inner"
        assert play.reasons(Ended)[-1] == ("inner", SHUTDOWN)
    else:
        assert words == ["restarting b", "spawn b"] or words == ["spawn b"]
        assert play.status("inner") == outcome
    assert play.status("c") == "running"


def test_a_significant_supervisor_passes_it_on(play: Play) -> None:
    inner = supervisor("inner", significant("a"), auto_shutdown=ANY, restart="transient", significant=True)
    running(
        play,
        supervisor(
            "top",
            supervisor("middle", inner, auto_shutdown=ALL, restart="transient", significant=True),
            worker("z"),
            auto_shutdown=ANY,
        ),
    )
    assert sorted(play.exit("a", NORMAL)) == ["ask z", "ended a", "ended inner", "ended middle"]
    assert play.exit("z", SHUTDOWN) == ["ended z", "ended top"]


def test_an_escalation_of_a_significant_transient_supervisor_is_no_end(play: Play) -> None:
    inner = supervisor("inner", worker("a"), max_restarts=0, restart="transient", significant=True)
    running(play, supervisor("top", inner, worker("b"), auto_shutdown=ANY))
    assert "spawn a" in play.exit("a")
    assert play.status("b") == "running"


# --- refusals ---------------------------------------------------------------------------------------------------


class Plain(Actor):
    pass


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Child(Plain, name="x", significant=True), r"child 'x': significant must be False where restart is \"permanent\""),
        (lambda: Child(Plain, name="x", restart="temporary", significant=1), r"child 'x': significant must be True or False, not 1"),
        (lambda: Supervisor(Child(Plain, name="x", restart="transient", significant=True), name="s"),
         r"supervisor 's': child 'x': significant must be False where the supervisor's auto_shutdown is \"never\""),
        (lambda: Supervisor(Supervisor(name="in", restart="transient", significant=True), name="s"),
         r"supervisor 's': child 'in': significant must be False"),
        (lambda: Supervisor(name="s", auto_shutdown="sometimes"),
         r"supervisor 's': auto_shutdown must be one of never, any_significant, all_significant, not 'sometimes'"),
        (lambda: Supervisor(name="s", significant=True), r"supervisor 's': significant must be False where restart is"),
    ],
)  # fmt: skip
def test_a_senseless_combination_is_refused_with_child_and_field(make: Any, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        make()


def test_a_policy_with_auto_shutdown_travels_whole() -> None:
    policy = Policy(restart="temporary", significant=True, auto_shutdown="all_significant")
    assert Policy.from_wire(policy.to_wire()) == policy

"""How often and how soon a child is restarted, and what happens beyond: failure and escalation, by OTP's rules."""

import pytest

from actors.exits import ExitReason
from actors.supervision import Backoff
from actors.supervision.actions import Ended, Escalated, Failed, Restarting, StartFailed
from kit.play import CRASH, NORMAL, OTHER, Play, running, supervisor, three, worker

# --- how often, and how soon ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pause", "outcome"), [(2.5, "failed"), (2.501, "running")])
def test_a_restart_exactly_within_old_still_counts(play: Play, pause: float, outcome: str) -> None:
    """max_restarts=2 within 5 s: the third in 5 s is one too many, the third in 5.002 s is not."""
    at_once = Backoff(stable=0.0)
    running(play, supervisor("top", worker("a", backoff=at_once), max_restarts=2, within=5.0))
    for _ in range(2):
        assert play.exit("a") == ["restarting a", "spawn a"]
        play.ready("a")
        play.now += pause
    play.exit("a")
    play.ready("a")
    assert play.status("a") == outcome


def test_backoff_doubles_to_its_ceiling_and_starts_anew_after_a_stable_time(play: Play) -> None:
    """The first restart is immediate, also again after 10 s of peace, but not after 9.9."""
    running(play, worker("a"))

    def delay() -> float:
        play.exit("a")
        restarting = next(action for action in play.last if isinstance(action, Restarting))
        play.after(restarting.delay)
        play.ready("a")
        return restarting.delay

    assert [delay() for _ in range(5)] == [0.0, 1.0, 2.0, 4.0, 4.0]
    play.now += 9.9
    assert delay() == 4.0
    play.now += 10.0
    assert [delay(), delay()] == [0.0, 1.0]


def test_a_start_that_fails_after_a_stable_time_is_not_stable(play: Play) -> None:
    """The peace was the last incarnation's; otherwise a broken start would be tried in a busy loop."""
    running(play, worker("a"))
    play.now += 20
    assert play.exit("a") == ["restarting a", "spawn a"]
    assert play.start_failed("a") == ["restarting a"]
    assert play.tree.deadline == play.now + 1.0


def test_a_child_without_backoff_of_its_own_takes_its_supervisors(play: Play) -> None:
    """And one that has its own keeps it."""
    slow = Backoff(initial=3.0, maximum=3.0, jitter=0.0)
    running(play, supervisor("top", worker("a", backoff=None), worker("b"), backoff=slow))
    for name, expected in (("a", 3.0), ("b", 1.0)):
        play.exit(name)
        play.ready(name)
        play.exit(name)
        assert play.tree.deadline == play.now + expected
        play.after(expected)


def test_at_the_top_the_child_fails_and_its_siblings_are_untouched(play: Play) -> None:
    """There is nobody to escalate to; the count starts anew for the siblings."""
    running(play, three("one_for_all", max_restarts=0))
    assert play.exit("b") == ["failed b"]
    assert [play.status(name) for name in ("top", "a", "b", "c")] == ["running", "running", "failed", "running"]


def test_after_a_failure_at_the_top_the_siblings_have_all_restarts_again(play: Play) -> None:
    """The one that failed has paid for its own."""
    running(play, supervisor("top", worker("a"), worker("b"), max_restarts=1))
    play.exit("a")
    assert play.exit("a") == ["failed a"]
    assert play.exit("b") == ["restarting b", "spawn b"]


def test_an_actors_own_count_is_not_cleared_by_a_failed_child(play: Play) -> None:
    """The child's account is the child's."""
    running(play, worker("a", max_restarts=1))
    play.exit("a")
    play.ready("a")
    running(play, worker("b", max_restarts=0), "a")
    assert play.exit("b") == ["failed b"]
    play.exit("a")
    assert play.status("a") == "failed"


def test_outside_a_tree_max_restarts_is_the_actors_own(play: Play) -> None:
    """None is for ever."""
    running(play, worker("a", max_restarts=1))
    assert play.exit("a") == ["restarting a", "spawn a"]
    play.ready("a")
    assert play.exit("a", OTHER) == ["failed a"]
    assert play.reasons(Failed) == [("a", OTHER)]
    running(play, worker("b"))
    for _ in range(50):
        play.exit("b")
        play.after(4.0)
        play.ready("b")
    assert play.status("b") == "running"
    assert play.tree.restarts(play.uids["b"]) == 50


def test_a_failed_actor_resumes_with_a_clean_count(play: Play) -> None:
    """Its first restart after that is allowed and immediate again."""
    running(play, worker("a", max_restarts=1))
    play.exit("a")
    play.exit("a")
    assert play.status("a") == "failed"
    assert play.do("resume", "a") == ["spawn a"]
    assert play.ready("a") == ["restarted a"]
    assert play.exit("a") == ["restarting a", "spawn a"]


def test_a_failed_actor_can_be_stopped_or_removed(play: Play) -> None:
    """It ends for the reason that it failed for."""
    for event, name in (("stop", "a"), ("remove", "b"), ("kill", "c")):
        running(play, worker(name, max_restarts=0))
        play.exit(name)
        assert play.do(event, name) == [f"ended {name}"]
        assert play.reasons(Ended) == [(name, CRASH)]


def test_remove_does_not_touch_what_runs(play: Play) -> None:
    """That takes a stop."""
    running(play, worker("a"))
    assert play.do("remove", "a") == []
    assert play.status("a") == "running"


def test_a_failed_child_stays_down_while_its_group_restarts(play: Play) -> None:
    """Only a hand brings it back."""
    running(play, three("one_for_all", max_restarts=1))
    for name in ("c", "b", "a"):
        play.exit("c" if name == "c" else name)
    for name in "abc":
        play.ready(name)
    assert play.exit("c", CRASH) == ["failed c"]
    play.now += 100
    play.exit("b")
    assert play.exit("a", NORMAL)[-1] == "spawn a"
    play.ready("a")
    assert play.ready("b") == ["restarted b"]
    assert play.status("c") == "failed"


# --- escalation -------------------------------------------------------------------------------------------------


def test_a_supervisor_beyond_its_limit_stops_its_children_and_is_restarted(play: Play) -> None:
    """Its siblings do not notice, and its own count starts anew."""
    running(play, supervisor("top", supervisor("inner", worker("a"), worker("b"), max_restarts=0), worker("c")))
    assert play.exit("a") == ["escalated inner", "restarting inner", "restarting a", "ask b"]
    assert play.reasons(Escalated) == [("inner", CRASH)]
    assert play.exit("b", NORMAL) == ["restarting b", "spawn a"]
    assert play.ready("a") == ["restarted a", "spawn b"]
    assert play.ready("b") == ["restarted b", "restarted inner"]
    assert play.tree.restarts(play.uids["inner"]) == 1


def test_a_restarted_supervisor_counts_from_zero(play: Play) -> None:
    """As OTP's, which is a new process then."""
    running(play, supervisor("top", supervisor("inner", worker("a"), max_restarts=1)))
    assert play.exit("a") == ["restarting a", "spawn a"]
    play.ready("a")
    assert play.exit("a") == ["escalated inner", "restarting inner", "restarting a", "spawn a"]
    play.ready("a")
    assert play.exit("a") == ["restarting a", "spawn a"]


def test_escalation_through_four_levels_keeps_the_first_cause(play: Play) -> None:
    """At the top the highest supervisor that nobody restarts has failed, with everything below it."""
    deep = worker("a")
    for level in ("s4", "s3", "s2"):
        deep = supervisor(level, deep, worker(f"{level}-sibling"), max_restarts=0)
    running(play, supervisor("s1", deep, worker("s1-sibling"), max_restarts=0))
    assert play.exit("a") == ["escalated s4", "escalated s3", "escalated s2", "ask s2-sibling"]
    assert all(reason is CRASH for _, reason in play.reasons(Escalated))
    assert {action.cause for action in play.last if isinstance(action, Escalated)} == {play.uids["a"]}
    assert play.exit("s2-sibling", NORMAL) == ["ask s3-sibling"]
    assert play.exit("s3-sibling", NORMAL) == ["ask s4-sibling"]
    fallen = ["s2-sibling", "s3-sibling", "s4-sibling", "a", "s4", "s3", "s2"]
    assert play.exit("s4-sibling", NORMAL) == [f"failed {name}" for name in fallen]
    assert all(reason is CRASH for _, reason in play.reasons(Failed))
    assert [play.status(name) for name in ("s1", "s1-sibling", "s2", "a")] == ["running", "running", "failed", "failed"]


def test_resume_below_a_failed_supervisor_brings_the_whole_of_it_back(play: Play) -> None:
    """In order, as at its first start."""
    running(play, supervisor("top", supervisor("inner", worker("a"), worker("b"), max_restarts=0), max_restarts=0))
    play.exit("a")
    assert play.exit("b", NORMAL) == ["failed b", "failed a", "failed inner"]
    assert play.do("resume", "b") == ["spawn a"]
    assert play.ready("a") == ["restarted a", "spawn b"]
    assert play.ready("b") == ["restarted b", "restarted inner"]


def test_escalation_is_abnormal_even_if_the_exits_were_normal(play: Play) -> None:
    """A transient supervisor comes back: using up the restarts is the failure."""
    running(play, supervisor("top", supervisor("inner", worker("a"), max_restarts=0, restart="transient")))
    assert play.exit("a", NORMAL) == ["escalated inner", "restarting inner", "restarting a", "spawn a"]


def test_a_temporary_supervisor_that_escalates_is_gone_with_its_children(play: Play) -> None:
    """The child that failed ends for its own reason, the others because they were stopped."""
    inner = supervisor("inner", worker("a"), worker("b"), max_restarts=0, restart="temporary")
    running(play, supervisor("top", inner))
    assert play.exit("a") == ["escalated inner", "ask b", "ended a"]
    assert play.reasons(Ended) == [("a", CRASH)]
    assert play.exit("b", ExitReason("exit", code=0)) == ["ended b", "ended inner"]
    assert play.reasons(Ended) == [("b", ExitReason("shutdown")), ("inner", CRASH)]


def test_a_supervisor_that_escalates_during_its_first_start_has_failed_to_start(play: Play) -> None:
    """The caller hears the first cause; nothing is left."""
    play.add(supervisor("top", supervisor("inner", worker("a"), worker("b"), max_restarts=0)))
    play.ready("a")
    assert play.exit("a") == ["escalated inner", "ask b", "ended a"]
    assert play.exit("b", NORMAL) == ["ended b", "ended inner", "start failed top", "ended top"]
    assert play.reasons(StartFailed) == [("top", CRASH)]


def test_a_child_that_fails_at_the_top_during_the_first_start_fails_the_start(play: Play) -> None:
    """Otherwise the caller would wait for a readiness that can not come."""
    play.add(supervisor("top", worker("a"), worker("b"), max_restarts=0))
    play.ready("a")
    assert play.exit("a") == ["ask b", "ended a"]
    assert play.exit("b", NORMAL) == ["ended b", "start failed top", "ended top"]


def test_a_child_has_its_own_limit_besides_its_supervisors(play: Play) -> None:
    """Whichever is used up first."""
    running(play, supervisor("top", worker("a", max_restarts=0), worker("b"), max_restarts=9))
    assert play.exit("a") == ["failed a"]
    assert play.exit("b") == ["restarting b", "spawn b"]

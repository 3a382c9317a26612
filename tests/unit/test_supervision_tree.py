"""The tree starts in order, restarts by OTP's rules, stops in reverse, and says so in actions."""

import math

import pytest

from actors.exits import ExitReason
from actors.supervision import Backoff, Policy
from actors.supervision.actions import (
    Ask,
    Ended,
    Escalated,
    Failed,
    Restarting,
    StartFailed,
)
from kit.play import BACKOFF, CRASH, NORMAL, OTHER, Play, running, supervisor, three, worker


@pytest.fixture
def play() -> Play:
    return Play()


# --- starting ---------------------------------------------------------------------------------------------------


def test_children_start_in_order_each_when_the_one_before_is_ready(play: Play) -> None:
    """A supervisor is ready after its last child, and a nested one before its next sibling starts."""
    spec = supervisor("top", supervisor("inner", worker("a"), worker("b")), worker("c"))
    assert play.add(spec) == ["spawn a"]
    assert play.ready("a") == ["ready a", "spawn b"]
    assert play.status("top") == play.status("inner") == "starting"
    assert play.ready("b") == ["ready b", "ready inner", "spawn c"]
    assert play.ready("c") == ["ready c", "ready top"]
    assert play.status("top") == "running"


def test_a_supervisor_without_children_is_ready_at_once(play: Play) -> None:
    """An empty supervisor is a place for children to come."""
    assert play.add(supervisor("top")) == ["ready top"]
    assert play.add(worker("a"), "top") == ["spawn a"]


def test_when_the_third_child_can_not_start_the_first_two_stop_in_reverse(play: Play) -> None:
    """Whoever asked for the start hears why and whose fault it was, after everything is stopped again."""
    play.add(three("one_for_one"))
    play.ready("a")
    play.ready("b")
    assert play.start_failed("c") == ["ended c", "ask b"]
    assert play.exit("b", ExitReason("shutdown")) == ["ended b", "ask a"]
    assert play.exit("a", ExitReason("shutdown")) == ["ended a", "start failed top", "ended top"]
    failure = next(action for action in play.last if isinstance(action, StartFailed))
    assert (failure.reason, failure.cause) == (CRASH, play.uids["c"])
    assert play.tree.children() == ()


def test_a_process_that_dies_before_it_is_ready_has_failed_to_start(play: Play) -> None:
    """Also without a word of its own, and whatever its restart type: nothing is restarted that never ran."""
    assert play.add(worker("a", restart="permanent")) == ["spawn a"]
    assert play.exit("a", ExitReason("exit", code=3)) == ["start failed a", "ended a"]


def test_a_start_that_takes_too_long_is_killed_and_has_failed(play: Play) -> None:
    """SIGKILL at once: a constructor that hangs does not hear a request."""
    play.add(worker("a", start_timeout=7.0))
    assert play.tree.deadline == 107.0
    assert play.after(6.9) == []
    assert play.after(0.1) == ["kill a"]
    assert play.exit("a", ExitReason("signal")) == ["start failed a", "ended a"]
    assert str(play.reasons(StartFailed)[0][1]) == "raised TimeoutError: not ready within 7 s"


def test_readiness_in_time_silences_the_start_timeout(play: Play) -> None:
    """Nothing is left to wait for."""
    running(play, worker("a", start_timeout=7.0))
    assert play.tree.deadline is None


def test_an_added_child_that_can_not_start_leaves_its_siblings_alone(play: Play) -> None:
    """As OTP's start_child: an error for whoever asked, and not counted as a restart."""
    running(play, three("one_for_all", max_restarts=0))
    assert play.add(worker("d"), "top") == ["spawn d"]
    assert play.start_failed("d") == ["start failed d", "ended d"]
    assert play.tree.children(play.uids["top"]) == tuple(play.uids[name] for name in "abc")


def test_nothing_can_be_added_below_what_has_ended_or_failed(play: Play) -> None:
    """The answer is a failed start, since the request may have crossed the end."""
    running(play, worker("a", max_restarts=0))
    play.exit("a")
    assert play.status("a") == "failed"
    assert play.add(worker("b"), "a") == ["start failed b", "ended b"]
    play.tree.stop_all(play.now)
    assert play.add(worker("c")) == ["start failed c", "ended c"]


def test_a_uid_is_not_given_twice(play: Play) -> None:
    """Two nodes under one uid would be two processes under one name."""
    running(play, worker("a"))
    with pytest.raises(ValueError, match="in use by 'a'"):
        play.tree.add(play.uids["a"], 0, "b", "worker", Policy(), play.now)


# --- who is restarted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, ExitReason("exit", code=0), ExitReason("shutdown"), CRASH], ids=str)
def test_otp_table_of_restart_types_and_exits(play: Play, restart: str, reason: ExitReason) -> None:
    """Permanent always, transient after abnormal exits, temporary never; an exit with code 0 is normal."""
    comes_back = restart == "permanent" or (restart == "transient" and reason is CRASH)
    running(play, supervisor("top", worker("a", restart=restart), worker("b")))
    assert play.exit("a", reason) == (["restarting a", "spawn a"] if comes_back else ["ended a"])
    assert play.status("b") == "running"
    assert ("a" in [play.tree.name(uid) for uid in play.tree.children(play.uids["top"])]) == comes_back


@pytest.mark.parametrize("event", ["stop", "kill"])
def test_what_was_stopped_by_hand_does_not_come_back(play: Play, event: str) -> None:
    """However it leaves then: even killed, even permanent."""
    running(play, supervisor("top", worker("a", restart="permanent")))
    play.do(event, "a")
    assert play.exit("a", ExitReason("signal")) == ["ended a"]


def test_one_for_one_restarts_run_independently(play: Play) -> None:
    """A sibling's backoff delays nobody."""
    running(play, three("one_for_one"))
    play.exit("a")
    play.exit("a", CRASH)
    assert play.status("a") == "backoff"
    assert play.exit("b") == ["restarting b", "spawn b"]
    assert play.ready("b") == ["restarted b"]
    assert play.after(1.0) == ["spawn a"]


def test_one_for_all_stops_in_reverse_waits_and_starts_in_order(play: Play) -> None:
    """Each exit is awaited, and so is each readiness."""
    running(play, three("one_for_all"))
    assert play.exit("b") == ["restarting b", "ask c"]
    assert play.exit("c", NORMAL) == ["restarting c", "ask a"]
    assert play.exit("a", NORMAL) == ["restarting a", "spawn a"]
    assert play.ready("a") == ["restarted a", "spawn b"]
    assert play.ready("b") == ["restarted b", "spawn c"]
    assert play.ready("c") == ["restarted c"]
    assert [play.tree.restarts(play.uids[name]) for name in "abc"] == [0, 1, 0]
    assert [play.tree.incarnation(play.uids[name]) for name in "abc"] == [2, 2, 2]


def test_rest_for_one_leaves_the_earlier_siblings_alone(play: Play) -> None:
    """They do not depend on the failed one."""
    running(play, three("rest_for_one"))
    assert play.exit("b") == ["restarting b", "ask c"]
    assert play.exit("c", NORMAL) == ["restarting c", "spawn b"]
    assert play.ready("b") == ["restarted b", "spawn c"]
    assert play.status("a") == "running"


def test_the_group_waits_for_the_backoff_of_the_failed_child(play: Play) -> None:
    """Nobody of the group starts earlier, whoever is first in order."""
    running(play, three("one_for_all"))
    for _ in range(2):
        play.exit("b")
        play.exit("c")
        play.exit("a")
        if play.status("a") == "starting":
            [play.ready(name) for name in "abc"]
    assert play.status("a") == play.status("c") == "backoff"
    assert play.after(0.9) == []
    assert play.after(0.1) == ["spawn a"]


def test_a_second_child_that_dies_meanwhile_is_merged_in(play: Play) -> None:
    """It was to go anyhow: it is awaited no more, and not counted as another failure."""
    running(play, three("one_for_all", max_restarts=1))
    assert play.exit("c") == ["restarting c", "ask b"]
    assert play.exit("a", OTHER) == ["restarting a"]
    assert play.exit("b", NORMAL) == ["restarting b", "spawn a"]


def test_an_earlier_child_that_dies_meanwhile_widens_the_group(play: Play) -> None:
    """rest_for_one: nothing is started before the wider group has stopped."""
    running(play, three("rest_for_one"))
    assert play.exit("b") == ["restarting b", "ask c"]
    assert play.exit("a") == ["restarting a"]
    assert play.exit("c", NORMAL) == ["restarting c", "spawn a"]


def test_a_child_that_can_not_start_again_is_a_crash_of_its_group(play: Play) -> None:
    """It counts, and those already started are stopped again."""
    running(play, three("rest_for_one", max_restarts=2))
    play.exit("a")
    play.exit("c", NORMAL)
    assert play.exit("b", NORMAL) == ["restarting b", "spawn a"]
    assert play.ready("a") == ["restarted a", "spawn b"]
    assert play.start_failed("b", OTHER) == ["restarting b", "spawn b"]
    assert play.start_failed("b", OTHER) == ["failed b", "spawn c"], "two restarts are allowed, this is the third"
    assert play.reasons(Failed) == [("b", OTHER)]


def test_a_group_comes_back_without_the_child_whose_backoff_it_waited_for(play: Play) -> None:
    """That one was stopped by hand meanwhile; the others still know when to start."""
    slow = Backoff(initial=4.0, maximum=4.0, jitter=0.0)
    running(play, supervisor("top", worker("a", backoff=slow), worker("b"), strategy="rest_for_one"))
    play.exit("a")
    play.exit("b", NORMAL)
    play.ready("a", "b")
    play.exit("b")
    play.ready("b")
    play.exit("b")
    assert play.tree.deadline == play.now + 1.0, "b waits for its own backoff"
    play.exit("a")
    assert play.after(1.0) == [], "now for that of a"
    assert play.do("stop", "a") == ["ended a"]
    assert play.after(3.0) == ["spawn b"]


def test_an_alarm_that_was_overtaken_does_not_ring(play: Play) -> None:
    """A sibling's readiness after the end of the backoff, but before `due`, starts the supervisor that waited."""
    inner = supervisor("inner", worker("b"), max_restarts=0)
    running(play, supervisor("top", worker("a"), inner, strategy="rest_for_one", backoff=BACKOFF))
    play.exit("b")
    play.ready("b")
    play.exit("b")
    assert play.status("inner") == "backoff"
    play.do("restart", "a")
    play.exit("a", NORMAL)
    play.now += 1.5
    assert play.ready("a") == ["restarted a", "spawn b"]
    assert play.after(0.0) == []


def test_a_temporary_sibling_that_is_stopped_with_its_group_is_gone(play: Play) -> None:
    """OTP: never restarted, not even when a sibling's death ends it."""
    running(play, supervisor("top", worker("a"), worker("b", restart="temporary"), strategy="one_for_all"))
    assert play.exit("a") == ["restarting a", "ask b"]
    assert play.exit("b", NORMAL) == ["ended b", "spawn a"]


def test_a_temporary_sibling_that_never_ran_keeps_its_place(play: Play) -> None:
    """A failure before its first start does not end what has not begun."""
    play.add(supervisor("top", worker("a"), worker("b"), worker("c", restart="temporary"), strategy="one_for_all"))
    play.ready("a")
    assert play.exit("a") == ["restarting a", "ask b"]
    assert play.exit("b") == ["restarting b", "spawn a"]
    play.ready("a")
    assert play.ready("b") == ["ready b", "spawn c"]


def test_temporary_children_do_not_come_back_with_their_supervisor(play: Play) -> None:
    """However it is restarted; those that never ran start now."""
    inner = supervisor("inner", worker("a"), worker("b", restart="temporary"), max_restarts=0)
    running(play, supervisor("top", inner))
    assert play.exit("a") == ["escalated inner", "restarting inner", "restarting a", "ask b"]
    assert play.exit("b", NORMAL) == ["ended b", "spawn a"]
    assert play.ready("a") == ["restarted a", "restarted inner"]


def test_nobody_starts_below_a_supervisor_that_waits_for_its_turn_to_stop(play: Play) -> None:
    """It would only be stopped again."""
    running(play, supervisor("top", supervisor("inner", worker("a")), worker("b"), worker("c"), strategy="one_for_all"))
    assert play.exit("c") == ["restarting c", "ask b"]
    assert play.exit("a") == ["restarting a"]
    assert play.exit("b", NORMAL) == ["restarting b", "spawn a"]


def test_a_transient_sibling_that_is_stopped_with_its_group_comes_back(play: Play) -> None:
    """Its normal exit was asked for."""
    running(play, supervisor("top", worker("a"), worker("b", restart="transient"), strategy="one_for_all"))
    play.exit("a")
    assert play.exit("b", NORMAL) == ["restarting b", "spawn a"]
    assert play.ready("a") == ["restarted a", "spawn b"]


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


# --- stopping ---------------------------------------------------------------------------------------------------


def test_a_tree_of_three_levels_stops_in_reverse_one_at_a_time(play: Play) -> None:
    """Depth first, each exit awaited: consumers, which start first, stop last."""
    stores = supervisor("stores", worker("a"), supervisor("inner", worker("b"), worker("c")))
    running(play, supervisor("top", stores, worker("d")))
    running(play, worker("e"))
    asked = play.words(play.tree.stop_all(play.now))
    order = []
    while asked != ["all stopped"]:
        assert len([word for word in asked if word.startswith("ask ")]) == 1
        order.append(asked[-1].removeprefix("ask "))
        asked = play.exit(order[-1], NORMAL)
        if asked[-1] == "all stopped":
            break
    assert order == ["e", "d", "c", "b", "a"]
    assert asked == ["ended a", "ended stores", "ended top", "all stopped"]
    assert play.tree.deadline is None


def test_who_does_not_leave_gets_sigterm_then_sigkill(play: Play) -> None:
    """After `shutdown` seconds and a tenth more; at least 50 ms more."""
    running(play, worker("a", shutdown=5.0))
    assert play.do("stop", "a") == ["ask a"]
    assert play.last == [Ask(play.uids["a"], 5.0, final=True)]
    assert play.after(4.9) == []
    assert play.after(0.1) == ["term a"]
    assert play.tree.deadline == pytest.approx(105.5)
    assert play.after(0.5) == ["kill a"]
    assert play.tree.deadline is None
    assert play.exit("a", ExitReason("signal")) == ["ended a"]
    running(play, worker("b", shutdown=0.1))
    play.do("stop", "b")
    play.after(0.1)
    assert play.tree.deadline == pytest.approx(play.now + 0.05)


def test_shutdown_zero_is_sigkill_at_once(play: Play) -> None:
    """OTP's brutal_kill."""
    running(play, worker("a", shutdown=0))
    assert play.do("stop", "a") == ["kill a"]


def test_a_stop_without_limit_has_no_deadline(play: Play) -> None:
    """shutdown=math.inf and drain."""
    running(play, worker("a", shutdown=math.inf))
    running(play, worker("b"))
    play.do("stop", "a")
    assert play.last == [Ask(play.uids["a"], None, final=True)]
    play.do("stop", "b", drain=True)
    assert play.last == [Ask(play.uids["b"], None, final=True)]
    assert play.tree.deadline is None


def test_a_stop_during_a_drain_brings_the_limit_back(play: Play) -> None:
    """Ctrl-C while everything is being handled: the one that is asked now gets its time, the others in their turn."""
    running(play, worker("a"))
    running(play, worker("b"))
    assert play.words(play.tree.stop_all(play.now, drain=True)) == ["ask b"]
    assert play.words(play.tree.stop_all(play.now)) == ["ask b"]
    assert play.last == [Ask(play.uids["b"], 5.0, final=True)]
    assert play.after(5.0) == ["term b"]
    assert play.exit("b") == ["ended b", "ask a"]
    assert play.last[-1] == Ask(play.uids["a"], 5.0, final=True)


def test_a_drain_does_not_wait_for_ever_for_a_start(play: Play) -> None:
    """An actor that is not ready keeps its start timeout; one that becomes ready drains without limit."""
    for name in "ab":
        play.add(worker(name, start_timeout=30.0))
        play.do("stop", name, drain=True)
    assert play.ready("b") == []
    assert play.after(30.0) == ["kill a"]
    assert play.exit("a") == ["start failed a", "ended a"]
    assert play.tree.deadline is None


def test_kill_takes_everything_below_at_once(play: Play) -> None:
    """No order, no time; ended as the kernel reports them."""
    running(play, supervisor("top", worker("a"), supervisor("inner", worker("b"))))
    running(play, worker("c"), "b")
    assert play.do("kill", "top") == ["kill a", "kill b", "kill c"]
    assert play.do("kill", "top") == []
    assert play.exit("a", ExitReason("signal")) == ["ended a"]
    assert play.exit("c", ExitReason("signal")) == ["ended c"]
    assert play.exit("b", ExitReason("signal")) == ["ended b", "ended inner", "ended top"]


def test_kill_all_interrupts_a_graceful_stop(play: Play) -> None:
    """AllStopped comes once, after the last exit."""
    running(play, worker("a"))
    running(play, worker("b"))
    play.tree.stop_all(play.now)
    assert play.words(play.tree.kill_all(play.now)) == ["kill a", "kill b"]
    assert play.exit("a") == ["ended a"]
    assert play.exit("b") == ["ended b", "all stopped"]
    assert play.tree.stop_all(play.now) == play.tree.kill_all(play.now) == []


def test_stop_all_of_nothing_is_done_at_once(play: Play) -> None:
    """There is no exit to wait for."""
    assert play.words(play.tree.stop_all(play.now)) == ["all stopped"]


def test_a_process_that_failed_to_start_is_signalled_if_it_does_not_leave(play: Play) -> None:
    """It has said why and should be gone: not asked, since nobody listens there."""
    play.add(worker("a", shutdown=5.0))
    play.tree.start_failed(play.uids["a"], CRASH, play.now)
    assert play.after(4.9) == []
    assert play.after(0.1) == ["term a"]
    assert play.after(0.5) == ["kill a"]
    assert play.exit("a", ExitReason("signal")) == ["start failed a", "ended a"]
    assert play.reasons(StartFailed) == [("a", CRASH)]


def test_a_supervisor_with_shutdown_zero_is_killed_with_all_below(play: Play) -> None:
    """At once, not at the next alarm."""
    running(play, supervisor("top", worker("a"), worker("b"), shutdown=0))
    assert play.do("stop", "top") == ["kill a", "kill b"]


def test_an_incarnation_starts_with_a_clean_slate(play: Play) -> None:
    """That the last one needed SIGTERM, or SIGKILL by its supervisor, does not cut this one's stop short."""
    running(play, worker("a", shutdown=5.0))
    play.do("restart", "a")
    assert play.after(5.0) == ["term a"]
    play.exit("a")
    play.ready("a")
    assert play.do("stop", "a") == ["ask a"]
    assert play.after(5.0) == ["term a"]
    play.exit("a")
    running(play, supervisor("top", worker("b"), shutdown=2.0))
    play.do("restart", "top")
    assert play.after(2.0) == ["kill b"]
    play.exit("b")
    play.ready("b")
    assert play.do("kill", "top") == ["kill b"]


def test_a_kill_ends_the_wait_of_a_stop(play: Play) -> None:
    """There is nothing more to do than to wait for the kernel."""
    running(play, worker("a"))
    play.do("stop", "a")
    play.do("kill", "a")
    assert play.tree.deadline is None


def test_a_supervisor_with_a_shutdown_limit_kills_what_is_left_of_it(play: Play) -> None:
    """Whatever its children's own limits are."""
    running(play, supervisor("top", worker("a"), worker("b"), shutdown=2.0))
    assert play.do("stop", "top") == ["ask b"]
    assert play.after(2.0) == ["kill a", "kill b"]
    assert play.exit("a") == ["ended a"]
    assert play.exit("b") == ["ended b", "ended top"]


def test_who_dies_before_its_turn_to_stop_has_ended_at_once(play: Play) -> None:
    """Its monitors do not wait for the siblings that are stopped before it."""
    running(play, supervisor("top", worker("a"), worker("b")))
    assert play.do("stop", "top") == ["ask b"]
    assert play.exit("a", CRASH) == ["ended a"]
    assert play.exit("b", NORMAL) == ["ended b", "ended top"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (ExitReason("exit", code=0), ExitReason("shutdown")),
        (ExitReason("exit", code=3), ExitReason("exit", code=3)),
        (NORMAL, NORMAL),
        (CRASH, CRASH),
    ],
)
def test_after_a_stop_the_reason_is_the_kernels_but_code_zero_is_shutdown(
    play: Play, reason: ExitReason, told: ExitReason
) -> None:
    """A process that leaves with 0 after a stop request was shut down; whatever else happened is told."""
    running(play, worker("a"))
    play.do("stop", "a")
    play.exit("a", reason)
    assert play.reasons(Ended) == [("a", told)]


def test_what_is_stopped_in_backoff_was_shut_down(play: Play) -> None:
    """Its last crash is over; it would have come back."""
    running(play, worker("a"))
    play.exit("a")
    play.exit("a")
    play.do("stop", "a")
    assert play.reasons(Ended) == [("a", ExitReason("shutdown"))]


def test_a_stop_in_the_middle_of_a_restart_loop_wins(play: Play) -> None:
    """In backoff it ends at once; while starting it is asked, and its end is not judged."""
    running(play, worker("a"))
    play.exit("a")
    play.exit("a")
    assert play.status("a") == "backoff"
    assert play.do("stop", "a") == ["ended a"]
    assert play.tree.deadline is None
    running(play, worker("b"))
    play.exit("b")
    assert play.do("stop", "b") == ["ask b"]
    assert play.ready("b") == []
    assert play.exit("b", CRASH) == ["ended b"]


def test_a_stop_in_the_middle_of_a_group_restart_wins(play: Play) -> None:
    """What is down is forgotten, in reverse, what is stopping is awaited."""
    running(play, three("one_for_all"))
    play.exit("c")
    assert play.do("stop", "top") == ["ended c"]
    assert play.exit("b", NORMAL) == ["ended b", "ask a"]
    assert play.exit("a", NORMAL) == ["ended a", "ended top"]


def test_a_supervisor_in_backoff_ends_with_all_below_it(play: Play) -> None:
    """None of them has a process to wait for."""
    inner = supervisor("inner", worker("a"), worker("b"), max_restarts=0)
    running(play, supervisor("top", inner, backoff=BACKOFF))
    for _ in range(2):
        play.exit("a")
        play.exit("b")
        play.ready("a")
        play.ready("b")
    assert play.status("inner") == "backoff"
    assert play.do("stop", "top") == ["ended b", "ended a", "ended inner", "ended top"]
    assert play.tree.deadline is None


def test_a_stop_before_the_first_readiness_fails_the_start(play: Play) -> None:
    """Whoever waits for it is answered."""
    play.add(worker("a"))
    play.do("stop", "a")
    assert play.exit("a", ExitReason("exit", code=0)) == ["start failed a", "ended a"]
    assert play.reasons(Ended) == [("a", ExitReason("shutdown"))]


# --- by hand ----------------------------------------------------------------------------------------------------


def test_a_restart_by_hand_is_graceful_and_not_counted(play: Play) -> None:
    """Also where no restart is allowed, and for temporary children; the mail waits for the next incarnation."""
    running(play, supervisor("top", worker("a", restart="temporary"), max_restarts=0))
    assert play.do("restart", "a") == ["ask a"]
    assert play.last == [Ask(play.uids["a"], 5.0, final=False)]
    assert play.exit("a", NORMAL) == ["restarting a", "spawn a"]
    assert play.ready("a") == ["restarted a"]
    assert play.tree.restarts(play.uids["a"]) == 0


def test_a_restart_by_hand_cuts_the_backoff_short(play: Play) -> None:
    """That is what one does after mending the cause."""
    running(play, worker("a"))
    play.exit("a")
    play.exit("a")
    assert play.do("restart", "a") == ["spawn a"]


def test_a_supervisor_restarts_by_hand_as_a_whole(play: Play) -> None:
    """In reverse down and in order up."""
    running(play, supervisor("top", worker("a"), worker("b")))
    assert play.do("restart", "top") == ["ask b"]
    assert play.exit("b", NORMAL) == ["restarting b", "ask a"]
    assert play.exit("a", NORMAL) == ["restarting a", "spawn a"]
    play.ready("a")
    assert play.ready("b") == ["restarted b", "restarted top"]


# --- children of actors -----------------------------------------------------------------------------------------


def test_an_actors_children_end_with_its_incarnation(play: Play) -> None:
    """In reverse, before the next incarnation starts; they are forgotten, since it will start its own."""
    running(play, worker("a"))
    running(play, worker("b"), "a")
    running(play, worker("c"), "a")
    assert play.exit("a") == ["restarting a", "ask c"]
    assert play.exit("c", NORMAL) == ["ended c", "ask b"]
    assert play.exit("b", NORMAL) == ["ended b", "spawn a"]
    assert play.tree.children(play.uids["a"]) == ()


def test_an_actor_that_is_stopped_keeps_its_children_to_its_last_message(play: Play) -> None:
    """They are asked when its process has ended, and restarted until then."""
    running(play, worker("a"))
    running(play, worker("b"), "a")
    assert play.do("stop", "a") == ["ask a"]
    assert play.exit("b") == ["restarting b", "spawn b"]
    assert play.add(worker("c"), "a") == ["spawn c"]
    assert play.ready("b", "c") == ["restarted b", "ready c"]
    assert play.exit("a", NORMAL) == ["ask c"]
    assert play.exit("c", NORMAL) == ["ended c", "ask b"]
    assert play.exit("b", NORMAL) == ["ended b", "ended a"]


def test_an_actors_child_has_restart_options_of_its_own(play: Play) -> None:
    """Its failure does not touch the parent."""
    running(play, worker("a"))
    running(play, worker("b", max_restarts=1), "a")
    assert play.exit("b") == ["restarting b", "spawn b"]
    assert play.exit("b") == ["failed b"]
    assert play.status("a") == "running"


def test_an_actor_in_a_tree_does_not_escalate_for_its_child(play: Play) -> None:
    """Nor does it while its own start is waited for: only the child has failed."""
    play.add(supervisor("top", worker("a")))
    running(play, worker("b", max_restarts=0), "a")
    assert play.exit("b") == ["failed b"]
    assert play.ready("a") == ["ready a", "ready top"]
    running(play, worker("c", max_restarts=0), "a")
    assert play.exit("c") == ["failed c"]


def test_a_killed_actor_takes_no_more_children(play: Play) -> None:
    """They could only be killed as well."""
    running(play, worker("a"))
    play.do("kill", "a")
    assert play.add(worker("b"), "a") == ["start failed b", "ended b"]


def test_a_supervisor_below_an_actor_does_not_escalate_to_it(play: Play) -> None:
    """An actor has no strategy for its children."""
    running(play, worker("a"))
    running(play, supervisor("inner", worker("b"), max_restarts=0), "a")
    assert play.exit("b") == ["failed b"]
    assert play.status("inner") == play.status("a") == "running"


def test_children_started_before_readiness_end_with_a_failed_start(play: Play) -> None:
    """`on_start` may spawn; if it raises after that, nothing is left."""
    play.add(worker("a"))
    running(play, worker("b"), "a")
    assert play.start_failed("a") == ["ask b"]
    assert play.exit("b", NORMAL) == ["ended b", "start failed a", "ended a"]


# --- crossings --------------------------------------------------------------------------------------------------


def test_events_about_older_incarnations_and_unknown_uids_are_ignored(play: Play) -> None:
    """They crossed the end of what they speak of."""
    running(play, worker("a"))
    uid = play.uids["a"]
    play.exit("a")
    assert play.tree.ready(uid, play.now, incarnation=1) == []
    assert play.tree.exited(uid, CRASH, play.now, incarnation=1) == []
    assert play.status("a") == "starting"
    for event in ("stop", "kill", "restart", "resume", "remove", "start", "ready"):
        assert getattr(play.tree, event)(99, play.now) == []
    assert play.tree.exited(99, CRASH, play.now) == play.tree.start_failed(99, CRASH, play.now) == []


def test_a_child_added_while_its_supervisor_restarts_starts_with_it(play: Play) -> None:
    """In its place, after the others, and its caller is answered then."""
    running(play, supervisor("top", supervisor("inner", worker("a"), worker("b"), max_restarts=0)))
    play.exit("b")
    assert play.status("inner") == "stopping"
    assert play.add(worker("c"), "inner") == []
    assert play.exit("a", NORMAL) == ["restarting a", "spawn a"]
    play.ready("a")
    assert play.ready("b") == ["restarted b", "spawn c"]
    assert play.ready("c") == ["ready c", "restarted inner"]


def test_a_start_that_was_asked_for_fails_with_its_supervisor(play: Play) -> None:
    """Whoever waits for it is answered: it is not kept for a resume, like those that ran before."""
    running(play, supervisor("top", supervisor("inner", worker("a"), max_restarts=0), max_restarts=1))
    play.exit("a")
    assert play.add(worker("b"), "inner") == []
    assert play.start_failed("a") == ["escalated inner", "start failed b", "ended b", "failed a", "failed inner"]


def test_many_children_in_backoff_end_in_one_event(play: Play) -> None:
    """Without recursion: five thousand ends in a row."""
    for number in range(5000):
        running(play, worker(f"w{number}", max_restarts=0))
        play.exit(f"w{number}")
    words = play.words(play.tree.stop_all(play.now))
    assert words == [f"ended w{number}" for number in reversed(range(5000))] + ["all stopped"]

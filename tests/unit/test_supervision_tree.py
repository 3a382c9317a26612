"""The tree starts in order, restarts by OTP's rules, and says so in actions."""

import pytest

from actors.exits import ExitReason
from actors.supervision import Backoff, Policy
from actors.supervision.actions import Ask, Failed, StartFailed
from kit.play import BACKOFF, CRASH, NORMAL, OTHER, Play, running, supervisor, three, worker

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

"""The tree stops in reverse, one at a time, with OTP's patience, and a stop wins over a restart."""

import math

import pytest

from actors.exits import ExitReason
from actors.supervision.actions import Ask, Ended, StartFailed
from kit.play import BACKOFF, CRASH, NORMAL, Play, running, supervisor, three, worker

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

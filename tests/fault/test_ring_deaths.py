"""Senders and consumers of a ring die by SIGKILL anywhere: records stay whole, none is lost, nobody else stalls. In both
rings: C's, and Python's."""

import random

import pytest

from kit.drivers import Run, scenarios, wrong


@pytest.fixture
def run(ring: str, rng: random.Random) -> Run:
    return scenarios("ring_driver.py", ring, rng)


@pytest.mark.parametrize(
    "point", [1, 2, 3, 4], ids=["after the lock", "mid-copy", "copied, not published", "published, locked"]
)
def test_a_sender_that_dies_inside_the_lock_leaves_what_it_published_and_the_next_one_goes_on(
    run: Run, point: int
) -> None:
    assert wrong(run("producer_dies_at", point), "records") == {}


@pytest.mark.parametrize("point", [5, 6], ids=["before the bell", "bell taken on, not struck"])
def test_a_bell_that_a_dead_sender_owed_is_known_and_rung_by_the_guardian(run: Run, point: int) -> None:
    assert wrong(run("bell_is_owed", point), "records") == {}


def test_hundreds_of_deaths_of_senders_tear_lose_disorder_and_stall_nothing(run: Run, ring: str) -> None:
    """Six hundred; of the ring in Python so many a night (below)."""
    senders_die(run, 8 if ring == "python" else 50)


@pytest.mark.nightly
def test_six_hundred_deaths_of_senders_do_no_harm(run: Run) -> None:
    senders_die(run, 50)


def senders_die(run: Run, share: int) -> None:
    findings = run("producers_die", share)
    assert wrong(findings, "records", "deaths", "recovered") == {}
    assert findings["deaths"] == 12 * share
    assert findings["recovered"] >= 4 * share, "every death at points 1 to 4 left the lock behind"


def test_hundreds_of_deaths_of_consumers_lose_nothing_and_what_was_in_hand_is_known(run: Run, ring: str) -> None:
    """Two hundred; of the ring in Python so many a night (below)."""
    consumers_die(run, 5 if ring == "python" else 25)


@pytest.mark.nightly
def test_two_hundred_deaths_of_consumers_do_no_harm(run: Run) -> None:
    consumers_die(run, 25)


def consumers_die(run: Run, share: int) -> None:
    findings = run("consumers_die", share)
    assert wrong(findings, "handled", "in hand") == {}
    assert findings["handled"] > 40 * share
    assert findings["in hand"] > 0


def test_the_depth_is_exact_after_deaths_between_a_fact_and_its_count(run: Run) -> None:
    assert wrong(run("counts_are_exact")) == {}


def test_a_sender_stopped_inside_the_lock_is_named_holds_up_no_owner_and_is_waited_for(run: Run) -> None:
    assert run("owner_is_stopped") == {
        "said": True,
        "answer": True,
        "owner": True,
        "cancelled": False,
        "taken": None,
        "quiet while it stands": False,
        "exit": 0,
        "quiet after it": True,
        "swept": 1,
    }


def test_the_death_of_a_stopped_sender_frees_those_that_wait_for_the_lock(run: Run) -> None:
    assert run("stopped_owner_is_killed") == {
        "owner": -9,
        "waiters": [0, 0],
        "records": [[2, 1], [3, 1]],
        "recovered": 1,
    }

"""Consumers and producers of a shared mailbox die by SIGKILL at every marked instruction: nothing is lost, repeated
without a word, miscounted or stuck. In both rings: C's, and Python's.
"""

import random

import pytest

from kit.drivers import Run, scenarios, wrong

TAKER = {
    10: "lock held",
    11: "about to take",
    12: "taken, not counted",
    13: "taken, locked",
    14: "in hand",
    15: "about to end",
    16: "ended, not counted",
    17: "head not moved",
    18: "ended, locked",
    19: "about to give back",
    20: "given back, not counted",
    21: "given back, locked",
    22: "nobody woken yet",
}


@pytest.fixture
def run_box(ring: str, rng: random.Random) -> Run:
    return scenarios("box_driver.py", ring, rng)


@pytest.mark.parametrize("point", TAKER, ids=TAKER.values())
def test_a_consumer_that_dies_at_any_point_leaves_its_message_in_place_and_the_counts_exact(
    run_box: Run, point: int
) -> None:
    assert wrong(run_box("taker_dies_at", point)) == {}


def test_room_that_the_last_consumer_has_made_at_its_death_is_found_by_a_producer_alone(run_box: Run) -> None:
    assert wrong(run_box("head_is_left")) == {}


@pytest.mark.parametrize("point", [1, 2, 3, 4, 5, 22])
def test_a_producer_that_dies_at_any_point_leaves_what_it_published_and_consumers_hear_of_it(
    run_box: Run, point: int
) -> None:
    assert wrong(run_box("producer_dies_at", point)) == {}


def test_a_hundred_deaths_of_consumers_and_producers_lose_nothing_and_what_comes_again_says_so(
    run_box: Run, ring: str
) -> None:
    """Of the ring in Python thirty, and two thousand a night, as of the other."""
    findings = run_box("many_die", 30 if ring == "python" else 100)
    assert wrong(findings, "handled", "redelivered") == {}
    assert findings["handled"] > 1000
    assert findings["redelivered"] > 0


@pytest.mark.nightly
def test_two_thousand_deaths_of_consumers_and_producers_lose_nothing(run_box: Run) -> None:
    assert wrong(run_box("many_die", 2000), "handled", "redelivered") == {}


def test_a_consumer_stopped_inside_the_lock_is_named_holds_up_no_owner_and_no_producer(run_box: Run) -> None:
    assert run_box("keeper_is_stopped") == {
        "said": True,
        "keeper": True,
        "put": True,
        "reclaimed": 0,
        "waits": 3,
        "exit": 0,
        "next": 1,
    }


def test_a_mailbox_that_is_emptied_while_a_producer_looks_whether_it_is_full_has_room(run_box: Run) -> None:
    assert run_box("room_is_made_meanwhile") == {"first": 0, "exit": 0, "second": 1}


def test_a_take_block_that_a_death_kept_from_ending_counts_as_finished_for_nobody(run_box: Run) -> None:
    assert wrong(run_box("begun_end_is_over")) == {}


def test_a_message_taken_back_from_a_process_before_it_was_handed_over_goes_to_another_alone(run_box: Run) -> None:
    assert run_box("taken_back_meanwhile") == {"reclaimed": 1, "exit": 0, "tries": 1}


def test_a_handler_that_raises_before_a_message_was_handed_over_leaves_it_to_the_next_get(run_box: Run) -> None:
    assert run_box("interrupted_at_the_end") == {"raised": 1, "exits": [0, 0], "back": [0, 1]}

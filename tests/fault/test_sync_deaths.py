"""Processes die by SIGKILL at every step of taking, waiting for and giving back: what they held is free again, exactly
that, and nobody waits for ever.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kit.drivers import Run, scenarios

KINDS = pytest.mark.parametrize("kind", [1, 2], ids=["lock", "semaphore"])
CHANGE = ["intent written", "other helped", "word changed", "account settled"]


@pytest.fixture
def run(extension: Path, rng: random.Random) -> Run:
    return scenarios("sync_driver.py", str(extension), rng)


@KINDS
@pytest.mark.parametrize("point", [1, 2, 3, 4], ids=CHANGE)
def test_a_permit_that_was_being_taken_at_a_death_is_there_again(run: Run, kind: int, point: int) -> None:
    held = int(point > 2)
    assert run("dies_taking", kind, point) == {
        "killed": True,
        "held": held,
        "taken": True,
        "told": True,
        "grown": True,
        "count": 0,
    }


@KINDS
@pytest.mark.parametrize("point", [1, 2, 3, 4, 7], ids=[*CHANGE, "nobody woken yet"])
def test_a_permit_that_was_being_given_back_at_a_death_goes_to_who_waits(run: Run, kind: int, point: int) -> None:
    assert run("dies_giving", kind, point) == {"killed": True, "slept": True, "taken": True, "left": 1, "count": 1}


@KINDS
@pytest.mark.parametrize("point", [5, 6], ids=["about to sleep", "woken"])
def test_a_waiter_that_dies_takes_nobodys_wake_up_with_it(run: Run, kind: int, point: int) -> None:
    assert run("dies_sleeping", kind, point) == {"killed": True, "held": 0, "taken": True, "left": 1}


def test_what_a_dead_process_held_is_known_after_others_have_changed_the_word(run: Run) -> None:
    assert run("overwritten") == {"before": 1, "held": 2, "count": 3}


def test_a_bounded_semaphore_is_never_above_its_bound_whoever_releases_at_the_same_time(run: Run) -> None:
    assert run("released_by_two") == {"refused": True, "count": 1}


@pytest.mark.parametrize(("kind", "n"), [(1, 1), (2, 3)], ids=["lock", "semaphore"])
def test_never_two_holders_tokens_grow_and_no_permit_is_lost_in_two_hundred_deaths(run: Run, kind: int, n: int) -> None:
    findings = run("deaths", kind, n, 200)
    assert (findings["violations"], findings["missing"]) == (0, 0)
    assert findings["held"] > 5
    assert findings["deaths"] >= 200


def test_eight_contenders_hand_a_lock_over_without_a_lost_wake_up_and_none_starves(run: Run) -> None:
    findings = run("handovers", 100_000)
    assert (findings["stuck"], findings["count"]) == (0, 1)
    assert findings["least"] > 100_000 / 8 / 4, "each has at least a quarter of its share"
    assert findings["acquired"] < 150_000, "whoever gives it back does not take it again while others wait"


@pytest.mark.parametrize("point", [0, 1, 2, 3, 4, 5], ids=["asleep", *CHANGE, "about to sleep"])
def test_a_barrier_is_broken_by_the_death_of_a_process_that_had_arrived(run: Run, point: int) -> None:
    arrived = int(point not in (1, 2))
    ends = [7] if arrived else [0, 0, 0]
    findings = run("barrier_dies", point)
    assert findings == {"killed": True, "waiting": True, "arrived": arrived, "held": arrived, "ends": ends}


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "n"), [(1, 1), (2, 3), (2, 7)])
def test_five_thousand_deaths(run: Run, kind: int, n: int) -> None:
    findings = run("deaths", kind, n, 5000)
    assert (findings["violations"], findings["missing"]) == (0, 0)

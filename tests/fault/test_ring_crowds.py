"""Many senders at one ring: one of them dies in the middle of the others, its heirs die, all of them send at once."""

import random
from pathlib import Path

import pytest

from kit.drivers import Run, scenarios, wrong


@pytest.fixture
def run(extension: Path, rng: random.Random) -> Run:
    return scenarios("crowd_driver.py", str(extension), rng)


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("blocked", [1, 2, 8])
def test_whoever_waits_for_the_lock_of_one_that_is_killed_inherits_it(run: Run, blocked: int, rounds: int) -> None:
    assert wrong(run("heirs", blocked, rounds)) == {}


@pytest.mark.parametrize("deaths", [20, pytest.param(500, marks=pytest.mark.nightly)])
def test_the_heir_of_a_dead_senders_lock_may_die_while_it_cleans_up(run: Run, deaths: int) -> None:
    assert wrong(run("heirs_die", deaths), "records") == {}


@pytest.mark.parametrize("rounds", [50_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_no_wake_up_is_lost_between_the_last_look_and_the_wait(run: Run, rounds: int) -> None:
    assert wrong(run("wake_ups", rounds), "slowest") == {}


@pytest.mark.parametrize("each", [20_000, pytest.param(100_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("senders", [1, 2, 8, 32])
def test_senders_that_overload_a_ring_keep_their_order_and_none_starves(run: Run, senders: int, each: int) -> None:
    """None starves: each has sent something when the first one has sent all."""
    findings = run("crowd", senders, each)
    assert wrong(findings, "records", "least when the first had sent all") == {}
    assert findings["least when the first had sent all"] > 0

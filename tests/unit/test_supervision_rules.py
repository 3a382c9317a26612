"""Strategy, intensity, backoff, policy and alarms: the pure rules, each by itself."""

import math
from random import Random
from typing import Any

import pytest

from actors.errors import SpecError
from actors.supervision import Backoff, Intensity, Policy
from actors.supervision.strategy import Strategy, affected
from actors.supervision.timers import Timers


@pytest.mark.parametrize(
    ("strategy", "failed", "expected"),
    [
        ("one_for_one", 2, (2,)),
        ("one_for_all", 2, (1, 2, 3)),
        ("rest_for_one", 1, (1, 2, 3)),
        ("rest_for_one", 2, (2, 3)),
        ("rest_for_one", 3, (3,)),
    ],
)
def test_a_strategy_says_who_is_restarted_in_start_order(
    strategy: Strategy, failed: int, expected: tuple[int, ...]
) -> None:
    """The failed child is always among them."""
    assert affected(strategy, [1, 2, 3], failed) == expected


def test_intensity_allows_its_limit_and_no_more() -> None:
    """Three restarts at one moment are allowed, the fourth is not."""
    times: tuple[float, ...] = ()
    allowed = []
    for _ in range(4):
        times, ok = Intensity(3, 5.0).add(times, 10.0)
        allowed.append(ok)
    assert allowed == [True, True, True, False]


def test_a_restart_counts_up_to_exactly_within_seconds() -> None:
    """OTP: now <= then + period; a millisecond later it is forgotten."""
    assert Intensity(1, 5.0).add((10.0,), 15.0) == ((15.0, 10.0), False)
    assert Intensity(1, 5.0).add((10.0,), 15.001) == ((15.001,), True)


def test_intensity_without_limit_keeps_no_record() -> None:
    """A crash loop must not grow a list."""
    assert Intensity(None, 5.0).add((1.0, 2.0), 3.0) == ((), True)


def test_the_first_delay_is_zero_and_the_others_stay_within_jitter() -> None:
    """0.01, 0.02, 0.04 ... up to 5 s, each 20 % up or down, whatever the attempt."""
    backoff, random = Backoff(), Random(7)
    assert backoff.delay(0, random) == 0.0
    for attempt in [*range(1, 30), 10**9]:
        middle = min(5.0, 0.01 * 2 ** min(attempt - 1, 100))
        delays = [backoff.delay(attempt, random) for _ in range(200)]
        assert middle * 0.8 <= min(delays) < middle < max(delays) <= middle * 1.2


def test_backoff_of_zero_stays_zero() -> None:
    """Backoff(0, 0) is OTP's immediate restart."""
    assert Backoff(0.0, 0.0).delay(50, Random(1)) == 0.0


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("initial", {"initial": -1}),
        ("initial", {"initial": 6.0}),
        ("maximum", {"maximum": math.inf}),
        ("factor", {"factor": 0.5}),
        ("jitter", {"jitter": 1.5}),
        ("stable", {"stable": math.nan}),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused_by_name(field: str, options: dict[str, Any]) -> None:
    """Where it is written, not at the first crash."""
    with pytest.raises(SpecError, match=field):
        Backoff(**options)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("restart", "always"),
        ("shutdown", -1),
        ("shutdown", None),
        ("shutdown", math.nan),
        ("max_restarts", -1),
        ("max_restarts", 1.5),
        ("max_restarts", True),
        ("within", 0),
        ("backoff", 1.0),
        ("start_timeout", 0),
        ("start_timeout", "30"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(field: str, value: object) -> None:
    """The error names the field and the value."""
    options: dict[str, Any] = {field: value}
    with pytest.raises(SpecError, match=rf"{field} must be .* not {value!r}"):
        Policy(**options)


def test_a_policy_travels_whole() -> None:
    """As plain types, infinite times included."""
    policy = Policy("transient", math.inf, 3, 2.5, Backoff(jitter=0.0), 7.0, True)
    wire = policy.to_wire()
    assert Policy.from_wire(wire) == policy
    assert wire["backoff"] == {"initial": 0.01, "maximum": 5.0, "factor": 2.0, "jitter": 0.0, "stable": 10.0}
    assert Policy.from_wire(Policy().to_wire()) == Policy()


def test_an_alarm_rings_once_at_its_last_time() -> None:
    """Setting it anew replaces it, cancelling silences it, infinity never rings."""
    timers = Timers()
    timers.set(1, 10.0)
    timers.set(1, 20.0)
    timers.set(2, 15.0)
    timers.set(3, 12.0)
    timers.cancel(3)
    timers.set(4, 11.0)
    timers.set(4, math.inf)
    assert timers.next == 15.0
    assert timers.take(14.9) == []
    assert timers.take(20.0) == [2, 1]
    assert timers.next is None
    assert 1 not in timers

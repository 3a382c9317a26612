"""What a run's samples come to: medians, spread, ratios within a round, verdicts."""

from __future__ import annotations

import pytest

from actors.bench.figures import CASE, CASES, FIGURE, TARGETS
from actors.bench.runner import Results, select
from actors.bench.table import as_data, line, render, verdicts


def results(**samples: list[float | None]) -> Results:
    measured = Results(rounds=3)
    measured.samples = {name.replace("_", "."): values for name, values in samples.items()}
    return measured


def test_a_line_is_median_and_spread_in_the_figures_unit() -> None:
    """Seconds become microseconds; the median is the middle round, not the mean."""
    measured = line(results(ask_actors=[4e-6, 3e-6, 50e-6]), CASE["ask.actors"])
    assert measured
    assert (measured.median, measured.least, measured.most) == pytest.approx((4.0, 3.0, 50.0))


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that is slow in one round is slow for both sides of it: 10, 10, 10, although the medians say 20."""
    measured = line(results(ask_actors=[1e-6, 2e-6, 8e-6], ask_pipe=[10e-6, 20e-6, 80e-6]), CASE["ask.actors"])
    assert measured
    assert measured.ratio == pytest.approx(10.0)


def test_more_messages_are_a_better_ratio() -> None:
    """Where more is better, twice as many are 2.0, too."""
    measured = line(results(tell_actors=[800e3], tell_queue=[400e3]), CASE["tell.actors"])
    assert measured
    assert measured.ratio == pytest.approx(2.0)


def test_a_failed_round_is_left_out_of_both_sides() -> None:
    """None in a round: the other rounds still count."""
    measured = line(results(ask_actors=[1e-6, None, 2e-6], ask_pipe=[10e-6, 10e-6, None]), CASE["ask.actors"])
    assert measured
    assert measured.ratio == pytest.approx(10.0)


@pytest.mark.parametrize(("ratio", "slack", "met"), [(5.0, 1, True), (4.9, 1, False), (2.5, 2, True), (2.4, 2, False)])
def test_a_ratio_target_is_met_at_its_value_or_at_half_of_it_with_slack(ratio: float, slack: float, met: bool) -> None:
    """ask must be five times as good as Pipe, 2.5 times at half the margin."""
    [verdict] = verdicts(results(ask_actors=[1e-6], ask_pipe=[ratio * 1e-6]), slack)
    assert verdict.met is met, str(verdict)


@pytest.mark.parametrize(("megabytes", "slack", "met"), [(5.9, 1, True), (6.1, 1, False), (11.9, 2, True)])
def test_a_limit_is_met_below_it_or_below_twice_of_it_with_slack(megabytes: float, slack: float, met: bool) -> None:
    """6 MB an actor, 12 at half the margin."""
    [verdict] = verdicts(results(memory_actors=[megabytes * 1e6]), slack)
    assert verdict.met is met, str(verdict)


def test_what_is_not_installed_has_a_line_that_says_so() -> None:
    """A missing peer is neither an error nor silence."""
    measured = results(ask_pipe=[30e-6])
    measured.missing["ask.ray"] = "not installed"
    assert [row.split() for row in render(measured).splitlines() if "Ray" in row] == [["Ray", "not", "installed"]]


def test_the_data_form_holds_the_samples_and_the_verdicts() -> None:
    """For programs: unrounded samples by case, and each target with what was measured."""
    data = as_data(results(ask_actors=[1e-6], ask_pipe=[10e-6]))
    assert data["samples"] == {"ask.actors": [1e-6], "ask.pipe": [10e-6]}
    assert data["targets"] == [
        {"case": "ask.actors", "ratio": 5.0, "limit": None, "measured": pytest.approx(10.0), "met": True}
    ]


def test_selecting_a_case_selects_the_reference_of_its_ratio() -> None:
    """`--only spawn.actors` measures multiprocessing's start, too."""
    assert [case.name for case in select(["spawn.actors"])] == ["spawn.actors", "spawn.process"]


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    """A typing error must not measure nothing in silence."""
    with pytest.raises(ValueError, match="no benchmark matches 'aks'"):
        select(["aks"])


def test_every_target_and_reference_is_a_case_and_every_case_has_a_figure() -> None:
    """The tables of figures.py fit together."""
    assert {target.case for target in TARGETS} <= CASE.keys()
    assert {figure.reference for figure in FIGURE.values()} - {None} <= CASE.keys()
    assert {case.figure for case in CASES} == FIGURE.keys()

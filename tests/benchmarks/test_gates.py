"""The targets hold by half their margin: one run of all cases that have a target, and their references, judged one by
one.
"""

from __future__ import annotations

import pytest

from actors.bench.figures import TARGETS, Target
from actors.bench.runner import Results, run, select
from actors.bench.table import render, verdicts

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]
ROUNDS = 3


@pytest.fixture(scope="module")
def results() -> Results:
    """The measurements. Shown whole, so that a log keeps the figures of the day."""
    measured = run(select([target.case for target in TARGETS]), ROUNDS)
    print(render(measured))
    return measured


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.case)
def test_a_target_holds_by_half_its_margin(target: Target, results: Results) -> None:
    """The measured ratio is at least half of what is aimed at, a measured amount at most twice."""
    assert target.case not in results.missing, f"{target.case}: {results.missing[target.case]}"
    [verdict] = [verdict for verdict in verdicts(results, slack=2.0) if verdict.target == target]
    assert verdict.met, str(verdict)

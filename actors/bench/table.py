"""Medians, spread, ratios and verdicts of a run, as text for people and as data for programs.

Rule: ratios are "times better than the reference", so that more is always better, and are taken within a round; the
median of the rounds is shown. A target is met or missed at its full value here; the gate of the tests asks for half the
margin (`slack=2`), since a shared machine may be twice as slow on one side.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .figures import CASE, CASES, FIGURE, FIGURES, TARGETS, Case, Figure, Target
from .runner import Results

WIDTH = 52


@dataclass(frozen=True, slots=True)
class Line:
    """One case's measurement in its figure's unit."""

    case: Case
    median: float
    least: float
    most: float
    ratio: float | None  # times better than the reference


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured against it."""

    target: Target
    measured: float
    met: bool

    def __str__(self) -> str:
        figure = FIGURE[CASE[self.target.case].figure]
        name = self.target.case
        if self.target.ratio is not None:
            assert figure.reference
            wanted = f"at least {self.target.ratio:.2g} times as good as {CASE[figure.reference].label}"
            got = f"{self.measured:.2f} times"
        else:
            wanted = f"at most {self.target.limit:g} {figure.unit}"
            got = f"{number(self.measured)} {figure.unit}"
        return f"{'met   ' if self.met else 'MISSED'}  {name:<16}{wanted}: {got}"


def line(results: Results, case: Case) -> Line | None:
    """What a case's samples come to; None when it was not measured."""
    samples = [sample for sample in results.samples.get(case.name, []) if sample is not None]
    if not samples:
        return None
    figure = FIGURE[case.figure]
    values = [sample * figure.scale for sample in samples]
    return Line(case, statistics.median(values), min(values), max(values), _ratio(results, case, figure))


def _ratio(results: Results, case: Case, figure: Figure) -> float | None:
    if figure.reference is None:
        return None
    pairs = zip(results.samples.get(case.name, []), results.samples.get(figure.reference, []), strict=False)
    ratios = [ours / theirs if figure.more_is_better else theirs / ours for ours, theirs in pairs if ours and theirs]
    return statistics.median(ratios) if ratios else None


def verdicts(results: Results, slack: float = 1.0) -> list[Verdict]:
    """Every target whose case was measured. `slack` 2 asks for half of a ratio and allows twice a limit."""
    found: list[Verdict] = []
    for target in TARGETS:
        measured = line(results, CASE[target.case])
        if measured is None:
            continue
        if target.ratio is not None:
            if measured.ratio is not None:
                found.append(Verdict(target, measured.ratio, measured.ratio * slack >= target.ratio))
        elif target.limit is not None:
            found.append(Verdict(target, measured.median, measured.median <= target.limit * slack))
    return found


def render(results: Results) -> str:
    """The whole table and the verdicts."""
    head = f"{machine()}; meanwhile others used {busy_elsewhere(results):.2f} cores"
    return "\n".join([head, *_figures(results), "", "targets", *(f"  {verdict}" for verdict in verdicts(results))])


def _figures(results: Results) -> Iterator[str]:
    for figure in FIGURES:
        cases = [case for case in CASES if case.figure == figure.name]
        if not any(case.name in results.samples or case.name in results.missing for case in cases):
            continue
        reference = f"times better than {CASE[figure.reference].label}" if figure.reference else ""
        yield f"\n{figure.title}\n  {'':<{WIDTH}}{figure.unit:>12}  {'min .. max':^21}  {reference}".rstrip()
        for case in cases:
            if case.name in results.missing:
                yield f"  {case.label:<{WIDTH}}{results.missing[case.name]}"
            elif measured := line(results, case):
                spread = f"{number(measured.least)} .. {number(measured.most)}"
                ratio = "" if measured.ratio is None else f"{measured.ratio:.2f}"
                yield f"  {case.label:<{WIDTH}}{number(measured.median):>12}  {spread:^21}  {ratio}".rstrip()


def as_data(results: Results) -> dict[str, object]:
    """The same for programs: samples in seconds, messages a second, bytes and cores."""
    return {
        "machine": machine(),
        "rounds": results.rounds,
        "elsewhere": results.elsewhere,
        "samples": results.samples,
        "missing": results.missing,
        "ratios": {name: _ratio(results, CASE[name], FIGURE[CASE[name].figure]) for name in results.samples},
        "targets": [
            {**dataclasses.asdict(verdict.target), "measured": verdict.measured, "met": verdict.met}
            for verdict in verdicts(results)
        ],
    }


def busy_elsewhere(results: Results) -> float:
    """Cores that others used, at the median measurement."""
    return statistics.median(results.elsewhere) if results.elsewhere else 0.0


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def machine() -> str:
    """What was measured on, in one line."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.partition(":")[2].strip() for row in cpuinfo if row.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"

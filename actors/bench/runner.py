"""Rounds of fresh programs: which cases can run here, and what each of them measured in each round."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from .figures import CASE, CASES, FIGURE, PYTHON, Case
from .floor import compiler
from .usage import Elsewhere

TIMEOUT = 120.0


@dataclass(slots=True)
class Results:
    """What was measured: a number a round for each case (None: it failed in that round), and why others were not.

    elsewhere: cores that other processes used during each measurement; on a machine of few cores it explains bad figures.
    """

    rounds: int
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    elsewhere: list[float] = field(default_factory=list)


def select(patterns: Sequence[str] = ()) -> list[Case]:
    """The cases that match a pattern ("ask", "ask.*", "*.actors"; none: all) and the references that their ratios need.

    Raises: ValueError when a pattern matches nothing.
    """
    names: set[str] = set()
    for pattern in patterns or ["*"]:
        found = {case.name for case in CASES if fnmatch.fnmatch(case.name, pattern) or case.figure == pattern}
        if not found:
            raise ValueError(f"no benchmark matches {pattern!r}; there are {', '.join(case.name for case in CASES)}")
        names |= found
    names |= {reference for name in names if (reference := FIGURE[CASE[name].figure].reference)}
    return [case for case in CASES if case.name in names]


def run(cases: Sequence[Case], rounds: int, progress: Callable[[str], None] = lambda text: None) -> Results:
    """Measure each case once a round, all cases in turn. `progress` is told what is measured now."""
    results = Results(rounds)
    for case in cases:
        if lack := _lack(case):
            results.missing[case.name] = lack
    for number in range(1, rounds + 1):
        for case in cases:
            if case.name not in results.missing:
                progress(f"round {number} of {rounds}: {case.name}")
                others = Elsewhere()
                results.samples.setdefault(case.name, []).append(_measure(case, results))
                results.elsewhere.append(others.cores())
    for name in [name for name, samples in results.samples.items() if all(sample is None for sample in samples)]:
        del results.samples[name]
    return results


def _lack(case: Case) -> str | None:
    """Why a case can't run here."""
    if case.needs == "cc":
        return None if compiler() else "no C compiler"
    return None if case.needs is None or find_spec(case.needs) else "not installed"


def _measure(case: Case, results: Results) -> float | None:
    if case.module == PYTHON:  # as a script: see the head of peers/python.py
        command = [sys.executable, "-P", str(Path(__file__).with_name("peers") / "python.py"), case.name]
    else:
        command = [sys.executable, "-m", case.module, case.name]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    if case.transport:
        environment["ACTORS_TRANSPORT"] = case.transport
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    except subprocess.TimeoutExpired:
        results.missing[case.name] = f"no result within {TIMEOUT:.0f} s"
        return None
    try:
        return float(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        results.missing[case.name] = f"failed with code {done.returncode}: {reason}"
        return None

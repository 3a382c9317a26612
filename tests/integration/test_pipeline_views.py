"""What a pipeline shows of itself: profile, picture, progress; and what it holds of memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pty
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from actors import ActorSystem
from actors.errors import SpecError
from actors.pipeline import Pipeline, Stage
from kit import Resources, descendants, until
from kit.program import Program


def quick(number: int) -> int:
    return number


def slow(number: int) -> int:
    time.sleep(0.005)
    return number


def test_the_profile_names_what_the_others_wait_for(system: ActorSystem) -> None:
    pipeline = Pipeline(quick, Stage(slow, workers=2), Stage(quick, name="last"))
    run = pipeline.run(range(150), system=system)
    assert list(run) == list(range(150))
    profile = pipeline.profile()
    assert profile.bottleneck == "slow"
    assert [(share.name, share.items, share.results) for share in profile.stages] == [
        ("quick", 150, 150), ("slow", 150, 150), ("last", 150, 150),
    ]  # fmt: skip
    assert profile.stages[1].busy >= 150 * 0.005
    data = profile.as_data()
    assert data["bottleneck"] == "slow" and data["stages"][1]["workers"] == 2
    assert "bottleneck: slow" in profile.table()


def test_a_slow_consumer_is_named(system: ActorSystem) -> None:
    run = Pipeline(quick).run(range(30), system=system)
    for _ in run:
        time.sleep(0.01)
    assert run.profile().bottleneck == "consumer"


def test_a_profile_is_saved_as_a_picture(system: ActorSystem, tmp_path: Path) -> None:
    """Well-formed SVG, with a bar for each stage; other kinds of files are refused."""
    pipeline = Pipeline(quick, Stage(slow, name="a.b"))
    with pytest.raises(RuntimeError, match="has not run"):
        pipeline.profile()
    list(pipeline.run(range(20), system=system))
    pipeline.profile().save(tmp_path / "profile.svg")
    root = ElementTree.parse(tmp_path / "profile.svg").getroot()
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"source", "quick", "a.b", "consumer"} <= set(texts)
    with pytest.raises(SpecError, match=r"saved as \.svg"):
        pipeline.profile().save(tmp_path / "profile.doc")


SHOWN = """
import sys, time
from actors.pipeline import Pipeline

def slow(number):
    time.sleep(0.01)
    return number

print(sum(Pipeline(slow).run(range(100), progress=True)))
"""


def test_progress_is_quiet_where_nobody_looks(tmp_path: Path) -> None:
    """Nothing on stderr if it is no terminal."""
    assert Program(tmp_path, shown=SHOWN).run("shown.py") == ["4950"]


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    """Rate and bottleneck while it runs, and the table at the end."""
    script = Program(tmp_path).write("shown.py", SHOWN)
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, script], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path
    ) as process:
        os.close(theirs)
        out = io.BytesIO()
        with contextlib.suppress(OSError):  # its end
            while part := os.read(terminal, 1 << 16):
                out.write(part)
        os.close(terminal)
    assert process.returncode == 0
    text = out.getvalue().decode(errors="replace")
    assert "results," in text and "slowest: slow" in text
    assert "bottleneck: slow" in text and "4950" in text


def padded(number: int) -> bytes:
    return number.to_bytes(8, "little") * 250


def held(pids: list[int]) -> int:
    return sum(Resources.of(pid).resident for pid in pids)


def flat(seconds: float, settle: float, limit: int) -> None:
    """An endless source into a slow sink: what program and workers hold after `settle` seconds does not grow."""
    run = Pipeline(Stage(padded, workers=2), len).run(itertools.count())
    with run:
        results = iter(run)
        next(results)
        pids = [os.getpid(), *(each.pid for each in descendants(os.getpid()) if "pipeline-" in each.title)]
        end, before = time.monotonic() + seconds, 0
        begin = time.monotonic()
        for _ in results:
            time.sleep(0.0002)
            if not before and time.monotonic() - begin > settle:
                before = held(pids)
            if time.monotonic() > end:
                break
        assert held(pids) - before < limit


@pytest.mark.usefixtures("leak_guard")
def test_memory_stays_flat_over_an_endless_source() -> None:
    flat(5, 2, 5 << 20)


@pytest.mark.nightly
@pytest.mark.usefixtures("leak_guard")
def test_memory_stays_flat_for_ten_minutes() -> None:
    flat(600, 120, 5 << 20)


def test_a_finished_run_leaves_no_process_of_its_own(system: ActorSystem) -> None:
    """Also in a system that others use."""
    list(Pipeline(Stage(quick, workers=2)).run(range(10), system=system))
    until(lambda: not system.tree()["children"], "the tree to be empty")

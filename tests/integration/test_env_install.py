"""Installed as a user installs it: one wheel for every Python, complete, and nothing but what it declares is needed."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from kit.program import Program

pytestmark = [
    pytest.mark.usefixtures("leak_guard"),
    pytest.mark.skipif(
        shutil.which(sysconfig.get_config_var("CC").split()[0]) is None, reason="no C compiler, which building takes"
    ),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what is under version control's roof, not from what lies about in the working folder."""
    source = tmp_path_factory.mktemp("source") / "project"
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "*.so", "tests")
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", out]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *map(str, options), source], capture_output=True, text=True
    )
    if "No module named" in built.stderr:
        pytest.skip("no setuptools in this environment, which building takes")
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the wheel's content and what it declares to need, and nothing else."""
    folder = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    needed = [
        line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ") and ";" not in line
    ]
    for line in needed:
        name = re.match(r"[\w.-]+", line.removeprefix("Requires-Dist: "))
        assert name is not None
        for file in importlib.metadata.files(name[0]) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / top)
    return folder


def test_the_wheel_is_for_every_python_from_3_11_on(wheel: Path) -> None:
    assert re.search(r"-cp311-abi3-linux_\w+\.whl$", wheel.name)


def test_the_wheel_is_complete(wheel: Path) -> None:
    """Every module of the three folders, the extension with its types, the mark that there are types; no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in (
            "actors/**/*.py",
            "actors/transports/*.py*",
            "actors/transports/fallback/*.py",
            "actors/supervision/*.py",
        )
        for path in ROOT.glob(pattern)
        if path.suffix in (".py", ".pyi")
    }
    assert expected <= names
    assert names - expected == {"actors/py.typed", "actors/transports/_ring.abi3.so", "actors/bench/floor.c"}


def test_an_example_runs_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    """With the wheel and its declared dependencies alone: not even `site` is looked at."""
    program = Program(tmp_path / "empty")
    program.folder.mkdir()
    shutil.copy(ROOT / "examples" / "bank.py", tmp_path)
    environ = {"PYTHONPATH": str(site)}
    program.run("-S", tmp_path / "bank.py", environ=environ, quiet=False)
    seen = program.run("-S", "-c", "import actors; print(actors.__file__)", environ=environ)
    assert seen == [str(site / "actors" / "__init__.py")]


def test_the_command_runs_an_application(site: Path, tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.write(
        "tasks.py",
        """
        from actors import Actor
        class Task(Actor):
            def on_start(self):
                print("begun")
                self.stop()
        """,
    )
    program.write("tree.toml", 'name = "tasks"\n[[child]]\nfactory = "tasks:Task"\nrestart = "transient"\n')
    assert program.run("-S", "-m", "actors", "run", "tree.toml", environ={"PYTHONPATH": str(site)}) == ["begun"]

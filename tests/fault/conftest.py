"""Around every fault test: the guard against leaks, and a journal."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import ActorSystem
from kit import LeakGuard, system_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension built with -DRING_FAULTS, from the sources that the project's own build names."""
    compiler = sysconfig.get_config_var("CC").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no {compiler[0]} to build the extension's fault variant")
    module = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"][0]
    target = tmp_path_factory.mktemp("faults") / "_ring.abi3.so"
    include = sysconfig.get_path("include")
    flags = [*module["extra-compile-args"], "-DRING_FAULTS", "-shared", "-fPIC", f"-I{include}"]
    subprocess.run([*compiler, *flags, *module["sources"], "-o", str(target)], cwd=ROOT, check=True)
    return target


@pytest.fixture(params=["c", "python"])
def ring(request: pytest.FixtureRequest) -> str:
    """What a driver is to load: the extension with its points, or the ring in Python with its (marked.py)."""
    return "python" if request.param == "python" else str(request.getfixturevalue("extension"))


@pytest.fixture(autouse=True)
def nothing_is_left(leak_guard: LeakGuard) -> LeakGuard:
    return leak_guard


@pytest.fixture
def system(nothing_is_left: LeakGuard) -> Iterator[ActorSystem]:
    """A system of this test's own, closed at its end by the shutdown times."""
    running = ActorSystem(system_name())
    try:
        yield running
    finally:
        running.close("stop")

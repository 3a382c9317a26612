"""Ctrl-C in the middle of a pipeline, and runs that are killed and go on from their checkpoint."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from actors.errors import SpecError
from actors.pipeline import Pipeline, Stage
from kit import Script, system_name, until

PROGRAM = """
import itertools, sys, time
from actors import ActorSystem
from actors.pipeline import Pipeline, Stage

def work(number):
    time.sleep(0.0005)
    return number

def spread(number):
    yield number
    yield -number

class Gather:
    def process(self, number):
        return number
    def on_stop(self, reason):
        pass

print("begin", flush=True)
try:
    with ActorSystem(sys.argv[1]) as system:
        for count, item in enumerate(Pipeline(Stage(work, workers=2), spread, Gather).run(itertools.count(), system=system)):
            if count == 20:
                print("on its way", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def interrupted(rng: random.Random, times: int) -> None:
    for number in range(times):
        with Script(PROGRAM, system_name("interrupt")) as script:
            if number % 3:
                script.expect("on its way")
                time.sleep(rng.uniform(0, 0.3))
            else:  # while it starts
                script.expect("begin")
                time.sleep(rng.uniform(0, 0.4))
            begin = time.monotonic()
            script.interrupt()
            lines = script.drain().splitlines()
            assert time.monotonic() - begin < 8  # 2 on a machine of one's own
            assert script.process.wait() == 130
            assert lines[-1] == "interrupted" and len(lines) <= 3, lines


def test_ctrl_c_at_random_moments_ends_it_with_one_line(rng: random.Random) -> None:
    """The prompt is back, nothing is left, nobody prints a traceback."""
    interrupted(rng, 5)


@pytest.mark.nightly
def test_ctrl_c_at_twenty_random_moments(rng: random.Random) -> None:
    interrupted(rng, 20)


RESUMED = """
import sys, time
from pathlib import Path
from actors.pipeline import Pipeline, Stage

def work(number):
    time.sleep(0.0002)
    return number

def spread(number):
    for each in range(number % 3):
        yield number, each

def even(pair):
    return None if pair[0] % 2 else list(pair)

out = open(sys.argv[1], "a", buffering=1)
print("begin", flush=True)
for item in Pipeline(Stage(work, workers=2), spread, even).run(range(3000), checkpoint=sys.argv[2]):
    print(item, file=out)
print("all", flush=True)
"""
EXPECTED = [str([number, each]) for number in range(3000) if number % 2 == 0 for each in range(number % 3)]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, rng: random.Random) -> None:
    """After kills at random moments: all results in order, a few at each kill twice, none missing."""
    out, position = tmp_path / "out", tmp_path / "position"
    out.touch()

    def written() -> int:
        return out.read_bytes().count(b"\n")

    for _ in range(4):
        wanted = written() + rng.randrange(1, 250)  # in all four less than there is
        with Script(RESUMED, out, position) as script:
            script.expect("begin")
            until(lambda wanted=wanted: written() >= wanted, "so many results are written")
            script.kill()
    with Script(RESUMED, out, position) as script:
        script.expect("all")
    lines = out.read_text().splitlines()
    assert not position.exists()
    at = 0
    for line in lines:
        if line == EXPECTED[min(at, len(EXPECTED) - 1)]:
            at += 1
        else:  # begun again after a kill, a little before
            back = EXPECTED.index(line)
            assert back < at, f"{line} after {EXPECTED[at - 1]}: results are missing"
            at = back + 1
    assert at == len(EXPECTED)
    assert len(lines) < 3 * len(EXPECTED)


def test_leaving_a_run_keeps_its_position(tmp_path: Path) -> None:
    """To the item: what was not asked to be followed by another comes again, nothing else does."""
    position = str(tmp_path / "position")
    pipeline = Pipeline(Stage(_spread, workers=2), _plain)
    found: list[int] = []
    expected = [item for number in range(50) for item in _spread(number)]
    for stop in (1, 7, 20, 31):
        for count, item in enumerate(pipeline.run(range(50), checkpoint=position), 1):
            if count == stop:
                break  # not handled to its end
            found.append(item)
    found += pipeline.run(range(50), checkpoint=position)
    assert found == expected
    assert not Path(position).exists()


def _spread(number: int) -> list[int]:
    return iter([number] * (number % 4))  # type: ignore[return-value]


def _plain(number: int) -> int:
    return number


def test_a_position_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.write_text("{}")
    with pytest.raises(SpecError, match="no position of a pipeline of plain"):
        Pipeline(_plain).run([1], checkpoint=str(path))
    with pytest.raises(SpecError, match="must be ordered"):
        Pipeline(Stage(_plain, ordered=False)).run([1], checkpoint=str(tmp_path / "other"))

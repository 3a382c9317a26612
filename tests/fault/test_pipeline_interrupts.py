"""Ctrl-C in the middle of a pipeline, and runs that are killed and go on from their checkpoint."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.errors import SpecError
from actors.pipeline import Pipeline, Stage
from kit import Script, system_name, until

PROGRAM = """
import itertools, os, signal, sys, time
from actors import ActorSystem
from actors.client import Client
from actors.pipeline import Pipeline, Stage

phase, calls, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
program = os.getpid()

def strike():
    sys.setprofile(None)
    os.write(1, b"now %d\\n" % time.monotonic_ns())
    os.killpg(program, signal.SIGINT)

def strike_after_calls(first=None):
    left, begun = calls, first is None
    def count(frame, event, _):
        nonlocal left, begun
        if event != "call":  # a signal's handler runs between two instructions of Python, not inside a call of C
            return
        begun = begun or frame.f_code.co_name == first
        left -= begun
        if left == 0:
            strike()
    sys.setprofile(count)

def hang(where):
    if where == phase:
        strike()
        time.sleep(60)

def work(number):
    if phase == "busy":
        os.write(1, b"busy\\n")
        time.sleep(60)
    time.sleep(0.0005)
    return number

def spread(number):
    yield number
    yield -number

class Gather:
    def __init__(self):
        hang("constructor")
    def process(self, number):
        hang("process")
        return number
    def finish(self):
        hang("finish")
    def on_stop(self, reason):
        hang("on_stop")

def numbers():
    yield from range(30) if phase in ("end", "finish", "on_stop") else itertools.count()
    if phase == "end":
        strike_after_calls()

def consume(run):
    for count, _ in enumerate(run):
        if phase == "flow" and count == 20:
            strike_after_calls()

try:
    pipeline = Pipeline(Stage(work, workers=8 if phase == "busy" else 2), spread, Gather)
    if phase in ("begin", "start"):
        strike_after_calls("_start_steps" if phase == "start" else None)
    if name == "-":
        consume(pipeline.run(numbers()))
    else:
        with ActorSystem(name) as system:
            consume(pipeline.run(numbers(), system=system))
    print("it was not interrupted", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""
PROMISE = 2.0  # seconds, on a machine of one's own
QUIET = 0.03  # seconds that the interpreter takes to start and stop there
MOST = {"begin": 1500, "start": 3000, "flow": 2000, "end": 150}  # calls in the program; as many find it in this phase
BUSY = 8  # workers in long items: one after the other they would take longer than that to stop
PHASES = [*MOST, "constructor", "busy", "process", "finish", "on_stop"]


def interrupted(phase: str, calls: int, name: str) -> None:
    """Ctrl-C in this phase, after so many calls; name: of the program's system, "-" for one of the run's own."""
    with Script(PROGRAM, phase, calls, name) as script:
        if phase == "busy":
            for _ in range(BUSY):
                script.expect("busy")
            begun = time.monotonic()
            script.interrupt()
        else:
            begun = int(script.expect("now ")) / 1e9
        script.drain()
        assert script.process.wait() == 130, script.output
        took = time.monotonic() - begun
    assert script.lines[-1] == "interrupted" and len(script.lines) == (BUSY + 1 if phase == "busy" else 2), (
        script.output
    )
    pace = interpreter()
    assert took < PROMISE * max(1.0, pace / QUIET), f"{took:.2f} s, where the interpreter takes {pace:.3f} s"


def interpreter() -> float:
    """Seconds that it takes to start and stop it, now."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return time.monotonic() - begin


def at_a_random_moment_of_each_phase(rng: random.Random) -> None:
    for phase in PHASES:
        calls = rng.randint(1, MOST.get(phase, 1))
        name = system_name("interrupt") if rng.random() < 0.5 else "-"
        print(f"{phase}, after {calls} calls, system {name}")
        interrupted(phase, calls, name)


def test_ctrl_c_at_any_moment_ends_it_within_two_seconds_with_one_line(rng: random.Random) -> None:
    """Nothing is left, nobody but the program itself prints anything, wherever it was: starting, in the library, in
    a stage's constructor, with all workers in long items, at the end."""
    at_a_random_moment_of_each_phase(rng)


@pytest.mark.nightly
def test_ctrl_c_at_two_hundred_random_moments(rng: random.Random) -> None:
    for _ in range(23):
        at_a_random_moment_of_each_phase(rng)


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

"""Processes that use a file are killed at every step and at random: no record is torn, no acknowledged one lost, and a
replacement is whole or did not happen.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.coordination import File
from kit import until

DRIVER = Path(__file__).with_name("file_driver.py")


def run(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(DRIVER), *map(str, arguments)])


def content(path: Path) -> bytes:
    """As the next holder finds it."""
    with File(path, timeout=20) as file:
        return file.read()


@pytest.mark.parametrize("call", ["append", "again", "replace"])
def test_a_death_at_any_step_leaves_the_file_whole(tmp_path: Path, call: str) -> None:
    """Killed at the first, second, … thing that it has the kernel do, until it gets through. The file had been written by
    another tool, which did not end its last line: that line stays."""
    path = tmp_path / "notes.txt"
    old = b"by another tool\nits last line"
    whole = {
        "append": [old, old + b"\n", old + b"\nfirst of two\n", old + b"\nfirst of two\nsecond of two\n"],
        "again": [old, old + b"\n", old + b"\nfirst of two\n", old + b"\nfirst of two\nsecond of two\n"],
        "replace": [old, b"new\n" * 5000],
    }[call]
    seen = Counter[bytes]()
    for step in range(60):
        path.write_bytes(old)
        ended = run(path, "step", step, call).wait(30)
        found = content(path)
        seen[found] += 1
        assert found in whole, (step, found[-60:])
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert ended == 0
    assert step > 6
    assert seen[whole[0]] > 2
    assert found == whole[-1]
    assert sorted(each.name for each in tmp_path.iterdir()) == [".notes.txt.lock", "notes.txt"]


def test_eight_append_while_they_are_killed_two_hundred_times(tmp_path: Path, rng: random.Random) -> None:
    """Then every record is whole, in order, and every acknowledged one there."""
    path, acks = tmp_path / "records.txt", tmp_path / "acks"
    names = iter(f"writer-{number}" for number in range(10_000))

    def start() -> subprocess.Popen[bytes]:
        return run(path, "writer", next(names), acks, rng.randrange(1 << 32))

    writers = [start() for _ in range(8)]
    until(lambda: acks.exists() and acks.stat().st_size, "the first record is written", 60)
    for _ in range(200):
        more = acks.read_bytes().count(b"\n") + rng.randrange(1, 8)
        until(lambda more=more: acks.read_bytes().count(b"\n") >= more, "more is acknowledged", 60)  # type: ignore[misc]
        victim = rng.randrange(len(writers))
        writers[victim].kill()
        writers[victim].wait()
        writers[victim] = start()
    for each in writers:
        each.kill()
        each.wait()
    with File(path, timeout=20) as file:
        records = [line.decode().split() for line in file.records()]
    found: dict[str, list[int]] = {}
    for name, number, check, body in records:
        assert zlib.crc32(body.encode()) == int(check), f"record {name} {number} is torn"
        found.setdefault(name, []).append(int(number))
    assert all(numbers == list(range(len(numbers))) for numbers in found.values()), "lost, doubled or out of order"
    for line in acks.read_text().splitlines():
        name, number = line.split()
        assert int(number) < len(found[name]), f"acknowledged record {line} is lost"
    print(f"{len(records)} records of {len(found)} writers")


def test_a_reader_without_any_right_always_sees_a_whole_replacement(tmp_path: Path, rng: random.Random) -> None:
    """Two replace it and are killed; a reader that just opens the file never sees half of anything."""
    path = tmp_path / "state.json"
    path.write_text("[]")
    for _ in range(5):
        writers = [run(path, "replacer", rng.randrange(1 << 32)) for _ in range(2)]
        before = path.stat().st_ino
        until(lambda before=before: path.stat().st_ino != before, "it is replaced", 30)  # type: ignore[misc]
        for _ in range(50):
            assert len(set(json.loads(path.read_bytes()))) <= 1
        for each in writers:
            each.kill()
            each.wait()
        assert len(set(json.loads(content(path)))) == 1


def test_the_death_of_the_user_lets_the_next_one_in(tmp_path: Path) -> None:
    path = tmp_path / "used"
    holder = run(path, "writer", "a", tmp_path / "acks", 1)
    until((tmp_path / "acks").exists, "it is in use", 30)
    os.kill(holder.pid, signal.SIGSTOP)
    for _ in range(1000):  # sooner or later it is stopped in the middle of a use
        try:
            with File(path, timeout=0.05):
                pass
        except TimeoutError as error:
            assert f"process {holder.pid} uses it" in str(error)
            break
        os.kill(holder.pid, signal.SIGCONT)
        threading.Event().wait(0.01)
        os.kill(holder.pid, signal.SIGSTOP)
    else:
        pytest.fail("it was never seen in use")
    holder.kill()
    assert holder.wait(10) == -signal.SIGKILL
    with File(path, timeout=10) as file:
        assert all(len(line.split()) == 4 for line in file.records())


def test_a_forked_child_does_not_keep_the_file_when_its_parent_is_done(tmp_path: Path) -> None:
    path = tmp_path / "forked"
    with File(path) as file:
        file.append("mine")
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                file.append("not mine")
            except RuntimeError:
                code = 0
            os.read(reader, 1)
            os._exit(code)
    with File(path, timeout=10) as again:  # the child lives
        assert again.read() == b"mine\n"
    os.write(writer, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("call", ["append", "replace"])
def test_a_full_disk_is_an_error_and_the_file_is_as_it_was(tmp_path: Path, call: str) -> None:
    """A limit on the size of files stands for the disk: the write ends half-way in the same manner."""
    path = tmp_path / "full"
    path.write_bytes(b"old\n")
    calls: dict[str, Callable[[File], object]] = {
        "append": lambda file: file.append("x" * 20_000),
        "replace": lambda file: file.replace("x" * 20_000),
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with File(path) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            try:
                with pytest.raises(OSError, match="full"):
                    calls[call](file)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert file.read() == b"old\n"
            calls[call](file)
            assert file.read().endswith(b"x\n" if call == "append" else b"x")
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".full.lock", "full"]

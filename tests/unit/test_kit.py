"""The fault kit itself: a guard and a judge that find nothing would prove nothing."""

from __future__ import annotations

import mmap
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.testing import leaks as leaks_module
from kit import (
    Gate,
    History,
    Journal,
    LeakGuard,
    Resources,
    Script,
    Trap,
    alive,
    descendants,
    process,
    system_name,
    until,
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks_module, "PATIENCE", 0.05)


Undo = Callable[[], object]


def a_process() -> Undo:
    child = subprocess.Popen(["sleep", "60"])
    return lambda: (child.kill(), child.wait())


def a_zombie() -> Undo:
    child = subprocess.Popen(["true"])
    until(lambda: not alive(child.pid), "it has ended")
    return child.wait


def a_daemon() -> Undo:
    """Adopted by somebody else, in a session of its own."""
    out = subprocess.run(["sh", "-c", "setsid sleep 60 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True)
    pid = int(out.stdout)
    until(lambda: (found := process(pid)) and found.title.startswith("sleep"), "it runs")
    return lambda: os.kill(pid, signal.SIGKILL)


def a_titled_process() -> Undo:
    """One that bears a system's name and has no environment."""
    child = subprocess.Popen(["-", "60"], executable="/bin/sleep", env={})
    child.kill()
    child.wait()
    name = f"actors: {system_name()}/worker"
    other = subprocess.Popen([name, "60"], executable="/bin/sleep", env={}, start_new_session=True)
    return lambda: (other.kill(), other.wait())


def a_descriptor() -> Undo:
    fd = os.eventfd(0)
    return lambda: os.close(fd)


def a_thread() -> Undo:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    return lambda: (over.set(), thread.join())


def a_mapping() -> Undo:
    fd = os.memfd_create("actors:test")
    os.truncate(fd, 4096)
    mapped = mmap.mmap(fd, 4096)
    os.close(fd)
    return mapped.close


def a_socket() -> Undo:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0actors/{os.getuid()}/{system_name()}")
    return listener.close


def a_file() -> Undo:
    path = Path("/dev/shm") / system_name("kit")
    path.touch()
    return path.unlink


LEAKS = [a_process, a_zombie, a_daemon, a_titled_process, a_descriptor, a_thread, a_mapping, a_socket, a_file]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_the_leak_guard_names(leak: Callable[[], Undo]) -> None:
    """Each kind of thing that can be left is found, and forgiven once it is gone."""
    guard = LeakGuard()
    with guard:
        pass
    undo = leak()
    try:
        with pytest.raises(AssertionError, match="left behind") as found:
            guard.check()
    finally:
        undo()
    assert leak.__name__.removeprefix("a_").split("_")[-1].replace("daemon", "process") in str(found.value)
    guard.check()


def test_the_leak_guard_waits_for_what_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends a moment later is no leak."""
    monkeypatch.setattr(leaks_module, "PATIENCE", 5.0)
    with LeakGuard():
        threading.Timer(0.05, lambda: None).start()


def test_a_file_that_bears_the_number_of_somebody_elses_process_is_that_ones() -> None:
    """As those of joblib and loky do, which any other program on this machine may be using."""
    guard = LeakGuard()
    with guard:
        paths = {pid: Path("/dev/shm") / f"kit_{pid}_{secrets.token_hex(8)}" for pid in (1, os.getpid())}
        for path in paths.values():
            path.touch()
        found = [each for each in guard.left() if "/kit_" in each]
        for path in paths.values():
            path.unlink()
    assert found == [f"file {paths[os.getpid()]}"]


def history(*begun: str) -> History:
    """A history in which a:0 to a:3 were accepted and these were handled."""
    made = History()
    for number in range(4):
        made.sent("a", number)
    for each in begun:
        sender, number = each.split(":")
        made.begun.append((sender, int(number)))
        made.handled.append((sender, int(number)))
    return made


def test_a_good_history_passes() -> None:
    history("a:0", "a:1", "a:2", "a:3").check()


def test_a_reported_message_is_not_lost() -> None:
    good = history("a:0", "a:1", "a:3")
    good.report("a", 2)
    good.check()


@pytest.mark.parametrize(
    ("handled", "redeliver", "problem"),
    [
        (["a:0", "a:1", "a:3"], 0, "1 accepted, but neither handled nor reported: a:2"),
        (["a:0", "a:2", "a:1", "a:3"], 0, "1 handled after a later message of its sender: a:1"),
        (["a:0", "a:0", "a:1", "a:2", "a:3"], 0, "1 handled to the end too often: a:0"),
        (["a:0", "a:0", "a:0", "a:1", "a:2", "a:3"], 1, "1 handled to the end too often: a:0"),
        (["a:0", "a:1", "a:2", "a:3", "b:7"], 0, "1 handled, but never sent: b:7"),
    ],
)
def test_a_broken_promise_is_named(handled: list[str], redeliver: int, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        history(*handled).check(redeliver)


def test_what_redeliver_allows_is_no_double() -> None:
    history("a:0", "a:1", "a:1", "a:2", "a:3").check(redeliver=1)


def test_a_message_that_was_reported_twice_is_named() -> None:
    bad = history("a:0", "a:1", "a:2")
    bad.report("a", 3)
    bad.report("a", 3)
    with pytest.raises(AssertionError, match="1 reported more than once: a:3"):
        bad.check()


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also by a copy that was sent somewhere else."""
    journal = Journal(tmp_path / "journal")
    assert journal.lines() == []
    journal.write("begin", "a", 1)
    pickle.loads(pickle.dumps(journal)).write("end", "a", 1)
    assert journal.rows() == [["begin", "a", "1"], ["end", "a", "1"]]
    made = History()
    made.read(journal)
    assert (made.begun, made.handled) == ([("a", 1)], [("a", 1)])


def test_a_gate_holds_until_it_is_opened(tmp_path: Path) -> None:
    gate, passed = Gate(tmp_path / "gate"), threading.Event()
    thread = threading.Thread(target=lambda: (gate.wait(), passed.set()))
    thread.start()
    assert not passed.is_set()
    gate.open()
    thread.join()
    assert passed.is_set()


def test_a_trap_catches_one_process(tmp_path: Path) -> None:
    """A forked child stays at the point; the next one passes."""
    trap = Trap(tmp_path)
    trap.passing("here")  # not set: nothing happens
    trap.set("here")
    child = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:] = {list(filter(None, __import__('sys').path))!r}\n"
         f"from kit import Trap; Trap({str(tmp_path)!r}).passing('here')"]
    )  # fmt: skip
    assert trap.wait("here", 1) == child.pid
    assert [each.pid for each in descendants(os.getpid()) if each.lives] == [child.pid]
    trap.passing("here")
    child.kill()
    child.wait()


def test_a_script_that_ends_without_the_expected_line_says_what_it_printed() -> None:
    with Script("print('one'); print('two')") as script:
        assert script.expect("o") == "ne"
        with pytest.raises(AssertionError, match="two"):
            script.expect("three")


def test_resources_are_those_of_the_process() -> None:
    before = Resources.of(os.getpid())
    read, write = os.pipe()
    assert Resources.of(os.getpid()).descriptors == before.descriptors + 2
    os.close(read)
    os.close(write)
    with pytest.raises(FileNotFoundError):
        Resources.of(1 << 22)

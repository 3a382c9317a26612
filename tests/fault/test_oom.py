"""The kernel's out-of-memory killer is told apart from anybody's SIGKILL.

These tests make a memory cgroup with a limit (v1 or v2), which needs root and a hierarchy that may be written to.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorSystem, Backoff
from actors.guardian.oom import Oom
from kit import kill, until

AT_ONCE = Backoff(0.0, 0.0)
LIMIT = 128 << 20  # bytes
_numbers = itertools.count(1)


@contextlib.contextmanager
def limited() -> Iterator[Path]:
    """A memory cgroup of LIMIT bytes below this process's own."""
    oom = Oom()
    oom.note(os.getpid())
    home = Path(oom.home.get(os.getpid(), "/nowhere"))
    cgroup = home / f"actors-test-{os.getpid()}-{next(_numbers)}"
    try:
        if oom.v2:
            home = next(
                each for each in (home, *home.parents) if "memory" in (each / "cgroup.subtree_control").read_text()
            )
            cgroup = home / cgroup.name
        cgroup.mkdir()
        (cgroup / ("memory.max" if oom.v2 else "memory.limit_in_bytes")).write_text(str(LIMIT))
        with contextlib.suppress(OSError):
            (cgroup / ("memory.swap.max" if oom.v2 else "memory.memsw.limit_in_bytes")).write_text(
                "0" if oom.v2 else str(LIMIT)
            )
    except (OSError, StopIteration) as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield cgroup
    finally:
        until(lambda: _removed(cgroup), "the cgroup is empty")


def _removed(cgroup: Path) -> bool:
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()


@pytest.fixture
def cgroup(nothing_is_left: object) -> Iterator[Path]:
    with limited() as made:
        yield made


class Eater(Actor):
    """Takes memory."""

    def __init__(self, cgroup: Path | None = None) -> None:
        self.cgroup = cgroup

    def on_start(self) -> None:
        if self.cgroup is not None:
            self.move(self.cgroup)

    def move(self, cgroup: Path) -> int:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        return os.getpid()

    def pid(self) -> int:
        return os.getpid()

    def eat(self) -> None:
        held = mmap.mmap(-1, 2 * LIMIT)
        for at in range(0, len(held), 4096):
            held[at] = 1
        time.sleep(60)


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_kill_for_memory_is_told_apart_from_an_operators(rounds: int, system: ActorSystem, cgroup: Path) -> None:
    """Turn by turn in the same cgroup: each is what it is, for the asker, in the events and in the actor's own reason."""
    events = system.events()
    eater = system.spawn(Eater, cgroup, backoff=AT_ONCE)
    for _ in range(rounds):
        with pytest.raises(ActorDied) as died:
            eater.ask(Eater.eat).result(30)
        assert died.value.reason is not None
        assert died.value.reason.oom
        assert str(died.value.reason) == "killed by SIGKILL (out of memory)"
        kill(eater.ask(Eater.pid).result(30))
        until(lambda: eater.info()["incarnation"] % 2 == 1 and eater.info()["status"] == "running", "it is back")
    events.close()
    reasons = [event.reason for event in events if event.kind == "crashed"]
    assert [reason.oom for reason in reasons if reason] == [True, False] * rounds
    eater.kill()  # out of the cgroup
    eater.wait(10)


@pytest.mark.parametrize("when", ["by itself, later", "by an operator"])
def test_an_actor_that_was_moved_after_its_start_is_found(when: str, system: ActorSystem, cgroup: Path) -> None:
    """Its cgroup is not the one that it was started in."""
    eater = system.spawn(Eater, restart="temporary")
    if when == "by an operator":
        (cgroup / "cgroup.procs").write_text(str(eater.info()["pid"]))
    else:
        eater.ask(Eater.move, cgroup).result(10)
    eater.tell(Eater.eat)
    assert eater.wait(30).oom


def test_of_two_only_the_one_that_the_kernel_killed_is_called_so(system: ActorSystem, cgroup: Path) -> None:
    """An operator kills one that lives elsewhere, at the same time; of two that the kernel kills both are."""
    with limited() as other:
        eaters = [system.spawn(Eater, each, restart="temporary") for each in (cgroup, other)]
        bystander = system.spawn(Eater, restart="temporary")
        for eater in eaters:
            eater.tell(Eater.eat)
        assert [eater.wait(30).oom for eater in eaters] == [True, True]
        kill(bystander.info()["pid"])
        assert not bystander.wait(30).oom
        with pytest.raises(ActorDied):
            bystander.info()


# --- the counters, in files of the test's own

V1 = "memory.oom_control"


def fake(tmp_path: Path, v2: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Oom, Any]:
    """An Oom over a folder; the function that sets a counter there."""

    def count(group: str, kills: int) -> str:
        folder = tmp_path / group
        folder.mkdir(exist_ok=True)
        text = (
            f"low 0\nhigh 0\nmax 3\noom 5\noom_kill {kills}\n"
            if v2
            else f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
        )
        (folder / ("memory.events.local" if v2 else V1)).write_text(text)
        return str(folder)

    monkeypatch.setattr("actors.guardian.oom._machine", lambda: machine[0])
    oom = Oom()
    oom.root, oom.base, oom.v2, oom.total = str(tmp_path), "/", v2, 0
    return oom, count


machine = [0]


@pytest.mark.parametrize("v2", [False, True])
def test_one_increment_explains_one_death(v2: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kills, three deaths: two are explained, also when both came before the first was looked at."""
    machine[0] = 0
    oom, count = fake(tmp_path, v2, monkeypatch)
    home = count("a", 7)
    monkeypatch.setattr(oom, "_home", lambda pid: home)
    oom.note(1)
    assert oom.last(1) == home
    assert not oom.killed(home, 0)
    count("a", 9)
    machine[0] = 2
    assert [oom.killed(home, 0) for _ in range(3)] == [True, True, False]


def test_where_no_cgroup_counts_the_machine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root cgroup of v2 has no such file."""
    machine[0] = 0
    oom, _ = fake(tmp_path, True, monkeypatch)
    assert not oom.killed(str(tmp_path), 0)
    machine[0] = 1
    assert oom.killed(str(tmp_path), 0)
    assert not oom.killed(str(tmp_path), 0)


def test_a_small_process_is_not_taken_for_the_victim_of_a_cgroup_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1: somebody else was killed for memory while an operator killed an idle actor."""
    machine[0] = 0
    oom, count = fake(tmp_path, False, monkeypatch)
    home, other = count("home", 0), Path(count("other", 0))
    oom.survey()
    (other / "memory.max_usage_in_bytes").write_text(str(LIMIT))
    count("other", 1)
    machine[0] = 1
    assert not oom.killed(home, LIMIT // 4)
    machine[0] = 2
    assert oom.killed(home, LIMIT // 2)

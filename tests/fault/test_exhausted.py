"""No more processes, descriptors or memory to be had: errors that name what is missing, never a hang, and all is well
again when there is some.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors import Actor, ActorRef, ActorSystem, Backoff, SpawnError
from kit import Resources, alive, children, family, kill, process, until

AT_ONCE = Backoff(0.0, 0.05)
PIDS = Path("/sys/fs/cgroup/pids")
_numbers = itertools.count(1)
Limit = Callable[[ActorSystem], contextlib.AbstractContextManager[None]]


class Worker(Actor):
    """Answers."""

    def pid(self) -> int:
        return os.getpid()


@contextlib.contextmanager
def no_processes(system: ActorSystem) -> Iterator[None]:
    """The guardian and its zygote may not fork: a pids cgroup (v1 or v2), since RLIMIT_NPROC does not hold for root."""
    parent = PIDS if PIDS.exists() else Path("/sys/fs/cgroup")
    cgroup = parent / f"actors-test-{os.getpid()}-{next(_numbers)}"
    try:
        cgroup.mkdir()
        (cgroup / "pids.max").write_text("max")
        for pid in family(system.guardian_pid)[1:]:
            (cgroup / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        pytest.skip(f"no pids cgroup can be made here: {error}")
    (cgroup / "pids.max").write_text("1")
    try:
        yield
    finally:
        (cgroup / "pids.max").write_text("max")
        for pid in (cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        until(lambda: _gone(cgroup, parent), "the cgroup is empty")


def _gone(cgroup: Path, parent: Path) -> bool:
    with contextlib.suppress(OSError):
        for pid in (cgroup / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        cgroup.rmdir()
    return not cgroup.exists()


@contextlib.contextmanager
def lowered(pid: int, which: int, value: int) -> Iterator[None]:
    before = resource.prlimit(pid, which, (value, resource.prlimit(pid, which)[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, which, before)


def no_descriptors(system: ActorSystem) -> contextlib.AbstractContextManager[None]:
    """The guardian has two left."""
    used = max(int(each) for each in os.listdir(f"/proc/{system.guardian_pid}/fd"))
    return lowered(system.guardian_pid, resource.RLIMIT_NOFILE, used + 3)


def no_address_space(system: ActorSystem) -> contextlib.AbstractContextManager[None]:
    """The guardian can map no other mailbox."""
    pages = int(Path(f"/proc/{system.guardian_pid}/statm").read_text().split()[0])
    return lowered(system.guardian_pid, resource.RLIMIT_AS, pages * resource.getpagesize() + (1 << 20))


LIMITS: dict[str, Limit] = {
    "processes": no_processes,
    "descriptors": no_descriptors,
    "address space": no_address_space,
}


@pytest.mark.parametrize("missing", LIMITS)
def test_a_spawn_for_which_something_is_missing_fails_by_its_name(missing: str, system: ActorSystem) -> None:
    """SpawnError, soon; those that run answer; no name, no process and no descriptor is left of it; afterwards all is
    well."""
    old = system.spawn(Worker)
    until(lambda: at_rest(system), "zygote, actor and spare")
    held = Resources.of(system.guardian_pid).descriptors
    with LIMITS[missing](system):
        with pytest.raises(SpawnError, match=r"process|descriptor|files|mailbox|memory"):
            for number in range(5):  # one may be ready to be born
                system.spawn(Worker, name=f"new-{number}", start_timeout=20.0)
        assert old.ask(Worker.pid).result(10)
        failed = next(f"new-{number}" for number in range(5) if f"new-{number}" not in names(system))
        for _ in range(10):
            with pytest.raises(SpawnError, match=r"process|descriptor|files|mailbox|memory"):
                system.spawn(Worker, name=failed, start_timeout=20.0)
    again = system.spawn(Worker, name=failed)
    assert again.ask(Worker.pid).result(10)
    assert old.info()["restarts"] == 0
    for name in names(system) - {old.name}:
        system.lookup(name).kill()
    until(lambda: Resources.of(system.guardian_pid).descriptors <= held, "nothing is held for what failed")


def at_rest(system: ActorSystem) -> bool:
    """A zygote, one actor, and a process that waits to be born; no candidate any more."""
    found = [process(pid) for pid in children(system.guardian_pid)]
    return len(found) == 3 and any(each and each.title.endswith(" spare") for each in found)


def names(system: ActorSystem) -> set[str]:
    return {child["name"] for child in system.tree()["children"]}


@pytest.mark.parametrize("missing", LIMITS)
def test_a_restart_for_which_something_is_missing_is_tried_again(missing: str, system: ActorSystem) -> None:
    """A crash at the worst moment: what is asked meanwhile is answered when there is room again."""
    worker = system.spawn(Worker, backoff=AT_ONCE)
    pid = worker.ask(Worker.pid).result(10)
    with LIMITS[missing](system):
        for _ in range(2):  # the first one takes the process that is ready
            kill(pid)
            with contextlib.suppress(AssertionError):
                pid = until(lambda: worker.info()["pid"] not in (None, pid) and worker.info()["pid"], "back", 0.3)  # noqa: B023
        asked = worker.ask(Worker.pid)
        until(lambda: worker.info()["restarts"] >= 1, "it is tried")
    assert alive(asked.result(30))


@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_stranger_that_gets_a_dead_actors_number_is_never_signalled(rounds: int, system: ActorSystem) -> None:
    """The number of a dead actor's process is given to a process of somebody else's (ns_last_pid); whatever is done
    with the actor then does not reach that, and it is never taken for the actor."""
    for number in range(rounds):
        kept = number % 2 == 0  # one that waits for its next start, one that has ended
        backoff = Backoff(60.0, 60.0, jitter=0.0)
        worker = system.spawn(
            Worker, backoff=backoff, restart="transient" if kept else "temporary", progress_timeout=0.05
        )
        other = system.spawn(Worker, restart="temporary")
        pid = worker.info()["pid"]
        if kept:
            kill(pid)
            until(lambda: worker.info()["pid"] not in (None, pid), "the first restart is immediate")  # noqa: B023
            until(lambda: worker.info()["status"] == "running", "it is ready")  # noqa: B023
            pid = worker.info()["pid"]
        kill(pid)
        if kept:
            until(lambda: worker.info()["status"] == "backoff", "its next start waits")  # noqa: B023
            assert worker.info()["pid"] is None
        else:
            worker.wait(10)
        with stranger(pid) as child:
            command(worker)
            other.kill()
            other.wait(10)
            if kept:
                worker.wait(10)
            system.spawn(Worker, restart="temporary").kill()
            assert child.poll() is None
            found = process(pid)
            assert found is not None
            assert found.state in "SR"


def command(worker: ActorRef[Worker]) -> None:
    """All that ends, stops or looks at a process."""
    with contextlib.suppress(Exception):
        worker.stacks()
    for act in (worker.restart, worker.stop, worker.kill):
        with contextlib.suppress(Exception):
            act()


@contextlib.contextmanager
def stranger(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this number, of nobody's."""
    for _ in range(200):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError as error:
            pytest.skip(f"no process number can be chosen here: {error}")
        child = subprocess.Popen(["sleep", "300"])
        try:
            if child.pid == pid:
                yield child
                return
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    pytest.skip(f"others were always faster to get the number {pid}")

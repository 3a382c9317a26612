"""Limits of an actor's process, as its own code meets them."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem, SpawnError
from actors.supervision import Child, Supervisor
from kit import Script, system_name

pytestmark = pytest.mark.usefixtures("module_leak_guard")


@pytest.fixture(scope="module")
def system(module_leak_guard: object) -> Iterator[ActorSystem]:
    with ActorSystem(system_name("limits")) as running:
        yield running


class Limited(Actor):
    """Looks at its limits in the constructor: they must hold before any of its own code runs."""

    def __init__(self) -> None:
        self.seen = self.now()

    def now(self) -> tuple[int, set[int], int, int]:
        soft = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("NOFILE", "CORE")}
        return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), soft["NOFILE"], soft["CORE"]

    def both(self) -> tuple[Any, Any]:
        return self.seen, self.now()

    def allocate(self, size: int) -> int:
        return len(bytearray(size))

    def burn(self) -> None:
        while True:
            pass

    def open_many(self) -> int:
        return len([os.dup(0) for _ in range(1000)])

    def pid(self) -> int:
        return os.getpid()


def test_limits_hold_before_the_first_line_of_the_actors_code(system: ActorSystem) -> None:
    """nice, affinity and rlimits, by spawn and by a Child; after a crash as well."""
    here = min(os.sched_getaffinity(0))
    options: dict[str, Any] = {"nice": 3, "affinity": [here], "rlimits": {"NOFILE": 100, "CORE": 0}}
    spawned = system.spawn(Limited, **options)
    started: ActorRef[Limited] = system.start(Supervisor(Child(Limited, name="child", **options), name="tree"))["child"]
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    for limited in (spawned, started):
        for _ in range(2):
            seen, now = limited.ask(Limited.both).result(20)
            assert seen == now == (nice + 3, {here}, 100, 0)
            os.kill(limited.ask(Limited.pid).result(20), signal.SIGKILL)


def test_without_limits_all_is_as_the_program_has_it(system: ActorSystem) -> None:
    """Nothing is changed by default."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_CORE)[0]
    expected = (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), *soft)
    assert system.spawn(Limited).ask(Limited.both).result(20) == (expected, expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"affinity": [4000]}, r"affinity=\[4000\] was refused: Invalid argument"),
        ({"rlimits": {"NOFILE": 1 << 60}}, r"rlimits\['NOFILE'\]=1152921504606846976 was refused"),
    ],
)
def test_a_limit_that_the_kernel_refuses_is_a_start_that_failed(
    options: dict[str, Any], named: str, system: ActorSystem
) -> None:
    """The error says which; the name is free again."""
    for _ in range(2):
        with pytest.raises(SpawnError, match=named):
            system.spawn(Limited, name="refused", **options)


def test_a_limit_for_which_one_has_no_right_is_named() -> None:
    """Below 0 a niceness needs a privilege: EPERM, from a program that has none."""
    code = f"""
        import os
        from actors.transports._ring import prctl
        if os.getuid() == 0:
            prctl(24, 23)  # PR_CAPBSET_DROP, CAP_SYS_NICE: what it starts from now on has not got it
        from actors import Actor, ActorSystem, SpawnError
        class Worker(Actor):
            pass
        with ActorSystem({system_name("unprivileged")!r}) as system:
            try:
                system.spawn(Worker, nice=-5)
            except SpawnError as error:
                print("refused", [line for line in str(error).splitlines() if "nice" in line][-1])
    """
    with Script(code) as script:
        assert "nice=-5 was refused: " in script.expect("refused")
        script.drain()


def test_an_exhausted_limit_is_an_error_of_the_message_that_met_it(system: ActorSystem) -> None:
    """Memory and descriptors: the asker gets the error, the actor lives on and answers."""
    limited = system.spawn(Limited, rlimits={"AS": 4 << 30, "NOFILE": 60})
    pid = limited.ask(Limited.pid).result(10)
    with pytest.raises(MemoryError):
        limited.ask(Limited.allocate, 8 << 30).result(20)
    with pytest.raises(OSError, match="Too many open files"):
        limited.ask(Limited.open_many).result(20)
    assert limited.ask(Limited.pid).result(10) == pid


def test_an_exhausted_processor_limit_ends_the_process_by_its_name(system: ActorSystem) -> None:
    """SIGXCPU, not just SIGKILL."""
    limited = system.spawn(Limited, rlimits={"CPU": 1}, restart="temporary")
    limited.tell(Limited.burn)
    assert limited.wait(60).signal == signal.SIGXCPU

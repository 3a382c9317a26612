"""Both ways to fork keep one contract: births, deaths and their reasons, restarts, the end of the zygote."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, SpawnError, SystemDied
from kit import LeakGuard, alive, children, family, kill, process, system_name, until

SEGFAULT, ABORT, KILL = signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL


class Worker(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def on_start(self) -> None:
        if self.value < 0:
            raise ValueError(f"{self.value} is less than nothing")

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def surroundings(self) -> tuple[int, int, bool, list[int], str]:
        """Parent, process group, whether its thread is the main one and knows its number, blocked signals, title."""
        right = threading.get_native_id() == os.getpid() and threading.current_thread() is threading.main_thread()
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
        return os.getppid(), os.getpgrp(), right, blocked, Path("/proc/self/cmdline").read_text().strip("\0 ")

    def descriptors(self) -> list[str]:
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                found.append(os.readlink(entry).partition("[")[0].partition(":")[0])
            except FileNotFoundError:
                continue
        return sorted(found)

    def hang(self) -> None:
        signal.pause()

    def signalled(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def exits(self, code: int) -> None:
        sys.exit(code)

    def leaves(self, code: int) -> None:
        os._exit(code)

    def raises(self, text: str) -> None:
        raise ValueError(text)

    def start_child_process(self) -> int:
        return os.posix_spawn("/bin/sleep", ["sleep", "600"], {})


@pytest.fixture(params=["sibling", "double"])
def system(
    request: pytest.FixtureRequest, leak_guard: LeakGuard, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ActorSystem]:
    monkeypatch.setenv("ACTORS_FORK", request.param)
    running = ActorSystem(system_name("styles"))
    try:
        yield running
    finally:
        running.close("kill")


def pid_of(ref: ActorRef[Worker]) -> int:
    return ref.ask(Worker.pid).result(20)


def test_an_actor_is_a_process_of_the_guardian(system: ActorSystem) -> None:
    """Its child, the leader of its own group, with its own title; no other actor's descriptors are in it."""
    refs = [system.spawn(Worker, name=f"worker-{number}") for number in range(3)]
    for ref in refs:
        pid = pid_of(ref)
        title = f"actors: {system.name}/{ref.name}"
        assert ref.ask(Worker.surroundings).result(20) == (system.guardian_pid, pid, True, [], title)
        assert pid in children(system.guardian_pid)
    held = [ref.ask(Worker.descriptors).result(20) for ref in refs]
    assert held[0] == held[1] == held[2]


def test_it_answers_and_stops(system: ActorSystem) -> None:
    ref = system.spawn(functools.partial(Worker, start=3))
    pid = pid_of(ref)
    assert ref.ask(Worker.add, 2).result(20) == 5
    ref.stop()
    assert str(ref.wait(20)) == "shut down"
    assert process(pid) is None
    with pytest.raises(ActorDied):
        ref.ask(Worker.add, 1).result(20)


def test_a_constructor_that_fails_is_the_spawners_error(system: ActorSystem) -> None:
    with pytest.raises(SpawnError, match="-1 is less than nothing"):
        system.spawn(Worker, -1)
    assert system.tree()["children"] == []


@pytest.mark.parametrize(
    ("how", "value", "kind", "detail"),
    [
        (Worker.signalled, SEGFAULT, "signal", SEGFAULT),
        (Worker.signalled, ABORT, "signal", ABORT),
        (Worker.signalled, KILL, "signal", KILL),
        (Worker.exits, 3, "exit", 3),
        (Worker.exits, 0, "exit", 0),
        (Worker.leaves, 4, "exit", 4),
        (Worker.leaves, 0, "exit", 0),
        (Worker.raises, "why", "exception", "ValueError: why"),
    ],
    ids=["SIGSEGV", "SIGABRT", "SIGKILL", "exit 3", "exit 0", "os._exit(4)", "os._exit(0)", "raise"],
)
def test_the_reason_of_an_end_is_the_kernels(
    system: ActorSystem, how: object, value: object, kind: str, detail: object
) -> None:
    """Whichever process made it: its exit status reaches the guardian."""
    ref = system.spawn(Worker, restart="temporary")
    ref.tell(how, value)  # type: ignore[call-overload]
    reason = ref.wait(20)
    found = {"signal": reason.signal, "exit": reason.code, "exception": reason.error}[kind]
    assert (reason.kind, found) == (kind, detail)


def test_fifty_that_die_at_once(system: ActorSystem) -> None:
    """One report each, and fifty next incarnations."""
    refs = [system.spawn(Worker, number) for number in range(50)]
    pids = [pid_of(ref) for ref in refs]
    with contextlib.closing(system.events()) as events:
        for pid in pids:
            kill(pid)
        crashed, restarted = [], 0
        while restarted < 50:
            event = events.get(60)
            if event.kind == "crashed":
                crashed.append((event.pid, str(event.reason)))
            restarted += event.kind == "restarted"
    assert sorted(crashed) == sorted((pid, "killed by SIGKILL") for pid in pids)
    assert [ref.ask(Worker.add, 0).result(60) for ref in refs] == list(range(50))
    assert not set(pids) & set(map(pid_of, refs))


def test_mail_outlives_the_process(system: ActorSystem) -> None:
    ref = system.spawn(Worker)
    before = pid_of(ref)
    os.kill(before, signal.SIGSTOP)
    replies = [ref.ask(Worker.add, 1) for _ in range(100)]
    kill(before)
    assert [reply.result(20) for reply in replies] == list(range(1, 101))


def test_a_restart_by_hand(system: ActorSystem) -> None:
    ref = system.spawn(Worker, 7)
    before = pid_of(ref)
    ref.restart()
    until(lambda: pid_of(ref) != before, "another process to answer")
    assert ref.ask(Worker.add, 1).result(20) == 8


def test_the_zygotes_death_disturbs_nobody(system: ActorSystem) -> None:
    """Those that it made live on, spawning goes on, and a spawn that is under way is not lost."""
    refs = [system.spawn(Worker, number) for number in range(3)]
    pids = [pid_of(ref) for ref in refs]
    for _ in range(3):
        kill(family(system.guardian_pid).zygote)
        refs.append(system.spawn(Worker, len(refs)))
    assert [ref.ask(Worker.add, 0).result(20) for ref in refs] == list(range(6))
    assert [pid_of(ref) for ref in refs[:3]] == pids


def test_what_an_actor_starts_ends_with_it(system: ActorSystem) -> None:
    ref = system.spawn(Worker, restart="temporary")
    started = ref.ask(Worker.start_child_process).result(20)
    kill(pid_of(ref))
    ref.wait(20)
    until(lambda: process(started) is None, "its child process to be gone")


def test_the_guardians_death_ends_all(system: ActorSystem) -> None:
    refs = [system.spawn(Worker) for _ in range(3)]
    pids = [pid_of(ref) for ref in refs]
    everybody = [*pids, *family(system.guardian_pid)]
    pending = refs[0].ask(Worker.hang)
    kill(system.guardian_pid)
    with pytest.raises(SystemDied):
        pending.result(20)
    until(lambda: not any(alive(pid) for pid in everybody), "all processes of the system to be gone")

"""What actors start and leave behind: it ends with its actor, whatever it did to get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from actors import Actor, ActorSystem, Backoff
from kit import Journal, alive, descendants, kill, until

AT_ONCE = Backoff(0.0, 0.0)
LEAVE = "import os, sys, time; sys.stdout.close(); sys.stderr.close(); "
WRITE = "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(300)"
PROGRAMS = {
    "a child": LEAVE + WRITE,
    "a session of its own": LEAVE + "os.setsid(); " + WRITE,
    "a group of its own": LEAVE + "os.setpgid(0, 0); " + WRITE,
    "a daemon": LEAVE + "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); " + WRITE,
    "a family in sessions": LEAVE + "os.setsid(); os.fork(); os.setsid() if os.getpgrp() != os.getpid() else 0; os.fork(); " + WRITE,
}  # fmt: skip


class Starter(Actor):
    """Starts programs, and forks."""

    def __init__(self) -> None:
        self.children: list[Any] = []

    def pid(self) -> int:
        return os.getpid()

    def start(self, way: str, journal: Journal, bare: bool = False) -> int:
        """bare: without any environment."""
        command = [sys.executable, "-S", "-c", PROGRAMS[way], journal.path]
        self.children.append(subprocess.Popen(command, env={} if bare else None))
        return os.getpid()

    def fork(self, journal: Journal, session: bool) -> int:
        """No exec: its environment and its title are this process's."""
        if os.fork() == 0:
            if session:
                os.setsid()
            else:
                os.setpgid(0, 0)
            os.fork()
            journal.write(os.getpid())
            time.sleep(300)
            os._exit(0)
        return os.getpid()

    def run(self, code: int) -> int:
        return subprocess.run([sys.executable, "-S", "-c", f"raise SystemExit({code})"], check=False).returncode

    def wait_for_any(self) -> int:
        """A child of its own, forked and waited for by os.wait()."""
        child = os.fork()
        if child == 0:
            os._exit(7)
        pid, status = os.wait()
        assert pid == child
        return os.waitstatus_to_exitcode(status)


ENDS = {
    "SIGKILL": lambda starter: kill(starter.info()["pid"]),
    "kill": lambda starter: starter.kill(),
    "stop": lambda starter: starter.stop(),
}
COUNT = {"a family in sessions": 4}


def written(journal: Journal, count: int) -> list[int]:
    """Pids of those that have got away."""
    until(lambda: len(journal.lines()) >= count, f"{count} are there", 20.0)
    return [int(line) for line in journal.lines()]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_what_an_actor_has_started_ends_with_it(end: str, count: int, system: ActorSystem, journal: Journal) -> None:
    """In every way to get away at once: however the actor ends, all of it goes; what others have started in the same
    ways lives on."""
    actors = {way: [system.spawn(Starter, restart="temporary") for _ in range(count)] for way in PROGRAMS}
    others = [system.spawn(Starter) for _ in PROGRAMS]
    theirs = Journal(f"{journal.path}.other")
    for other, (way, starters) in zip(others, actors.items(), strict=True):
        for starter in starters:
            starter.ask(Starter.start, way, journal).result(20)
        other.ask(Starter.start, way, theirs).result(20)
    each = sum(COUNT.get(way, 1) for way in PROGRAMS)
    strays, kept = written(journal, count * each), written(theirs, each)
    for starters in actors.values():
        for starter in starters:
            ENDS[end](starter)
    for starters in actors.values():
        for starter in starters:
            starter.wait(20)
    until(lambda: not any(map(alive, strays)), f"{strays} to end")
    assert all(map(alive, kept))
    assert all(other.ask(Starter.pid).result(10) for other in others)


@pytest.mark.parametrize("session", [True, False])
def test_what_an_actor_has_only_forked_ends_with_it(session: bool, system: ActorSystem, journal: Journal) -> None:
    """It bears no mark but the actor's title."""
    starter, other = system.spawn(Starter, backoff=AT_ONCE), system.spawn(Starter)
    theirs = Journal(f"{journal.path}.other")
    pid = starter.ask(Starter.fork, journal, session).result(20)
    other.ask(Starter.fork, theirs, session).result(20)
    strays, others = written(journal, 2), written(theirs, 2)
    kill(pid)
    assert starter.ask(Starter.pid).result(20) != pid
    until(lambda: not any(map(alive, strays)), f"{strays} to end")
    assert all(map(alive, others))


def test_one_without_any_mark_ends_with_the_last_actor_that_may_have_started_it(
    system: ActorSystem, journal: Journal
) -> None:
    """Daemons with an empty environment: nobody is killed for another's actor, nobody outlives all that it may be of."""
    first, second = system.spawn(Starter, restart="temporary"), system.spawn(Starter, restart="temporary")
    second.ask(Starter.start, "a daemon", journal, True).result(20)
    [stray] = written(journal, 1)
    time.sleep(0.05)  # the kernel's clock of births has ticks of 10 ms
    late = system.spawn(Starter)
    first.kill()
    first.wait(20)
    assert late.ask(Starter.pid).result(10)
    assert alive(stray)
    second.kill()
    second.wait(20)
    until(lambda: not alive(stray), f"{stray} to end")
    assert late.ask(Starter.pid).result(10)


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.nightly)])
def test_what_a_restarted_actor_left_is_gone_before_it_starts_the_same_again(
    rounds: int, system: ActorSystem, journal: Journal
) -> None:
    """Kill after kill: at no time more than one incarnation's are alive, and in the end none."""
    starter = system.spawn(Starter, backoff=AT_ONCE, restart="permanent")
    for number in range(rounds):
        pid = starter.ask(Starter.start, "a daemon", journal).result(20)
        strays = written(journal, number + 1)
        kill(pid)
        until(lambda: not any(map(alive, strays)), "all of the dead to end")  # noqa: B023
        assert starter.ask(Starter.pid).result(20) != pid
    starter.kill()
    starter.wait(20)
    assert [each for each in descendants(system.guardian_pid) if "-S" in each.title.split()] == []


def test_a_program_keeps_the_status_of_its_own_children(system: ActorSystem) -> None:
    """subprocess.run and os.wait in an actor: neither the guardian nor a stray takes it."""
    starter = system.spawn(Starter)
    assert [starter.ask(Starter.run, code).result(20) for code in (0, 1, 3, 255)] == [0, 1, 3, 255]
    assert starter.ask(Starter.wait_for_any).result(20) == 7


def test_a_system_in_a_program_that_an_actor_started_ends_with_that_actor(
    system: ActorSystem, journal: Journal
) -> None:
    """Its own zygote and actors are nobody's strays while it runs, and all of it goes when the outer actor dies."""
    starter = system.spawn(Nesting, journal, restart="temporary")
    inner = starter.ask(Nesting.start).result(30)
    strays = [inner, *(each.pid for each in descendants(inner))]
    assert len(strays) >= 5  # program, warden, guardian, zygote, actor
    assert starter.ask(Nesting.talk).result(20) == "still here"
    kill(starter.info()["pid"], signal.SIGKILL)
    starter.wait(20)
    until(lambda: not any(map(alive, strays)), "all of it to end")


INNER = """
from actors import Actor, ActorSystem
class Echo(Actor):
    def echo(self, text):
        return text
with ActorSystem() as system:
    echo = system.spawn(Echo, name="echo")
    other = system.spawn(Echo, name="other", restart="temporary")
    print("ready", flush=True)
    while input():
        other.kill(); other.wait()
        print(echo.ask(Echo.echo, "still here").result(), flush=True)
"""


class Nesting(Actor):
    """Runs a program that has a system of its own."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def start(self) -> int:
        self.process = subprocess.Popen(
            [sys.executable, "-c", INNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self.process.pid

    def talk(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("talk\n")
        return self.process.stdout.readline().strip()

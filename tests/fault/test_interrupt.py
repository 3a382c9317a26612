"""Ctrl-C: the program hears KeyboardInterrupt as usual, its actors stop, a second one kills; no actor prints a traceback."""

from __future__ import annotations

import os
import pty
import random
import signal
import sys
import textwrap
import time

import pytest

from kit import LeakGuard, Script, system_name, until

PROLOGUE = """
import asyncio, os, signal, sys, time
from actors import Actor, ActorSystem, MailboxOptions

name = sys.argv[1]

def say(*words):
    print(*words, flush=True)

class Worker(Actor):
    def ok(self):
        return os.getpid()

    def note(self, number, padding=b""):
        pass

    def hang(self, tell=True):
        if tell:
            say("ready")
        time.sleep(60)

    async def suspend(self):
        say("ready")
        await asyncio.sleep(60)

    def on_stop(self, reason):
        say("on_stop", reason.kind)

class Stubborn(Worker):
    def on_stop(self, reason):
        say("stubborn")
        time.sleep(60)

class SlowToStart(Worker):
    def on_start(self):
        say("ready")
        time.sleep(60)
"""

MOMENTS = {
    "while the program sleeps": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker)
            say("ready")
            time.sleep(60)
        """,
    "while it computes": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker)
            say("ready")
            while True:
                pass
        """,
    "while it waits for an answer": """
        with ActorSystem(name) as system:
            system.spawn(Worker, shutdown=0.1).ask(Worker.hang).result()
        """,
    "while it waits for an answer with a deadline": """
        with ActorSystem(name) as system:
            system.spawn(Worker, shutdown=0.1).using(timeout=60).ask(Worker.hang).result()
        """,
    "while it waits for an end": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker)
            say("ready")
            worker.wait()
        """,
    "while it waits for events": """
        with ActorSystem(name) as system:
            events = system.events()
            worker = system.spawn(Worker)
            say("ready")
            for event in events:
                pass
        """,
    "while it waits for room": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker, shutdown=0.1, mailbox=MailboxOptions(capacity=4096))
            worker.tell(Worker.hang)
            while True:
                worker.tell(Worker.note, 1, bytes(500))
        """,
    "while it asks as fast as it can": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker)
            say("ready")
            while True:
                worker.ask(Worker.ok).result()
        """,
    "while it tells as fast as it can": """
        with ActorSystem(name) as system:
            worker = system.spawn(Worker, shutdown=0.1)
            say("ready")
            while True:
                worker.tell(Worker.note, 1)
        """,
    "while an actor starts": """
        with ActorSystem(name) as system:
            system.spawn(SlowToStart, shutdown=0.1)
        """,
    "while it spawns as fast as it can": """
        with ActorSystem(name) as system:
            say("ready")
            while True:
                system.spawn(Worker).kill()
        """,
    "while asyncio awaits an answer": """
        async def main():
            async with ActorSystem(name) as system:
                await system.spawn(Worker, shutdown=0.1).ask(Worker.suspend)
        asyncio.run(main())
        """,
    "while asyncio sleeps": """
        async def main():
            async with ActorSystem(name) as system:
                worker = await system.spawn_async(Worker)
                say("ready")
                await asyncio.sleep(60)
        asyncio.run(main())
        """,
    "without a with": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        say("ready")
        time.sleep(60)
        """,
}


def check_end(script: Script) -> None:
    """It ended by KeyboardInterrupt, promptly, and no process but the program itself printed a traceback."""
    output = script.drain(10)
    assert script.process.wait(10) == -signal.SIGINT, output
    assert "KeyboardInterrupt" in output
    check_quiet(output)


def check_quiet(output: str) -> None:
    """No traceback of an actor, the zygote or the guardian."""
    assert not any(f"actors/{file}" in output for file in ("process.py", "loop.py", "zygote.py", "guardian/")), output


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_the_program_as_usual(moment: str, nothing_is_left: LeakGuard) -> None:
    """KeyboardInterrupt is raised where the program is, the system is closed within its shutdown times, nothing is left."""
    with Script(PROLOGUE + textwrap.dedent(MOMENTS[moment]), system_name()) as script:
        script.expect("ready")
        script.interrupt()
        check_end(script)


TWICE = {
    "in the block, then while stubborn actors stop": """
        with ActorSystem(name) as system:
            system.spawn(Stubborn, shutdown=60)
            system.spawn(Worker)
            say("ready")
            time.sleep(60)
        """,
    "while the end waits for a handler, twice": """
        with ActorSystem(name) as system:
            worker = system.spawn(Stubborn, shutdown=60)
            worker.tell(Worker.hang)
        """,
    "in a coroutine, then while stubborn actors stop": """
        async def main():
            async with ActorSystem(name) as system:
                await system.spawn_async(Stubborn, shutdown=60)
                say("ready")
                await asyncio.sleep(60)
        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("moment", TWICE)
def test_a_second_ctrl_c_kills(moment: str, nothing_is_left: LeakGuard) -> None:
    """Actors that would take a minute to stop are killed by the next Ctrl-C; the program still ends as usual."""
    with Script(PROLOGUE + textwrap.dedent(TWICE[moment]), system_name()) as script:
        script.expect("ready")
        script.interrupt()
        if "handler" not in moment:
            script.expect("stubborn")
        else:
            time.sleep(0.1)
        script.interrupt()
        check_end(script)


def test_ctrl_c_while_the_accepted_is_handled_goes_on_with_the_shutdown_times(nothing_is_left: LeakGuard) -> None:
    """Leaving the block drains; Ctrl-C then applies the shutdown time, and KeyboardInterrupt comes out of the block."""
    code = """
try:
    with ActorSystem(name) as system:
        worker = system.spawn(Worker, shutdown=0.1)
        worker.tell(Worker.hang)
except KeyboardInterrupt:
    say("caught")
"""
    with Script(PROLOGUE + code, system_name()) as script:
        script.expect("ready")
        time.sleep(0.05)
        script.interrupt()
        script.expect("caught")
        assert script.process.wait(10) == 0
        assert "Traceback" not in script.drain()


@pytest.mark.parametrize("times", [8, pytest.param(300, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("clicks", [1, 2, 3])
def test_ctrl_c_at_any_moment_leaves_nothing(
    times: int, clicks: int, nothing_is_left: LeakGuard, rng: random.Random
) -> None:
    """From before the system starts until after it has ended, once, twice or three times: the program ends promptly,
    nothing is left, and no process but the program prints a traceback."""
    code = """
say("go")
with ActorSystem(name) as system:
    workers = [system.spawn(Worker, shutdown=0.1) for _ in range(2)]
    for number in range(200):
        for worker in workers:
            worker.tell(Worker.note, number)
            worker.ask(Worker.ok).result()
    workers[0].ask(Worker.ok).result()
say("end")
time.sleep(0.02)
"""
    for _ in range(times):
        with Script(PROLOGUE + code, system_name()) as script:
            script.expect("go")
            time.sleep(rng.uniform(0.0, 0.4))
            for _ in range(clicks):
                if script.process.poll() is None:
                    script.interrupt()
                    time.sleep(rng.choice([0.0, 0.001, 0.01, 0.1]))
            output = script.drain(20)
            assert script.process.wait(10) in (0, 1, -signal.SIGINT), output
            check_quiet(output)
        until(lambda: not nothing_is_left.left(), f"nothing is left: {nothing_is_left.left()}", 5.0)


def test_ctrl_c_at_a_terminal_reaches_the_program_alone(nothing_is_left: LeakGuard) -> None:
    """Typed at a pseudo terminal: the actors are in a session of their own and stop because the program asks them to."""
    child, terminal = pty.fork()
    if child == 0:
        code = PROLOGUE + textwrap.dedent(MOMENTS["while the program sleeps"])
        os.execv(sys.executable, [sys.executable, "-u", "-c", code, system_name("pty")])
    output = b""
    while b"ready" not in output:
        output += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 4096):
            output += part
    except OSError:  # the terminal's last user is gone
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGINT
    assert output.count(b"Traceback") == 1
    assert b"on_stop shutdown" in output


def test_sigterm_to_the_program_ends_everything(nothing_is_left: LeakGuard) -> None:
    """The library installs no signal handlers: the program dies at once, and the rest with it."""
    with Script(PROLOGUE + textwrap.dedent(MOMENTS["while the program sleeps"]), system_name()) as script:
        script.expect("ready")
        script.process.terminate()
        assert script.process.wait(10) == -signal.SIGTERM
        script.drain(5)


def test_a_program_in_the_background_that_never_hears_sigint_is_left_alone(nothing_is_left: LeakGuard) -> None:
    """A shell's background job ignores SIGINT; so does its system."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PROLOGUE
    body = """
    with ActorSystem(name) as system:
        worker = system.spawn(Worker)
        go = []
        signal.signal(signal.SIGUSR1, lambda *_: go.append(True))
        say("ready")
        while not go:
            time.sleep(0.01)
        say("pid", worker.ask(Worker.ok).result())
    """
    with Script(code + textwrap.dedent(body), system_name()) as script:
        script.expect("ready")
        script.interrupt()
        os.kill(script.pid, signal.SIGUSR1)
        script.expect("pid")
        assert script.process.wait(10) == 0
        assert "on_stop" in script.drain()

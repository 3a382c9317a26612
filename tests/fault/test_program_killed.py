"""The user's program is killed at any point of its life: nothing of its system outlives it."""

from __future__ import annotations

import os
import random
import textwrap
import time
from pathlib import Path

import pytest

from actors import Actor, ActorSystem
from kit import LeakGuard, Script, alive, descendants, family, kill, system_name, until

GONE = 2.0  # seconds after which nothing may be left

PROLOGUE = """
import os, signal, subprocess, sys, threading, time
from actors import Actor, ActorSystem

name = sys.argv[1]

def say(*words):
    print(*words, flush=True)

class Worker(Actor):
    def ok(self):
        return os.getpid()

    def note(self, number):
        pass

    def sleep(self):
        say("ready")
        time.sleep(60)

    async def suspend(self):
        import asyncio
        say("ready")
        await asyncio.sleep(60)

    def stop_yourself(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def ignore_sigterm(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def run(self, how):
        self.process = subprocess.Popen(["sleep", "60"], start_new_session=how == "setsid")

    def fork(self):
        if os.fork() == 0:
            time.sleep(60)

    def spin(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        sum(iter(int, 1))

    def daemonize(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "60"])
            os._exit(0)

class SlowToStart(Worker):
    def on_start(self):
        say("ready")
        time.sleep(60)

class SlowToStop(Worker):
    def on_stop(self, reason):
        say("ready")
        time.sleep(60)
"""

POINTS = {
    "as its system starts": """
        say("ready")
        ActorSystem(name)
        """,
    "before the zygote is ready": """
        system = ActorSystem(name)
        say("ready")
        """,
    "idle, without an actor": """
        system = ActorSystem(name)
        system.spawn(Worker).kill()
        say("ready")
        """,
    "idle, with actors": """
        system = ActorSystem(name)
        workers = [system.spawn(Worker) for _ in range(5)]
        say("ready")
        """,
    "while actors are spawned by threads": """
        system = ActorSystem(name)
        def spawn():
            while True:
                system.spawn(Worker)
        threads = [threading.Thread(target=spawn) for _ in range(3)]
        for thread in threads:
            thread.start()
        say("ready")
        """,
    "while an actor's on_start runs": """
        system = ActorSystem(name)
        system.spawn(SlowToStart)
        """,
    "under full load": """
        system = ActorSystem(name)
        workers = [system.spawn(Worker) for _ in range(2)]
        def load(worker):
            number = 0
            while True:
                worker.tell(Worker.note, number)
                worker.ask(Worker.ok).result()
        threads = [threading.Thread(target=load, args=[worker]) for worker in workers]
        for thread in threads:
            thread.start()
        say("ready")
        """,
    "while handlers run": """
        system = ActorSystem(name)
        system.spawn(Worker).tell(Worker.suspend)
        system.spawn(Worker).tell(Worker.sleep)
        """,
    "while its actors stop": """
        system = ActorSystem(name)
        system.spawn(SlowToStop)
        system.close("stop")
        """,
    "while an actor crashes again and again": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        worker.monitor(lambda down: say("ready"), incarnations=True)
        while True:
            worker.tell("sleepp")
        """,
    "with an actor that is stopped by SIGSTOP": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        worker.tell(Worker.stop_yourself)
        while worker.info()["mailbox"]["depth"] != 1:
            pass
        say("ready")
        """,
    "with an actor that ignores SIGTERM": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        worker.ask(Worker.ignore_sigterm).result()
        worker.tell(Worker.sleep)
        """,
    "with a program that an actor has started": """
        system = ActorSystem(name)
        system.spawn(Worker).ask(Worker.run, "plain").result()
        say("ready")
        """,
    "with a program of an actor in a session of its own": """
        system = ActorSystem(name)
        system.spawn(Worker).ask(Worker.run, "setsid").result()
        say("ready")
        """,
    "with a forked child of an actor": """
        system = ActorSystem(name)
        system.spawn(Worker).tell(Worker.fork)
        system.spawn(Worker).ask(Worker.ok).result()
        say("ready")
        """,
    "with a daemon of an actor": """
        system = ActorSystem(name)
        system.spawn(Worker).ask(Worker.daemonize).result()
        say("ready")
        """,
    "with a daemon of an actor that is dead": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        worker.ask(Worker.daemonize).result()
        worker.kill()
        worker.wait()
        say("ready")
        """,
    "with a forked child that holds its descriptors": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        parent = os.getpid()
        if os.fork() == 0:
            while os.getppid() == parent:
                time.sleep(0.01)
            os._exit(0)
        say("ready")
        """,
    "after it has become another program": """
        system = ActorSystem(name)
        worker = system.spawn(Worker)
        os.execvp(sys.executable, [sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"])
        """,
    "as one of many that attached": """
        system = ActorSystem(name)
        worker = system.spawn(Worker, name="worker")
        other = subprocess.Popen([sys.executable, "-c", f'''if True:
            import time
            from actors import ActorSystem
            system = ActorSystem.attach({name!r})
            print("ready", flush=True)
            try:
                system.lookup("worker").ask("sleep").result()
            except Exception as error:
                print(type(error).__name__, flush=True)
            '''])
        """,
}
EPILOGUE = "\ntime.sleep(60)\n"


def script_of(point: str) -> str:
    return PROLOGUE + textwrap.dedent(POINTS[point]) + EPILOGUE


@pytest.mark.parametrize("delay", [0.0, pytest.param(None, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("point", POINTS)
def test_nothing_outlives_a_program_killed(
    point: str, delay: float | None, nothing_is_left: LeakGuard, rng: random.Random
) -> None:
    """SIGKILL at this point: actors, what they started, guardian, warden, zygote, sockets and memory are gone in two
    seconds, and the name is free for a new system."""
    for _ in range(1 if delay is not None else 100):
        name = system_name()
        with Script(script_of(point), name) as script:
            script.expect("ready")
            time.sleep(rng.uniform(0.0, 0.05) if delay is None else delay)
            script.kill()
            if point == "as one of many that attached":
                script.expect("SystemDied")
        until(lambda: not nothing_is_left.left(), f"all of it is gone: {nothing_is_left.left()}", GONE)
        ActorSystem(name).close()


@pytest.mark.parametrize("repetitions", [10, pytest.param(200, marks=pytest.mark.nightly)])
def test_nothing_outlives_a_program_killed_at_a_random_moment_of_its_start(
    repetitions: int, nothing_is_left: LeakGuard, rng: random.Random
) -> None:
    """Between its first line and its first actor, wherever that hits warden, guardian and zygote."""
    for _ in range(repetitions):
        code = PROLOGUE + "say('go')" + textwrap.dedent(POINTS["idle, with actors"]) + EPILOGUE
        with Script(code, system_name()) as script:
            script.expect("go")
            time.sleep(rng.uniform(0.0, 0.15))
            script.kill()
        until(lambda: not nothing_is_left.left(), f"all of it is gone: {nothing_is_left.left()}", GONE)


BUSY = {
    "with a program of its own": 'worker.ask(Worker.run, "setsid").result()',
    "with a forked child": "worker.tell(Worker.fork)",
    "with a daemon": "worker.ask(Worker.daemonize).result()",
    "in native code, all signals blocked": "worker.tell(Worker.spin)",
}


@pytest.mark.parametrize("times", [5, pytest.param(125, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("busy", BUSY)
def test_nothing_outlives_a_program_killed_with_or_without_its_actor(
    busy: str, together: bool, times: int, nothing_is_left: LeakGuard, rng: random.Random
) -> None:
    """Program and actor are killed in the same instant, in either order, or the program alone, while the actor is busy
    with what does not end by itself."""
    code = f"""
    system = ActorSystem(name)
    worker = system.spawn(Worker)
    pid = worker.ask(Worker.ok).result()
    {BUSY[busy]}
    say("pid", pid)
    """
    for _ in range(times if together else max(1, times // 5)):
        with Script(PROLOGUE + textwrap.dedent(code) + EPILOGUE, system_name()) as script:
            victims = [script.pid, *([int(pid)] if (pid := script.expect("pid")) and together else [])]
            for victim in rng.sample(victims, len(victims)):
                kill(victim)
        until(lambda: not nothing_is_left.left(), f"all of it is gone: {nothing_is_left.left()}", GONE)


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_nothing_of_an_unclean_end_is_in_the_way_of_the_next_system_of_that_name(
    times: int, nothing_is_left: LeakGuard, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Program, warden, guardian, zygote and actors are killed at once, in any order, as by a power cut: nothing of theirs
    has a name that could be stale (no file, no socket, no semaphore), a neighbour system is untouched, and the next
    system of the same name starts, again and again."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    name = system_name()
    code = (
        PROLOGUE
        + """
system = ActorSystem(name)
workers = [system.spawn(Worker) for _ in range(2)]
say("guardian", system.guardian_pid)
time.sleep(60)
"""
    )
    with ActorSystem(system_name("neighbour")) as neighbour:
        worker = neighbour.spawn(Bystander)
        pid = worker.ask(Bystander.pid).result(20)
        beside = nothing_is_left.left()
        for _ in range(times):
            with Script(code, name) as script:
                warden, guardian, _ = family(int(script.expect("guardian")))
                everybody = [script.pid, warden, *(each.pid for each in descendants(warden))]
                for victim in rng.sample(everybody, len(everybody)):
                    kill(victim)
            until(lambda: not alive(guardian), "the guardian is dead")  # noqa: B023 - called here and now
            until(lambda: sorted(nothing_is_left.left()) == sorted(beside), f"gone: {nothing_is_left.left()}", GONE)
            assert list(tmp_path.iterdir()) == []
        assert worker.ask(Bystander.pid).result(20) == pid
        del worker


class Bystander(Actor):
    """Of another system."""

    def pid(self) -> int:
        return os.getpid()


def test_nothing_outlives_a_program_that_leaves_without_closing(nothing_is_left: LeakGuard) -> None:
    """`os._exit` in the program is no excuse."""
    code = PROLOGUE + textwrap.dedent(POINTS["idle, with actors"]) + "os._exit(5)"
    with Script(code, system_name()) as script:
        assert script.process.wait(20) == 5
    until(lambda: not nothing_is_left.left(), f"all of it is gone: {nothing_is_left.left()}", GONE)

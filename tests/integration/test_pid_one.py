"""As the first process of a container: strays are reaped, statuses are whose they are, signals and exit codes arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit import Gate, Process, Service, children, kill, process, system_name, until

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


def refusal() -> str:
    """Why no container can be made here; "" when one can."""
    try:
        done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=20)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


REFUSAL = refusal()
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.usefixtures("leak_guard"),
    pytest.mark.skipif(bool(REFUSAL), reason=f"no pid namespace of our own: {REFUSAL}"),
]

WORKERS = """
import os, signal, subprocess, time
from actors import Actor
from actors.supervision import Child, Supervisor

STRAY = "(read line < gate) > /dev/null 2>&1 & echo $!"  # its parent ends at once, and it when the gate opens

def say(*words):
    print(*words, flush=True)

def statuses():
    return {subprocess.run(["sh", "-c", "exit 7"]).returncode for _ in range(30)}

class Steady(Actor):
    def on_start(self):
        self.after(0, self.look)
    def look(self):
        say("actor", os.getppid() != 1, statuses())
        subprocess.run(["sh", "-c", STRAY], stdout=subprocess.DEVNULL)
        say("strayed")
    def on_stop(self, reason):
        say("stopped:", reason)

class Job(Actor):
    def on_start(self):
        self.after(0, self.stop)

class Broken(Actor):
    def on_start(self):
        self.after(0, self.fail)
    def fail(self):
        raise ValueError("broken for good")

class Stubborn(Steady):
    def look(self):
        say("working")
        time.sleep(60)

def steady():
    strays = [int(subprocess.run(["sh", "-c", STRAY], capture_output=True).stdout) for _ in range(3)]
    say("program", os.getpid(), os.getppid(), strays, statuses())
    return Supervisor(Child(Steady))

def killing():
    return Supervisor(Child(kill_program, os.getpid()))

class kill_program(Actor):
    def __init__(self, program):
        os.kill(program, signal.SIGKILL)
        time.sleep(60)

job, broken, stubborn = (
    Supervisor(Child(each, restart="transient"), max_restarts=0) for each in (Job, Broken, Stubborn)
)
"""
Start = Callable[[str], Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A tree of workers.py in a container of its own."""
    (tmp_path / "workers.py").write_text(WORKERS)
    services: list[Service] = []

    def run(tree: str) -> Service:
        services.append(Service(tmp_path, f"workers:{tree}", "--name", system_name("one"), before=UNSHARE))
        return services[-1]

    yield run
    for service in services:
        for pid in children(service.process.pid):
            kill(pid)
        service.stop()


def first_of(container: int) -> int:
    """PID 1 of a container, as we see it, by the pid of its unshare."""
    return until(lambda: children(container), "the container has its first process")[0]


def below(pid: int) -> list[Process]:
    return [found for each in children(pid) if (found := process(each))]


def test_strays_are_reaped_and_nobodys_status_is_taken(start: Start, tmp_path: Path) -> None:
    """Of the program and of an actor: what they started and wait for tells them its own status, also while strays end; of
    the strays no zombie is left."""
    gate = Gate(tmp_path / "gate")
    service = start("steady")
    words = service.line()
    assert words.startswith("program ") and words.endswith(" {7}")
    assert words.split()[1] != "1" and words.split()[2] == "1"
    assert service.line() == "actor True {7}"
    assert service.line() == "strayed"
    first = first_of(service.process.pid)
    until(lambda: len(children(first)) == 1 + 3, "the program's strays were adopted")
    opened = os.open(gate.path, os.O_RDWR)  # stays open for those that come to the gate later; each reads one line
    os.write(opened, b"\n" * (3 + 1))
    until(lambda: len(below(first)) == 1, "and are gone")
    os.close(opened)
    program = children(first)[0]
    until(lambda: all(each.lives for each in (*below(first), *below(program), *grandchildren(program))), "no zombie")
    kill(first, signal.SIGTERM)
    code, out, _ = service.end()
    assert (code, out) == (128 + signal.SIGTERM, "stopped: shut down\n")


def grandchildren(pid: int) -> list[Process]:
    return [each for child in children(pid) for grandchild in children(child) for each in below(grandchild)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_pid_1_drains_and_is_the_exit_code(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """Though the kernel gives PID 1 no default actions."""
    Gate(tmp_path / "gate")
    service = start("steady")
    while service.line() != "strayed":
        pass
    kill(first_of(service.process.pid), number)
    code, out, _ = service.end()
    assert (code, out) == (128 + number, "stopped: shut down\n")


def test_the_second_signal_to_pid_1_kills(start: Start) -> None:
    """Whatever its actors do."""
    service = start("stubborn")
    assert service.line() == "working"
    first = first_of(service.process.pid)
    kill(first, signal.SIGTERM)
    assert "once more kills" in service.complaint()
    kill(first, signal.SIGTERM)
    code, out, _ = service.end()
    assert (code, out) == (128 + signal.SIGTERM, "")


@pytest.mark.parametrize(("tree", "code"), [("job", 0), ("broken", 70), ("killing", 128 + signal.SIGKILL)])
def test_the_exit_code_is_the_programs(start: Start, tree: str, code: int) -> None:
    """0 when all is done, 70 when it failed, 128 + n when the program itself was killed."""
    assert start(tree).end()[0] == code


LIBRARY = """
import os, signal, subprocess, sys, time
from actors import Actor, ActorSystem

def statuses():
    return {subprocess.run(["sh", "-c", "exit 7"]).returncode for _ in range(30)}

class Worker(Actor):
    def statuses(self):
        return statuses()
    def stray(self):
        subprocess.run(["sh", "-c", "(sleep 0.05) & (sleep 0.1) &"])

def zombies():
    stats = [open(f"/proc/{pid}/stat").read() for pid in os.listdir("/proc") if pid.isdigit()]
    return [stat for stat in stats if stat.rpartition(")")[2].split()[0] == "Z"]

def until_none(what):
    end = time.monotonic() + 10
    while zombies():
        assert time.monotonic() < end, (what, zombies())
        time.sleep(0.005)
    print(what, flush=True)

system = ActorSystem(sys.argv[1])
print("pid", os.getpid(), flush=True)
workers = [system.spawn(Worker) for _ in range(3)]
for worker in workers:
    worker.ask(Worker.stray).result(10)
print(statuses(), [worker.ask(Worker.statuses).result(10) for worker in workers], flush=True)
workers[0].kill()
until_none("nothing of actors")
system.close()
until_none("nothing of a system that was closed")
system = ActorSystem(sys.argv[1])
worker = system.spawn(Worker)
os.kill(int(open(f"/proc/{system.guardian_pid}/stat").read().rpartition(")")[2].split()[1]), signal.SIGKILL)
try:
    worker.wait()
except Exception as error:
    print(type(error).__name__, flush=True)
system.close()
until_none("nothing of a system whose warden was killed")
"""


def test_a_program_of_its_own_as_pid_1_is_left_no_zombie_and_all_its_statuses() -> None:
    """The library reaps what its actors leave, in the guardian, and what falls to the program when the warden is killed."""
    command = [*UNSHARE, sys.executable, "-u", "-c", LIBRARY, system_name("one")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "pid 1",
        "{7} [{7}, {7}, {7}]",
        "nothing of actors",
        "nothing of a system that was closed",
        "SystemDied",
        "nothing of a system whose warden was killed",
    ]


def test_actors_run_elsewhere_has_no_init_of_its_own(tmp_path: Path) -> None:
    """Outside of a container it is one process, whose parent is whoever started it."""
    (tmp_path / "workers.py").write_text(WORKERS)
    service = Service(tmp_path, "workers:stubborn", "--name", system_name("one"))
    try:
        assert service.line() == "working"
        assert [each.title.rpartition(" ")[2] for each in below(service.process.pid)] == ["warden"]
    finally:
        service.stop()

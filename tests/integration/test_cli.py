"""The command `actors` as a shell sees it: what it prints, what it leaves, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit import Service, system_name, until

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("leak_guard")]

WORKERS = """
import os, time
from pathlib import Path
from actors import Actor
from actors.supervision import Child, Supervisor

class Service(Actor):
    def on_start(self):
        print("ready", os.getpid(), flush=True)
    def on_stop(self, reason):
        print("stopped:", reason, flush=True)

class Slow(Actor):
    def on_start(self):
        self.after(0, self.work)
    def work(self):
        print("working", os.getpid(), flush=True)
        while not Path("go-on").exists():
            time.sleep(0.01)
        print("worked", flush=True)

class Job(Actor):
    def on_start(self):
        self.after(0, self.stop)

class Broken(Actor):
    def on_start(self):
        self.after(0, self.fail)
    def fail(self):
        raise ValueError("broken for good")

class Refused(Actor):
    def __init__(self):
        raise ValueError("no such file")

tree = Supervisor(Child(Job, restart="transient"))
"""


Start = Callable[..., Service]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workers.py").write_text(WORKERS)
    return tmp_path


@pytest.fixture
def name() -> str:
    """A system's name that no other run uses."""
    return system_name("cli")


@pytest.fixture
def start(folder: Path, name: str) -> Iterator[Start]:
    """Run a tree of the given factories; whatever is left is killed in the end."""
    programs: list[Service] = []

    def run(*factories: str, options: str = "") -> Service:
        children = "".join(f'[[child]]\nfactory = "workers:{factory}"\n{options}\n' for factory in factories)
        (folder / "app.toml").write_text(f'name = "app"\n{children}')
        programs.append(Service(folder, "app.toml", "--name", name))
        return programs[-1]

    yield run
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate(timeout=30)


def command(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "actors", *arguments], capture_output=True, text=True, timeout=30, cwd=folder
    )
    return done.returncode, done.stdout, done.stderr


# --- run


def test_run_ends_with_0_when_every_actor_has_ended(folder: Path, name: str) -> None:
    """A tree of transient children that stop themselves is a batch job."""
    assert command("run", "workers:tree", "--name", name, folder=folder) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_the_tree_and_is_the_exit_code(start: Start, name: str, number: signal.Signals) -> None:
    """128 + n, and on_stop has run."""
    program = start("Service")
    assert program.line().startswith("ready")
    until(lambda: "running" in command("tree", name)[1], "the tree is up: on_start's line comes before")
    program.process.send_signal(number)
    code, out, _ = program.end()
    assert (code, out) == (128 + number, "stopped: shut down\n")


def test_a_drain_finishes_what_is_in_hand(start: Start, folder: Path) -> None:
    """The handler that runs when Ctrl-C comes runs to its end."""
    program = start("Slow")
    assert program.line().startswith("working")
    program.process.send_signal(signal.SIGINT)
    assert program.process.stderr and "once more kills" in program.process.stderr.readline()
    (folder / "go-on").touch()
    code, out, _ = program.end()
    assert (code, out) == (128 + signal.SIGINT, "worked\n")


def test_the_second_signal_kills_program_and_actors(start: Start) -> None:
    """Whatever they do; nothing is left (which the leak guard of this file says)."""
    program = start("Slow")
    assert program.line().startswith("working")
    program.process.send_signal(signal.SIGTERM)
    assert program.process.stderr and "once more kills" in program.process.stderr.readline()
    program.process.send_signal(signal.SIGTERM)
    code, out, _ = program.end()
    assert (code, out) == (-signal.SIGTERM, "")


def test_run_ends_with_70_and_the_first_cause_when_an_actor_failed(start: Start) -> None:
    """Its restarts are used up; it was the only one."""
    code, _, err = start("Broken", options="max_restarts = 1").end()
    assert code == 70
    assert "the first cause: app/broken raised ValueError: broken for good" in err.splitlines()[-1]


def test_escalation_to_the_root_ends_with_70_and_says_the_first_cause(folder: Path, name: str) -> None:
    """Four levels without restarts: the log names the actor that was the first, and says who has failed of what."""
    levels = ["supervisor", "supervisor.supervisor", "supervisor.supervisor.supervisor"]
    tables = [f'[[{level}]]\nname = "l{depth}"\nmax_restarts = 0\n' for depth, level in enumerate(levels, 1)]
    child = f'[[{levels[-1]}.child]]\nfactory = "workers:Broken"\n'
    (folder / "deep.toml").write_text('name = "app"\nmax_restarts = 0\n' + "".join(tables) + child)
    code, _, err = Service(folder, "deep.toml", "--name", name).end()
    assert code == 70
    escalations = [line for line in err.splitlines() if "escalated" in line]
    assert len(escalations) == 3
    assert all(f"cause=actor://{name}/app/l1/l2/l3/broken" in line for line in escalations)
    assert "the first cause: app/l1/l2/l3/broken raised ValueError: broken for good" in err.splitlines()[-1]


def test_a_tree_whose_significant_child_is_done_ends_with_0(folder: Path, name: str) -> None:
    """The service beside it would run for ever."""
    (folder / "batch.toml").write_text(
        'auto_shutdown = "any_significant"\n[[child]]\nfactory = "workers:Service"\n'
        '[[child]]\nfactory = "workers:Job"\nrestart = "transient"\nsignificant = true\n'
    )
    code, out, _ = Service(folder, "batch.toml", "--name", name).end()
    assert code == 0
    assert "stopped: shut down" in out


def test_run_ends_with_1_when_an_actor_can_not_start(start: Start) -> None:
    """The child's own traceback is said."""
    code, _, err = start("Refused").end()
    assert code == 1
    assert "ValueError: no such file" in err


def test_run_ends_with_1_when_the_file_is_wrong(start: Start) -> None:
    """One line that names the file, the child and the field, and no traceback."""
    code, out, err = start("Service", options='restart = "often"').end()
    assert (code, out) == (1, "")
    assert err.startswith("actors: app.toml: child 'service': restart must be one of") and "Traceback" not in err


def test_a_wrong_command_line_is_2() -> None:
    """argparse's own code, with the usage."""
    code, _, err = command("run")
    assert code == 2
    assert "usage: actors run" in err


# --- look and act


def test_tree_draws_a_running_system(start: Start, name: str) -> None:
    """Names, states and pids, as text and as data."""
    pid = start("Service").line().split()[1]
    code, out, _ = command("tree", name)
    assert code == 0
    assert ["└─", "service", "running", pid, "0"] == out.splitlines()[-1].split()[:5]
    code, out, _ = command("tree", name, "--json")
    assert [child["name"] for child in json.loads(out)["children"]] == ["app"]


def test_top_shows_so_many_screens_as_are_asked_for(start: Start, name: str) -> None:
    """Each with a line an actor."""
    start("Service").line()
    code, out, _ = command("top", name, "--count", "2", "--interval", "0.01")
    assert code == 0
    assert sum(line.startswith("app/service") for line in out.splitlines()) == 2


def test_restart_replaces_the_process(start: Start, name: str) -> None:
    """The old one stops in order, the new one is ready when the command ends."""
    program = start("Service")
    before = program.line()
    assert command("restart", name, "app/service") == (0, f"actor://{name}/app/service restarted\n", "")
    assert program.line() == "stopped: shut down"
    after = program.line()
    assert after.startswith("ready") and after != before


def test_stop_ends_an_actor_for_good(start: Start, name: str) -> None:
    """And `run` with it, since it was the only one."""
    program = start("Service")
    program.line()
    assert command("stop", name, "app/service") == (0, f"actor://{name}/app/service shut down\n", "")
    code, out, _ = program.end()
    assert (code, out) == (0, "stopped: shut down\n")


@pytest.mark.parametrize("arguments", [("tree",), ("top",), ("stop", "app/service"), ("restart", "app/service")])
def test_a_system_that_does_not_run_is_said(name: str, arguments: tuple[str, ...]) -> None:
    """Exit code 1 and one line."""
    first, *rest = arguments
    code, out, err = command(first, name, *rest)
    assert (code, out) == (1, "")
    assert err.startswith(f"actors: no system '{name}' of this user runs") and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_an_actor_that_does_not_exist_is_said(start: Start, name: str, verb: str) -> None:
    """With those that do."""
    start("Service").line()
    code, _, err = command(verb, name, "app/nobody")
    assert code == 1
    assert "app/nobody does not exist" in err and "app/service" in err


# --- measure


def test_bench_measures_what_is_asked_for(tmp_path: Path) -> None:
    """The table on stdout, the samples in the file; the speed is no matter here."""
    code, out, err = command("bench", "--rounds", "1", "--only", "spawn", "--json", str(tmp_path / "samples.json"))
    assert code == 0, err
    assert "multiprocessing, spawn" in out
    assert json.loads((tmp_path / "samples.json").read_text())["samples"].keys() == {"spawn.actors", "spawn.process"}


def test_bench_refuses_a_case_that_does_not_exist() -> None:
    """With those that do."""
    code, _, err = command("bench", "--only", "aks")
    assert code == 1
    assert "no benchmark matches 'aks'" in err and "ask.pipe" in err


def test_stacks_shows_one_actor_or_all(start: Start, name: str) -> None:
    """Under their addresses; what they do is there."""
    program = start("Slow", "Service")
    assert {program.line().split()[0] for _ in range(2)} == {"working", "ready"}
    until(lambda: command("tree", name)[1].count("running") >= 2, "the tree is up")
    code, out, err = command("stacks", name)
    assert (code, err) == (0, "")
    assert f"actor://{name}/app/slow (pid " in out
    assert f"actor://{name}/app/service (pid " in out
    assert "in work" in out
    code, out, err = command("stacks", name, "app/service")
    assert (code, err) == (0, "")
    assert "app/slow" not in out
    assert "in select" in out


def test_stacks_of_a_stopped_actor_end_in_time(start: Start, name: str) -> None:
    """A sentence instead; the others are shown."""
    program = start("Service")
    pid = int(program.line().split()[1])
    until(lambda: "running" in command("tree", name)[1], "the tree is up")
    os.kill(pid, signal.SIGSTOP)
    code, out, _ = command("stacks", name)
    os.kill(pid, signal.SIGCONT)
    assert code == 0
    assert "it is stopped (SIGSTOP)" in out

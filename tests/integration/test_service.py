"""`actors run` as a good process: grace, signals, exit codes, a shell's job control, and the service manager."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import actors.service
from actors import ActorsError, ActorSystem
from actors.supervision import Supervisor
from kit import Gate, Service, kill, system_name, until

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("leak_guard")]

WORKERS = """
import os, time
from actors import Actor
from actors.supervision import Child, Supervisor

def say(*words):
    print(*words, flush=True)

class Steady(Actor):
    def on_start(self):
        say("ready", os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC"))
    def pid(self):
        return os.getpid()
    def on_stop(self, reason):
        say("stopped:", reason)

class Busy(Steady):
    def on_start(self):
        self.after(0, self.work)
    def work(self):
        say("working")
        time.sleep(60)

class Gated(Steady):
    def __init__(self):
        say("waiting")
        os.close(os.open("gate", os.O_RDONLY))

class Broken(Steady):
    def on_start(self):
        self.after(0, self.fail)
    def fail(self):
        raise ValueError("broken for good")

deep = Supervisor(
    Supervisor(
        Supervisor(Child(Broken, name="broken"), name="inner", max_restarts=1), name="middle", max_restarts=0
    ),
    name="app", max_restarts=0,
)
beside = Supervisor(Child(Steady, name="steady"), Child(Broken, name="broken"), name="app", max_restarts=0)
"""
Start = Callable[..., Service]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workers.py").write_text(WORKERS)
    return tmp_path


@pytest.fixture
def name() -> str:
    return system_name("service")


@pytest.fixture
def start(folder: Path, name: str) -> Iterator[Start]:
    """Run children of these classes (or the tree `workers:…`); whatever is left is killed in the end."""
    services: list[Service] = []

    def run(*factories: str, options: str = "", arguments: tuple[str, ...] = (), **more: str) -> Service:
        tree = "app.toml"
        if factories[0].startswith("workers:"):
            tree = factories[0]
        else:
            children = "".join(f'[[child]]\nfactory = "workers:{factory}"\n{options}\n' for factory in factories)
            (folder / tree).write_text(f'name = "app"\n{children}')
        services.append(Service(folder, tree, "--name", name, *arguments, environ=more))
        return services[-1]

    yield run
    for service in services:
        service.stop()


# --- signals and exit codes


def test_after_the_grace_time_the_shutdown_times_apply_and_the_code_is_the_signals(start: Start) -> None:
    """A handler that does not come back: said, ended by its shutdown time, and 128 + n."""
    service = start("Busy", options="shutdown = 0.2", arguments=("--grace", "0.2"))
    assert service.line() == "working"
    service.signal(signal.SIGTERM)
    assert "finishing; once more kills" in service.complaint()
    assert service.complaint() == "actors: not finished within 0.2 s: the shutdown times apply"
    assert service.end()[0] == 128 + signal.SIGTERM


def test_grace_0_applies_the_shutdown_times_at_once(start: Start) -> None:
    """And an actor that has nothing in hand still stops in order."""
    service = start("Steady", arguments=("--grace", "0"))
    assert service.line() == "ready None None"
    service.signal(signal.SIGTERM)
    code, out, _ = service.end()
    assert (code, out) == (128 + signal.SIGTERM, "stopped: shut down\n")


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_grace_time_that_is_none_is_refused(start: Start, seconds: str) -> None:
    """Before anything starts."""
    code, out, err = start("Steady", arguments=("--grace", seconds)).end()
    assert (code, out) == (1, "")
    assert err.startswith(f"actors: --grace {seconds}: give seconds")


def test_a_hangup_drains_as_sigterm_does(start: Start) -> None:
    """The terminal is gone: 128 + SIGHUP, in order."""
    service = start("Steady")
    service.line()
    service.signal(signal.SIGHUP)
    code, out, _ = service.end()
    assert (code, out) == (128 + signal.SIGHUP, "stopped: shut down\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(folder: Path, name: str, number: signal.Signals) -> None:
    """nohup, and a shell's background jobs."""
    (folder / "app.toml").write_text('name = "app"\n[[child]]\nfactory = "workers:Steady"\n')
    ignoring = [sys.executable, "-c", f"import os, signal, sys; signal.signal({number:d}, signal.SIG_IGN); "
                "os.execv(sys.argv[1], sys.argv[1:])"]  # fmt: skip
    service = Service(folder, "app.toml", "--name", name, before=ignoring)
    try:
        service.line()
        service.signal(number)
        with ActorSystem.attach(name) as system:
            assert system.lookup("app/steady").ask("pid").result(10)
        service.signal(signal.SIGTERM)
        code, out, _ = service.end()
        assert (code, out) == (128 + signal.SIGTERM, "stopped: shut down\n")
    finally:
        service.stop()


def test_a_failure_four_levels_deep_is_the_exit_code_and_its_first_cause_is_said(start: Start) -> None:
    """A worker uses up its supervisor's restarts, that one the next, up to the top: one line, with who it was and why."""
    code, _, err = start("workers:deep").end()
    assert code == 70
    assert "the first cause: app/middle/inner/broken raised ValueError: broken for good" in err.splitlines()[-1]


def test_a_temporary_actor_that_crashed_is_no_success(start: Start) -> None:
    """Nobody restarts it, and nobody may take the job for done."""
    code, _, err = start("Broken", options='restart = "temporary"').end()
    assert code == 70
    assert "the first cause: app/broken raised ValueError: broken for good" in err.splitlines()[-1]


def test_a_signal_is_the_exit_code_also_after_a_failure_and_what_works_goes_on_until_then(
    start: Start, name: str
) -> None:
    """One child has failed, its sibling is untouched: no end, and SIGTERM ends it with 128 + n."""
    service = start("workers:beside")
    service.line()
    with ActorSystem.attach(name) as system:
        until(lambda: system.lookup("app/broken").info()["status"] == "failed", "it has failed")
        assert system.lookup("app/steady").ask("pid").result(10)
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 128 + signal.SIGTERM


def test_the_death_of_the_guardian_is_no_success(start: Start, name: str) -> None:
    """Exit code 1, one line, no traceback."""
    service = start("Steady")
    service.line()
    with ActorSystem.attach(name) as system:
        guardian = system.guardian_pid
    kill(guardian)
    code, _, err = service.end()
    assert code == 1
    assert err.endswith(f"system '{name}' is gone (its guardian ended)\n") and "Traceback" not in err


def test_a_sigterm_to_all_of_its_processes_still_drains(start: Start, name: str) -> None:
    """What systemd does to a unit by default (KillMode=control-group): guardian, warden and zygote wait for the program's
    word; an idle actor ends by it, comes back and is asked to stop in order."""
    service = start("Steady", options='restart = "permanent"')
    service.line()
    with ActorSystem.attach(name) as system:
        guardian, actor = system.guardian_pid, system.lookup("app/steady").ask("pid").result(10)
        os.killpg(os.getsid(guardian), signal.SIGTERM)  # warden, guardian, zygote
        kill(actor, signal.SIGTERM)
        assert service.line() == "ready None None"
        assert system.lookup("app/steady").ask("pid").result(10) != actor
    service.signal(signal.SIGTERM)
    code, out, _ = service.end()
    assert (code, out) == (128 + signal.SIGTERM, "stopped: shut down\n")


# --- a shell's job control


def test_ctrl_z_stops_the_program_alone_and_fg_finds_its_actors_at_work(folder: Path, name: str) -> None:
    """In an interactive shell: stopped, the actors answer; fg, Ctrl-C: drained, and the shell sees 130."""
    (folder / "app.toml").write_text('name = "app"\n[[child]]\nfactory = "workers:Steady"\n')
    shell, terminal = pty.fork()
    if shell == 0:
        os.chdir(folder)
        os.environ["PS1"] = "$ "
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    output = b""

    def expect(pattern: bytes) -> None:
        nonlocal output
        while not (found := re.search(pattern, output)):
            output += os.read(terminal, 4096)
        output = output[found.end() :]

    try:
        expect(rb"\$ ")
        os.write(terminal, f"{sys.executable} -m actors run app.toml --name {name}\n".encode())
        expect(rb"ready None")
        os.write(terminal, b"\x1a")
        expect(rb"Stopped")
        with ActorSystem.attach(name) as system:
            assert system.lookup("app/steady").ask("pid").result(10)
        os.write(terminal, b"fg\n")
        expect(rb"fg\r\n")
        os.write(terminal, b"\x03")
        expect(rb"stopped: shut down")
        os.write(terminal, b"echo code $?\n")
        expect(rb"code 130\r\n")
        os.write(terminal, b"exit\n")
    finally:
        os.waitpid(shell, 0)
        os.close(terminal)


# --- the service manager


class Manager:
    """The socket of a service manager, and what it was told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def told(self, timeout: float = 20.0) -> dict[str, str]:
        """The next datagram. TimeoutError: there is none."""
        self.socket.settimeout(timeout)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def silent(self, seconds: float) -> bool:
        """Was it told nothing for so long?"""
        try:
            self.told(seconds)
        except TimeoutError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    managing = Manager(f"@{system_name('manager')}" if request.param == "abstract" else str(tmp_path / "notify"))
    with managing.socket:
        yield managing


def test_the_manager_is_told_of_every_step_and_ready_only_when_the_whole_tree_is(
    start: Start, manager: Manager, folder: Path, name: str
) -> None:
    """starting; READY=1 after the last on_start; STOPPING=1 before the tree stops. Actors don't see the socket."""
    gate = Gate(folder / "gate")
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    service = start("Steady", "Gated", **environ)
    assert manager.told() == {"STATUS": f"starting {name}"}
    assert service.line() == "ready None None"
    assert service.line() == "waiting"
    assert manager.silent(0.05)
    gate.open()
    assert manager.told() == {"READY": "1", "STATUS": f"{name} is running"}
    assert service.line() == "ready None None"
    service.signal(signal.SIGTERM)
    assert manager.told() == {"STOPPING": "1", "STATUS": "Terminated: finishing"}
    assert service.end()[0] == 128 + signal.SIGTERM
    assert manager.silent(0.01)


def test_the_watchdog_hears_of_the_guardian_and_of_nobody_else(start: Start, manager: Manager, name: str) -> None:
    """WATCHDOG=1 comes again and again, not while the guardian hangs, and again when it goes on."""
    service = start("Steady", NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="200000")
    service.line()
    for _ in range(3):
        while "WATCHDOG" not in manager.told():
            pass
    with ActorSystem.attach(name) as system:
        guardian = system.guardian_pid
    kill(guardian, signal.SIGSTOP)
    until(lambda: manager.silent(1.0), "no word while the guardian hangs")
    assert service.process.poll() is None
    kill(guardian, signal.SIGCONT)
    while "WATCHDOG" not in manager.told():
        pass
    service.signal(signal.SIGTERM)
    assert service.end()[0] == 128 + signal.SIGTERM


def test_a_failure_is_in_the_managers_status(start: Start, manager: Manager) -> None:
    """With the first cause."""
    service = start("Broken", options="max_restarts = 0", NOTIFY_SOCKET=manager.address)
    assert service.end()[0] == 70
    told = [manager.told() for _ in range(3)]
    assert told[-1]["STATUS"] == "failed; the first cause: app/broken raised ValueError: broken for good"


def test_a_manager_that_is_not_there_is_said_once_and_harms_nothing(start: Start, tmp_path: Path) -> None:
    """One line."""
    service = start("Steady", NOTIFY_SOCKET=str(tmp_path / "nobody"), WATCHDOG_USEC="100000")
    service.line()
    service.signal(signal.SIGTERM)
    code, _, err = service.end()
    assert code == 128 + signal.SIGTERM
    assert err.count("can't be told") == 1


@pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="needs a running systemd; not in a container")
def test_systemd_takes_it_for_ready(folder: Path, name: str) -> None:
    """The real one: systemd-run --property=Type=notify returns when READY=1 has come."""
    (folder / "app.toml").write_text('name = "app"\n[[child]]\nfactory = "workers:Steady"\n')
    unit = f"{name}.service"
    command = [sys.executable, "-m", "actors", "run", str(folder / "app.toml"), "--name", name]
    options = ["--property=Type=notify", "--property=KillMode=mixed", "--property=WatchdogSec=5", f"--unit={unit}"]
    subprocess.run(["systemd-run", *options, *command], check=True, timeout=30)
    subprocess.run(["systemctl", "is-active", unit], check=True, timeout=30)
    subprocess.run(["systemctl", "stop", unit], check=True, timeout=60)


def test_a_signal_that_takes_the_guardian_before_it_is_up_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the whole group, to which it still belongs then."""

    def killed(name: str) -> ActorSystem:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ActorsError(f"system {name!r}: its guardian did not start (see stderr)")

    monkeypatch.setattr(actors.service, "ActorSystem", killed)
    assert actors.service.run(Supervisor(), "never") == 128 + signal.SIGTERM
    monkeypatch.setattr(actors.service, "ActorSystem", lambda _: ActorSystem(""))
    with pytest.raises(ActorsError):
        actors.service.run(Supervisor(), "never")

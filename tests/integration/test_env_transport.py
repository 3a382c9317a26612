"""Without the extension: programs run on the ring in Python, say so once, and are told where the two would meet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import ActorSystem
from actors.guardian.entry import socket_name

pytestmark = pytest.mark.usefixtures("leak_guard")

NOT_BUILT = """
import sys
from importlib.abc import MetaPathFinder
class NotBuilt(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "actors.transports._ring":
            raise ImportError("no extension here", name=name)
sys.meta_path.insert(0, NotBuilt())
"""

PROGRAM = """
import os, signal
from actors import Actor, ActorDied, ActorSystem
from actors import transports
class Counter(Actor):
    def __init__(self): self.value = 0
    def add(self, n): self.value += n; return self.value
    def length(self, data): return len(data)
    def die(self): os.kill(os.getpid(), signal.SIGKILL)
with ActorSystem() as system:
    counter = system.spawn(Counter)
    for n in range(300): counter.tell(Counter.add, 1)
    print(transports.KIND, counter.ask(Counter.add, 1).result(20))
    print(counter.ask(Counter.length, bytes(3_000_000)).result(20))
    try: counter.ask(Counter.die).result(20)
    except ActorDied as error: print(error.reason)
    print(counter.ask(Counter.add, 1).result(20))
    with system.lock("l"): print(system.lock("l").locked())
"""
SAID = ["python 301", "3000000", "killed by SIGKILL", "1", "True"]


FEATURES = """
import os, signal
from actors import Actor, ActorPoolExecutor, ActorSystem
from actors.pipeline import Pipeline, Stage
class Worker(Actor):
    def take(self, jobs, done):
        for job in jobs: done.put(job)
    def die_with(self, jobs):
        with jobs.take(): os.kill(os.getpid(), signal.SIGKILL)
    def hear(self, letter): letter[1].put(letter[0])
def double(n): return 2 * n
with ActorSystem() as system:
    jobs, done, heard = system.mailbox("jobs", maxsize=50), system.mailbox("done"), system.mailbox("heard")
    jobs.put(0)
    system.spawn(Worker, restart="temporary").ask(Worker.die_with, jobs).exception(20)
    with jobs.take(timeout=20) as job: print("came back", job)
    takers = [system.spawn(Worker).ask(Worker.take, jobs, done) for _ in range(2)]
    for job in range(200): jobs.put(job, timeout=20)
    jobs.close()
    for taker in takers: taker.result(20)
    print("worked", sorted(done.get(timeout=20) for _ in range(200)) == list(range(200)))
    topic = system.topic("news")
    for _ in range(2): topic.subscribe(system.spawn(Worker), Worker.hear)
    print("told", topic.publish(("hello", heard)), [heard.get(timeout=20) for _ in range(2)])
    pool = system.pool(Worker, size=2)
    print("pooled", pool.ask(Worker.hear, ("from the pool", heard)).result(20), heard.get(timeout=20))
    with ActorPoolExecutor(2, system=system) as executor: print("mapped", list(executor.map(double, range(3))))
    print("piped", sorted(Pipeline(Stage(double, workers=2)).run(range(3), system=system)))
"""
DONE = [
    "came back 0",
    "worked True",
    "told 2 ['hello', 'hello']",
    "pooled None from the pool",
    "mapped [0, 2, 4]",
    "piped [0, 2, 4]",
]


def run(code: str, *arguments: str, **environ: str) -> tuple[list[str], str]:
    """Its lines, and what it said on stderr."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines(), done.stderr


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem() as system:
        yield system


def test_a_program_that_asks_for_python_gets_it_and_no_warning() -> None:
    said, errors = run(PROGRAM, ACTORS_TRANSPORT="python")
    assert said == SAID, errors
    assert "RuntimeWarning" not in errors


def test_mailboxes_topics_pools_executors_and_pipelines_are_there_in_python() -> None:
    said, errors = run(FEATURES, ACTORS_TRANSPORT="python")
    assert said == DONE, errors


def test_a_program_without_the_extension_says_once_what_is_weaker(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOT_BUILT)
    said, errors = run(PROGRAM, PYTHONPATH=str(tmp_path), ACTORS_TRANSPORT="")
    if said and not said[0].startswith("python"):
        pytest.skip("this interpreter has a sitecustomize of its own")
    # the guardian finds the extension, as its -S keeps sitecustomize out: that the two meet is told
    assert errors.count("runs without its C extension") == 1
    assert "runs on the C extension, and this process has the ring in Python" in errors


def test_who_insists_on_the_extension_or_on_nonsense_is_told() -> None:
    _, errors = run(NOT_BUILT + "import actors.system", ACTORS_TRANSPORT="c")
    assert "no extension here" in errors
    _, errors = run("import actors.system", ACTORS_TRANSPORT="rust")
    assert "it may be 'c' (the extension or nothing) or 'python'" in errors


@pytest.mark.parametrize("kind", ["c", "python"])
def test_a_process_without_the_gil_is_told_that_it_needs_it(kind: str) -> None:
    """Neither ring is safe for its threads there; a build of that kind need not be at hand to ask it."""
    _, errors = run("import sys; sys._is_gil_enabled = lambda: False; import actors.system", ACTORS_TRANSPORT=kind)
    assert "process-actors needs the GIL" in errors
    assert "PYTHON_GIL=1" in errors


ATTACH = """
import sys
from actors import ActorSystem
try:
    with ActorSystem.attach(sys.argv[1]) as system: print("joined", system.name == sys.argv[1])
except Exception as error: print(type(error).__name__, error)
"""


def test_a_program_with_the_other_ring_is_refused_with_what_to_do(system: ActorSystem) -> None:
    said, errors = run(ATTACH, system.name, ACTORS_TRANSPORT="python")
    assert len(said) == 1, errors
    assert said[0].startswith("ActorsError"), said
    assert "start that system with ACTORS_TRANSPORT=python" in said[0]


def test_a_program_in_another_folder_joins(system: ActorSystem, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ATTACH, system.name]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "joined True\n"


STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    sock.settimeout(20)
    sock.connect(sys.argv[1].replace("@", chr(0), 1))
    try: print(len(sock.recv(1000)))
    except ConnectionResetError: print(0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_before_anything_is_said(system: ActorSystem) -> None:
    """Who knows the address can connect, abstract sockets have no permissions; and is hung up on, by its uid."""
    said, errors = run(STRANGER, socket_name(system.name).replace("\0", "@", 1))
    assert said == ["0"], errors
    assert system.tree(), "the guardian goes on serving"

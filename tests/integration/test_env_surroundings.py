"""An actor's process has the surroundings of the program as they were at its spawn, and chance of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kit.program import Program

pytestmark = pytest.mark.usefixtures("leak_guard")

STYLES = pytest.mark.parametrize("style", ["sibling", "double"])  # of forking

PROBE = """
import os, sys, time
from actors import Actor, ActorSystem

class Probe(Actor):
    def run(self, text):
        return eval(text, {"os": os, "time": time})
    def die(self):
        os._exit(1)

def ask(ref, text):
    return ref.ask(Probe.run, text).result(20)
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# --- working directory, environment, path


def test_the_working_directory_is_that_of_the_spawn(program: Program) -> None:
    """Changed between start and spawn, and after it: also for the next incarnation, and for children of an actor."""
    program.write(
        "script.py",
        PROBE
        + """
for name in "abc":
    os.mkdir(name)
class Parent(Probe):
    def child(self):
        os.chdir("../c")
        return ask(self.spawn(Probe), "os.getcwd()")
with ActorSystem() as system:
    os.chdir("a")
    first = system.spawn(Parent)
    os.chdir("../b")
    second = system.spawn(Probe)
    os.chdir("..")
    first.tell(Probe.die)
    print([os.path.basename(ask(each, "os.getcwd()")) for each in (first, second)])
    print(os.path.basename(first.ask(Parent.child).result(20)))
""",
    )
    assert program.run("script.py", quiet=False)[:2] == ["['a', 'b']", "c"]


def test_a_working_directory_that_has_been_removed(program: Program) -> None:
    program.write(
        "script.py",
        PROBE
        + """
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
with ActorSystem() as system:
    print(ask(system.spawn(Probe), "1 + 1"))
""",
    )
    assert program.run(program.folder / "script.py") == ["2"]


def test_modules_of_the_working_directory_do_not_get_in_the_way(program: Program) -> None:
    """A file named like one of the standard library is not the program's unless its path says so."""
    for name in ("json", "msgpack", "structlog", "random", "socket"):
        program.write(f"work/{name}.py", "raise SystemExit('the wrong one')")
    program.write("script.py", PROBE + "with ActorSystem() as system:\n    print(ask(system.spawn(Probe), '1 + 1'))\n")
    assert program.run("../script.py", cwd=program.folder / "work") == ["2"]


def test_the_environment_is_that_of_the_spawn(program: Program) -> None:
    """Set, changed and removed variables, values that are no text, nothing of the library's own."""
    program.write(
        "script.py",
        PROBE
        + """
own = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
whole = f"{{name: value for name, value in os.environ.items() if name not in {own}}}"
class Parent(Probe):
    def child(self):
        del os.environ["SET"]
        os.environ["CHILD"] = "yes"
        child = self.spawn(Probe)
        return ask(child, whole) == {name: value for name, value in os.environ.items() if name not in own}
os.environ.update(KEPT="1", CHANGED="1", REMOVED="1")
with ActorSystem() as system:
    os.environ.update(CHANGED="2", SET="\\N{SNOWMAN}")
    os.environb[b"BYTES"] = b"\\xff\\xfe"
    del os.environ["REMOVED"]
    at_spawn = {name: value for name, value in os.environ.items() if name not in own}
    probe = system.spawn(Parent)
    os.environ["SET"] = "later"
    print(ask(probe, whole) == at_spawn, ask(probe, "os.environb[b'BYTES']"))
    probe.tell(Probe.die)
    print(ask(probe, whole) == at_spawn, probe.ask(Parent.child).result(20))
""",
    )
    assert program.run("script.py", quiet=False)[:2] == [r"True b'\xff\xfe'", "True True"]


def test_the_environment_of_an_attached_program_is_its_actors(program: Program) -> None:
    """Even where the program that began the system has more."""
    program.write(
        "other.py", PROBE + "system = ActorSystem.attach(sys.argv[1])\nprint(ask(system.spawn(Probe), sys.argv[2]))\n"
    )
    program.write(
        "script.py",
        PROBE
        + """
import subprocess
os.environ["MINE"] = "1"
with ActorSystem() as system:
    del os.environ["MINE"]
    os.environ["THEIRS"] = "1"
    text = "[os.environ.get(name) for name in ('MINE', 'THEIRS')]"
    subprocess.run([sys.executable, "other.py", system.name, text], check=True)
""",
    )
    assert program.run("script.py") == ["[None, '1']"]


def test_the_time_zone_is_that_of_the_spawn(program: Program) -> None:
    program.write(
        "script.py",
        PROBE
        + """
with ActorSystem() as system:
    os.environ["TZ"] = "XYZ-3"
    print(ask(system.spawn(Probe), "time.tzname[0], time.timezone"))
""",
    )
    assert program.run("script.py", environ={"TZ": "UTC"}) == ["('XYZ', -10800)"]


def test_a_path_that_was_extended_after_the_start(program: Program) -> None:
    """By an absolute and by a relative entry; modules found there are imported by actor processes."""
    module = "from actors import Actor\nclass Where(Actor):\n    def module(self): return __name__\n"
    program.write("later/one.py", module)
    program.write("other/two.py", module)
    program.write(
        "script.py",
        PROBE
        + """
with ActorSystem() as system:
    sys.path.append(os.path.abspath("later"))
    sys.path.append("other")
    import one, two
    os.chdir("later")
    print(system.spawn(one.Where).ask("module").result(20), system.spawn(two.Where).ask("module").result(20))
""",
    )
    assert program.run("script.py") == ["one two"]


@pytest.mark.parametrize("arguments", [("-c",), ("-",)])
def test_modules_of_the_old_working_directory(program: Program, arguments: tuple[str, ...]) -> None:
    """Where the path begins with "here", and here has changed since."""
    program.write("beside.py", "from actors import Actor\nclass Where(Actor):\n    def module(self): return __name__\n")
    code = textwrap.dedent("""
        import os, beside
        from actors import ActorSystem
        os.mkdir("elsewhere"); os.chdir("elsewhere")
        with ActorSystem() as system:
            print(system.spawn(beside.Where).ask("module").result(20))
        """)
    printed = program.run("-c", code) if arguments == ("-c",) else program.run("-", text=code)
    assert printed == ["beside"]


def test_the_arguments_are_the_programs(program: Program) -> None:
    """Also while its modules are imported by actor processes, as some libraries look at them then."""
    program.write(
        "beside.py",
        "import sys\nfrom actors import Actor\nseen = list(sys.argv)\nclass Where(Actor):\n    def seen(self): return seen\n",
    )
    program.write(
        "script.py",
        PROBE
        + """
import beside
with ActorSystem() as system:
    print(system.spawn(beside.Where).ask("seen").result(20))
    del sys.argv[1]
    print(ask(system.spawn(Probe), "__import__('sys').argv"))
""",
    )
    assert program.run("script.py", "-x", "y") == ["['script.py', '-x', 'y']", "['script.py', 'y']"]


# --- chance


@STYLES
def test_random_numbers_differ(program: Program, style: str) -> None:
    """Of two actors, of an actor and the program, of an actor and its next incarnation; though the program chose a
    seed.
    """
    program.write(
        "script.py",
        PROBE
        + """
import random
import numpy, numpy.random
random.seed(1)
numpy.random.seed(1)
draw = "(__import__('random').random(), float(__import__('numpy').random.random()))"
with ActorSystem() as system:
    first, second = system.spawn(Probe), system.spawn(Probe)
    drawn = [ask(first, draw), ask(second, draw), eval(draw)]
    first.tell(Probe.die)
    drawn.append(ask(first, draw))
    print([len(set(numbers)) for numbers in zip(*drawn)])
""",
    )
    assert program.run("script.py", quiet=False, environ={"ACTORS_FORK": style})[0] == "[4, 4]"


# --- NumPy


BLAS = (
    PROBE
    + """
import numpy
class Multiplier(Actor):
    def __init__(self, size):
        self.matrix = numpy.arange(size * size, dtype=float).reshape(size, size) % 7
    def product(self, rounds):
        for _ in range(rounds):
            product = self.matrix @ self.matrix
        return float(product.sum()), numpy.linalg.norm(numpy.linalg.inv(numpy.eye(50) * 2))
    def threads(self):
        return len(os.listdir("/proc/self/task"))
size = 300
expected = Multiplier(size).product(1)  # the program's own BLAS has its threads by now
with ActorSystem() as system:
    workers = [system.spawn(Multiplier, size) for _ in range(4)]
    replies = [worker.ask(Multiplier.product, 5) for _ in range(3) for worker in workers]
    print(all(reply.result(60) == expected for reply in replies))
    print([worker.ask(Multiplier.threads).result(10) for worker in workers])
    print(ask(system.spawn(Probe), "os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS']"))
"""
)


@STYLES
def test_blas_works_in_many_actors_at_once(program: Program, style: str) -> None:
    """With one thread each: N processes with N threads would fight for the cores."""
    program.write("script.py", BLAS)
    environ = {"ACTORS_FORK": style, "OMP_NUM_THREADS": None, "OPENBLAS_NUM_THREADS": None, "MKL_NUM_THREADS": None}
    assert program.run("script.py", environ=environ) == ["True", "[1, 1, 1, 1]", "('1', '1')"]


@STYLES
def test_blas_works_with_threads_where_the_user_wants_them(program: Program, style: str) -> None:
    """The library's threads let go before a fork and come back in the actor when they are needed."""
    program.write("script.py", BLAS)
    environ = {"ACTORS_FORK": style, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    printed = program.run("script.py", environ=environ)
    assert (printed[0], printed[2]) == ("True", "('2', '2')")


# --- limits and containers

LIMITED = """
import os, resource, sys
from actors import Actor, ActorsError, ActorSystem
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
class Worker(Actor):
    def echo(self, value):
        return value
    def ask_all(self, others):
        answers = [other.ask(Worker.echo, number).result(20) for number, other in enumerate(others)]
        return answers == list(range(len(others))), resource.getrlimit(resource.RLIMIT_NOFILE)
def spawn_until(most):
    found = []
    try:
        while len(found) < most:
            found.append(system.spawn(Worker))
    except ActorsError as error:
        print("Too many open files" in str(error))
    return found
with ActorSystem() as system:
    workers = spawn_until(60)
    print([worker.ask(Worker.echo, 1).result(20) for worker in workers] == [1] * len(workers))
    for worker in workers[-5:]:
        worker.stop()
        worker.wait(20)
    print(system.spawn(Worker).ask(Worker.ask_all, workers[:-5]).result(20))
"""


def test_more_actors_than_descriptors(program: Program) -> None:
    """Whom a process talks to costs it a descriptor, up to a part of what it may have; the limit is the program's."""
    program.write("script.py", LIMITED)
    assert program.run("script.py", 64, 4096) == ["True", "(True, (64, 4096))"]


def test_a_guardian_that_may_have_no_more_descriptors(program: Program) -> None:
    """The spawn fails by name, everybody else goes on, and there is room again when actors have ended."""
    program.write("script.py", LIMITED)
    printed = program.run("script.py", 64, 128, quiet=False)
    assert printed[:3] == ["True", "True", "(True, (64, 128))"]


LARGE = """
from actors import Actor, ActorSystem
class Sizer(Actor):
    def size(self, data):
        return len(data)
with ActorSystem() as system:
    sizer = system.spawn(Sizer)
    block = bytes(24 << 20)
    small = [sizer.ask(Sizer.size, block[:number]) for number in range(100)]
    large = [sizer.ask(Sizer.size, block) for _ in range(4)]
    print(sum(reply.result(60) for reply in small), [reply.result(60) >> 20 for reply in large])
"""


def _unshare() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _unshare(), reason="this user may not make a mount namespace (unshare -m)")
@pytest.mark.parametrize(
    "setup",
    [
        "mount -t tmpfs -o size=64m tmpfs /dev/shm",
        "mount -t tmpfs -o size=64k tmpfs /dev/shm",
        "mount -t tmpfs -o ro tmpfs /dev/shm",
        "mount -t tmpfs tmpfs new && touch new/null new/zero new/urandom && for each in null zero urandom; "
        "do mount --bind /dev/$each new/$each; done && mount --rbind new /dev && ! test -e /dev/shm",
    ],
    ids=["64 MB", "64 kB", "read-only", "missing"],
)
def test_dev_shm_is_not_needed(program: Program, setup: str) -> None:
    """As in a container: 96 MB of messages in flight, and no shared memory to speak of."""
    program.write("script.py", LARGE)
    (program.folder / "new").mkdir()
    script = f'mount --make-rprivate / && {setup} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "script.py"]
    assert program.command(*command) == ["4950 [24, 24, 24, 24]"]

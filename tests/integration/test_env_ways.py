"""However a program is started, and wherever in it a system is: it works, and nothing is left."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from kit import system_name
from kit.program import Program

pytestmark = pytest.mark.usefixtures("leak_guard")

PROGRAM = """
import os, sys
from actors import Actor, ActorSystem

class Counter(Actor):
    def __init__(self, start=0):
        self.value = start
    def add(self, amount):
        self.value += amount
        return self.value

with ActorSystem() as system:
    counter = system.spawn(Counter, 10)
    print(counter.ask(Counter.add, 5).result(10))
"""

MODULE = """
from actors import Actor
class Where(Actor):
    def module(self):
        return __name__, type(self).__module__
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# --- how it is started


def test_a_script(program: Program) -> None:
    program.write("script.py", PROGRAM)
    assert program.run("script.py") == ["15"]


def test_a_script_of_another_folder(program: Program) -> None:
    """Modules beside it are found by actor processes as well."""
    program.write("bin/beside.py", MODULE)
    program.write(
        "bin/script.py",
        """
        import beside
        from actors import ActorSystem
        with ActorSystem() as system:
            print(*system.spawn(beside.Where).ask("module").result(10))
        """,
    )
    assert program.run("bin/script.py") == ["beside beside"]


def test_from_the_command_line(program: Program) -> None:
    assert program.run("-c", PROGRAM) == ["15"]


@pytest.mark.parametrize("arguments", [(), ("-",)], ids=["python < file", "python - < file"])
def test_from_standard_input(program: Program, arguments: tuple[str, ...]) -> None:
    assert program.run(*arguments, text=PROGRAM) == ["15"]


def test_in_an_interactive_interpreter(program: Program) -> None:
    """The interpreter reads on while the system runs; nobody else takes its input."""
    cells = """\
import sys; sys.ps1 = sys.ps2 = ""
from actors import Actor, ActorSystem
class Counter(Actor):
    def __init__(self, start): self.value = start
    def add(self, amount): self.value += amount; return self.value

system = ActorSystem()
counter = system.spawn(Counter, 10)
counter.ask(Counter.add, 5).result(10)
counter.ask(Counter.add, 6).result(10)
system.close()
print("closed")
"""
    assert [line for line in program.run("-q", "-i", text=cells, quiet=False) if line.strip()][:3] == [
        "15",
        "21",
        "closed",
    ]


def test_an_interactive_interpreter_that_is_left_with_the_system_open(program: Program) -> None:
    cells = 'import sys; sys.ps1 = sys.ps2 = ""\n' + PROGRAM.replace(
        "with ActorSystem() as system:", "system = ActorSystem()\nif 1:"
    )
    assert "15" in program.run("-q", "-i", text=cells + "\n", quiet=False)


@pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not installed here")
def test_in_ipython(program: Program) -> None:
    program.write("notebook.ipy", PROGRAM)
    assert "15" in program.run(
        "-m", "IPython", "--no-banner", "notebook.ipy", environ={"IPYTHONDIR": str(program.folder)}
    )


KERNEL = """
import asyncio, sys, types
application = types.SimpleNamespace(initialized=lambda: True)
sys.modules["ipykernel.kernelapp"] = types.SimpleNamespace(IPKernelApp=application)
cells = [{start!r}, "print(counter.ask(Counter.add, 5).result(10))", "system.close()"]
async def kernel():
    for cell in cells:
        exec(cell, globals())
asyncio.run(kernel())
"""


def test_in_a_notebook(program: Program) -> None:
    """Its cells run inside the kernel's event loop, and are blocking code all the same."""
    start = PROGRAM.partition("with")[0] + "system = ActorSystem()\ncounter = system.spawn(Counter, 10)"
    program.write("kernel.py", KERNEL.format(start=start))
    assert program.run("kernel.py") == ["15"]


def test_a_module_of_a_package(program: Program) -> None:
    """`python -m`: the class is of __main__, its neighbours are importable."""
    program.write("shop/__init__.py", "")
    program.write("shop/staff.py", MODULE)
    program.write(
        "shop/till.py",
        PROGRAM + "    from . import staff\n    print(*system.spawn(staff.Where).ask('module').result(10))\n",
    )
    assert program.run("-m", "shop.till") == ["15", "shop.staff shop.staff"]


def test_a_package_with_a_main(program: Program) -> None:
    program.write("shop/__init__.py", "")
    program.write("shop/__main__.py", PROGRAM)
    assert program.run("-m", "shop") == ["15"]
    assert program.run("shop") == ["15"]


def test_a_zip_app(program: Program) -> None:
    """Its modules are imported from the archive by actor processes, too."""
    program.write("app/staff.py", MODULE)
    program.write(
        "app/__main__.py",
        PROGRAM + "    import staff\n    print(*system.spawn(staff.Where).ask('module').result(10))\n",
    )
    zipapp.create_archive(program.folder / "app", program.folder / "app.pyz")
    assert program.run("app.pyz") == ["15", "staff staff"]


def environment_of_its_own(folder: Path) -> Path:
    """The Python of a virtual environment that has the library by a .pth file only, as an editable install has it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(
        "\n".join(entry for entry in sys.path if entry.endswith("site-packages")) + "\n" + str(ROOT)
    )
    return folder / "bin" / "python"


def test_the_python_of_a_virtual_environment(program: Program) -> None:
    program.write("script.py", PROGRAM + "    print(sys.prefix != sys.base_prefix)\n")
    assert program.run("script.py", python=environment_of_its_own(program.folder / "venv")) == ["15", "True"]


STORE = """
import sys
from dataclasses import dataclass
from actors import Actor, ActorSystem

@dataclass
class Point:
    x: int

class Odd(Exception):
    pass

class Store(Actor):
    total = 0
    def add(self, amount):
        self.total += amount
        return self.total
    def point(self):
        return Point(1)
    def fail(self):
        raise Odd("not today")
    def kind(self, value):
        return type(value).__qualname__
"""

HOST = """
import sys
from actors import ActorSystem
import store
with ActorSystem(sys.argv[1]) as system:
    counter, points = system.spawn(store.Store, name="store"), system.mailbox("points")
    for each in (store.Point(3), 5, store.Point(4), 6):
        points.put(each)
    print("ready", flush=True)
    sys.stdin.readline()
    print("total", counter.ask(store.Store.add, 0).result(10), points.qsize())
"""

GUEST = """
import sys
from actors import Actor, ActorSystem
class Mine:
    pass
class Own(Actor):
    def double(self, number):
        return 2 * number
def tried(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
with ActorSystem.attach(sys.argv[1]) as system:
    store, points = system.lookup("store"), system.mailbox("points")
    store.tell("add", 1)
    print(store.ask("add", 5).result(10), store.ask("kind", Mine()).result(10))
    print(system.spawn(Own).ask(Own.double, 4).result(20), sys.prefix != sys.base_prefix)
    print(tried(lambda: store.ask("point").result(10)))
    print(tried(lambda: store.ask("fail").result(10)))
    print(tried(lambda: points.get(timeout=5)))
    print(points.get(timeout=5))
    def taken():
        with points.take(timeout=5) as point:
            return point
    print(tried(taken))
"""


def test_a_program_of_another_environment_without_the_code_attaches(program: Program) -> None:
    """Its classes go to the actors by value; of theirs, which it can't import, it hears an error that names them, and
    what has plain values works as ever."""
    name = system_name("host")
    program.write("host/store.py", STORE)
    program.write("host/host.py", HOST)
    program.write("guest/guest.py", GUEST)
    python = environment_of_its_own(program.folder / "venv")
    host = subprocess.Popen(
        [sys.executable, "host.py", name], cwd=program.folder / "host", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with host:
        assert host.stdout
        assert host.stdout.readline() == "ready\n"
        lines = program.run("guest.py", name, python=python, cwd=program.folder / "guest")
        said, _ = host.communicate("go\n", 30)
    assert lines[:2] == ["6 Mine", "8 True"]
    assert lines[2].startswith("CodecError: a message can't be read: ModuleNotFoundError: No module named 'store'")
    assert lines[3].startswith(f"RemoteError: actor://{name}/store: fail: store.Odd: not today")
    assert lines[4].startswith("CodecError: a message can't be read: ModuleNotFoundError: No module named 'store'")
    assert lines[5] == "5"
    assert lines[6] == lines[4]
    assert said == "total 6 1\n"  # of the mailbox what it could not read is out as well


ROOT = Path(__file__).parents[2]
OPTIONS = """
import os, sys
from actors import Actor, ActorSystem
class Probe(Actor):
    def flags(self):
        try:
            assert False
        except AssertionError:
            optimized = False
        else:
            optimized = True
        return optimized, sys.flags.dev_mode, sys.flags.optimize, list(sys.warnoptions)
with ActorSystem() as system:
    print(system.spawn(Probe).ask(Probe.flags).result(10))
"""


@pytest.mark.parametrize(
    ("options", "environ", "seen"),
    [
        (["-X", "dev"], {}, "(False, True, 0, ['default'])"),
        ([], {"PYTHONDEVMODE": "1"}, "(False, True, 0, ['default'])"),
        (["-W", "error"], {}, "(False, False, 0, ['error'])"),
        (["-X", "dev", "-W", "error"], {}, "(False, True, 0, ['default', 'error'])"),
        (["-O"], {}, "(True, False, 1, [])"),
        (["-I"], {}, "(False, False, 0, [])"),
        (["-s", "-B", "-b"], {}, "(False, False, 0, ['default::BytesWarning'])"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_the_interpreter_hold_in_actors(
    program: Program, options: list[str], environ: dict[str, str], seen: str
) -> None:
    """And nothing of the library warns."""
    program.write("script.py", OPTIONS)
    assert program.run(*options, "script.py", environ=environ) == [seen]


# --- where in the program it is


def test_started_from_a_thread(program: Program) -> None:
    """And used from another one, and closed by a third."""
    program.write(
        "script.py",
        PROGRAM.partition("with")[0]
        + """
import threading
def run(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]
system = run(ActorSystem)
counter = run(lambda: system.spawn(Counter, 1))
print(run(lambda: counter.ask(Counter.add, 1).result(10)), counter.ask(Counter.add, 1).result(10))
run(system.close)
print(threading.active_count())
""",
    )
    assert program.run("script.py") == ["2 3", "1"]


def test_inside_a_running_event_loop(program: Program) -> None:
    """Begun and left there, with blocking calls refused by name and everything awaited."""
    program.write(
        "script.py",
        PROGRAM.partition("with")[0]
        + """
import asyncio
async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)
    ticking = asyncio.create_task(tick())
    async with ActorSystem() as system:
        counter = await system.spawn_async(Counter, 1)
        before = ticks
        print(await counter.ask(Counter.add, 1), await asyncio.gather(*(counter.ask(Counter.add, 1) for _ in range(3))))
        try:
            counter.ask(Counter.add, 1).result()
        except RuntimeError as error:
            print("await it" in str(error))
        counter.stop()
        print(await counter.wait_async(), ticks > before)
    ticking.cancel()
asyncio.run(main())
""",
    )
    assert program.run("-W", "error", "script.py") == ["2 [3, 4, 5]", "True", "shut down True"]


def test_two_event_loops_one_after_the_other(program: Program) -> None:
    program.write(
        "script.py",
        PROGRAM.partition("with")[0]
        + """
import asyncio
with ActorSystem() as system:
    counter = system.spawn(Counter)
    async def add():
        return await counter.ask(Counter.add, 1)
    print(asyncio.run(add()), asyncio.run(add()), counter.ask(Counter.add, 1).result(10))
""",
    )
    assert program.run("-X", "dev", "script.py") == ["1 2 3"]


def test_two_systems_at_once(program: Program) -> None:
    program.write(
        "script.py",
        PROGRAM.partition("with")[0]
        + """
with ActorSystem() as first, ActorSystem() as second:
    one, two = first.spawn(Counter, 1, name="counter"), second.spawn(Counter, 2, name="counter")
    print(one.ask(Counter.add, 1).result(10), two.ask(Counter.add, 1).result(10), one == two)
""",
    )
    assert program.run("script.py") == ["2 3 False"]


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [("sys.exit(3)", 3, ""), ("raise ValueError('why')", 1, "ValueError: why"), ("os._exit(4)", 4, ""), ("", 0, "")],
    ids=["sys.exit", "an exception", "os._exit", "falling off its end"],
)
def test_a_program_that_forgets_to_close(program: Program, ending: str, code: int, said: str) -> None:
    """Its exit code is its own, and nothing stays behind."""
    program.write(
        "script.py", PROGRAM.replace("with ActorSystem() as system:", "system = ActorSystem()\nif 1:") + ending
    )
    printed = program.run("script.py", code=code, quiet=False)
    assert said in printed[-1] if said else printed[1:] == []


# --- in tests of the user's own

TESTS = """
import dataclasses, threading
import pytest
from actors import Actor, ActorSystem

@dataclasses.dataclass
class Item:
    number: int

class Echo(Actor):
    def echo(self, item):
        assert type(item) is Item
        return item

@pytest.fixture(scope="module")
def system():
    with ActorSystem() as system:
        yield system

@pytest.mark.parametrize("number", range(6))
def test_echo(system, number):
    assert system.spawn(Echo).ask(Echo.echo, Item(number)).result(10) == Item(number)

def test_fails(system):
    assert system.spawn(Echo).ask(Echo.echo, 5).result(10) == 5
"""


@pytest.mark.parametrize(("mode", "workers"), [("importlib", 0), ("importlib", 2), ("prepend", 0)])
def test_under_pytest(program: Program, mode: str, workers: int) -> None:
    """Test files are modules that others can't import, or can, by the import mode; under xdist, several at once."""
    program.write("pytest.ini", "[pytest]\n")
    program.write("suite/test_one.py", TESTS)
    program.write("suite/test_two.py", TESTS)
    python = ["-W", "error", "-m", "pytest", "-q", f"--import-mode={mode}", "-p", "no:cacheprovider"]
    printed = program.run(*python, "-n", workers, "suite", code=1)
    assert "2 failed, 12 passed" in printed[-1]
    assert any("AssertionError" in line for line in printed), printed

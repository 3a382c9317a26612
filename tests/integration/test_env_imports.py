"""Modules of the user's are imported by a process of their own: one that fails, hangs, dies or has threads harms
nobody.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.program import Program

pytestmark = [
    pytest.mark.usefixtures("leak_guard"),
    pytest.mark.parametrize("style", ["sibling", "double"]),  # of forking
]

GUARDED = """
import os, sys
from actors import Actor
if os.getpid() != int(os.environ["MAIN"]):
    {unlike_the_program}
class Worker(Actor):
    def where(self):
        return os.getpid(), __name__ in sys.modules
"""

SCRIPT = """
import os, sys, time
os.environ["MAIN"] = str(os.getpid())
import guarded, sound
from actors import Actor, ActorSystem, SpawnError
def ask(ref, method="where"):
    return ref.ask(method).result(20)
"""

SOUND = """
import os
from actors import Actor
class Worker(Actor):
    def where(self):
        return os.getpid(), True
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path, sound=SOUND)


@pytest.mark.parametrize(
    "unlike_the_program",
    [
        "raise ValueError('not twice')",
        "raise SystemExit(3)",
        "os._exit(9)",
        "os.kill(os.getpid(), 11)",
        "import nothing_there",
    ],
    ids=["raises", "exits", "os._exit", "SIGSEGV", "ImportError"],
)
def test_what_cannot_be_imported_there_goes_by_value(program: Program, style: str, unlike_the_program: str) -> None:
    """It is the module that is to blame: others that were wanted with it are imported."""
    program.write("guarded.py", GUARDED.format(unlike_the_program=unlike_the_program))
    program.write(
        "script.py",
        SCRIPT
        + """
class Both(Actor):
    def __init__(self, *classes):
        self.classes = classes
    def where(self):
        return [(each.__module__ in sys.modules) for each in self.classes]
with ActorSystem() as system:
    print(ask(system.spawn(Both, sound.Worker, guarded.Worker)))
    worker = system.spawn(guarded.Worker)
    print(ask(worker)[1], ask(worker)[0] != os.getpid(), ask(system.spawn(sound.Worker))[1])
""",
    )
    assert program.run("script.py", environ={"ACTORS_FORK": style}) == ["[True, False]", "False True True"]


def test_an_import_that_hangs_ends_at_the_start_timeout(program: Program, style: str) -> None:
    """After two that hung, the class goes by value; what others need is imported then."""
    program.write("guarded.py", GUARDED.format(unlike_the_program="__import__('time').sleep(600)"))
    program.write(
        "script.py",
        SCRIPT
        + """
with ActorSystem() as system:
    errors = []
    while len(errors) < 20:
        try:
            worker = system.spawn(guarded.Worker, start_timeout=0.4)
            break
        except SpawnError as error:
            errors.append(str(error).partition("did not start: ")[2])
    print(len(errors) >= 2, set(errors))
    print(ask(worker)[1], ask(system.spawn(sound.Worker))[1])
""",
    )
    printed = program.run("script.py", environ={"ACTORS_FORK": style}, quiet=False)
    assert printed[:2] == ["True {'raised TimeoutError: not ready within 0.4 s'}", "False True"]
    warnings = [" ".join(line.partition("]")[2].split()) for line in printed[2:]]
    assert warnings == ["an import was not done in time and is given up module=guarded"] * 2


def test_an_import_that_hangs_in_one_system_does_not_keep_it_open(program: Program, style: str) -> None:
    program.write("guarded.py", GUARDED.format(unlike_the_program="__import__('time').sleep(600)"))
    program.write(
        "script.py",
        SCRIPT
        + """
import threading
system = ActorSystem()
def spawn():
    try:
        system.spawn(guarded.Worker)
    except Exception as error:
        print(type(error).__name__)
thread = threading.Thread(target=spawn)
thread.start()
sleepers = f"/proc/{system.guardian_pid}/task/{system.guardian_pid}/children"
while len(open(sleepers).read().split()) < 2:  # the zygote, and the process that imports
    time.sleep(0.001)
system.close("stop")
thread.join()
print("closed")
""",
    )
    printed = program.run("script.py", environ={"ACTORS_FORK": style}, quiet=False)
    assert printed[1] == "closed" and printed[0] in ("SpawnError", "SystemDied")


def test_an_import_that_hangs_while_the_zygote_is_replaced(program: Program, style: str) -> None:
    """Its process is not left to hang: the next zygote has it imported again."""
    program.write("guarded.py", GUARDED.format(unlike_the_program="__import__('time').sleep(600)"))
    program.write(
        "script.py",
        SCRIPT
        + """
import threading
def children():
    with open(f"/proc/{system.guardian_pid}/task/{system.guardian_pid}/children") as file:
        return [int(pid) for pid in file.read().split()]
with ActorSystem() as system:
    errors = []
    def spawn():
        try:
            system.spawn(guarded.Worker, start_timeout=2)
        except SpawnError as error:
            errors.append(str(error))
    thread = threading.Thread(target=spawn)
    thread.start()
    while len(children()) < 2:
        time.sleep(0.001)
    zygote, hanging = children()
    os.kill(zygote, 9)
    while os.path.exists(f"/proc/{hanging}"):
        time.sleep(0.001)
    print("gone")
    thread.join()
    print(len(errors), ask(system.spawn(sound.Worker))[1])
""",
    )
    printed = program.run("script.py", environ={"ACTORS_FORK": style}, quiet=False)
    assert printed[:2] == ["gone", "1 True"] and not any("Traceback" in line for line in printed)


def test_a_module_that_has_threads_is_kept_out_of_forks(program: Program, style: str) -> None:
    """Its actors start from scratch, each with the module's threads alive; one warning names it, and others still fork."""
    program.write(
        "guarded.py",
        """
        import os, threading
        from actors import Actor
        requests = __import__("queue").Queue()
        def serve():
            while True:
                requests.get().set()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        class Worker(Actor):
            def where(self):
                done = threading.Event()
                requests.put(done)
                with open("/proc/self/stat") as file:
                    return done.wait(10), int(file.read().rpartition(")")[2].split()[1])
            def die(self):
                os._exit(3)
        """,
    )
    program.write("above.py", "import guarded\nfrom actors import Actor\nclass Above(guarded.Worker):\n    pass\n")
    program.write(
        "script.py",
        SCRIPT
        + """
import above
def title(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode().strip(chr(0) + " ")
def zygotes():
    with open(f"/proc/{system.guardian_pid}/task/{system.guardian_pid}/children") as file:
        return [int(pid) for pid in file.read().split() if title(pid).endswith("zygote")]
with ActorSystem() as system:
    scratch = True, system.guardian_pid
    workers = [system.spawn(guarded.Worker, name=f"guarded-{number}") for number in range(2)]
    workers.append(system.spawn(above.Above))
    print([ask(each) == scratch for each in workers])
    workers[0].tell("die")
    print(ask(workers[0]) == scratch, workers[0].info()["restarts"])
    print(title(workers[0].info()["pid"]) == f"actors: {system.name}/guarded-0")
    system.spawn(sound.Worker)
    # the one that knew less is leaving, and a spare bears the zygote's title until it gives itself its own
    while len(left := zygotes()) > 1:
        time.sleep(0.001)
    print([len(os.listdir(f"/proc/{pid}/task")) for pid in left])
    os.kill(left[0], 9)
    print(ask(system.spawn(sound.Worker))[1], ask(system.spawn(guarded.Worker))[0])
""",
    )
    printed = program.run("script.py", environ={"ACTORS_FORK": style}, quiet=False)
    assert printed[:5] == ["[True, True, True]", "True 1", "True", "[1]", "True True"]
    warnings = [line for line in printed if "has threads after its import" in line]
    assert [line.rpartition("module=")[2] for line in warnings] == ["guarded", "above"]


def test_a_module_whose_threads_end_at_a_fork_is_forked(program: Program, style: str) -> None:
    """As those of numerical libraries do: they are counted after a throw-away fork."""
    program.write(
        "guarded.py",
        """
        import os, threading
        from actors import Actor
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait, daemon=True)
        thread.start()
        def let_go():
            leave.set()
            thread.join()
        os.register_at_fork(before=let_go)
        class Worker(Actor):
            def where(self):
                return thread.is_alive(), len(os.listdir("/proc/self/task"))
        """,
    )
    program.write("script.py", SCRIPT + "with ActorSystem() as system:\n    print(ask(system.spawn(guarded.Worker)))\n")
    assert program.run("script.py", environ={"ACTORS_FORK": style}) == ["(False, 1)"]


def test_threads_of_a_preloaded_module_are_found_as_well(program: Program, style: str) -> None:
    program.write(
        "guarded.py", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    program.write(
        "script.py",
        SCRIPT
        + """
with ActorSystem(preload=["sound", "guarded"]) as system:
    print(ask(system.spawn(sound.Worker))[1])
""",
    )
    printed = program.run("script.py", environ={"ACTORS_FORK": style}, quiet=False)
    assert printed[0] == "True" and "module=guarded" in printed[1] and len(printed) == 2


def test_a_preloaded_module_that_fails_is_no_reason_to_fail(program: Program, style: str) -> None:
    """Whoever needs it gets it by value; nobody else notices."""
    program.write("guarded.py", GUARDED.format(unlike_the_program="raise ValueError('not twice')"))
    program.write(
        "script.py",
        SCRIPT
        + """
with ActorSystem(preload=["guarded", "sound", "nothing_there"]) as system:
    print(ask(system.spawn(sound.Worker))[1], ask(system.spawn(guarded.Worker))[1])
""",
    )
    assert program.run("script.py", environ={"ACTORS_FORK": style}) == ["True False"]


def test_a_module_that_is_edited_does_not_matter(program: Program, style: str) -> None:
    """What was imported is what runs, until the process that imported it has to be replaced."""
    program.write("guarded.py", GUARDED.format(unlike_the_program="pass"))
    program.write(
        "script.py",
        SCRIPT
        + """
from pathlib import Path
with ActorSystem() as system:
    worker = system.spawn(guarded.Worker)
    first = ask(worker)[0]
    Path("guarded.py").write_text("syntax error")
    worker.restart()
    while (second := ask(worker)[0]) == first:
        pass
    print(ask(worker)[1], ask(system.spawn(guarded.Worker))[1])
""",
    )
    assert program.run("script.py", environ={"ACTORS_FORK": style}) == ["True True"]

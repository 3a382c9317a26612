"""Programs that fork: they fork without our thread, and their children are strangers until they attach."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.program import Program

pytestmark = pytest.mark.usefixtures("leak_guard")

BEGIN = """
import os, sys, threading, time
from actors import Actor, ActorDied, ActorsError, ActorSystem

class Worker(Actor):
    def echo(self, value):
        return value
    def wait_for(self, path):
        while not os.path.exists(path):
            time.sleep(0.002)
        return "waited"
    def die(self):
        os._exit(3)

def in_child(function):
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = function() or 0
            sys.stdout.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def error_of(function):
    try:
        return function()
    except ActorsError as error:
        return f"{type(error).__name__}: {error}"

def readers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("actors: ")]

def tasks():
    return len(os.listdir("/proc/self/task"))
"""

COUNTING = """
import os
counts = []  # of threads, by the kernel, at each fork: the hook that is registered first is called last
os.register_at_fork(before=lambda: counts.append(len(os.listdir("/proc/self/task"))))
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_fork_finds_one_thread(program: Program) -> None:
    """Afterwards the program's reader is there again, and hears."""
    program.write(
        "script.py",
        COUNTING
        + BEGIN
        + """
system = ActorSystem()
worker = system.spawn(Worker)
for _ in range(100):
    assert in_child(tasks) == 1 and len(readers()) == 1
    assert worker.info()["status"] == "running"  # an answer that only the reader hears
print(set(counts), worker.ask(Worker.echo, 1).result(20))
system.close()
print(readers())
""",
    )
    assert program.run("-W", "error", "script.py") == ["{1} 1", "[]"]


def test_a_fork_of_every_kind_finds_one_thread(program: Program) -> None:
    """os.fork, os.forkpty, subprocess with a preexec_fn, multiprocessing; and callbacks set before are still called."""
    program.write(
        "script.py",
        COUNTING
        + BEGIN
        + """
import multiprocessing, subprocess
with ActorSystem() as system:
    worker = system.spawn(Worker)
    reply = worker.ask(Worker.wait_for, "go")
    done = threading.Event()
    reply.add_done_callback(lambda _: done.set())
    in_child(tasks)
    pid, terminal = os.forkpty()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(terminal)
    subprocess.run(["true"], preexec_fn=tasks, check=True)
    process = multiprocessing.get_context("fork").Process(target=tasks)
    process.start()
    process.join()
    open("go", "w").close()
    print(counts, done.wait(20), reply.result(20))
""",
    )
    assert program.run("script.py") == ["[1, 1, 1, 1] True waited"]


def test_many_threads_that_fork_at_once(program: Program) -> None:
    """The reader is there once again when all are done, and no call is lost meanwhile."""
    program.write(
        "script.py",
        BEGIN
        + """
with ActorSystem() as system:
    workers = [system.spawn(Worker) for _ in range(2)]
    def fork_and_ask(number):
        for turn in range(20):
            assert in_child(lambda: 7) == 7
            assert workers[turn % 2].ask(Worker.echo, (number, turn)).result(20) == (number, turn)
            assert workers[turn % 2].info()["status"] == "running"
        done.append(number)
    done = []
    threads = [threading.Thread(target=fork_and_ask, args=(number,)) for number in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(sorted(done), len(readers()))
""",
    )
    assert program.run("-W", "ignore::DeprecationWarning", "script.py") == ["[0, 1, 2, 3] 1"]


def test_a_fork_in_a_callback_of_ours(program: Program) -> None:
    """The reader itself forks. Its child ends when the callback returns, and calls no other callback a second time."""
    program.write(
        "script.py",
        BEGIN
        + """
import subprocess
with ActorSystem() as system:
    workers = [system.spawn(Worker, restart="temporary") for _ in range(3)]
    calls, strays, all_called = [], [], threading.Semaphore(0)
    def fork(down):
        calls.append((os.getpid(), in_child(lambda: 5)))
        subprocess.run(["true"], preexec_fn=tasks, check=True)
        with open("calls", "a") as file:
            file.write(f"{os.getpid()}\\n")
        strays.append(os.fork())
        if strays[-1] == 0:
            return  # into the reader's loop
        all_called.release()
    for worker in workers:
        worker.monitor(fork)
    for worker in workers:
        worker.tell(Worker.die)
    for worker in workers:
        all_called.acquire()
    for stray in strays:
        os.waitpid(stray, 0)
    print(calls == [(os.getpid(), 5)] * 3, set(open("calls").read().split()) == {str(os.getpid())}, len(readers()))
    print(system.spawn(Worker).ask(Worker.echo, 1).result(20))
""",
    )
    assert program.run("script.py", quiet=False)[:2] == ["True True 1", "1"]


def test_a_fork_while_a_callback_waits_for_the_forking_thread(program: Program) -> None:
    """It does not wait for ever for the reader, which can't stop now; the callback goes on afterwards, and others after
    it.
    """
    program.write(
        "script.py",
        BEGIN
        + """
with ActorSystem() as system:
    workers = [system.spawn(Worker, restart="temporary") for _ in range(2)]
    lock, started, ended, second = threading.Lock(), threading.Event(), threading.Event(), threading.Event()
    def callback(down):
        started.set()
        with lock:
            ended.set()
    workers[0].monitor(callback)
    workers[1].monitor(lambda down: second.set())
    with lock:
        workers[0].tell(Worker.die)
        started.wait(20)
        print(in_child(lambda: 5), ended.is_set())
        workers[1].tell(Worker.die)
    print(ended.wait(20), second.wait(20))
    worker = system.spawn(Worker)
    print(worker.info()["status"], len(readers()))
""",
    )
    assert program.run("script.py", quiet=False)[:3] == ["5 False", "True True", "running 1"]


def test_a_forked_child_takes_nothing_from_its_parent(program: Program) -> None:
    """Open calls end there with an error that says what to do; the parent's get their answers."""
    program.write(
        "script.py",
        BEGIN
        + """
import concurrent.futures
with ActorSystem() as system:
    worker = system.spawn(Worker)
    called = []
    reply = worker.ask(Worker.wait_for, "go")
    reply.add_done_callback(lambda _: called.append(1))
    def child():
        print(error_of(lambda: reply.result(20)))
        print(error_of(lambda: worker.ask(Worker.echo, 1).result(20)))
        print(error_of(lambda: worker.tell(Worker.echo, 1)))
        print(error_of(lambda: system.spawn(Worker)))
        system.close()
        print(called, readers())
    assert in_child(child) == 0
    open("go", "w").close()
    print(reply.result(20), worker.ask(Worker.echo, 1).result(20))
""",
    )
    *errors, in_child, in_parent = program.run("script.py")
    assert len(errors) == 4 and all(
        line.startswith("ActorsError: ") and "ActorSystem.attach(" in line for line in errors
    )
    assert (in_child, in_parent) == ("[] []", "waited 1")


@pytest.mark.parametrize("leaving", ["os._exit(0)", "sys.exit(0)", "return"])
def test_a_forked_child_that_leaves_does_not_close_the_system(program: Program, leaving: str) -> None:
    """Not by leaving `with` either, nor at its exit."""
    program.write(
        "script.py",
        BEGIN
        + f"""
def main():
    with ActorSystem() as system:
        worker = system.spawn(Worker)
        pid = os.fork()
        if pid == 0:
            {leaving}
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), worker.ask(Worker.echo, 1).result(20))
main()
""",
    )
    assert program.run("script.py") == ["0 1"]


PREFORK = """
system = ActorSystem()
counter = system.spawn(Worker)
def serve(number):
    '''A worker of a web server: a child with a thread pool and an event loop of its own.'''
    import asyncio, concurrent.futures
    with ActorSystem.attach(system.name) as attached:
        assert counter.ask(Worker.echo, number).result(20) == number  # a reference that was inherited
        found = attached.lookup("worker-1", Worker)
        assert found == counter and found.ask(Worker.echo, number).result(20) == number
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda each: found.ask(Worker.echo, each).result(20), range(50)))
        assert replies == list(range(50))
        async def requests():
            return await asyncio.gather(*(found.ask(Worker.echo, each) for each in range(50)))
        assert asyncio.run(requests()) == list(range(50))
        own = attached.spawn(Worker, name=f"of-{number}")
        assert own.ask(Worker.echo, number).result(20) == number
        own.stop()
        own.wait(20)
    return number
"""


def test_workers_of_a_server_that_forks_first(program: Program) -> None:
    """The system begins, then the workers are forked, and each attaches; all of them talk to the same actors at once."""
    program.write(
        "script.py",
        BEGIN
        + PREFORK
        + """
pids = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        os._exit(serve(number))
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
print(counter.ask(Worker.echo, "still here").result(20), [child["name"] for child in system.tree()["children"]])
system.close()
""",
    )
    assert program.run("script.py") == ["[0, 1, 2, 3]", "still here ['worker-1']"]


def test_a_worker_of_a_server_that_is_killed_and_replaced(program: Program) -> None:
    """A server's master does that all day: nothing of the dead one stays in the system."""
    program.write(
        "script.py",
        BEGIN
        + PREFORK
        + """
import signal
def descriptors():
    return len(os.listdir(f"/proc/{system.guardian_pid}/fd"))
before = None
for turn in range(5):
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        attached = ActorSystem.attach(system.name)
        attached.lookup("worker-1").ask("echo", 1).result(20)
        os.write(say, b"x")
        signal.pause()
    os.read(ready, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready), os.close(say)
    before = before or descriptors()
while descriptors() > before:
    pass
print(counter.ask(Worker.echo, "well").result(20))
system.close()
""",
    )
    assert program.run("script.py") == ["well"]


MULTIPROCESSING = """
import multiprocessing, os, sys
from actors import Actor, ActorsError, ActorSystem

class Adder(Actor):
    def __init__(self):
        self.value = 0
    def add(self, amount):
        self.value += amount
        return self.value

def work(ref, name, number):
    with ActorSystem.attach(name):
        return ref.ask(Adder.add, number).result(20)

def alone(ref):
    try:
        return ref.ask(Adder.add, 1).result(20)
    except ActorsError as error:
        return "ActorSystem.attach(" in str(error)

if __name__ == "__main__":
    with ActorSystem() as system:
        adder = system.spawn(Adder)
        with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
            print(max(pool.starmap(work, [(adder, system.name, number) for number in range(10)])))
            pool.close()
            pool.join()
        with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
            print(pool.apply(alone, (adder,)))
            pool.close()
            pool.join()
        print(adder.ask(Adder.add, 0).result(20))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_beside_multiprocessing(program: Program, method: str) -> None:
    """References go to its processes as arguments, and lead somewhere once those attach."""
    program.write("script.py", MULTIPROCESSING)
    assert program.run("script.py", method) == ["45", "True", "45"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("style", ["sibling", "double"])
def test_multiprocessing_inside_an_actor(program: Program, method: str, style: str) -> None:
    """An actor may use it like any program; what it leaves running ends with it."""
    program.write(
        "chores.py", "import time\ndef double(number):\n    return number * 2\ndef sleep():\n    time.sleep(600)\n"
    )
    program.write(
        "script.py",
        f"""
        import multiprocessing, os
        import chores
        from actors import Actor, ActorSystem
        class Boss(Actor):
            def work(self):
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    return pool.map(chores.double, range(5))
            def leave_one(self):
                self.left = multiprocessing.get_context({method!r}).Process(target=chores.sleep)
                self.left.start()
                return self.left.pid
        with ActorSystem() as system:
            boss = system.spawn(Boss)
            print(boss.ask(Boss.work).result(30))
            left = boss.ask(Boss.leave_one).result(30)
            boss.kill()
            boss.wait(20)
        print(os.path.exists(f"/proc/{{left}}"))
        """,
    )
    assert program.run("script.py", environ={"ACTORS_FORK": style}) == ["[0, 2, 4, 6, 8]", "False"]


def test_an_executor_of_processes_beside_a_system(program: Program) -> None:
    """Its workers are forked in the middle of everything, from a thread of its own."""
    program.write(
        "script.py",
        COUNTING
        + BEGIN
        + """
import concurrent.futures
def square(number):
    return number * number
with ActorSystem() as system:
    worker = system.spawn(Worker)
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(list(pool.map(square, range(4))), worker.ask(Worker.echo, 1).result(20), len(readers()))
print(len(counts))
""",
    )
    assert program.run("script.py")[0] == "[0, 1, 4, 9] 1 1"

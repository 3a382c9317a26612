"""Stacks of live actors, asked for and by hand."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, Backoff
from kit import Journal, children, family, kill, process, system_name, until

pytestmark = pytest.mark.usefixtures("module_leak_guard")


@pytest.fixture(scope="module")
def system(module_leak_guard: object) -> Iterator[ActorSystem]:
    with ActorSystem(system_name("stacks")) as running:
        yield running
        running.close("stop")


class Worker(Actor):
    """Does something that can be seen."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal

    def pid(self) -> int:
        return os.getpid()

    def wait_here(self, journal: Journal) -> None:
        journal.write("here")
        time.sleep(3600)

    def backtrack(self, journal: Journal) -> None:
        """C code that never lets go of the GIL."""
        journal.write("here")
        re.match("(a+)+$", "a" * 80 + "b")

    def start_threads(self, count: int, depth: int) -> None:
        started = threading.Barrier(count + 1)

        def dig(left: int) -> None:
            if left:
                dig(left - 1)
            else:
                started.wait()
                time.sleep(3600)

        for _ in range(count):
            threading.Thread(target=dig, args=[depth], daemon=True).start()
        started.wait()

    def take_the_signal(self) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)

    def fail(self) -> None:
        os._exit(3)


@pytest.fixture
def worker(system: ActorSystem) -> Iterator[ActorRef[Worker]]:
    made = system.spawn(Worker)
    yield made
    made.kill()
    made.wait(10)


def test_an_idle_actor_waits_in_its_event_loop(worker: ActorRef[Worker]) -> None:
    """One thread, and it goes on as if nothing had happened."""
    text = until(lambda: (seen := worker.stacks()) and "in select" in seen and seen, "it waits")
    assert text.startswith("Current thread 0x")
    assert "\0" not in text
    assert worker.ask(Worker.pid).result(10) == worker.info()["pid"]


@pytest.mark.parametrize("method", ["wait_here", "backtrack"])
def test_a_stuck_actor_shows_where(method: str, worker: ActorRef[Worker], journal: Journal) -> None:
    """Also in C code that holds the GIL, where no Python code could run."""
    worker.tell(method, journal)
    journal.until("here")
    until(lambda: f"in {method}" in worker.stacks(), "the method is on the stack")


def test_all_threads_are_shown_whole_however_much_that_is(worker: ActorRef[Worker]) -> None:
    """Many times what a pipe holds: nothing is left out before the end."""
    worker.ask(Worker.start_threads, 40, 60).result(20)
    text = worker.stacks()
    assert len(text) > 1 << 17
    assert len(re.findall(r"hread 0x\w+", text)) == 41
    assert text.endswith("<module>")


def test_several_may_ask_at_once_and_each_gets_an_answer(worker: ActorRef[Worker]) -> None:
    """From many threads, again and again."""
    answers: list[str] = []

    def ask() -> None:
        answers.extend(worker.stacks() for _ in range(10))

    askers = [threading.Thread(target=ask) for _ in range(5)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    assert len(answers) == 50
    assert all(answer.startswith("Current thread") for answer in answers)


def test_a_stopped_actor_is_said_to_be(worker: ActorRef[Worker]) -> None:
    """At once, and it is none the worse for it."""
    pid = worker.ask(Worker.pid).result(10)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: (found := process(pid)) and found.state == "T", "it is stopped")
    assert "it is stopped (SIGSTOP)" in worker.stacks()
    os.kill(pid, signal.SIGCONT)
    assert worker.ask(Worker.pid).result(10) == pid


def test_an_actor_that_uses_the_signal_itself_is_said_to(worker: ActorRef[Worker]) -> None:
    """In bounded time."""
    worker.ask(Worker.take_the_signal).result(10)
    start = time.monotonic()
    assert "has a handler of its own" in worker.stacks()
    assert time.monotonic() - start < 30


def test_an_actor_without_a_process_has_no_stacks(system: ActorSystem) -> None:
    """In backoff a sentence; when it has ended, ActorDied."""
    failing = system.spawn(Worker, backoff=Backoff(60.0, 60.0, jitter=0.0))
    for _ in range(2):  # the first restart is immediate
        failing.tell(Worker.fail)
        until(lambda: failing.info()["status"] in ("running", "backoff"), "it is judged")
    until(lambda: failing.info()["status"] == "backoff", "it waits for its next start")
    assert "no process" in failing.stacks()
    failing.kill()
    failing.wait(10)
    with pytest.raises(ActorDied):
        failing.stacks()


def test_a_signal_by_hand_puts_them_into_the_log(
    worker: ActorRef[Worker], journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kill -USR1 PID`, with the actor's address."""
    worker.tell(Worker.wait_here, journal)
    journal.until("here")
    os.kill(worker.info()["pid"], signal.SIGUSR1)
    seen: list[str] = []

    def logged() -> str:
        seen.append(capsys.readouterr().err)
        return "".join(seen)

    until(lambda: "in wait_here" in logged(), "the log shows it")
    assert "stacks, by SIGUSR1" in logged()
    assert worker.address in logged()


def test_the_signal_ends_neither_the_zygote_nor_a_process_that_waits_to_be_born(system: ActorSystem) -> None:
    """Whoever sends it to every process of the system ends nothing."""
    known = family(system.guardian_pid)
    for pid in children(known.guardian):
        kill(pid, signal.SIGUSR1)
    worker = system.spawn(Worker)
    assert worker.ask(Worker.pid).result(10)
    assert family(system.guardian_pid) == known
    worker.kill()

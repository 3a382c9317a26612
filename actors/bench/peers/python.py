"""What Python itself offers for the same jobs: multiprocessing's Pipe, Queue and Process.

Rule: this file is run as a script and imports nothing of ours, so that a peer's processes, which import their parent's
main module, start as lean as their own users' do. Each case is a function that measures once and returns one number
(seconds, messages a second, bytes).

    python -P python.py ask.pipe
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event


Message = dict[str, object]
MESSAGE: Message = {"id": 123456, "name": "temperature-1", "value": 21.5, "unit": "celsius", "ok": True}  # packed: 60 B
TELLS = 40_000
SENDERS = 4
PROCESSES = 20
MEGABYTES, ARRAYS = 300, 50  # of 1 MB and of 8 MB

spawn = multiprocessing.get_context("spawn")


# --- measuring (used by every file of this package)


def p50(call: Callable[[], object], seconds: float = 0.6, warm: int = 200) -> float:
    """Median seconds of one call, over as many as fit into `seconds`; the first `warm` are not counted, nor more than
    a third of the time.
    """
    clock = time.perf_counter
    end = clock() + seconds / 3
    while warm and clock() < end:
        call()
        warm -= 1
    times: list[float] = []
    end = clock() + seconds
    while (start := clock()) < end or len(times) < 3:
        call()
        times.append(clock() - start)
    return statistics.median(times)


def main(cases: dict[str, Callable[[], float]]) -> None:
    """Measure the case that the command line names and print its number as the last line of JSON."""
    print(json.dumps(cases[sys.argv[1]]()), flush=True)


# --- what runs in the other process


def echo(connection: Connection) -> None:
    while (message := connection.recv()) is not None:
        connection.send(message)


def echo_queue(inbox: Queue[Message | None], outbox: Queue[Message]) -> None:
    while (message := inbox.get()) is not None:
        outbox.put(message)


def count_pipe(messages: Connection, done: Connection) -> None:
    for _ in range(done.recv()):
        messages.recv()
    done.send("all handled")


def count_large(connection: Connection) -> None:
    while True:
        for _ in range(connection.recv()):
            connection.recv()
        connection.send("all received")


def count_queue(messages: Queue[Message], done: Connection) -> None:
    for _ in range(done.recv()):
        messages.get()
    done.send("all handled")


def take_from_queue(messages: Queue[Message], done: Connection) -> None:
    """Until None comes."""
    done.send("ready")
    while messages.get() is not None:
        pass
    done.send("all taken")


def flood(messages: Queue[Message], go: Event, ready: Connection) -> None:
    ready.send("ready")
    go.wait()
    for _ in range(TELLS // SENDERS):
        messages.put(MESSAGE)


def with_numpy(connection: Connection) -> None:
    import numpy

    connection.send(numpy.zeros(1).size)
    connection.recv()


def answering() -> tuple[BaseProcess, Connection]:
    """A new process that has answered its first message, and the connection to it."""
    here, there = spawn.Pipe()
    process = spawn.Process(target=echo, args=(there,))
    process.start()
    here.send(MESSAGE)
    here.recv()
    return process, here


def stop(process: BaseProcess) -> None:
    process.kill()
    process.join()


@contextmanager
def running(process: BaseProcess) -> Iterator[BaseProcess]:
    process.start()
    try:
        yield process
    finally:
        stop(process)


# --- the cases


def ask_pipe() -> float:
    here, there = spawn.Pipe()
    with running(spawn.Process(target=echo, args=(there,))):

        def call() -> None:
            here.send(MESSAGE)
            here.recv()

        return p50(call)


def ask_queue() -> float:
    inbox: Queue[Message | None] = spawn.Queue()
    outbox: Queue[Message] = spawn.Queue()
    with running(spawn.Process(target=echo_queue, args=(inbox, outbox))):

        def call() -> None:
            inbox.put(MESSAGE)
            outbox.get()

        return p50(call)


def tell_pipe() -> float:
    reader, writer = spawn.Pipe(duplex=False)
    done, there = spawn.Pipe()
    with running(spawn.Process(target=count_pipe, args=(reader, there))):
        done.send(TELLS + 1)
        writer.send(MESSAGE)
        time.sleep(0.2)  # it is up and has taken the first: the start is not measured
        start = time.perf_counter()
        for _ in range(TELLS):
            writer.send(MESSAGE)
        done.recv()
        return TELLS / (time.perf_counter() - start)


def tell_queue() -> float:
    messages: Queue[Message] = spawn.Queue()
    done, there = spawn.Pipe()
    with running(spawn.Process(target=count_queue, args=(messages, there))):
        done.send(1)
        messages.put(MESSAGE)
        done.recv()

    def send() -> None:
        for _ in range(TELLS):
            messages.put(MESSAGE)

    return _drain(messages, send)


def tell4_queue() -> float:
    messages: Queue[Message] = spawn.Queue()
    go = spawn.Event()
    ready, there = spawn.Pipe()
    senders = [spawn.Process(target=flood, args=(messages, go, there)) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    for _ in senders:
        ready.recv()
    try:
        return _drain(messages, go.set)
    finally:
        for sender in senders:
            stop(sender)


def box_queue() -> float:
    return tell_queue()


def box4_queue() -> float:
    messages: Queue[Message | None] = spawn.Queue()
    go = spawn.Event()
    ready, there = spawn.Pipe()
    senders = [spawn.Process(target=flood, args=(messages, go, there)) for _ in range(SENDERS)]
    takers = [spawn.Process(target=take_from_queue, args=(messages, there)) for _ in range(SENDERS)]
    for process in (*senders, *takers):
        process.start()
    for _ in (*senders, *takers):
        ready.recv()
    try:
        start = time.perf_counter()
        go.set()
        for sender in senders:  # a queue's process ends when all that it has put is in the pipe
            sender.join()
        for _ in takers:
            messages.put(None)
        for _ in takers:
            ready.recv()
        return TELLS / (time.perf_counter() - start)
    finally:
        for process in (*senders, *takers):
            stop(process)


def _drain(messages: Queue[Message], send: Callable[[], object]) -> float:
    """Messages a second from the first that `send` causes until a consumer that is up already has handled all."""
    done, there = spawn.Pipe()
    with running(spawn.Process(target=count_queue, args=(messages, there))):
        done.send(TELLS)
        time.sleep(0.3)  # it is up and waits
        start = time.perf_counter()
        send()
        done.recv()
        return TELLS / (time.perf_counter() - start)


def megabyte_pipe() -> float:
    return large_pipe(os.urandom(1 << 20), MEGABYTES)


def array_pipe() -> float:
    import numpy

    return large_pipe(numpy.arange(1.0 * (1 << 20)), ARRAYS)


def large_pipe(value: object, count: int) -> float:
    """Messages a second of a large value, one way, until all are received; the first few are not measured."""
    here, there = spawn.Pipe()
    with running(spawn.Process(target=count_large, args=(there,))):
        for number in (10, count):
            here.send(number)
            start = time.perf_counter()
            for _ in range(number):
                here.send(value)
            here.recv()
        return count / (time.perf_counter() - start)


def start_process() -> float:
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        return p50(lambda: started.append(answering()), warm=1)
    finally:
        for process, _ in started:
            stop(process)


def kill_process() -> float:
    times: list[float] = []
    process, connection = answering()
    for _ in range(8):
        start = time.perf_counter()
        stop(process)
        process, connection = answering()
        times.append(time.perf_counter() - start)
    stop(process)
    connection.close()
    return statistics.median(times)


def memory_process() -> float:
    here, there = spawn.Pipe()
    processes = [spawn.Process(target=with_numpy, args=(there,)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for _ in processes:
        here.recv()
    try:
        return sum(pss(process.pid) for process in processes if process.pid) / PROCESSES
    finally:
        for process in processes:
            stop(process)


def pss(pid: int, field: str = "Pss") -> int:
    """Bytes of memory that are a process's proportional share, by the kernel's own account. 0: it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


CASES: dict[str, Callable[[], float]] = {
    "ask.pipe": ask_pipe,
    "ask.queue": ask_queue,
    "tell.pipe": tell_pipe,
    "tell.queue": tell_queue,
    "tell4.queue": tell4_queue,
    "megabyte.pipe": megabyte_pipe,
    "array.pipe": array_pipe,
    "box.queue": box_queue,
    "box4.queue": box4_queue,
    "spawn.process": start_process,
    "kill.process": kill_process,
    "memory.process": memory_process,
}

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(CASES)

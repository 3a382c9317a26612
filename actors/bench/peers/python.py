"""What Python itself offers for the same jobs: multiprocessing's Pipe, Queue and Process, and concurrent.futures'
process pool.

Rule: this file is run as a script and imports nothing of ours, so that a peer's processes, which import their parent's
main module, start as lean as their own users' do. Each case is a function that measures once and returns one number
(seconds, messages a second, bytes).

    python -P peers.py ask.pipe
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    import numpy

Message = dict[str, object]
Array: TypeAlias = "numpy.ndarray[Any, numpy.dtype[numpy.float64]]"
MESSAGE: Message = {"id": 123456, "name": "temperature-1", "value": 21.5, "unit": "celsius", "ok": True}  # packed: 60 B
TELLS = 40_000
SENDERS = 4
PROCESSES = 20
CAT = 1 << 30  # bytes
MEGABYTES, ARRAYS = 300, 50  # of 1 MB and of 8 MB
TASKS = 10_000
LINE, LINES = b"a line of sixty bytes with its end, as a shell tool writes.\n", 100_000
APPENDS = 200
TINY = 100_000
WARM = 2_000
TIMES = 3  # a short run is measured so often, its median counts
BURNS = 1_500
FRAMES = 30  # of 8 MB

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


def mapped(run: Callable[[], Iterable[int]], times: int = 7) -> float:
    """Tasks a second of a map of TASKS tasks; the first two, in which workers start and warm up, are not counted."""
    rates: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        assert sum(run()) == sum(range(TASKS))
        rates.append(TASKS / (time.perf_counter() - start))
    return statistics.median(rates[2:])


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


def same(message: Message) -> Message:
    return message


def itself(number: int) -> int:
    return number


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


def ask_pool() -> float:
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return p50(lambda: pool.submit(same, MESSAGE).result())


def submit_pool_fork() -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return p50(lambda: pool.submit(same, MESSAGE).result())


def map_pool() -> float:
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        return mapped(lambda: pool.map(itself, range(TASKS)), 4)


def map_pool_best() -> float:
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        return max(mapped(lambda: pool.map(itself, range(TASKS), chunksize=size)) for size in (100, 625, 2500))  # noqa: B023


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


def cat_popen() -> float:
    """Bytes a second through `cat`: one thread writes, 64 KiB a write, the main thread reads, 64 KiB a read."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        into, out = process.stdin, process.stdout
        start = time.perf_counter()
        writer = threading.Thread(target=_write_all, args=(into,))
        writer.start()
        read = 0
        while data := out.read(64 << 10):
            read += len(data)
        elapsed = time.perf_counter() - start
        writer.join()
    assert read == CAT, f"{read} of {CAT} bytes came back"
    return CAT / elapsed


def _write_all(file: IO[bytes]) -> None:
    piece = bytes(64 << 10)
    for _ in range(CAT // len(piece)):
        file.write(piece)
    file.close()


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


def lock_in_turn(lock: AbstractContextManager[object], times: int) -> float:
    """Median seconds of taking a lock that nobody else wants and giving it back, which is too short to be timed alone."""

    def call() -> None:
        for _ in range(times):
            with lock:
                pass

    return p50(call, warm=5) / times


def signal_process() -> float:
    """SIGKILL to a process until `join` has returned."""

    def kill() -> float:
        process, connection = answering()
        start = time.perf_counter()
        process.kill()
        process.join()
        elapsed = time.perf_counter() - start
        connection.close()
        return elapsed

    return sorted(kill() for _ in range(7))[3]


def socket_pipe() -> float:
    process, connection = answering()

    def ask() -> None:
        connection.send(b"?")
        connection.recv()

    elapsed = p50(ask)
    stop(process)
    connection.close()
    return elapsed


def read_lines(path: str, done: Connection) -> None:
    with open(path, "rb") as pipe:  # noqa: PTH123
        done.send(sum(len(line) for line in pipe))


def fifo_open() -> float:
    here, there = spawn.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/lines"
        os.mkfifo(path)
        reader = spawn.Process(target=read_lines, args=(path, there))
        reader.start()
        with open(path, "wb", buffering=0) as pipe:  # noqa: PTH123
            start = time.perf_counter()
            for _ in range(LINES // 100):
                pipe.write(LINE * 100)
        assert here.recv() == LINES * len(LINE)
        elapsed = time.perf_counter() - start
        reader.join()
    return LINES / elapsed


def append_fsync() -> float:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, open(f"{folder}/records", "ab", 0) as file:  # noqa: PTH123
        start = time.perf_counter()
        for _ in range(APPENDS):
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(LINE)
            os.fsync(file)
            fcntl.flock(file, fcntl.LOCK_UN)
        return APPENDS / (time.perf_counter() - start)


def lock_multiprocessing() -> float:
    return lock_in_turn(spawn.Lock(), 1000)


def lock_manager() -> float:
    with spawn.Manager() as manager:
        return lock_in_turn(manager.Lock(), 10)


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


def double(number: int) -> int:
    return number * 2


def burn(number: int) -> int:
    """A millisecond of this process's own CPU time."""
    end = time.thread_time_ns() + 1_000_000
    while time.thread_time_ns() < end:
        pass
    return number


def tiny_imap_single() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return _through(lambda count: pool.imap(double, range(count)))


def tiny_imap_best() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        sizes = (500, 1_000, 2_500, 5_000, 10_000)
        return max(statistics.median(_through(partial(_imap, pool, size)) for _ in range(TIMES)) for size in sizes)


def _imap(pool: Pool, size: int, count: int) -> Iterator[int]:
    return pool.imap(double, range(count), size)


def _through(results: Callable[[int], Iterator[int]]) -> float:
    """Items a second, asked for after warm workers have nothing left to do."""
    for _ in results(WARM):
        pass
    start = time.perf_counter()
    assert sum(1 for _ in results(TINY)) == TINY
    return TINY / (time.perf_counter() - start)


def frames(count: int) -> Iterator[Array]:
    """Arrays of 8 MB."""
    import numpy

    some = [numpy.arange(1.0 * (1 << 20)) + number for number in range(4)]
    return (some[number % len(some)] for number in range(count))


def scaled(array: Array) -> Array:
    return array * 2.0


def shifted(array: Array) -> Array:
    return array + 1.0


def rooted(array: Array) -> Array:
    root: Array = array**0.5
    return root


def all_three(array: Array) -> Array:
    return rooted(shifted(scaled(array)))


def stream_through_pools() -> float:
    """Three stages, a process each, as ours."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as first, fork.Pool(1) as second, fork.Pool(1) as third:
        return _streamed(lambda items: third.imap(rooted, second.imap(shifted, first.imap(scaled, items))))


def stream_through_a_pool() -> float:
    """Three stages on the processes of one pool."""
    with multiprocessing.get_context("fork").Pool(3) as pool:
        return _streamed(lambda items: pool.imap(rooted, pool.imap(shifted, pool.imap(scaled, items))))


def stream_in_one_stage() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return _streamed(lambda items: pool.imap(all_three, items))


def _streamed(run: Callable[[Iterator[Array]], Iterator[Array]]) -> float:
    """Arrays a second, by workers that are warm."""
    for _ in run(frames(5)):
        pass
    start = time.perf_counter()
    assert sum(1 for _ in run(frames(FRAMES))) == FRAMES
    return FRAMES / (time.perf_counter() - start)


def cpu_pool() -> float:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        list(pool.imap(burn, range(20)))
        start = time.perf_counter()
        assert sum(1 for _ in pool.imap(burn, range(BURNS), 10)) == BURNS
        return BURNS * 0.001 / (time.perf_counter() - start)


CASES: dict[str, Callable[[], float]] = {
    "ask.pipe": ask_pipe,
    "ask.queue": ask_queue,
    "ask.pool": ask_pool,
    "submit.pool": ask_pool,
    "submit.pool-fork": submit_pool_fork,
    "map.pool": map_pool,
    "map.pool-best": map_pool_best,
    "tell.pipe": tell_pipe,
    "tell.queue": tell_queue,
    "tell4.queue": tell4_queue,
    "megabyte.pipe": megabyte_pipe,
    "array.pipe": array_pipe,
    "box.queue": box_queue,
    "box4.queue": box4_queue,
    "cat.popen": cat_popen,
    "spawn.process": start_process,
    "kill.process": kill_process,
    "memory.process": memory_process,
    "signal.process": signal_process,
    "socket.pipe": socket_pipe,
    "fifo.open": fifo_open,
    "append.fsync": append_fsync,
    "lock.multiprocessing": lock_multiprocessing,
    "lock.manager": lock_manager,
    "tiny.imap1": tiny_imap_single,
    "tiny.imap": tiny_imap_best,
    "cpu.pool": cpu_pool,
    "stream.pools": stream_through_pools,
    "stream.pool": stream_through_a_pool,
    "stream.stage": stream_in_one_stage,
}

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main(CASES)

"""What Python itself offers for single mechanisms: a signal, a word with another process, a FIFO, a file, a program, locks.

python -m actors.bench.peers.mechanisms fifo.open
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from .python import answering, main, p50, spawn, stop

CAT = 1 << 30  # bytes
LINE, LINES = b"a line of sixty bytes with its end, as a shell tool writes.\n", 100_000
APPENDS = 200


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


def lock_in_turn(lock: AbstractContextManager[object], times: int) -> float:
    """Median seconds of taking a lock that nobody else wants and giving it back, which is too short to be timed alone."""

    def call() -> None:
        for _ in range(times):
            with lock:
                pass

    return p50(call, warm=5) / times


def lock_multiprocessing() -> float:
    return lock_in_turn(spawn.Lock(), 1000)


def lock_manager() -> float:
    with spawn.Manager() as manager:
        return lock_in_turn(manager.Lock(), 10)


CASES: dict[str, Callable[[], float]] = {
    "cat.popen": cat_popen,
    "signal.process": signal_process,
    "socket.pipe": socket_pipe,
    "fifo.open": fifo_open,
    "append.fsync": append_fsync,
    "lock.multiprocessing": lock_multiprocessing,
    "lock.manager": lock_manager,
}

if __name__ == "__main__":
    main(CASES)

"""Our side of the figures of single mechanisms: signals, the guardian's socket, FIFOs, files.

python -m actors.bench.mechanisms signal.actors
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..system import ActorSystem
from .peers.mechanisms import APPENDS, LINE, LINES
from .peers.python import main, p50
from .workers import Bytes, Echo


def signal_to_end() -> float:
    """SIGKILL to an actor until `wait` has returned."""
    with ActorSystem() as system:

        def kill() -> float:
            actor = system.spawn(Echo, restart="temporary")
            pid = actor.ask(Echo.pid).result()
            start = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            actor.wait()
            return time.perf_counter() - start

        return sorted(kill() for _ in range(31))[15]


def socket() -> float:
    """One exchange with the guardian: a name is looked up."""
    with ActorSystem() as system:
        system.spawn(Echo, name="echo")
        return p50(lambda: system.lookup("echo"))


def fifo() -> float:
    """Lines a second from a shell tool's FIFO to an actor."""
    with tempfile.TemporaryDirectory() as folder, ActorSystem() as system:
        path, sink = Path(folder) / "lines", system.spawn(Bytes)
        reader = system.fifo(path, mode="r", to=sink)
        sink.ask(Bytes.count).result()
        start = time.perf_counter()
        with path.open("wb", buffering=0) as pipe:
            for _ in range(LINES // 100):
                pipe.write(LINE * 100)
        while (taken := sink.ask(Bytes.count).result()) < LINES * (len(LINE) - 1):
            time.sleep(0.001)
        elapsed = time.perf_counter() - start
        assert taken == LINES * (len(LINE) - 1), f"{taken} bytes arrived"
        reader.stop()
        return LINES / elapsed


def append() -> float:
    """Records a second by one who holds the file meanwhile."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        ActorSystem() as system,
        system.file(Path(folder) / "records") as file,
    ):
        start = time.perf_counter()
        for _ in range(APPENDS):
            file.append(LINE[:-1])
        return APPENDS / (time.perf_counter() - start)


def append_each() -> float:
    """Records a second where the file is free for others after each."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, ActorSystem() as system:
        start = time.perf_counter()
        for _ in range(APPENDS):
            with system.file(Path(folder) / "records") as file:
                file.append(LINE[:-1])
        return APPENDS / (time.perf_counter() - start)


CASES: dict[str, Callable[[], float]] = {
    "signal.actors": signal_to_end,
    "socket.actors": socket,
    "fifo.actors": fifo,
    "append.actors": append,
    "append.each": append_each,
}

if __name__ == "__main__":
    main(CASES)

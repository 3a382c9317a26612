"""The zygote: a process that has imported everything once and forks actors on demand.

Rule: single-threaded, does nothing but fork. It takes requests from the guardian one by one; its death disturbs no
actor and loses no spawn (the guardian starts another and sends again what was not born).

Imports of user modules happen in a candidate: a fork that imports, and takes the zygote's place when that went well, so
an import that fails, hangs or crashes harms nobody. After its imports each candidate makes one throw-away fork:
libraries that hold threads (OpenBLAS in NumPy) let go of them in their at-fork handlers, which `sibling` does not run.
A module that has threads even then is no zygote's: the candidate names it and leaves, and actors that need it are
started from scratch (ignition.py).

Two ways to fork, one contract (`FORKS`): `sibling` (clone3 with CLONE_PARENT: the guardian is the parent at once) and
`double` (fork twice, the guardian adopts the orphan; no glibc internals, 1-3 ms slower). `ACTORS_FORK=double` chooses
the second.

Run as: python -c "from actors.zygote import main; main(fd, guardian_pid, system)".
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from . import process, wire
from .actor import Actor
from .loop import exit_now
from .process import PR_SET_PDEATHSIG
from .transports._ring import prctl, sibling


def fork_sibling() -> tuple[int, int]:
    return sibling(), 0


def fork_double() -> tuple[int, int]:
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return middle, 0
    me = os.getpid()
    if os.fork():
        os._exit(0)
    return 0, me


REHEARSALS = 40  # what has run here is specialized and cached here: some 0.1 MB an actor less to copy than after two

# (0, pid of the middle process or 0) in the child, (not 0, 0) in the zygote
FORKS: dict[str, Callable[[], tuple[int, int]]] = {"sibling": fork_sibling, "double": fork_double}


def main(fd: int, guardian: int, system: str, how: str = "sibling") -> NoReturn:
    """The first zygote, freshly exec'd."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import setproctitle

    setproctitle.setproctitle(f"actors: {system} zygote")
    try:
        _serve(socket.socket(fileno=fd), guardian, system, how, [])
    except (BrokenPipeError, ConnectionResetError):  # the guardian is gone, and the death signal on its way
        os._exit(1)


def _serve(sock: socket.socket, guardian: int, system: str, how: str, modules: list[str]) -> NoReturn:
    """Say what this zygote can do, then fork on request: a newborn (which waits for its birth message), or a candidate
    for this place.
    """
    process.show_stacks(2, -1)
    for _ in range(REHEARSALS):
        process.rehearse().close()
    gc.collect()
    gc.freeze()
    try:
        wire.send(sock, {"op": "zygote", "pid": os.getpid(), "modules": modules})
    except OSError:  # given up meanwhile
        os._exit(0)
    if not modules:
        _import_when_idle(sock)
    while True:
        message, fds = wire.recv(sock)
        if message is None:
            os._exit(0)
        try:
            child, middle = FORKS[how]()
        except OSError as error:  # no process to be had (RLIMIT_NPROC, memory): the guardian reports it
            wire.send(sock, {"op": "unborn", "number": message.get("number"), "error": str(error)})
            child, middle = -1, 0
        if child == 0:
            sock.close()
            if message["op"] == "fork":
                process.await_birth(fds[0], guardian, middle, system)
            sock = _candidate(message, fds[0], guardian, middle)
            _serve(sock, guardian, system, how, message["modules"])
        for fd in fds:
            os.close(fd)


def _candidate(message: wire.Message, fd: int, guardian: int, middle: int) -> socket.socket:
    """Import what is asked for, so as to take the zygote's place, or say why not and leave."""
    sock = socket.socket(fileno=fd)
    name, threaded, threads = "", [], _threads()
    try:
        process._become_mortal(guardian, middle)
        sys.path.extend(entry for entry in message["path"] if entry not in sys.path)
        for name in message["modules"]:
            wire.send(sock, {"op": "importing", "pid": os.getpid(), "module": name})
            importlib.import_module(name)
            if _threads() > threads:
                _let_go_of_threads()
                if _threads() > threads:
                    threads = _threads()
                    threaded.append(name)
        _let_go_of_threads()
        if _keeps_state(Actor):
            _import_for_state()
    except BaseException:
        with contextlib.suppress(OSError):  # given up, or the guardian is gone
            wire.send(sock, {"op": "unfit", "module": name, "error": traceback.format_exc()})
        exit_now(1)
    if threaded:
        wire.send(sock, {"op": "threaded", "modules": threaded})
        exit_now(1)
    return sock


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _let_go_of_threads() -> None:
    with warnings.catch_warnings():  # Python 3.12 does not like it, and it is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _import_when_idle(sock: socket.socket) -> None:
    """structlog takes 60 ms to import: not before the first actor, unless there is time."""
    import select

    if not select.select([sock], [], [], 0.05)[0]:
        import structlog

        assert structlog
        _import_for_state()
        gc.collect()
        gc.freeze()


def _keeps_state(kind: type[Any]) -> bool:
    """Does this class, or any below it?"""
    return bool(process.state_hooks(kind)) or any(_keeps_state(each) for each in kind.__subclasses__())


def _import_for_state() -> None:
    """What only actors that keep state need: imported by each of them it would be 4 ms a restart, and 1.3 MB."""
    import mmap

    from . import snapshots

    assert mmap
    assert snapshots

"""How the guardian's process begins: warden first, guardian forked from it, before anything heavy is imported.

Run as: python -c "from actors.guardian.entry import main; main(fd, program_pid)". The first message on the socket is
the configuration; the answer is `welcome` with this program's lanes, or `refused` when a system of that name runs
already.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from typing import Any, NoReturn

from .. import wire
from ..transports._ring import prctl
from .ignition import exec_zygote

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "ACTORS_OWNER"  # environment variable, GUARDIAN/PID: of which actor this is a child, or a child's child


def socket_name(system: str) -> str:
    """The abstract unix socket of a system: unique by bind, gone with its process, one a user and machine."""
    return f"\0actors/{os.getuid()}/{system}"


def main(fd: int, program: int) -> NoReturn:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # also sent to all of a unit, a session, a machine:
        signal.signal(number, signal.SIG_IGN)  # the program alone says when it is over
    try:
        pidfd = os.pidfd_open(program)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != program:  # it died before the pidfd was opened, so that may be a stranger's
        os._exit(1)
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    config, _ = wire.recv(sock)
    if config is None:
        os._exit(1)
    config["program"] = program
    listener = _listen(sock, config["system"])
    warden = os.getpid()
    child = os.fork()
    if child:
        sock.close()
        listener.close()
        os.close(pidfd)
        _ward(child, config["system"])
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # until the guardian can watch the warden, and end what lives
    above = os.pidfd_open(warden)
    if os.getppid() != warden:
        os._exit(1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _guard(sock, (pidfd, above), listener, config)


def _listen(sock: socket.socket, system: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(socket_name(system))
    except OSError:
        wire.send(sock, {"op": "refused", **_who_has(system)})
        os._exit(1)
    listener.listen(128)
    return listener


def _who_has(system: str) -> dict[str, int]:
    """Pids of the guardian that has this name and of its program; empty if they can't be told."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.settimeout(1.0)
            other.connect(socket_name(system))
            welcome, _ = wire.recv(other)
    except OSError:
        return {}
    return {} if welcome is None else {"pid": welcome["pid"], "program": welcome["program"]}


def _ward(guardian: int, system: str) -> NoReturn:
    """Wait for the guardian; then end everything that it left."""
    import setproctitle

    setproctitle.setproctitle(f"actors: {system} warden")
    status = 1
    while True:
        try:
            done = os.waitid(os.P_ALL, 0, os.WEXITED)
        except ChildProcessError:
            os._exit(status)
        if done is not None and done.si_pid == guardian:
            status = done.si_status if done.si_code == os.CLD_EXITED else 128 + done.si_status
            break
    end_children()
    os._exit(status)


def end_children() -> None:
    """SIGKILL every child of this subreaper, and whatever falls to it when they die, until none is left."""
    me = f"/proc/self/task/{os.getpid()}/children"
    while True:
        with open(me) as file:  # noqa: PTH123 - pathlib is not imported for this
            for pid in file.read().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED)
        except ChildProcessError:
            return


def _guard(sock: socket.socket, above: tuple[int, int], listener: socket.socket, config: dict[str, Any]) -> NoReturn:
    zygote = exec_zygote(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config["nofile"] = [soft, hard]
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    import setproctitle

    from . import main as guardian

    setproctitle.setproctitle(f"actors: {config['system']} guardian")
    try:
        guardian.Guardian(sock, above, listener, config, read, zygote).run()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)

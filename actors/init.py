"""The first process of a container: what the kernel expects of PID 1, so that no `--init` is needed.

Rule: PID 1 has no default actions for signals, is given every orphan of its namespace, and takes everything with it
when it ends. So where this program is PID 1, it goes on in a child, and what stays behind only reaps and passes on
signals. Nobody's own children are touched: strays are children of the one, and what the program starts (the warden,
`subprocess.run`) are children of the other.

Design: as tini does it: all signals are blocked and waited for; the program gets a process group of its own, and the
terminal if there is one, so that Ctrl-C reaches it once.
Rejected: reaping in the program itself with waitid(P_ALL): whatever looks at all children takes the status from
whoever started one, or has to guess whose it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

FAULTS = {  # of this process itself; to wait for them would be to run into them again
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP,
}  # fmt: skip
TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)


def settle() -> None:
    """Return in a process that is not PID 1, with PID 1 above it if this one was. Call it before any thread starts."""
    if os.getpid() != 1:
        return
    waited = signal.valid_signals() - FAULTS - set(TERMINAL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in TERMINAL}
    program = os.fork()
    if program:
        _reap(program, waited)
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # there is no terminal
        os.tcsetpgrp(sys.__stdin__.fileno() if sys.__stdin__ else 0, os.getpgrp())
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(program: int, waited: set[signal.Signals]) -> NoReturn:
    """Reap whoever ends, pass on every signal, and end as the program does: its code, or 128 + n."""
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            os.kill(program, number)  # not reaped yet, so its number is its own
            continue
        while True:  # one SIGCHLD may stand for many
            pid, status = os.waitpid(-1, os.WNOHANG)  # the program is a child until it is found here
            if pid == 0:
                break
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)

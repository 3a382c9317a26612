"""Rounds of what may crash or hang a process, in a child of its own."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import traceback
from collections.abc import Callable


def in_a_child(one_round: Callable[[int, int], None], seed: int, rounds: int) -> None:
    """`one_round(seed, bell)` with the next seed each time. A crash or a hang (its alarm) is the child's exit status; the
    seed that it was at is in a shared page.
    """
    progress = mmap.mmap(-1, 16)
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            bell = os.eventfd(0, os.EFD_NONBLOCK)
            for number in range(rounds):
                signal.alarm(5)
                struct.pack_into("<q", progress, 0, seed + number)
                one_round(seed + number, bell)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"ended with {status} at seed {struct.unpack_from('<q', progress)[0]}"

"""Starting a Python from scratch, for the user's code: a zygote, or a newborn where forking is not safe.

Freshly exec'd, not forked: a fork would inherit the guardian's mappings and descriptors of all mailboxes. Both get the
interpreter options (-X dev, -W error, -O), the path, the arguments and the environment of the program.

The zygote is the first thing that a guardian starts, before its own imports, since the zygote's take longest.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

from .. import wire

BEGIN = "import sys, json; own = sys.argv[2:]; sys.path[:], sys.argv[:] = json.loads(sys.argv[1]); "
ZYGOTE = "from actors.zygote import main; main(int(own[0]), int(own[1]), *own[2:])"
NEWBORN = "from actors.process import await_birth; await_birth(int(own[0]), int(own[1]), 0, own[2])"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def exec_zygote(config: dict[str, Any]) -> tuple[socket.socket, int]:
    """A new zygote that is just starting: the guardian's end of its socket, and its pid. OSError: no process to be had."""
    return _exec(config, config["path"], ZYGOTE, config["system"], config["fork"])


def exec_newborn(config: dict[str, Any], path: list[str]) -> tuple[socket.socket, int]:
    """A process that will wait for its birth message, likewise. path: the program's by now."""
    return _exec(config, path, NEWBORN, config["system"])


def _exec(config: dict[str, Any], path: list[str], code: str, *arguments: str) -> tuple[socket.socket, int]:
    mine, theirs = wire.pair()
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        python = [sys.executable, *config["flags"], "-P", "-c", BEGIN + code]  # -P: no json.py of the working directory
        command = [*python, json.dumps([path, config["argv"]]), str(theirs.fileno()), str(os.getpid()), *arguments]
        environ = dict(os.environ)
        for name in THREADS:
            environ.setdefault(name, "1")  # N processes with N threads each would fight for the cores
        try:
            return mine, os.posix_spawn(sys.executable, command, environ)
        except OSError:
            mine.close()
            raise

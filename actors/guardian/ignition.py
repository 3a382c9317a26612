"""Starting a zygote: the first thing that a guardian does, before its own imports, since the zygote's take longest.

Freshly exec'd, not forked: a fork would inherit the guardian's mappings and descriptors of all mailboxes.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from .. import wire

ZYGOTE = "import sys, json; sys.path[:] = json.loads(sys.argv[3]); from actors.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4])"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def exec_zygote(config: dict[str, Any]) -> tuple[socket.socket, int]:
    """A new zygote that is just starting: the guardian's end of its socket, and its pid."""
    mine, theirs = wire.pair()
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        code = [sys.executable, "-c", ZYGOTE, str(theirs.fileno()), str(os.getpid()), config["path_json"], config["fork"]]
        environ = {**os.environ, "ACTORS_SYSTEM": config["system"]}
        for name in THREADS:
            environ.setdefault(name, "1")  # N processes with N threads each would fight for the cores
        return mine, os.posix_spawn(sys.executable, code, environ)

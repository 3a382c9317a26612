"""Starting an external program so that it can't outlive its actor, and ending as it ended.

Design: the program is a child of the actor's process, in its process group. Its kernel death signal (PDEATHSIG, armed
between fork and exec, with a look at the parent afterwards) ends it with the actor, however that ends; the guardian
kills the group then, and so what the program has started; and the warden ends what has left the group, with the system.
PDEATHSIG is cleared by the kernel for programs that change their user (setuid), which nothing but the group reaches.

The actor's process takes the program's end for its own: the same exit code, or the same signal. So every report of the
system, which trusts the kernel alone, is exact. Rejected: a status in words (`bye`) that the guardian would have to
believe; a process group of the program's own, which the guardian could only be told of.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import SpecError
from ..transports._ring import prctl

PR_SET_PDEATHSIG = 1


def checked_command(command: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The command as a list of str. SpecError: it is none."""
    if isinstance(command, str | bytes):
        raise SpecError(
            f"command is {command!r}: give a list, one argument an item (no shell reads it; see shlex.split)"
        )
    try:
        found = [os.fspath(part) for part in command]
    except TypeError as error:
        raise SpecError(f"command is {command!r}: {error}") from None
    if not found or not found[0] or not all(isinstance(part, str) and "\0" not in part for part in found):
        raise SpecError(f"command is {command!r}: give a program and its arguments, str or path each, without NUL")
    return found


def launch(command: list[str], cwd: str | None, env: Mapping[str, str | None]) -> subprocess.Popen[bytes]:
    """Run it, with pipes to its stdin, stdout and stderr. OSError, whose text says what is wrong.

    env: changes to this process's environment; None removes a variable.
    """
    variables = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            cwd=cwd, env=variables, preexec_fn=in_child,
        )  # fmt: skip
    except OSError as error:
        raise type(error)(error.errno, _explained(error, command[0], cwd, variables)) from None


def _explained(error: OSError, program: str, cwd: str | None, variables: Mapping[str, str]) -> str:
    if cwd is not None and not Path(cwd).is_dir():
        return f"{program}: the working directory {cwd!r} does not exist"
    path = Path(cwd or "", program)
    if error.errno == errno.ENOENT:
        if "/" not in program:
            return f"command not found: {program!r} (PATH is {variables.get('PATH', 'not set')})"
        return f"{path} " + ("names an interpreter that does not exist" if path.exists() else "does not exist")
    if error.errno == errno.EACCES:
        return f"{program!r} is not executable" + (" (a directory)" if path.is_dir() else "")
    if error.errno == errno.ENOEXEC:
        return f"{program!r} is not executable: no binary of this machine, and no script with a first line '#!…'"
    return f"{program!r} can't be started: {error.strerror}"


def end_as(code: int | None, number: int | None) -> NoReturn:
    """End this process with this exit code, or by this signal."""
    if number is None:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    faulthandler.disable()  # the program's crash is not this interpreter's
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(70)  # a signal that does not kill: the kernel has reported something else

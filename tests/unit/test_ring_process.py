"""What the standard library lacks: a child of one's parent, prctl, a look whether msgpack carries a value as it is."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from actors.transports._ring import is_plain, prctl

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 2, 36, 37

ZYGOTE = """
import ctypes, os, sys
from actors.transports._ring import Ring, sibling
fd, pipe, parent = map(int, sys.argv[1:])
ring, before = Ring(fd), os.getpid()
pid = sibling()
if pid == 0:
    assert os.getpid() != before
    assert os.getppid() == parent, "the zygote's parent is mine"
    ring.push(b"from the sibling", 0, 0, os.getpid(), 0, 0, 0)
    os.write(pipe, b"child")
    header = open(0, "rb")              # wait for the end of the test's pipe
    header.read()
    os._exit(7)
os.write(pipe, str(pid).encode() + b".")
"""


def run_zygote() -> tuple[int, int]:
    """A zygote that made one sibling and ended. The sibling's pid, and the pipe that keeps it alive."""
    from actors.transports import _ring

    fd = _ring.create(4096)
    ring = _ring.Ring(fd)
    alive, stay = os.pipe()
    reader, writer = os.pipe()
    arguments = [str(fd), str(writer), str(os.getpid())]
    subprocess.run([sys.executable, "-c", ZYGOTE, *arguments], stdin=alive, pass_fds=(fd, writer), check=True)
    os.close(writer)
    os.close(alive)
    os.close(fd)
    said = b""
    while not (b"child" in said and b"." in said):
        said += os.read(reader, 100)
    os.close(reader)
    pid = int(said.replace(b"child", b"").rstrip(b"."))
    record = ring.take()
    assert record is not None
    assert (record[2], record[7]) == (pid, b"from the sibling")
    return pid, stay


def test_a_sibling_is_a_child_of_its_makers_parent_which_reaps_it() -> None:
    pid, stay = run_zygote()
    os.close(stay)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_sibling_that_is_killed_is_told_to_its_makers_parent() -> None:
    pid, stay = run_zygote()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    os.close(stay)


LOCK_HOLDER = """
import ctypes, mmap, os, signal, sys
from actors.transports._ring import HEADER, sibling
fd = int(sys.argv[1])
header = mmap.mmap(fd, HEADER)
if sibling() == 0:
    ctypes.CDLL(None).pthread_mutex_lock(ctypes.byref(ctypes.c_char.from_buffer(header, 320)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_killed_sibling_is_inherited() -> None:
    from actors.transports import _ring

    fd = _ring.create(4096)
    ring = _ring.Ring(fd)
    subprocess.run([sys.executable, "-c", LOCK_HOLDER, str(fd)], pass_fds=(fd,), check=True)
    os.close(fd)
    _, status = os.waitpid(-1, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert ring.push(b"", 0, 0, 0, 0, 0, 0) == 0
    assert ring.stats()["recovered"] == 1


def test_prctl_sets_and_gets() -> None:
    before = prctl(PR_GET_CHILD_SUBREAPER)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    assert prctl(PR_GET_CHILD_SUBREAPER) == 1
    prctl(PR_SET_CHILD_SUBREAPER, before)
    assert prctl(PR_GET_PDEATHSIG) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        prctl(-1)


class Int(int): ...


class Str(str): ...


class List(list[Any]): ...


class Dict(dict[Any, Any]): ...


def nest(depth: int, value: Any = None) -> Any:
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})


PLAIN: list[Any] = [None, True, 0, -(2**63), 2**64 - 1, -1, 1.5, float("nan"), "", "é\U0001f600", b"", [], {}]
PLAIN += [nest(100), [1, "a", {"k": [None, {b"b": 2.0}]}], {1: 2, None: 3, 1.5: 4, False: 5}]
OTHER: list[Any] = [
    (),
    (1,),
    set(),
    1j,
    object(),
    int,
    2**64,
    -(2**63) - 1,
    Int(1),
    Str("a"),
    List(),
    Dict(),
    bytearray(),
]
OTHER += ["\ud800", {(1, 2): 3}, {"k": [{"k": Int(1)}]}, nest(101), nest(100_000), CYCLE, memoryview(b"")]


@pytest.mark.parametrize("value", PLAIN)
def test_plain_values(value: Any) -> None:
    assert is_plain(value)


@pytest.mark.parametrize("value", OTHER)
def test_values_that_would_not_come_back_as_they_were(value: Any) -> None:
    assert not is_plain(value)

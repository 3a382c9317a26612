"""What the ring needs of the C library and has no name in Python: a robust lock, a futex, a fence, memory mapped twice.

Rule: the calls that can't wait keep the GIL (`_quick`), which costs a third of letting it go; those that wait let it go.

The lock is the C ring's own, a robust process-shared pthread mutex at the same place: the kernel marks it when its owner
dies, waiting for it has a deadline, and a thread of the same process is just another contender.

A full fence is a futex call that wakes nobody: the kernel makes one before it looks for sleepers, on every architecture.

Rejected: file locks (OFD). They belong to the open file, which all who were sent a descriptor share, so each process
would open the memfd anew through /proc; their wait has no deadline, and threads would need a second lock. Compare-and-swap
by a page of machine code: hardened kernels refuse it, and nobody could read it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
import time
from typing import Any, Final

MACHINE: Final = platform.machine()
ORDERED: Final = MACHINE in (
    "x86_64",
    "i686",
    "AMD64",
)  # stores are seen in order, loads too: only full fences are needed
_FUTEX: Final = {"x86_64": 202, "i686": 240, "armv7l": 240}.get(MACHINE, 98)
_WAIT, _WAKE, _PRIVATE = 0, 1, 128
EVERYBODY: Final = 2**31 - 1

POPULATE_WRITE, REMOVE = 23, 9  # madvise: Linux 5.14; 2.6
_ROBUST, _SHARED, _MONOTONIC = 1, 1, 1
_READ, _WRITE = 1, 2
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 1, 2, 16, 32, 0x4000


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    @classmethod
    def of(cls, seconds: float) -> Timespec:
        return cls(int(seconds), int(seconds % 1 * 1e9))


_waits, _quick = ctypes.CDLL(None, use_errno=True), ctypes.PyDLL(None, use_errno=True)


def _function(library: Any, name: str, *arguments: Any, result: Any = ctypes.c_int) -> Any:
    found = library[name]  # an object of its own, unlike the attribute
    found.argtypes, found.restype = arguments, result
    return found


_address, _size, _long, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int

trylock: Final = _function(_quick, "pthread_mutex_trylock", _address)
unlock: Final = _function(_quick, "pthread_mutex_unlock", _address)
consistent: Final = _function(_quick, "pthread_mutex_consistent", _address)
_clocklock = _function(_waits, "pthread_mutex_clocklock", _address, _int, ctypes.POINTER(Timespec))  # glibc 2.30
_wake = _function(_quick, "syscall", _long, _address, _long, _long, result=_long)
_wait = _function(_waits, "syscall", _long, _address, _long, _long, ctypes.POINTER(Timespec), result=_long)
_madvise = _function(_quick, "madvise", _address, _size, _int)
_mmap = _function(_quick, "mmap", _address, _size, _int, _int, _int, _long, result=_address)
unmap: Final = _function(_quick, "munmap", _address, _size)
write: Final = _function(_quick, "write", _int, ctypes.c_char_p, _size, result=ctypes.c_ssize_t)
ONE: Final = (1).to_bytes(8, sys.byteorder)  # what an eventfd is rung with
_prctl = _function(_quick, "prctl", _int, *[ctypes.c_ulong] * 4)
_view = ctypes.pythonapi["PyMemoryView_FromMemory"]
_view.argtypes, _view.restype = (_address, ctypes.c_ssize_t, _int), ctypes.py_object
_nobody = ctypes.c_uint32()
_nobody_at: Final = ctypes.addressof(_nobody)


def error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def fence() -> None:
    """What this thread wrote before is seen by all before it reads what follows."""
    _wake(_FUTEX, _nobody_at, _WAKE | _PRIVATE, 0)


def ordered() -> None:
    """What was written, or read, before stays before what follows."""
    if not ORDERED:
        fence()


def wake(word: int, sleepers: int = EVERYBODY) -> int:
    """Wake those that sleep on the word at this address, in any process. How many."""
    return max(0, int(_wake(_FUTEX, word, _WAKE, min(sleepers, EVERYBODY))))


def sleep_on(word: int, value: int, seconds: float) -> int:
    """Sleep while the word has this value, until woken (0) or so many seconds have passed (ETIMEDOUT, EINTR, EAGAIN)."""
    return ctypes.get_errno() if _wait(_FUTEX, word, _WAIT, value, ctypes.byref(Timespec.of(seconds))) else 0


def lock_within(mutex: int, seconds: float) -> int:
    """0, EOWNERDEAD or ETIMEDOUT; anything else: the mutex makes no sense."""
    said: int = _clocklock(mutex, _MONOTONIC, ctypes.byref(Timespec.of(time.monotonic() + seconds)))
    return said


def make_lock(mutex: int) -> None:
    attributes = ctypes.create_string_buffer(64)
    at = ctypes.addressof(attributes)
    for name, value in (("init", None), ("setpshared", _SHARED), ("setrobust", _ROBUST)):
        _quick[f"pthread_mutexattr_{name}"](_address(at), *(() if value is None else (value,)))
    _quick["pthread_mutex_init"](_address(mutex), _address(at))
    _quick["pthread_mutexattr_destroy"](_address(at))


def memory_at(address: int, size: int, writable: bool = True) -> memoryview:
    """Bytes of this process's memory; they must stay mapped as long as the view is used."""
    view: memoryview = _view(address, size, 0x200 if writable else 0x100)
    return view


def _map(address: int | None, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    found: int | None = _mmap(address, size, protection, flags, fd, offset)
    if found is None or found == _size(-1).value:
        raise error()
    return found


def map_shared(fd: int, size: int, writable: bool) -> int:
    """The address of so many bytes of the file. OSError."""
    return _map(None, size, _READ | _WRITE if writable else _READ, _MAP_SHARED, fd, 0)


def map_twice(fd: int, header: int, capacity: int) -> int:
    """The address of a header and the data, twice in a row, so that no record is ever split. OSError."""
    size = header + 2 * capacity
    at = _map(None, size, 0, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
    try:
        _map(at, header + capacity, _READ | _WRITE, _MAP_SHARED | _MAP_FIXED, fd, 0)
        _map(at + header + capacity, capacity, _READ | _WRITE, _MAP_SHARED | _MAP_FIXED, fd, header)
    except OSError:
        unmap(at, size)
        raise
    return at


def populate(address: int, size: int) -> bool:
    """Pages are there, as far as the kernel can tell (Linux 5.14). False: no memory (`error()` says which)."""
    return _madvise(address, size, POPULATE_WRITE) == 0 or ctypes.get_errno() == errno.EINVAL


def remove(address: int, size: int) -> None:
    """Give pages back."""
    _madvise(address, size, REMOVE)


def prctl(option: int, argument: int = 0, /) -> int:
    """prctl(2): its result; of PR_GET_PDEATHSIG and PR_GET_CHILD_SUBREAPER what they write. OSError."""
    answer = ctypes.c_int()
    asks = option in (2, 37)
    said: int = _prctl(option, ctypes.addressof(answer) if asks else argument, 0, 0, 0)
    if said < 0:
        raise error()
    return answer.value if asks else said

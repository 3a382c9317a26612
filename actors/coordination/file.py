"""File: one file, one process at a time, whole or not at all.

Rule: the right to use it is an flock on a file beside it, `.NAME.lock`, which the kernel takes back from whoever dies
(the file itself can't carry it: a replacement is another file). That one is never removed, since somebody may be waiting
on it.

`replace` writes a new file beside it (`.NAME.new`), has the disk write it, renames it and has the disk write the folder:
whoever reads sees the old or the new one. `append` writes whole lines, so that other tools can read the file: a line
counts when its end is there and the disk has it. Where a session's first line begins is noted beside the lock before it
is written; if the session dies, the next holder finds the note and cuts off what has no end after that place. A file
that was never appended to is never cut. See docs/decisions/0021.

Rejected: records with a length and a checksum (no other tool reads them); a length of what counts beside the lock (a
second write to disk for each record); POSIX record locks (they end when anything in the process closes the file).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
LONGEST_PAUSE = 0.02  # seconds between two tries for the lock, where its wait has a limit or must not block
_NOTE = "{pid:>10} {inode:>20} {start:>20}\n"  # of one size, so that one write replaces it
_NOTHING = -1
_open: weakref.WeakSet[File] = weakref.WeakSet()  # in use by this process


class File:
    """Exclusive use of a file between `with` and its end. Made by `system.file`.

    Raises: TimeoutError, naming the holder; OSError with the path (no such folder, no permission, disk full: nothing is
    half-written, the file is as it was); RuntimeError for a use outside of `with`, in a second `with` of the same thread,
    or a blocking `with` in a coroutine.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float | None = None) -> None:
        given = os.fspath(path)
        if not isinstance(given, str) or not given or "\0" in given:
            raise ValueError(f"a file's path must be text, not {path!r}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout {timeout!r}: give seconds, or None")
        self.path = os.path.abspath(given)  # noqa: PTH100  # a change of the working folder later means nothing
        self.timeout = timeout
        self._lock = -1
        self._thread = 0
        self._noted = False
        self._folder, self._name = "", ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.path, self.timeout)

    def __repr__(self) -> str:
        return f"<File {self.path!r}{' in use' if self._lock >= 0 else ''}>"

    # --- the right to use it

    def __enter__(self) -> Self:
        if asyncio._get_running_loop() is not None and not _may_block():
            raise RuntimeError(f"{self!r}: this may block the event loop; in a coroutine, use `async with`")
        fd = self._prepare()
        try:
            if self.timeout is None:
                self._refuse_twice(fd)
                fcntl.flock(fd, fcntl.LOCK_EX)
            else:
                end, pause = time.monotonic() + self.timeout, 0.0005
                while not _try(fd):
                    self._late(fd, end)
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            self._begin(fd)
        except BaseException:
            os.close(fd)
            raise
        return self

    async def __aenter__(self) -> Self:
        fd = self._prepare()
        try:
            end, pause = None if self.timeout is None else time.monotonic() + self.timeout, 0.0005
            while not _try(fd):
                self._late(fd, end)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            self._begin(fd)
        except BaseException:
            os.close(fd)
            raise
        return self

    def _prepare(self) -> int:
        """The lock's descriptor."""
        if self._lock >= 0:
            raise RuntimeError(f"{self!r}: it is in use already; make a File for each use")
        real = os.path.realpath(self.path)  # a symbolic link stays one: its target is locked, and replaced
        self._folder, self._name = os.path.split(real)
        with contextlib.suppress(FileNotFoundError):
            kind = os.stat(real).st_mode  # noqa: PTH116
            if not stat.S_ISREG(kind):
                code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
                raise OSError(code, "this is no regular file", self.path)
        beside = self._beside("lock")
        try:
            return os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            why = f"{os.strerror(error.errno or 0)}: its lock {beside} can't be opened"
            raise type(error)(error.errno, why, self.path) from None

    def _begin(self, fd: int) -> None:
        """The lock is ours: mend what a holder that died has left, then write down whose it is."""
        self._lock, self._thread, self._noted = fd, threading.get_ident(), False
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._beside("new"))  # noqa: PTH108
            _, inode, start = _read_note(fd)
            if start != _NOTHING:
                self._cut(inode, start)
            self._note(_NOTHING)
        except BaseException:
            self._lock = -1
            raise
        _open.add(self)

    def _refuse_twice(self, fd: int) -> None:
        if not _try(fd):
            mine = os.fstat(fd)
            for other in list(_open):
                if (
                    other._lock >= 0
                    and other._thread == threading.get_ident()
                    and os.path.samestat(mine, os.fstat(other._lock))
                ):
                    raise RuntimeError(f"{self!r}: this thread uses it already, and would wait for itself")

    def _late(self, fd: int, end: float | None) -> None:
        if end is not None and time.monotonic() >= end:
            pid, _, _ = _read_note(fd)
            raise TimeoutError(errno.ETIMEDOUT, f"not free within {self.timeout:g} s: process {pid} uses it", self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fd, self._lock = self._lock, -1
        _open.discard(self)
        if fd >= 0:  # not after a fork
            try:
                if self._noted:
                    os.pwrite(fd, _note(_NOTHING, 0), 0)
            finally:
                os.close(fd)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    # --- reading

    def read(self) -> bytes:
        """All that is in it. FileNotFoundError: it does not exist (yet)."""
        with open(self._used(), "rb") as file:  # noqa: PTH123
            return file.read()

    def records(self) -> Iterator[bytes]:
        """Its lines, without their ends, one after the other; none when it does not exist."""
        try:
            file = open(self._used(), "rb")  # noqa: PTH123, SIM115
        except FileNotFoundError:
            return
        with file:
            for line in file:
                self._used()
                yield line.removesuffix(b"\n")

    # --- writing

    def replace(self, data: bytes | bytearray | memoryview | str) -> None:
        """Put this in the place of all that is in it, or of no file; text as UTF-8. Whoever reads meanwhile, and whoever
        comes after a crash, finds the old or the new content, whole. It is on disk when this returns.

        Permissions stay as they are; hard links to the old file keep the old content.
        """
        target, new = self._used(), self._beside("new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                self._like(fd, target)
                _write(fd, data.encode() if isinstance(data, str) else data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(new, target)  # noqa: PTH104
            self._noted = False  # the note is of the old file
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)  # noqa: PTH108
            if isinstance(error, OSError):
                raise type(error)(error.errno, f"{error.strerror}: it is as it was", self.path) from None
            raise
        self._sync_folder()

    def append(self, *records: bytes | str) -> None:
        """Add these records, a line each; text as UTF-8. When this returns they are on disk; if this process dies before,
        each is there whole or not at all, and one only if those before it are.

        ValueError: a record has a line end in it. Several records in one call cost one write to disk.
        """
        lines = b"".join(_line(record) for record in records)
        target = self._used()
        fd = os.open(target, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            before = os.fstat(fd)
            if not self._noted:
                self._noted = True
                self._note(before.st_size, before.st_ino)
                os.fsync(self._lock)
                self._sync_folder()
            if before.st_size and os.pread(fd, 1, before.st_size - 1) != b"\n":
                lines = b"\n" + lines  # another tool's last line
            try:
                _write(fd, lines)
                os.fsync(fd)
            except BaseException as error:
                os.ftruncate(fd, before.st_size)
                if isinstance(error, OSError):
                    raise type(error)(error.errno, f"{error.strerror}: nothing was added", self.path) from None
                raise
        finally:
            os.close(fd)

    # --- the same for coroutines

    async def read_async(self) -> bytes:
        """`read` in a thread."""
        return await self._in_thread(self.read)

    async def replace_async(self, data: bytes | bytearray | memoryview | str) -> None:
        """`replace` in a thread: disks are slow. Cancelling it lets it finish."""
        await self._in_thread(lambda: self.replace(data))

    async def append_async(self, *records: bytes | str) -> None:
        """`append` in a thread. Cancelling it lets it finish."""
        await self._in_thread(lambda: self.append(*records))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        work = asyncio.ensure_future(asyncio.to_thread(call))
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:  # the right to the file must not end before the work has
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return work.result()

    # --- inside

    def _used(self) -> str:
        """The file's real path, for a use of it."""
        if self._lock < 0:
            raise RuntimeError(f"{self!r} is not in use: only between `with` and its end")
        return os.path.join(self._folder, self._name)  # noqa: PTH118

    def _beside(self, what: str) -> str:
        return os.path.join(self._folder, f".{self._name}.{what}")  # noqa: PTH118

    def _note(self, start: int, inode: int = 0) -> None:
        os.pwrite(self._lock, _note(start, inode), 0)

    def _cut(self, inode: int, start: int) -> None:
        """A holder died after its first line began at `start`: what has no line end from there on is no record."""
        try:
            fd = os.open(self._used(), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            found = os.fstat(fd)
            if found.st_ino != inode or found.st_size <= start:
                return
            end, at = start, found.st_size
            while at > start:
                begin = max(start, at - (1 << 16))
                place = os.pread(fd, at - begin, begin).rfind(b"\n")
                if place >= 0:
                    end = begin + place + 1
                    break
                at = begin
            if end < found.st_size:
                os.ftruncate(fd, end)
                os.fsync(fd)
        finally:
            os.close(fd)

    def _like(self, fd: int, target: str) -> None:
        """Give a new file the permissions and the owner of the one that it replaces."""
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(target)  # noqa: PTH116
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _again(path: str, timeout: float | None) -> File:
    return File(path, timeout=timeout)


def _may_block() -> bool:
    """May this thread, which runs an event loop, block? Where a system's connection says so."""
    from ..client import clients

    return any(client.endpoint.may_block() for client in list(clients.values()))


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _line(record: bytes | str) -> bytes:
    line = record.encode() if isinstance(record, str) else bytes(record)
    if b"\n" in line:
        raise ValueError(f"a record is one line: {line[:60]!r} has a line end in it; encode it first")
    return line + b"\n"


def _write(fd: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def _note(start: int, inode: int) -> bytes:
    return _NOTE.format(pid=os.getpid(), inode=inode, start=start).encode()


def _read_note(fd: int) -> tuple[int, int, int]:
    """(pid, inode, start) of the last holder; start is -1 when it was not appending."""
    try:
        pid, inode, start = map(int, os.pread(fd, 100, 0).split())
    except ValueError:  # new
        return 0, 0, _NOTHING
    return pid, inode, start


def _after_fork_in_child() -> None:
    """The right is the parent's alone, and must end with it."""
    for file in list(_open):
        fd, file._lock = file._lock, -1
        if fd >= 0:
            os.close(fd)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

"""A named pipe's place in the file system: made, taken over, removed.

Rule: what was there before is never removed, and what is no FIFO is never touched. A FIFO of ours has a second, hidden
link beside it (`.NAME.actors`), so that whoever comes later (the next incarnation; the next run, after a SIGKILL) can
tell that it was made by us and is theirs to remove. Rejected: telling by mode and owner, which a user's own FIFO may
have as well; a note with the inode's number, which may be another file's by then.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MODE = 0o600


class Place:
    """One path."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._mark = self.path.with_name(f".{self.path.name}.actors")

    def claim(self) -> None:
        """See to it that there is a FIFO. FileExistsError: something else is; OSError: it can't be made."""
        while (found := _kind(self.path)) is None:
            self._make()
        if not stat.S_ISFIFO(found):
            what = next((name for test, name in _KINDS if test(found)), "something else")
            raise FileExistsError(f"{self.path} is {what}, not a named pipe; remove it or choose another path")

    def open(self, flags: int) -> int:
        """A descriptor. OSError, also when it is no FIFO any more."""
        fd = os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise FileExistsError(f"{self.path} is no named pipe any more")

    def remove(self) -> None:
        """Remove the FIFO if it is one of ours."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.path.lstat(), self._mark.lstat()):
                self.path.unlink()
        with contextlib.suppress(FileNotFoundError):
            self._mark.unlink()

    def _make(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # of a FIFO that somebody else has removed
            self._mark.unlink()
        os.mkfifo(self._mark, MODE)
        self._mark.chmod(MODE)  # whatever the umask
        try:
            os.link(self._mark, self.path)
        except FileExistsError:  # somebody was faster
            self._mark.unlink()


_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISSOCK, "a socket"),
)


def _kind(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None

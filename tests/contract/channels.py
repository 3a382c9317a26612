"""Every transport behind one face: bytes go in at one end and come out at the other, in processes forked from this one.

Rule: a channel is made before the fork, so both ends exist everywhere; each process uses one of them, and says so first
(`sends`, `receives`). What a transport can't promise by its nature is written at its class (`cannot`), with the reason, and
the contract asks something else of it there; nothing is left out silently, and docs/transports.md lists it all.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from actors import Actor, wire
from actors.pipes.framing import codec
from actors.testing import Local, local
from actors.transports import _ring, fallback
from actors.transports._ring import CLOSED, EMPTY, FULL

LARGEST = 64 << 20
PATIENCE = 30.0  # seconds after which something is taken to be stuck: no outcome depends on it otherwise


BORDERS = "whole messages"  # a message comes out as it went in; else the bytes do, in order, cut anywhere
NEWLINES = "newlines in a message"
NOTHING = "empty messages"  # a message of 0 bytes can be told from none
SUCCESSION = "another process goes on where a dead one stopped"
NOTICE = "senders are told of a receiver's death"
PROCESSES = "a bound, deaths, noise"  # it has two processes, and bytes between them

STREAM = {SUCCESSION: "what the kernel holds ends with its last reader or writer"}
MAILBOX = {NOTICE: "the guardian keeps the mailbox for the next receiver, and tells of deaths itself"}


class Ended(Exception):
    """The other side has closed, or has died and can have no successor."""


class Channel:
    """One way, from any process of the family to another."""

    cannot: ClassVar[dict[str, str]] = {}
    """What it does not promise -> why."""

    @classmethod
    def can(cls, what: str) -> bool:
        return what not in cls.cannot

    def sends(self) -> None:
        """This process is the sender."""

    def receives(self) -> None:
        """This process is the receiver."""

    def send(self, body: bytes, wait: bool = True) -> bool:
        """False: no room (only if not `wait`). Ended."""
        raise NotImplementedError

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        """The next message; None: nothing within `seconds`. Ended: nothing will come. FramingError, Corrupt."""
        raise NotImplementedError

    def close(self) -> None:
        """Of the sender: what it sent still arrives, then the end does."""
        raise NotImplementedError

    def dispose(self) -> None:
        """Of everything, in this process."""

    def garble(self, noise: bytes) -> None:
        """Put bytes that no sender would have sent where the receiver looks."""
        raise NotImplementedError


class RingChannel(Channel):
    """A mailbox in shared memory, one consumer (every actor has one)."""

    cannot = MAILBOX
    module: Any = _ring

    def __init__(self, capacity: int) -> None:
        self._fd = self.module.create(capacity)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ring = self.module.Ring(self._fd, self._bell)
        self._inbox: Any = None

    def receives(self) -> None:
        self._ring = self.module.Ring(self._fd, self._bell)  # a view of its own begins at the first that is not over
        self._inbox = self.module.Inbox(self._bell, None, None, self._ring)

    def send(self, body: bytes, wait: bool = True) -> bool:
        said = self._ring.push(body, 1, 0, 7, 0, 0, PATIENCE if wait else 0.0)
        if said == CLOSED:
            raise Ended
        assert said >= 0 or (said == FULL and not wait), said
        return bool(said >= 0)

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        end = time.monotonic() + seconds
        while True:
            record = self._inbox.next(0.0)
            if record is not None:
                self._inbox.finish()
                return bytes(record[7])
            if self._ring.closed and self._ring.quiet() and self._ring.reading == self._ring.tail:
                raise Ended
            left = end - time.monotonic()
            if left <= 0:
                return None
            select.select([self._bell], [], [], left)
            self._inbox.clear()

    def close(self) -> None:
        self._ring.close()
        self._ring.ring()

    def dispose(self) -> None:
        os.close(self._fd)
        os.close(self._bell)

    def garble(self, noise: bytes) -> None:
        at = self.module.HEADER + int.from_bytes(noise[:2], "little") % 2048
        os.pwrite(self._fd, noise, at)


class PythonRingChannel(RingChannel):
    """The same where there is no compiler."""

    module = fallback


class SharedRingChannel(Channel):
    """A named mailbox: the ring with many consumers."""

    cannot = MAILBOX
    module: Any = _ring

    def __init__(self, capacity: int) -> None:
        self._fd, self._bell = self.module.create(capacity), os.eventfd(0, os.EFD_NONBLOCK)
        self._ring: Any = self.module.Ring(self._fd, self._bell)

    def sends(self) -> None:
        self._ring.join(os.getpid() % 4000 + 1, 0)

    receives = sends

    def send(self, body: bytes, wait: bool = True) -> bool:
        said = self._ring.push(body, 3, 0, 0, 0, 0, PATIENCE if wait else 0.0)
        if said == CLOSED:
            raise Ended
        assert said >= 0 or (said == FULL and not wait), said
        return bool(said >= 0)

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        got = self._ring.get(seconds, False, None)
        if got == CLOSED:
            raise Ended
        assert isinstance(got, tuple) or got == EMPTY, got
        return got[0] if isinstance(got, tuple) else None

    def close(self) -> None:
        self._ring.close()

    def dispose(self) -> None:
        os.close(self._fd)
        os.close(self._bell)

    def garble(self, noise: bytes) -> None:
        os.pwrite(self._fd, noise, self.module.HEADER + int.from_bytes(noise[:2], "little") % 2048)


class PythonSharedRingChannel(SharedRingChannel):
    """The same where there is no compiler."""

    module = fallback


class SocketChannel(Channel):
    """A unix socket, as between a process and its guardian, or a program that attaches."""

    cannot = STREAM

    def __init__(self, capacity: int) -> None:
        self._in, self._out = wire.pair()

    def sends(self) -> None:
        self._out.close()

    def receives(self) -> None:
        self._in.close()

    def send(self, body: bytes, wait: bool = True) -> bool:
        try:
            wire.send(self._in, {"body": body}, flags=0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None
        return True

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        if not select.select([self._out], [], [], seconds)[0]:
            return None
        message, fds = wire.recv(self._out)
        assert not fds
        if message is None:
            raise Ended
        return bytes(message["body"])

    def close(self) -> None:
        self._in.close()

    def dispose(self) -> None:
        self._in.close()
        self._out.close()

    def garble(self, noise: bytes) -> None:
        self._in.send(noise)


class PipeChannel(Channel):
    """A pipe, as between an actor and its program, with messages framed by netstrings."""

    cannot = STREAM
    framing = "netstring"

    def __init__(self, capacity: int) -> None:
        self._out, self._in = self.open()
        self._codec = codec(self.framing, LARGEST + 100, None)
        self._frames: deque[bytes] = deque()
        self._rest = b""

    def open(self) -> tuple[int, int]:
        return os.pipe()

    def sends(self) -> None:
        os.close(self._out)
        self._out = -1

    def receives(self) -> None:
        os.close(self._in)
        self._in = -1

    def send(self, body: bytes, wait: bool = True) -> bool:
        """Without `wait` a message may stay half-written until the next call; False: it was not begun."""
        os.set_blocking(self._in, wait)
        try:
            if self._write(self._rest):
                self._write(self._codec.encode(body))
                return True
            return False
        except BrokenPipeError:
            raise Ended from None

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                self._rest = bytes(view)
                return False
        self._rest = b""
        return True

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        end = time.monotonic() + seconds
        while not self._frames:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._out], [], [], left)[0]:
                return None
            data = os.read(self._out, 1 << 16)
            frames = self._codec.feed(data) if data else self._codec.end()
            self._frames.extend(map(self._bytes, frames))
            if not data and not self._frames:
                raise Ended
        return self._frames.popleft()

    def _bytes(self, frame: Any) -> bytes:
        return bytes(frame)

    def close(self) -> None:
        os.set_blocking(self._in, True)
        self._write(self._rest)
        os.close(self._in)
        self._in = -1

    def dispose(self) -> None:
        for fd in (self._in, self._out):
            if fd >= 0:
                os.close(fd)

    def garble(self, noise: bytes) -> None:
        os.write(self._in, noise)


class LinesChannel(PipeChannel):
    """The same, a line a message."""

    cannot: ClassVar[dict[str, str]] = STREAM | {NEWLINES: "they end a line"}
    framing = "lines"


class MsgpackChannel(PipeChannel):
    """The same, messages as msgpack objects."""

    framing = "msgpack"


class RawChannel(PipeChannel):
    """The same, without any framing."""

    cannot: ClassVar[dict[str, str]] = STREAM | {
        BORDERS: "a pipe has no borders",
        NOTHING: "0 bytes are no bytes",
    }
    framing = "raw"


class FifoChannel(LinesChannel):
    """A named pipe, opened by its path."""

    number = 0

    def open(self) -> tuple[int, int]:
        FifoChannel.number += 1
        path = Path(tempfile.gettempdir()) / f"actors-contract-{os.getpid()}-{FifoChannel.number}"
        os.mkfifo(path, 0o600)
        try:
            out = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            into = os.open(path, os.O_WRONLY)
        finally:
            path.unlink()
        os.set_blocking(out, True)
        return out, into


class Collector(Actor):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got: deque[bytes] = deque()

    def keep(self, body: bytes) -> None:
        self.got.append(body)


class MemoryChannel(Channel):
    """An actor of the test kit, in the process of the test: encoded and decoded as any other, and no process."""

    cannot: ClassVar[dict[str, str]] = {
        PROCESSES: "each message is handled at once, in the process of the test",
        SUCCESSION: "there is nobody else",
        NOTICE: "the sender would be dead itself",
    }

    def __init__(self, capacity: int) -> None:
        self._lease = contextlib.ExitStack()
        self._actor: Local[Collector] = self._lease.enter_context(local(Collector))
        self._closed = False

    def send(self, body: bytes, wait: bool = True) -> bool:
        if self._closed:
            raise Ended
        self._actor.tell(Collector.keep, body)
        return True

    def receive(self, seconds: float = PATIENCE) -> bytes | None:
        if not self._actor.instance.got:
            if self._closed:
                raise Ended
            return None
        return bytes(self._actor.instance.got.popleft())

    def close(self) -> None:
        self._closed = True
        self._actor.stop()

    def dispose(self) -> None:
        self._lease.close()


ALL: dict[str, type[Channel]] = {
    "ring": RingChannel,
    "ring in Python": PythonRingChannel,
    "shared ring": SharedRingChannel,
    "shared ring in Python": PythonSharedRingChannel,
    "unix socket": SocketChannel,
    "pipe, netstrings": PipeChannel,
    "pipe, lines": LinesChannel,
    "pipe, msgpack": MsgpackChannel,
    "pipe, raw": RawChannel,
    "named pipe, lines": FifoChannel,
    "memory": MemoryChannel,
}


@contextlib.contextmanager
def opened(kind: type[Channel], capacity: int = 1 << 20) -> Iterator[Channel]:
    """A channel, and nothing of it left afterwards."""
    channel = kind(capacity)
    try:
        yield channel
    finally:
        channel.dispose()

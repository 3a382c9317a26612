"""The guardian's conversation: msgpack maps over SOCK_SEQPACKET unix sockets, with descriptors beside them.

Rule: one packet, one message, whole or not at all. A message too large for a packet (they end near 200 kB) travels in a
memfd whose descriptor comes last. Both ends survive the other's death: end of file and ECONNRESET (unread requests of a
killed peer) both read as `None`. Rejected: a stream with length prefixes (partial reads to keep), JSON (no bytes),
pickle (the guardian runs nobody's code).
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable
from typing import Any

import msgpack

PACKET = 100_000  # bytes; larger messages go by memfd
MOST_FDS = 12
NO_ROOM = "too many open files; raise the limit (ulimit -n)"
_INT = array.array("i").itemsize
_SPACE = socket.CMSG_LEN(MOST_FDS * _INT)

Message = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def pack(message: Message) -> tuple[bytes, int]:
    """(packet, descriptor): the descriptor is -1, or a memfd that the caller sends last and closes."""
    body = dumps(message)
    if len(body) <= PACKET:
        return body, -1
    fd = store(body)
    return msgpack.packb({"@": len(body)}), fd


def store(body: bytes | memoryview) -> int:
    """A memfd that holds these bytes."""
    fd = os.memfd_create("actors:blob", os.MFD_CLOEXEC)
    view = memoryview(body).cast("B")
    while view:
        view = view[os.write(fd, view) :]
    return fd


def fetch(fd: int) -> bytes:
    """The bytes that `store` put into this memfd. The descriptor stays open."""
    size, parts, at = os.fstat(fd).st_size, [], 0
    while at < size:
        parts.append(os.pread(fd, min(size - at, 1 << 28), at))
        if not parts[-1]:
            break
        at += len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def send(sock: socket.socket, message: Message, fds: Iterable[int] = (), flags: int = 0) -> None:
    """Send one message. BrokenPipeError or ConnectionResetError: the peer is gone; BlockingIOError: no room
    (non-blocking).
    """
    body, big = pack(message)
    try:
        send_packet(sock, body, [*fds] if big < 0 else [*fds, big], flags)
    finally:
        if big >= 0:
            os.close(big)


def send_packet(sock: socket.socket, body: bytes, fds: list[int], flags: int = 0) -> None:
    if fds:
        socket.send_fds(sock, [body], fds, flags | socket.MSG_NOSIGNAL)
    else:
        sock.send(body, flags | socket.MSG_NOSIGNAL)


def recv(sock: socket.socket, flags: int = 0) -> tuple[Message | None, list[int]]:
    """(message, descriptors); (None, []) when the peer is gone. BlockingIOError: nothing there (MSG_DONTWAIT).

    Where this process may not have so many descriptors they are lost, and the message says so under `lost`.
    Not `socket.recv_fds`: it ignores the flags, so that programs that a process starts would inherit the descriptors.
    """
    try:
        body, ancillary, said, _ = sock.recvmsg(PACKET * 2, _SPACE, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None, []
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.extend(array.array("i", data[: len(data) - len(data) % _INT]))
    if not body:
        return None, []
    message = loads(body)
    if said & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        return {**message, "lost": NO_ROOM}, []
    if "@" in message:
        big = fds.pop()
        try:
            message = loads(fetch(big))
        finally:
            os.close(big)
    return message, fds


def dumps(value: Any) -> bytes:
    """Plain data for a packet or a control lane. Text need not be UTF-8: paths, environment variables, error texts."""
    body: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return body


def loads(body: bytes) -> Any:
    """What `dumps` was given."""
    return msgpack.unpackb(body, strict_map_key=False, unicode_errors="surrogatepass")

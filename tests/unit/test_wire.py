"""The guardian's conversation: whole packets, descriptors beside them, any size, any text."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    mine, theirs = wire.pair()
    with mine, theirs:
        yield mine, theirs


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_plain_data_comes_back_with_text_that_is_no_utf_8_too(value: object) -> None:
    assert wire.loads(wire.dumps(value)) == value


def test_lone_surrogates_come_back() -> None:
    assert wire.loads(wire.dumps("caf\udce9 \ud800")) == "caf\udce9 \ud800"


def test_messages_arrive_whole_and_in_order(pair: Pair) -> None:
    mine, theirs = pair
    for number in range(10):
        wire.send(mine, {"number": number})
    assert [wire.recv(theirs)[0] for _ in range(10)] == [{"number": number} for number in range(10)]


@pytest.mark.parametrize("size", [0, 1, wire.PACKET - 100, wire.PACKET + 1, 5_000_000])
def test_messages_of_any_size_arrive_and_leave_no_descriptor(pair: Pair, size: int) -> None:
    mine, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    wire.send(mine, {"body": b"x" * size})
    message, fds = wire.recv(theirs)
    assert message == {"body": b"x" * size}
    assert fds == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_descriptors_travel_beside_a_message(pair: Pair, size: int) -> None:
    mine, theirs = pair
    read, write = os.pipe()
    wire.send(mine, {"body": b"x" * size}, [write])
    os.close(write)
    message, (fd,) = wire.recv(theirs)
    assert message is not None
    assert len(message["body"]) == size
    os.write(fd, b"hello")
    assert os.read(read, 5) == b"hello"
    os.close(fd)
    os.close(read)


def test_descriptors_that_arrive_are_not_inherited_by_programs(pair: Pair) -> None:
    mine, theirs = pair
    read, write = os.pipe()
    wire.send(mine, {"body": b"x" * 1_000_000}, [read, write])
    _, fds = wire.recv(theirs)
    assert [os.get_inheritable(fd) for fd in fds] == [False, False]
    for fd in (read, write, *fds):
        os.close(fd)


def test_the_end_of_the_peer_reads_as_none(pair: Pair) -> None:
    mine, theirs = pair
    wire.send(mine, {"last": True})
    mine.close()
    assert wire.recv(theirs)[0] == {"last": True}
    assert wire.recv(theirs) == (None, [])


def test_a_peer_that_ends_with_unread_messages_reads_as_none(pair: Pair) -> None:
    mine, theirs = pair
    wire.send(mine, {"unread": True})
    theirs.close()
    assert wire.recv(mine) == (None, [])
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        wire.send(mine, {})


def test_a_non_blocking_look_finds_nothing(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        wire.recv(pair[1], socket.MSG_DONTWAIT)


def test_a_full_socket_refuses_or_waits(pair: Pair) -> None:
    mine, theirs = pair
    mine.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            wire.send(mine, {"body": b"x" * 10_000})
            sent += 1
    mine.setblocking(True)
    thread = threading.Thread(target=wire.send, args=(mine, {"last": True}))
    thread.start()
    got = [wire.recv(theirs)[0] for _ in range(sent + 1)]
    thread.join(5)
    assert got[-1] == {"last": True}


@given(st.binary(max_size=100_000))
def test_what_is_stored_is_fetched(body: bytes) -> None:
    fd = wire.store(body)
    try:
        assert wire.fetch(fd) == body
    finally:
        os.close(fd)

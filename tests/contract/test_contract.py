"""What every transport promises, asked of each: order, whole messages, any size, a bound, an end, and what a death does.

`channels.py` says what each of them is, and what one of them can't promise by its nature.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.errors import FramingError
from actors.transports import _ring, fallback

from .channels import ALL, BORDERS, NEWLINES, NOTHING, NOTICE, PROCESSES, SUCCESSION, Channel, Ended, opened

SMALL = [0, 1, 7, 8, 255, 4095, 4096, 65_535, 65_536, 1 << 20]
STREAM_OF = 400  # messages
TABLE = Path(__file__).parents[2] / "docs" / "transports.md"
WRONG = (FramingError, _ring.Corrupt, fallback.Corrupt, ValueError, KeyError, TypeError, RuntimeError)

pytestmark = pytest.mark.usefixtures("leak_guard")
every = pytest.mark.parametrize("kind", ALL.values(), ids=ALL)
between_processes = pytest.mark.parametrize(
    "kind",
    [kind for kind in ALL.values() if kind.can(PROCESSES)],
    ids=[name for name, kind in ALL.items() if kind.can(PROCESSES)],
)


def message(kind: type[Channel], number: int, size: int) -> bytes:
    """Known by its number, with a checksum: torn or mixed, it does not check."""
    body = random.Random(number).randbytes(max(size, 8))
    if not kind.can(NEWLINES):
        body = body.replace(b"\n", b"\0")
    return b"%08d%08x" % (number, zlib.crc32(body)) + body


def number_of(body: bytes) -> int:
    assert int(body[8:16], 16) == zlib.crc32(body[16:]), "torn"
    return int(body[:8])


def child(work: Callable[[], object]) -> int:
    """A process that does this and ends, without anything of pytest's."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sender(channel: Channel, bodies: Iterator[bytes], close: bool = True) -> int:
    """Sends in a process of its own, or, where there is none, here."""

    def work() -> None:
        channel.sends()
        for body in bodies:
            channel.send(body)
        if close:
            channel.close()

    if not channel.can(PROCESSES):
        work()
        return 0
    return child(work)


def ended(pid: int) -> None:
    if pid:
        assert code_of(pid) == 0


def rest(channel: Channel) -> Iterator[bytes]:
    """All messages up to the end."""
    while True:
        try:
            body = channel.receive()
        except Ended:
            return
        assert body is not None, "nothing came, and no end"
        yield body


@every
def test_messages_arrive_whole_in_order_and_then_the_end(kind: type[Channel], rng: random.Random) -> None:
    sizes = [rng.choice([8, 60, 300, 3000, 30_000]) for _ in range(STREAM_OF)]
    with opened(kind) as channel:
        pid = sender(channel, (message(kind, number, size) for number, size in enumerate(sizes)))
        channel.receives()
        if kind.can(BORDERS):
            assert [number_of(body) for body in rest(channel)] == list(range(STREAM_OF))
        else:
            whole = b"".join(message(kind, number, size) for number, size in enumerate(sizes))
            assert b"".join(rest(channel)) == whole
        ended(pid)


@every
@pytest.mark.parametrize("sizes", [SMALL, [64 << 20]], ids=["0 B to 1 MiB", "64 MiB"])
def test_a_message_of_any_size_arrives(kind: type[Channel], sizes: list[int]) -> None:
    bodies = [random.Random(size).randbytes(size) for size in sizes if size or kind.can(NOTHING)]
    if not kind.can(NEWLINES):
        bodies = [body.replace(b"\n", b"\0") for body in bodies]
    bodies.append(b"behind")
    with opened(kind, 256 << 20) as channel:
        pid = sender(channel, iter(bodies))
        channel.receives()
        got = list(rest(channel))
        if kind.can(BORDERS):
            assert [len(each) for each in got] == [len(each) for each in bodies]
        assert b"".join(got) == b"".join(bodies)
        ended(pid)


@between_processes
def test_what_nobody_takes_is_bounded_and_goes_on_when_somebody_does(kind: type[Channel]) -> None:
    with opened(kind) as channel:
        report, told = os.pipe()

        def fill() -> None:
            channel.sends()
            sent = 0
            while channel.send(message(kind, sent, 1000), wait=False):
                sent += 1
                assert sent < 100_000, "it takes anything"
            os.write(told, b"%d\n" % sent)
            for number in range(sent, sent + 50):
                channel.send(message(kind, number, 1000))
            channel.close()

        pid = child(fill)
        channel.receives()
        sent = int(os.read(report, 100))
        os.close(report)
        os.close(told)
        assert 10 < sent < 10_000
        if kind.can(BORDERS):
            assert [number_of(body) for body in rest(channel)] == list(range(sent + 50))
        else:
            assert sum(map(len, rest(channel))) == (sent + 50) * 1016
        assert code_of(pid) == 0


@between_processes
def test_several_senders_keep_their_own_order(kind: type[Channel], rng: random.Random) -> None:
    """Of messages that a pipe takes whole (PIPE_BUF) where it is one; larger ones have one sender there."""
    with opened(kind) as channel:
        pids = [
            sender(channel, (message(kind, who * 1000 + number, 500) for number in range(200)), close=False)
            for who in range(3)
        ]
        channel.receives()
        found: dict[int, list[int]] = {0: [], 1: [], 2: []}
        left = 600 * 516
        while left > 0:
            body = channel.receive()
            assert body is not None
            left -= len(body)
            if kind.can(BORDERS):
                who, number = divmod(number_of(body), 1000)
                found[who].append(number)
        if kind.can(BORDERS):
            assert found == {who: list(range(200)) for who in range(3)}
        assert [code_of(pid) for pid in pids] == [0, 0, 0]


@between_processes
@pytest.mark.parametrize("after", [0, 1, 7, 50])
def test_a_sender_that_is_killed_leaves_whole_messages_and_nothing_half(kind: type[Channel], after: int) -> None:
    """At whatever step it is: it sends without a pause, and dies when so many have arrived."""

    def numbered() -> Iterator[bytes]:
        number = 0
        while True:
            yield message(kind, number, 20_000)
            number += 1

    with opened(kind) as channel:
        pid = sender(channel, numbered())
        channel.receives()
        got = 0
        while got < after:
            body = channel.receive()
            assert body is not None
            if kind.can(BORDERS):
                assert number_of(body) == got
            got += 1
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid) == -signal.SIGKILL
        try:
            while (body := channel.receive(0.0 if kind.can(SUCCESSION) else 30.0)) is not None:
                cut = len(body) < 20_016 and not kind.can(NEWLINES)  # the last line may end with its sender
                if kind.can(BORDERS) and not cut:
                    assert number_of(body) == got
                got += 1
            assert kind.can(SUCCESSION), "neither a message nor the end"
        except Ended:
            assert not kind.can(SUCCESSION)
        except FramingError as error:
            assert not kind.can(SUCCESSION) and "ended" in str(error)
        if kind.can(SUCCESSION):  # the next one goes on
            pid = sender(channel, iter([message(kind, 77, 100)]), close=False)
            body = channel.receive()
            assert body is not None and number_of(body) == 77
            assert code_of(pid) == 0


@between_processes
@pytest.mark.parametrize("after", [0, 1, 30])
def test_a_receiver_that_is_killed_is_noticed_or_succeeded(kind: type[Channel], after: int) -> None:
    """Streams break; of what the guardian keeps the next one gets the rest, in order."""
    with opened(kind) as channel:
        report, told = os.pipe()

        def receive() -> None:
            channel.receives()
            left = after * 116
            while left > 0:
                left -= len(channel.receive() or b"")
            os.write(told, b"!")
            signal.pause()

        pid = child(receive)
        if not kind.can(SUCCESSION):
            channel.sends()
        for number in range(after):
            channel.send(message(kind, number, 100))
        assert os.read(report, 1) == b"!"
        os.close(report)
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid) == -signal.SIGKILL
        if kind.can(NOTICE):
            with pytest.raises(Ended):
                for number in range(100_000):
                    channel.send(message(kind, number, 1000))
            return
        for number in range(after, after + 20):
            channel.send(message(kind, number, 100))
        channel.receives()
        got = [channel.receive() for _ in range(20)]
        assert [number_of(body) for body in got if body is not None] == list(range(after, after + 20))


@between_processes
def test_bytes_that_no_sender_would_send_end_in_an_error_or_in_messages(
    kind: type[Channel], rng: random.Random
) -> None:
    """The receiver, a process of its own, neither crashes nor hangs; what it says is an error of the transport's."""
    for _ in range(5):
        make_noise(kind, rng)


def make_noise(kind: type[Channel], rng: random.Random) -> None:
    with opened(kind) as channel:
        if kind.can(SUCCESSION):
            channel.sends()
            for number in range(20):
                channel.send(message(kind, number, 60))

        def receive() -> None:
            channel.receives()
            for _ in range(10_000):
                try:
                    if channel.receive(0.0 if kind.can(SUCCESSION) else 30.0) is None:
                        break
                except Ended:
                    break
                except WRONG:
                    break

        noise = [rng.randbytes(rng.choice([1, 8, 60, 2000])) for _ in range(20)]
        if kind.can(SUCCESSION):
            for each in noise:
                channel.garble(each)
            pid = child(receive)
        else:
            pid = child(receive)
            channel.sends()
            for each in noise:
                try:
                    channel.garble(each)
                except (BrokenPipeError, ConnectionResetError):
                    break  # it has hung up
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                channel.close()
        assert code_of(pid) == 0


def test_the_readers_table_lists_what_each_can_not_promise_and_why() -> None:
    rows = [row.strip("|").split("|") for row in TABLE.read_text().splitlines() if row.count("|") == 4]
    told = [tuple(cell.strip() for cell in row) for row in rows]
    for name, kind in ALL.items():
        expected = [(name, what, why) for what, why in kind.cannot.items()] or [(name, "nothing", "")]
        assert [row for row in told if row[0] == name] == expected

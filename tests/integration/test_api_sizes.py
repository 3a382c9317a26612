"""Messages and replies of every size, through both directions, and what large ones leave behind: nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef, ActorSystem
from kit import Gate, family, until

SIZES = [
    0,
    1,
    100,
    4_000,
    10_000,
    60_000,
    65_536,
    70_000,
    200_000,
    262_145,
    1_000_000,
    1_048_576,
    5_000_000,
    20_000_000,
]


class Porter(Actor):
    def __init__(self) -> None:
        self.last = b""

    def echo(self, value: Any) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def make(self, size: int) -> bytes:
        return bytes(size)

    def keep(self, value: bytes) -> None:
        self.last = value

    def digest(self) -> tuple[int, str]:
        return len(self.last), hashlib.sha256(self.last).hexdigest()

    def relay(self, other: ActorRef[Porter], size: int) -> int:
        return len(other.ask(Porter.echo, bytes(size)).result(60))

    async def relay_async(self, other: ActorRef[Porter], size: int) -> int:
        return len(await other.ask(Porter.echo, bytes(size)))

    def hold(self, gate: Gate) -> None:
        gate.wait()

    def fail_large(self, size: int) -> None:
        raise ValueError("x" * size)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def large_bytes(system: ActorSystem) -> int:
    """Bytes of large data that somebody has a lease on."""
    in_use: int = system.tree()["memory"]["in_use"]
    return in_use


@pytest.fixture(autouse=True)
def no_large_data_is_left(system: ActorSystem) -> Iterator[None]:
    yield
    until(lambda: large_bytes(system) == 0, "nobody has a lease on large data")


@pytest.mark.parametrize("size", SIZES)
def test_an_ask_carries_any_size_both_ways(spawn, size: int) -> None:
    porter, body = spawn(Porter), os.urandom(size)
    assert porter.ask(Porter.echo, body).result(60) == body
    assert porter.ask(Porter.echo_later, body).result(60) == body
    assert porter.ask(Porter.make, size).result(60) == bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_tell_carries_any_size(spawn, size: int) -> None:
    porter, body = spawn(Porter), os.urandom(size)
    porter.tell(Porter.keep, body)
    assert porter.ask(Porter.digest).result(60) == (size, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("size", [100_000, 2_000_000, 20_000_000])
def test_tell_async_and_await_carry_any_size(spawn, size: int) -> None:
    porter, body = spawn(Porter), os.urandom(size)

    async def main() -> Any:
        await porter.tell_async(Porter.keep, body)
        assert await porter.ask(Porter.digest) == (size, hashlib.sha256(body).hexdigest())
        return await porter.ask(Porter.echo, body)

    assert asyncio.run(main()) == body


@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
def test_between_actors_too(spawn, size: int) -> None:
    first, second = spawn(Porter), spawn(Porter)
    assert first.ask(Porter.relay, second, size).result(60) == size
    assert first.ask(Porter.relay_async, second, size).result(60) == size


def test_many_large_ones_at_once_keep_their_order(spawn) -> None:
    porter = spawn(Porter)
    bodies = [bytes([number]) * (300_000 + number) for number in range(40)]
    replies = [porter.ask(Porter.echo, body) for body in bodies]
    assert [reply.result(60) for reply in replies] == bodies


def test_large_and_small_ones_keep_their_order_among_each_other(spawn) -> None:
    class Ordered(Actor):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def take(self, number: int, body: bytes) -> None:
            self.seen.append(number)

        def all(self) -> list[int]:
            return self.seen

    ordered = spawn(Ordered)
    for number in range(60):
        ordered.tell(Ordered.take, number, bytes(1_500_000 if number % 7 == 0 else number))
    assert ordered.ask(Ordered.all).result(60) == list(range(60))


def test_large_strings_collections_and_exceptions_arrive(spawn) -> None:
    porter = spawn(Porter)
    for value in (
        "ü" * 1_000_000,
        list(range(300_000)),
        {str(n): (n, [n]) for n in range(50_000)},
        set(range(100_000)),
    ):
        assert porter.ask(Porter.echo, value).result(60) == value
    with pytest.raises(ValueError, match="xxx"):
        porter.ask(Porter.fail_large, 2_000_000).result(60)


def test_a_cancelled_large_call_leaves_nothing(spawn, tmp_path: Path) -> None:
    porter, gate = spawn(Porter), Gate(tmp_path / "gate")
    held = porter.ask(Porter.hold, gate)
    queued = [porter.ask(Porter.echo, bytes(2_000_000)) for _ in range(3)]
    for reply in queued:
        assert reply.cancel()
    gate.open()
    held.result(5)


def test_a_large_answer_that_comes_too_late_leaves_nothing(spawn, system: ActorSystem, tmp_path: Path) -> None:
    class Late(Porter):
        def make_after(self, gate: Gate, size: int) -> bytes:
            gate.wait()
            return bytes(size)

    late, gate = spawn(Late), Gate(tmp_path / "gate")
    reply = late.ask(Late.make_after, gate, 5_000_000)
    until(lambda: late.info()["busy_since"], "it is in hand")
    reply.cancel()
    gate.open()
    late.ask(Porter.echo, 1).result(5)


def test_large_answers_that_nobody_reads_leave_nothing(spawn) -> None:
    """Neither kept nor dropped by whoever asked: their memory is the program's from their coming on, and goes with them."""
    porter = spawn(Porter)
    kept = [porter.ask(Porter.make, 3_000_000) for _ in range(5)]
    for _ in range(5):
        porter.ask(Porter.make, 3_000_000)
    porter.ask(Porter.echo, 1).result(30)
    assert all(reply.done() for reply in kept)


def test_a_large_call_that_expires_leaves_nothing(spawn, tmp_path: Path) -> None:
    porter, gate = spawn(Porter), Gate(tmp_path / "gate")
    held = porter.ask(Porter.hold, gate)
    with pytest.raises(TimeoutError):
        porter.using(timeout=0.02).ask(Porter.echo, bytes(2_000_000)).result()
    gate.open()
    held.result(5)


def test_large_mail_survives_a_crash_and_what_is_in_hand_leaves_nothing(spawn) -> None:
    porter = spawn(Porter)
    dying = porter.ask(Porter.die)
    body = os.urandom(3_000_000)
    behind = porter.ask(Porter.echo, body)
    assert dying.exception(10) is not None
    assert behind.result(60) == body


def test_large_mail_of_an_actor_that_ends_leaves_nothing(spawn, tmp_path: Path) -> None:
    porter, gate = spawn(Porter), Gate(tmp_path / "gate")
    porter.ask(Porter.hold, gate)
    for _ in range(3):
        porter.tell(Porter.keep, bytes(2_000_000))
    porter.kill()
    porter.wait(5)


def test_an_asker_that_dies_before_its_large_answer_comes_leaves_nothing(spawn, tmp_path: Path) -> None:
    class Asker(Actor):
        def ask_and_wait(self, other: ActorRef[Any], gate: Gate) -> int:
            return len(other.ask("make_after", gate, 5_000_000).result(60))

    class Late(Porter):
        def make_after(self, gate: Gate, size: int) -> bytes:
            gate.wait()
            return bytes(size)

    late, asker, gate = spawn(Late), spawn(Asker), Gate(tmp_path / "gate")
    asker.ask(Asker.ask_and_wait, late, gate)
    until(lambda: late.info()["busy_since"], "it is in hand")
    asker.kill()
    asker.wait(5)
    gate.open()
    assert late.ask(Porter.echo, 1).result(5) == 1


def test_a_large_constructor_argument_arrives(spawn) -> None:
    class Loaded(Actor):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def size(self) -> int:
            return len(self.data)

    assert spawn(Loaded, bytes(5_000_000)).ask(Loaded.size).result(10) == 5_000_000


def test_the_zygote_and_the_guardian_keep_nothing_of_large_messages(spawn, system: ActorSystem) -> None:
    """The guardian never reads a body, so its memory does not grow with them."""
    porter = spawn(Porter)
    porter.ask(Porter.echo, bytes(20_000_000)).result(60)
    before = resident(system.guardian_pid)
    for _ in range(5):
        porter.ask(Porter.echo, bytes(20_000_000)).result(60)
    assert resident(system.guardian_pid) - before < 5_000_000
    assert family(system.guardian_pid).zygote > 0


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

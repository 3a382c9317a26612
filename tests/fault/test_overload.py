"""More is sent than is handled: memory stays bounded, order is kept, and what is not mail still passes."""

from __future__ import annotations

import statistics
import threading
import time

import pytest

from actors import Actor, ActorRef, ActorSystem, MailboxOptions
from kit import Resources, until

CAPACITY = 64 << 10  # bytes
LEAST = 10  # times that capacity that each sender has on its hands at least
BODY = bytes(100)


class Slow(Actor):
    """Counts what each sender has sent, and what came out of order; its handling takes longer than their sending."""

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.disordered = 0

    def take(self, sender: str, number: int, body: bytes) -> None:
        self.disordered += number != self.next.get(sender, 0)
        self.next[sender] = number + 1
        end = time.perf_counter() + 20e-6
        while time.perf_counter() < end:
            pass

    def report(self) -> tuple[dict[str, int], int]:
        return self.next, self.disordered


class Flood(Actor):
    def send(self, target: ActorRef[Slow], name: str, count: int) -> int:
        for number in range(count):
            target.tell(Slow.take, name, number, BODY)
        return count

    def ping(self) -> None:
        pass


class Sink(Actor):
    def take(self, body: bytes) -> int:
        return len(body)


@pytest.mark.parametrize(
    "count", [LEAST * CAPACITY // len(BODY) // 3, pytest.param(300_000, marks=pytest.mark.nightly)]
)
def test_ten_senders_to_a_slow_actor_fill_its_mailbox_and_no_more(system: ActorSystem, count: int) -> None:
    """Meanwhile the guardian and other actors answer, and the consumer can be looked at."""
    slow, other = system.spawn(Slow, mailbox=MailboxOptions(capacity=CAPACITY)), system.spawn(Flood)
    senders = [system.spawn(Flood) for _ in range(10)]
    slow.ask(Slow.report).result(10)
    before = Resources.of(slow.info()["pid"]).resident
    sent = [each.ask(Flood.send, slow, f"s{n}", count) for n, each in enumerate(senders)]
    until(lambda: slow.info()["mailbox"]["bytes"] > CAPACITY // 2, "it is full")
    waits, most, grown = [], 0, 0
    while not all(reply.done() for reply in sent):
        start = time.perf_counter()
        info = slow.info()  # a question to the guardian
        other.ask(Flood.ping).result(30)  # and one to somebody else
        waits.append(time.perf_counter() - start)
        most = max(most, info["mailbox"]["bytes"])
        grown = max(grown, Resources.of(info["pid"]).resident - before)
    assert [reply.result(60) for reply in sent] == [count] * 10
    assert slow.ask(Slow.report).result(60) == ({f"s{n}": count for n in range(10)}, 0)
    assert most <= CAPACITY
    assert grown < 4 << 20, f"the consumer has grown by {grown:,} bytes"
    print(f"{len(waits)} looks, the slowest took {max(waits) * 1e3:.1f} ms, the most bytes were {most}, growth {grown}")
    assert statistics.median(waits) < 0.1


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_messages_of_64_megabytes_delay_nobody_elses(system: ActorSystem, times: int) -> None:
    large, small, over = system.spawn(Sink), system.spawn(Sink), threading.Event()

    def send() -> None:
        body = bytes(64 << 20)
        try:
            for _ in range(times):
                assert large.ask(Sink.take, body).result(60) == len(body)
        finally:
            over.set()

    thread, waits = threading.Thread(target=send), list[float]()
    thread.start()
    while not over.is_set():
        start = time.perf_counter()
        assert small.ask(Sink.take, b"small").result(30) == 5
        waits.append(time.perf_counter() - start)
    thread.join()
    print(f"{len(waits)} small messages, the slowest took {max(waits) * 1e3:.1f} ms")
    assert statistics.median(waits) < 0.2


class Pushy(Actor):
    """Sends to another one until that has no room, and on."""

    def push(self, other: ActorRef[Pushy]) -> None:
        while True:
            other.tell(Pushy.note, BODY)

    def note(self, body: bytes) -> None:
        pass


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_two_that_fill_each_others_mailboxes_can_be_ended(system: ActorSystem, how: str, times: int) -> None:
    """Both wait for room in their handlers; the end of one is no message that waits behind the others, and frees the
    other one."""
    for number in range(times):
        first, second = (
            system.spawn(Pushy, name=f"{name}-{number}", shutdown=0.1, mailbox=MailboxOptions(capacity=4096))
            for name in ("first", "second")
        )
        first.tell(Pushy.push, second)
        second.tell(Pushy.push, first)
        for each in (first, second):
            until(lambda each=each: each.info()["mailbox"]["bytes"] > 3500, "it is full")  # type: ignore[misc]
        getattr(first, how)()
        assert first.wait(20).kind in ("signal", "shutdown")
        assert second.ask(Pushy.note, BODY).result(30) is None
        second.kill()
        second.wait(20)

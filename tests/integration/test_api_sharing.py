"""Large data in messages and `system.share`: written once, read where it lies, freed when nobody looks any more."""

from __future__ import annotations

import os
import platform
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors import Actor, ActorSystem, OutOfMemory, Shared
from actors.bench.cases import growth_of_shared
from actors.transports._ring import Ledger, Segment, Span, memory
from kit import Gate, Resources, system_name, until

MB = 1 << 20


class Holder(Actor):
    def __init__(self) -> None:
        self.held: Any = None

    def hold(self, value: Any) -> None:
        self.held = value

    def where(self) -> tuple[str, bool]:
        value = self.held.value if isinstance(self.held, Shared) else self.held
        return type(value.base).__name__, bool(value.flags.writeable)

    def total(self) -> float:
        return float((self.held.value if isinstance(self.held, Shared) else self.held).sum())

    def echo(self, value: Any) -> Any:
        return value

    def write(self) -> None:
        self.held[0] = 1

    def faults(self) -> int:
        """Pages that the second of two equal computations with it had to be given."""
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                parts = [self.held * 2, self.held + 1, self.held / 3]
                del parts
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def wait(self, gate: Gate) -> None:
        gate.wait()

    def size(self, value: Any) -> int:
        return memoryview(value).nbytes


class Table:
    """Something with arrays that has no form of its own in messages."""

    def __init__(self, *columns: np.ndarray[Any, Any]) -> None:
        self.columns = columns


def memory_of(system: ActorSystem) -> dict[str, int]:
    found: dict[str, int] = system.tree()["memory"]
    return found


@pytest.fixture(autouse=True)
def nobody_holds_anything(system: ActorSystem, nothing_is_held: None) -> Any:
    yield
    until(lambda: memory_of(system)["in_use"] == 0, "nobody holds large data")


def test_an_array_is_read_where_it_lies(spawn) -> None:
    holder, array = spawn(Holder), np.arange(float(MB))
    holder.tell(Holder.hold, array)
    assert holder.ask(Holder.where).result(10) == ("Span", False)
    assert holder.ask(Holder.total).result(10) == array.sum()
    with pytest.raises(ValueError, match="read-only"):
        holder.ask(Holder.write).result(10)


def test_what_was_received_is_sent_on_without_a_copy(system: ActorSystem, spawn) -> None:
    first, second = spawn(Holder), spawn(Holder)
    received = first.ask(Holder.echo, np.arange(float(MB))).result(10)
    used = memory_of(system)["used"]
    for part in (received, received[MB // 2 :], received.reshape(2, -1).T):
        second.tell(Holder.hold, part)
        assert second.ask(Holder.total).result(10) == part.sum()
    assert memory_of(system)["used"] == used
    del received, part


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators learn otherwise")
def test_who_computes_with_an_array_keeps_the_memory_for_it(spawn) -> None:
    """Three temporary arrays of its size, twenty times: their 176,000 pages are not given back and asked for each time."""
    holder = spawn(Holder)
    holder.tell(Holder.hold, np.zeros(1_500_000))
    assert holder.ask(Holder.faults).result(20) < 2_000


def test_memory_is_used_again(system: ActorSystem, spawn) -> None:
    holder, array = spawn(Holder), np.zeros(MB)
    before = memory_of(system)["used"]
    for number in range(40):
        array[0] = number
        assert holder.ask(Holder.echo, array).result(10)[0] == number
    assert memory_of(system)["used"] - before <= 4 * array.nbytes


@pytest.mark.parametrize(
    "value",
    [
        np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
        np.arange(300_000.0)[::3],
        memoryview(bytes(300_000)),
        memoryview(np.arange(300_000)).cast("B"),
        [np.zeros(50_000), {"b": np.ones(60_000)}, b"x" * 200_000, bytearray(200_000)],
        [np.full(20_000, number) for number in range(100)],
    ],
    ids=["fortran", "strided", "memoryview", "memoryview of an array", "several", "more than there are places"],
)
def test_every_kind_arrives_equal(spawn, value: Any) -> None:
    arrived = spawn(Holder).ask(Holder.echo, value).result(10)
    assert type(arrived) is type(value)
    np.testing.assert_equal(arrived, value)


def test_buffers_of_a_pickle_travel_the_same_way(system: ActorSystem, spawn) -> None:
    table = spawn(Holder).ask(Holder.echo, Table(np.arange(float(MB)), np.ones(MB))).result(10)
    assert [type(column.base) for column in table.columns] == [Span, Span]
    assert table.columns[0].sum() == MB * (MB - 1) / 2


def test_shared_data_is_there_once(system: ActorSystem, spawn) -> None:
    array = np.arange(float(4 * MB))
    before = memory_of(system)["used"]
    with system.share(array) as shared:
        holders = [spawn(Holder) for _ in range(4)]
        for holder in holders:
            holder.tell(Holder.hold, shared)
        assert [holder.ask(Holder.total).result(20) for holder in holders] == [array.sum()] * 4
        assert {holder.ask(Holder.where).result(10) for holder in holders} == {("Span", False)}
        assert memory_of(system)["used"] - before <= 1.25 * array.nbytes
    holders[0].kill()
    holders[1].stop()
    for holder in holders[:2]:
        holder.wait(10)
    assert holders[2].ask(Holder.total).result(10) == array.sum()
    assert memory_of(system)["in_use"] > 0
    with pytest.raises(ValueError, match="closed"):
        assert shared.value is None


def test_an_array_that_four_actors_read_takes_less_than_a_twentieth_of_itself_more() -> None:
    """By the kernel's own account of what each process has, as `actors bench --only gigabyte` does with a GiB."""
    assert growth_of_shared(128 * MB) < 0.05


@pytest.mark.parametrize("value", [b"x" * MB, bytearray(MB), memoryview(bytes(MB)), b"short", np.arange(3)])
def test_any_buffer_can_be_shared(system: ActorSystem, spawn, value: Any) -> None:
    with system.share(value) as shared:
        assert spawn(Holder).ask(Holder.echo, shared).result(10).value.tobytes() == bytes(value)


def test_the_budget_is_kept_and_said(leak_guard: Any) -> None:
    with ActorSystem(system_name("own"), memory=4 * MB) as system:
        holder = system.spawn(Holder)
        with pytest.raises(OutOfMemory, match=r"8,388,608 bytes.*0 of 4,194,304 bytes.*ActorSystem\(memory"):
            holder.tell(Holder.hold, np.zeros(MB))
        for _ in range(20):
            assert holder.ask(Holder.size, np.zeros(MB // 8)).result(10) == MB
        with pytest.raises(OutOfMemory):
            system.share(np.zeros(MB))
        assert memory_of(system)["used"] <= 4 * MB


def test_a_gigabyte_beyond_the_budget_is_refused_before_anything_is_allocated(leak_guard: Any) -> None:
    with ActorSystem(system_name("own"), memory=64 * MB) as system:
        holder = system.spawn(Holder)
        value = np.zeros(1 << 30, np.uint8)  # no memory until it is written to
        before = Resources.of(os.getpid()).resident
        for call in (lambda: holder.tell(Holder.hold, value), lambda: system.share(value)):
            with pytest.raises(OutOfMemory, match="1,073,741,824 bytes"):
                call()
        assert Resources.of(os.getpid()).resident - before < 16 * MB
        assert memory_of(system)["used"] == 0


@pytest.mark.nightly
def test_an_argument_of_more_than_two_gibibytes_arrives_whole(leak_guard: Any) -> None:
    """Beyond 2^31 bytes, where lengths of 32 bits end."""
    size = 2_200_000_000
    with ActorSystem(system_name("own"), memory=3 << 30) as system:
        holder = system.spawn(Holder)
        value = np.arange(size // 8)
        assert holder.ask(Holder.size, value).result(120) == size
        echoed = holder.ask(Holder.echo, value).result(120)
        assert np.array_equal(echoed, value)


def test_who_needs_memory_gets_what_others_do_not_use(leak_guard: Any) -> None:
    with ActorSystem(system_name("own"), memory=12 * MB) as system:
        first, second = system.spawn(Holder), system.spawn(Holder)
        for holder in (first, second):  # each keeps what it answered with for the next time
            assert holder.ask(Holder.echo, bytes(3 * MB)).result(10) == bytes(3 * MB)
        assert first.ask(Holder.size, np.zeros(MB)).result(10) == 8 * MB


def test_an_answer_outlives_its_system(leak_guard: Any) -> None:
    with ActorSystem(system_name("own")) as system:
        reply = system.spawn(Holder).ask(Holder.echo, np.arange(float(MB)))
        kept = reply.result(10)
    assert kept.sum() == MB * (MB - 1) / 2


def test_a_sender_waits_while_much_is_on_its_way(system: ActorSystem, spawn, tmp_path: Path) -> None:
    """What is large does not fill the mailbox, so it has a limit of its own."""
    holder, gate, sent = spawn(Holder), Gate(tmp_path / "gate"), 0
    holder.tell(Holder.wait, gate)
    array = np.zeros(2 * MB)  # 16 MB

    def send() -> None:
        nonlocal sent
        for number in range(10):
            holder.tell(Holder.hold, array)
            sent = number + 1

    thread = threading.Thread(target=send)
    thread.start()
    until(lambda: sent == 4, "as much is on its way as may be")
    assert memory_of(system)["in_use"] <= 80 * MB
    gate.open()
    thread.join(20)
    assert sent == 10
    holder.tell(Holder.hold, None)
    holder.ask(Holder.size, b"").result(10)


# --- the C part


def test_a_lease_is_a_word_that_only_its_holder_can_drop() -> None:
    fd = memory(2 * 4096, "actors:test")
    ledger = Ledger(fd)
    os.close(fd)
    slot = ledger.take(1, 7)
    assert (ledger.held(1), ledger.held(0), ledger.held(1, 7), ledger.held(1, 8)) == (1, 0, 1, 0)
    assert not ledger.drop(1, slot, 8)
    assert ledger.drop(1, slot, 7)
    assert not ledger.drop(1, slot, 7)
    slots = [ledger.take(1, number + 1) for number in range(512)]
    assert sorted(slots) == list(range(512))
    assert ledger.take(1, 9) == -1
    assert sorted(word for _, word in ledger.words(1)) == list(range(1, 513))
    assert ledger.held(1, 256, 256) == 256
    with pytest.raises(ValueError, match="no segment 2"):
        ledger.take(2, 1)
    with pytest.raises(ValueError, match="no ledger"):
        Ledger(other := os.memfd_create("other"))
    os.close(other)


def test_a_span_holds_a_lease_as_long_as_a_view_of_it_lives() -> None:
    fd, page = memory(MB, "actors:test"), memory(4096, "actors:test")
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    segment, reader, ledger = Segment(fd, True), Segment(reading), Ledger(page)
    assert segment.write(b"hello" * 20_000)
    span = Span(reader, 0, 5, 10, ledger, 3)
    view = memoryview(span)[5:]
    assert bytes(view) == b"hello"
    assert view.readonly
    del span
    assert ledger.held(0, 3) == 1
    del view
    assert ledger.held(0) == 0
    with pytest.raises(ValueError, match="read-only"):
        reader.write(b"x")
    with pytest.raises(ValueError, match="can't be written"):
        segment.write(bytes(MB + 1))
    with pytest.raises(ValueError, match="has no"):
        Span(segment, 0, MB, 1, ledger, 3)
    with pytest.raises(PermissionError):
        Segment(reading, True)
    for each in (fd, page, reading):
        os.close(each)

"""Mailboxes: bounded in bytes, three manners when full, dead letters, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorSystem,
    AskTimeout,
    DeadLetter,
    MailboxFull,
    MailboxOptions,
    SpecError,
    SystemDied,
)
from kit import Gate, Journal, system_name, until

SMALL = MailboxOptions(capacity=4096)
BODY = "x" * 500


class Sink(Actor):
    """Takes nothing until the gate opens; counts what it took."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def hold(self, gate: Gate) -> None:
        gate.wait()

    def take(self, item: Any, body: str = "") -> int:
        self.taken.append(item)
        return len(self.taken)

    def all(self) -> list[Any]:
        return self.taken

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self) -> None:
        raise ValueError("told to")

    def flood_self(self, count: int) -> str:
        for number in range(count):
            try:
                self.ref.tell(Sink.take, number, BODY)
            except MailboxFull as error:
                return str(error)
        return "never full"


def held(sink: ActorRef[Sink], gate: Gate) -> Any:
    """Make it busy."""
    reply = sink.ask(Sink.hold, gate)
    until(lambda: sink.info()["busy_since"], "it is in hand")
    return reply


def fill(sink: ActorRef[Sink]) -> int:
    """Tell until the mailbox is full: how many went in."""

    async def main() -> int:
        count = 0
        try:
            while True:
                sink.tell(Sink.take, count, BODY)  # in a coroutine: raises where it would block
                count += 1
        except MailboxFull:
            return count

    return asyncio.run(main())


# --- options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"capacity": 100}, r"MailboxOptions\.capacity is 100: give a number of bytes from 4096"),
        ({"capacity": "big"}, r"MailboxOptions\.capacity is 'big'"),
        ({"capacity": 1 << 50}, r"MailboxOptions\.capacity is"),
        ({"overflow": "wait"}, r"MailboxOptions\.overflow is 'wait': use 'block', 'raise' or 'drop'"),
    ],
)
def test_mailbox_options_that_make_no_sense_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        MailboxOptions(**options)


def test_mailbox_options_are_a_value() -> None:
    assert MailboxOptions() == MailboxOptions(capacity=1 << 20, overflow="block")
    with pytest.raises(AttributeError):
        MailboxOptions().capacity = 5  # type: ignore[misc]


def test_a_larger_mailbox_holds_more(spawn, gate: Gate, tmp_path: Path) -> None:
    small, large, other = (
        spawn(Sink, mailbox=SMALL),
        spawn(Sink, mailbox=MailboxOptions(capacity=1 << 16)),
        Gate(tmp_path / "2"),
    )
    first, second = held(small, gate), held(large, other)
    some, more = fill(small), fill(large)
    assert 1 <= some < 8
    assert more > 10 * some
    gate.open()
    other.open()
    first.result(5)
    second.result(5)
    assert large.ask(Sink.all).result(5) == list(range(more))


# --- full


def test_tell_blocks_while_the_target_is_full_and_goes_on_when_there_is_room(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)
    told = threading.Event()

    def tell() -> None:
        sink.tell(Sink.take, "blocked", BODY)
        told.set()

    thread = threading.Thread(target=tell)
    thread.start()
    assert not told.wait(0.05)
    gate.open()
    assert told.wait(5)
    thread.join(5)
    holding.result(5)
    assert sink.ask(Sink.all).result(5) == [*range(count), "blocked"]


def test_in_a_coroutine_a_full_mailbox_raises_and_names_the_actor_and_what_to_do(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def main() -> None:
        with pytest.raises(MailboxFull, match=rf"{sink.address}: its mailbox \(4096 bytes\) is full; use tell_async"):
            sink.tell(Sink.take, "more", BODY)

    asyncio.run(main())
    gate.open()
    holding.result(5)
    assert sink.ask(Sink.all).result(5) == list(range(count))


def test_an_ask_in_a_coroutine_waits_for_room_without_blocking_the_loop_and_is_not_overtaken(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def main() -> list[Any]:
        asked = [sink.ask(Sink.take, number, BODY) for number in range(100, 120)]
        with pytest.raises(MailboxFull, match="earlier asks wait for room"):
            sink.tell(Sink.take, "overtaking")
        telling = asyncio.ensure_future(sink.tell_async(Sink.take, "last"))
        await asyncio.sleep(0.01)
        assert not any(reply.done() for reply in asked)
        await asyncio.to_thread(gate.open)
        await asyncio.gather(*asked)
        await telling
        return await sink.ask(Sink.all)

    assert asyncio.run(main()) == [*range(count), *range(100, 120), "last"]
    holding.result(5)


def test_an_ask_that_waits_for_room_can_be_cancelled_and_expires(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def main() -> None:
        cancelled, large = sink.ask(Sink.take, "cancelled", BODY), sink.ask(Sink.take, "large", "x" * 500_000)
        late = sink.using(timeout=0.02).ask(Sink.take, "late", BODY)
        kept = sink.ask(Sink.take, "kept", BODY)
        assert cancelled.cancel()
        assert large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(AskTimeout):
            await late
        await asyncio.to_thread(gate.open)
        await kept

    asyncio.run(main())
    holding.result(5)
    assert sink.ask(Sink.all).result(5) == [*range(count), "kept"]


def test_an_ask_that_waits_for_room_ends_with_its_actor(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    held(sink, gate)
    fill(sink)

    async def main() -> None:
        waiting = [sink.ask(Sink.take, number, BODY) for number in range(3)]
        sink.kill()
        for reply in waiting:
            with pytest.raises(ActorDied, match="killed by SIGKILL"):
                await reply

    asyncio.run(main())


def test_an_ask_that_waits_for_room_ends_with_its_system(leak_guard, gate: Gate) -> None:
    system = ActorSystem(system_name("full"))
    sink = system.spawn(Sink, mailbox=SMALL)
    held(sink, gate)
    fill(sink)

    async def main() -> None:
        waiting = sink.ask(Sink.take, "never", BODY)
        await system.aclose("kill")
        with pytest.raises((SystemDied, ActorDied)):
            await waiting

    asyncio.run(main())


def test_a_loop_that_ends_while_its_asks_wait_for_room_leaves_the_way_free(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def first() -> None:
        asyncio.ensure_future(wait(sink.ask(Sink.take, "given up", BODY)))  # noqa: RUF006 - cancelled with the loop
        await asyncio.sleep(0)

    async def wait(reply: Any) -> None:
        await reply

    async def second() -> Any:
        reply = sink.ask(Sink.take, "second", BODY)
        await asyncio.to_thread(gate.open)
        return await reply

    asyncio.run(first())
    assert asyncio.run(second()) == count + 1
    holding.result(5)
    assert sink.ask(Sink.all).result(5) == [*range(count), "second"]


def test_tell_async_waits_for_room_without_blocking_the_loop(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def main() -> list[Any]:
        telling = asyncio.ensure_future(sink.tell_async(Sink.take, "waited", BODY))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not telling.done()
        await asyncio.to_thread(gate.open)
        assert await telling is None
        await holding
        return await sink.ask(Sink.all)

    assert asyncio.run(main()) == [*range(count), "waited"]


def test_cancelling_tell_async_sends_nothing(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    count = fill(sink)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sink.tell_async(Sink.take, "given up", BODY), 0.02)

    asyncio.run(main())
    gate.open()
    holding.result(5)
    assert sink.ask(Sink.all).result(5) == list(range(count))


def test_an_ask_with_a_deadline_to_a_full_mailbox_ends_at_its_deadline(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    holding = held(sink, gate)
    fill(sink)
    with pytest.raises(MailboxFull, match=r"is full for 0\.05 s"):
        sink.using(timeout=0.05).ask(Sink.take, "late", BODY)
    gate.open()
    holding.result(5)


def test_a_full_mailbox_that_ends_releases_who_waits_for_room(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    held(sink, gate)
    fill(sink)
    got: list[BaseException | None] = []

    def tell() -> None:
        try:
            sink.tell(Sink.take, "blocked", BODY)
            got.append(None)
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    sink.kill()
    thread.join(5)
    assert isinstance(got[0], ActorDied)


def test_overflow_raise_gives_mailbox_full_everywhere(spawn, gate: Gate) -> None:
    sink = spawn(Sink, mailbox=MailboxOptions(capacity=4096, overflow="raise"))
    holding = held(sink, gate)
    count = 0
    with pytest.raises(MailboxFull, match=sink.address):
        while True:
            sink.tell(Sink.take, count, BODY)
            count += 1
    with pytest.raises(MailboxFull):
        sink.ask(Sink.take, "ask", BODY)
    with pytest.raises(MailboxFull):
        asyncio.run(sink.tell_async(Sink.take, "async", BODY))
    gate.open()
    holding.result(5)
    until(lambda: sink.info()["mailbox"]["depth"] == 0, "there is room again")
    assert sink.ask(Sink.all).result(5) == list(range(count))


def test_overflow_drop_counts_and_reports_a_dead_letter(own: ActorSystem, gate: Gate) -> None:
    letters = own.dead_letters()
    sink = own.spawn(Sink, mailbox=MailboxOptions(capacity=4096, overflow="drop"))
    holding = held(sink, gate)
    for number in range(20):
        assert sink.tell(Sink.take, number, BODY) is None
    asyncio.run(sink.tell_async(Sink.take, "async", BODY))
    with pytest.raises(MailboxFull):
        sink.ask(Sink.take, "ask", BODY)  # an ask can't be dropped in silence
    gate.open()
    holding.result(5)
    until(lambda: sink.info()["mailbox"]["depth"] == 0, "there is room again")
    taken = sink.ask(Sink.all).result(5)
    assert 1 <= len(taken) < 20
    assert taken == list(range(len(taken)))
    dropped = [letters.get(5) for _ in range(21 - len(taken))]
    assert [letter.message for letter in dropped] == [
        ("take", (item, BODY), {}) for item in [*range(len(taken), 20), "async"]
    ]
    assert {letter.target for letter in dropped} == {sink}
    assert "full" in str(dropped[0].reason)
    assert sink.info()["dropped"] == len(dropped)


def test_an_actor_that_fills_its_own_mailbox_hears_of_it_instead_of_waiting_for_ever(spawn) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    said = sink.ask(Sink.flood_self, 100).result(5)
    assert f"{sink.address}: its own mailbox" in said


def test_a_sync_handler_waits_for_room_in_the_mailbox_of_another(spawn, gate: Gate) -> None:
    class Flooder(Actor):
        def flood(self, sink: ActorRef[Sink], count: int) -> int:
            for number in range(count):
                sink.tell(Sink.take, number, BODY)
            return count

        async def flood_async(self, sink: ActorRef[Sink], count: int) -> int:
            for number in range(count):
                await sink.tell_async(Sink.take, number, BODY)
            return count

        async def overflow(self, sink: ActorRef[Sink]) -> str:
            try:
                for number in range(1000):
                    sink.tell(Sink.take, number, BODY)
            except MailboxFull as error:
                return str(error)
            return "never full"

    sink, flooder = spawn(Sink, mailbox=SMALL), spawn(Flooder)
    assert flooder.ask(Flooder.flood, sink, 200).result(10) == 200
    assert flooder.ask(Flooder.flood_async, sink, 200).result(10) == 200
    assert sink.ask(Sink.all).result(5) == [*range(200), *range(200)]
    holding = held(sink, gate)
    assert "is full" in flooder.ask(Flooder.overflow, sink).result(5)
    gate.open()
    holding.result(5)


def test_a_message_larger_than_the_mailbox_arrives_all_the_same(spawn) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    big = "b" * 1_000_000
    sink.tell(Sink.take, big)
    assert sink.ask(Sink.take, big).result(10) == 2
    assert sink.ask(Sink.all).result(10) == [big, big]


def test_a_message_between_a_quarter_and_the_whole_of_a_mailbox_arrives(spawn) -> None:
    sink = spawn(Sink, mailbox=SMALL)
    for size in (1000, 2000, 3000, 3900, 4000, 4096, 5000, 20_000, 60_000, 70_000):
        assert len(sink.ask(Sink.take, "s" * size).result(5) and sink.ask(Sink.all).result(5)[-1]) == size


# --- deaths


def test_redeliver_hands_a_tell_in_hand_out_again_so_many_times_and_then_reports_it(
    own: ActorSystem, tmp_path: Path
) -> None:
    class Deadly(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def die(self) -> None:
            self.journal.write("die")
            os.kill(os.getpid(), signal.SIGKILL)

        def note(self) -> None:
            self.journal.write("note")

    journal, letters = Journal(tmp_path / "journal"), own.dead_letters()
    deadly = own.spawn(Deadly, journal, redeliver=2)
    deadly.tell(Deadly.die)
    deadly.tell(Deadly.note)
    letter = letters.get(10)
    assert letter.message == ("die", (), {})
    assert letter.reason.signal == signal.SIGKILL
    journal.until("note")
    assert journal.lines() == ["die", "die", "die", "note"]


def test_redeliver_answers_an_ask_that_survives_the_next_time(spawn, tmp_path: Path) -> None:
    class Unlucky(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def once(self) -> int:
            self.journal.write("try")
            if len(self.journal.lines()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return len(self.journal.lines())

    unlucky = spawn(Unlucky, Journal(tmp_path / "journal"), redeliver=1)
    assert unlucky.ask(Unlucky.once).result(10) == 2


def test_a_raising_handler_is_never_redelivered(spawn, tmp_path: Path) -> None:
    class Raising(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        def fail(self) -> None:
            self.journal.write("fail")
            raise ValueError("told to")

        def lines(self) -> list[str]:
            return self.journal.lines()

    raising = spawn(Raising, Journal(tmp_path / "journal"), redeliver=5)
    raising.tell(Raising.fail)
    assert raising.ask(Raising.lines).result(10) == ["fail"]


def test_in_hand_are_up_to_concurrency_messages(own: ActorSystem, tmp_path: Path) -> None:
    class Wide(Actor):
        concurrency = 3

        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        async def hang(self, number: int) -> None:
            self.journal.write("hang", number)
            await asyncio.sleep(3600)

        def alive(self) -> bool:
            return True

    journal, letters = Journal(tmp_path / "journal"), own.dead_letters()
    wide = own.spawn(Wide, journal)
    for number in range(3):
        wide.tell(Wide.hang, number)
    for number in range(3):
        journal.until("hang", number)
    behind = wide.ask(Wide.alive)
    os.kill(wide.info()["pid"], signal.SIGKILL)
    assert [letters.get(5).message for _ in range(3)] == [("hang", (number,), {}) for number in range(3)]
    assert behind.result(10) is True


# --- dead letters


def test_a_dead_letter_says_which_message_for_whom_and_why(own: ActorSystem, gate: Gate) -> None:
    letters = own.dead_letters()
    sink = own.spawn(Sink, name="sink")
    held(sink, gate)
    sink.tell(Sink.take, {"a": (1, 2)}, body="kw")
    sink.kill()
    letter = letters.get(5)
    assert isinstance(letter, DeadLetter)
    assert letter.message == ("take", ({"a": (1, 2)},), {"body": "kw"})
    assert letter.target == sink
    assert letter.reason.signal == signal.SIGKILL


def test_dead_letters_can_be_iterated_in_a_thread_and_in_a_loop(leak_guard, tmp_path: Path) -> None:
    """Each iterator hears everything from its making on and ends with the system."""
    with ActorSystem(system_name("letters")) as system:
        blocking, awaited = system.dead_letters(), system.dead_letters()
        sink = system.spawn(Sink)
        held(sink, Gate(tmp_path / "gate"))
        for number in range(3):
            sink.tell(Sink.take, number)
        sink.kill()

        async def main() -> list[Any]:
            found = []
            async for letter in awaited:
                found.append(letter.message[1][0])
                if len(found) == 3:
                    return found
            return found

        assert asyncio.run(main()) == [0, 1, 2]
        assert [next(blocking).message[1][0] for _ in range(3)] == [0, 1, 2]
    assert list(blocking) == []  # ended with its system


def test_actors_can_read_dead_letters_too(own: ActorSystem, tmp_path: Path) -> None:
    class Mortician(Actor):
        async def on_start(self) -> None:
            self.seen: list[Any] = []
            self.letters = self.system.dead_letters()
            self.task = asyncio.create_task(self._read())

        async def _read(self) -> None:
            async for letter in self.letters:
                self.seen.append(letter.message)

        def all(self) -> list[Any]:
            return self.seen

    mortician, sink = own.spawn(Mortician), own.spawn(Sink)
    held(sink, Gate(tmp_path / "gate"))
    sink.tell(Sink.take, 1)
    sink.kill()
    until(lambda: mortician.ask(Mortician.all).result(5) == [("take", (1,), {})], "it was read")

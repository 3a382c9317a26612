"""Actors: what a class may be, what its methods mean, in which order they run, and its hooks."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from actors import Actor, ActorRef, ActorsError, ActorSystem, ExitReason, SpawnError
from kit import Journal, until

T = TypeVar("T")


class Counter(Actor):
    unit = "apples"

    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.value = start
        self.step = step
        self.callback = self.add

    def add(self, amount: int) -> int:
        self.value += amount * self.step
        return self.value

    async def add_later(self, amount: int) -> int:
        await asyncio.sleep(0)
        return self.add(amount)

    async def add_at_once(self, amount: int) -> int:
        return self.add(amount)

    def add_all(self, *amounts: int, scale: int = 1) -> int:
        return self.add(sum(amounts) * scale)

    @staticmethod
    def double(value: int) -> int:
        return 2 * value

    @classmethod
    def of_class(cls) -> str:
        return cls.unit

    @property
    def shown(self) -> str:
        return "a property"

    class Settings:
        pass

    def _private(self) -> str:
        return "secret"

    def pid(self) -> int:
        return os.getpid()


class Base(Actor):
    def inherited(self) -> str:
        return "from the base"

    def overridden(self) -> str:
        return "base"


class Derived(Base):
    def overridden(self) -> str:
        return "derived"


class Recorder(Actor):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, item: Any) -> None:
        self.seen.append(item)

    async def note_async(self, item: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(item)

    def notes(self) -> list[Any]:
        return self.seen


# --- what an actor is


def test_any_plain_class_body_is_an_actor_with_its_arguments(spawn) -> None:
    assert spawn(Counter, 10).ask(Counter.add, 1).result(5) == 11


def test_an_actor_lives_in_one_process_of_its_own(spawn) -> None:
    pids = {spawn(Counter).ask(Counter.pid).result(5) for _ in range(3)}
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_an_actor_made_directly_is_an_ordinary_object() -> None:
    """So it can be tested without a system; what only a running actor has says so."""
    counter = Counter(3)
    assert counter.add(4) == 7
    with pytest.raises(ActorsError, match=r"only a running actor has this.*system\.spawn"):
        _ = counter.ref


def test_tell_and_ask_reach_the_same_state_as_in_the_first_example(spawn) -> None:
    counter = spawn(Counter, 10)
    assert counter.tell(Counter.add, 5) is None
    assert counter.ask(Counter.add, 1).result(timeout=2) == 16


def test_async_methods_work_the_same(spawn) -> None:
    counter = spawn(Counter, 10)
    counter.tell(Counter.add_later, 5)
    assert counter.ask(Counter.add_later, 1).result(5) == 16
    assert counter.ask(Counter.add_at_once, 1).result(5) == 17


def test_keyword_arguments_of_a_method_arrive(spawn) -> None:
    counter = spawn(Counter)
    assert counter.ask(Counter.add_all, 1, 2, scale=10).result(5) == 30
    counter.tell(Counter.add_all, 1, scale=5)
    assert counter.ask(Counter.add_all).result(5) == 35


def test_inherited_and_overridden_methods_are_found(spawn) -> None:
    derived = spawn(Derived)
    assert derived.ask(Base.inherited).result(5) == "from the base"
    assert derived.ask(Base.overridden).result(5) == "derived"


def test_static_and_class_methods_are_messages_too(spawn) -> None:
    counter = spawn(Counter)
    assert counter.ask(Counter.double, 4).result(5) == 8
    assert counter.ask(Counter.of_class).result(5) == "apples"


def test_a_decorated_method_is_called_by_the_name_that_it_has_in_the_class(spawn) -> None:
    def logged(method):
        @functools.wraps(method)
        def wrapper(*args):
            return ("logged", method(*args))

        return wrapper

    class Decorated(Actor):
        @logged
        def work(self, n: int) -> int:
            return n

    assert spawn(Decorated).ask(Decorated.work, 3).result(5) == ("logged", 3)


def test_a_handler_that_returns_a_reply_passes_the_answer_on(spawn) -> None:
    class Forwarder(Actor):
        def forward(self, counter: ActorRef[Counter], amount: int) -> Any:
            return counter.ask(Counter.add, amount)

    assert spawn(Forwarder).ask(Forwarder.forward, spawn(Counter, 5), 2).result(5) == 7


def test_dataclasses_and_generic_classes_are_actors_too(spawn) -> None:
    @dataclasses.dataclass
    class Point(Actor):
        x: int
        y: int = 2

        def total(self) -> int:
            return self.x + self.y

    class Box(Actor, Generic[T]):
        def kind(self) -> str:
            return type(self).__name__

    assert spawn(Point, 1).ask(Point.total).result(5) == 3
    assert spawn(Box[int]).ask(Box.kind).result(5) == "Box"


def test_keyword_arguments_of_the_constructor_go_by_partial(spawn) -> None:
    assert spawn(functools.partial(Counter, 1, step=10)).ask(Counter.add, 1).result(5) == 11
    assert spawn(functools.partial(Counter, step=10), 5).ask(Counter.add, 1).result(5) == 15


def test_a_function_that_makes_an_actor_is_a_factory(spawn) -> None:
    def prepared(start: int) -> Counter:
        return Counter(start, step=3)

    assert spawn(prepared, 1).ask(Counter.add, 1).result(5) == 4


# --- what can be called


@pytest.mark.parametrize("name", ["_private", "__init__", "__class__"])
def test_a_private_method_is_refused_in_the_callers_frame(spawn, name: str) -> None:
    counter = spawn(Counter)
    with pytest.raises(AttributeError, match=f"{name!r} is private"):
        counter.ask(name)
    with pytest.raises(AttributeError, match=f"{name!r} is private"):
        counter.tell(name)


@pytest.mark.parametrize("name", sorted(each for each in vars(Actor) if not each.startswith("_")))
def test_a_name_of_actors_own_is_refused_in_the_callers_frame(spawn, name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name!r} is one of Actor itself"):
        spawn(Counter).ask(name)


def test_hooks_of_a_subclass_cannot_be_called_from_outside(spawn) -> None:
    class Hooked(Actor):
        def on_start(self) -> None:
            pass

    with pytest.raises(AttributeError, match="'on_start' is one of Actor itself"):
        spawn(Hooked).tell(Hooked.on_start)


@pytest.mark.parametrize("name", ["value", "callback", "shown", "Settings", "unit", "missing"])
def test_nothing_but_public_methods_can_be_called(spawn, name: str) -> None:
    """Not attributes (even if they hold something callable), properties, nested classes or what does not exist."""
    counter = spawn(Counter)
    with pytest.raises(AttributeError, match=f"Counter has no public method {name!r}"):
        counter.ask(name).result(5)
    assert counter.ask(Counter.add, 1).result(5) == 1  # and it lives on


def test_a_wrong_number_of_arguments_is_the_handlers_type_error(spawn) -> None:
    counter = spawn(Counter)
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'amount'"):
        counter.ask("add").result(5)
    with pytest.raises(TypeError, match=r"add\(\) takes 2 positional arguments but 3 were given"):
        counter.ask("add", 1, 2).result(5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        counter.ask("add", 1, nonsense=2).result(5)


def test_what_is_not_a_method_is_refused_at_once(spawn) -> None:
    with pytest.raises(TypeError, match="is no method"):
        spawn(Counter).ask(42)


# --- order


def test_messages_of_one_sender_are_handled_in_the_order_sent(spawn) -> None:
    """Tells and asks, sync and async handlers mixed."""
    recorder = spawn(Recorder)
    for number in range(500):
        if number % 3 == 0:
            recorder.tell(Recorder.note, number)
        elif number % 3 == 1:
            recorder.tell(Recorder.note_async, number)
        else:
            recorder.ask(Recorder.note, number)
    assert recorder.ask(Recorder.notes).result(10) == list(range(500))


def test_each_of_several_senders_keeps_its_own_order(spawn) -> None:
    recorder = spawn(Recorder)

    class Sender(Actor):
        def send(self, to: ActorRef[Recorder], me: int, count: int) -> None:
            for number in range(count):
                to.tell(Recorder.note, (me, number))

    senders = [spawn(Sender) for _ in range(3)]
    for sent in [sender.ask(Sender.send, recorder, me, 300) for me, sender in enumerate(senders)]:
        sent.result(20)
    notes = recorder.ask(Recorder.notes).result(10)
    assert len(notes) == 900
    for me in range(3):
        assert [number for sender, number in notes if sender == me] == list(range(300))


def test_one_message_at_a_time_also_when_an_async_handler_waits(spawn, tmp_path: Path) -> None:
    class Careful(Actor):
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        async def slow(self, me: int) -> None:
            self.journal.write("begin", me)
            await asyncio.sleep(0.01)
            self.journal.write("end", me)

    journal = Journal(tmp_path / "journal")
    careful = spawn(Careful, journal)
    for reply in [careful.ask(Careful.slow, me) for me in range(3)]:
        reply.result(5)
    assert journal.rows() == [[word, str(me)] for me in range(3) for word in ("begin", "end")]


class Meeting(Actor):
    """Handlers that end only when so many are there together."""

    concurrency = 3

    def __init__(self) -> None:
        self.there = 0
        self.most = 0
        self.changed = asyncio.Condition()

    async def meet(self, party: int) -> int:
        async with self.changed:
            self.there += 1
            self.most = max(self.most, self.there)
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.most >= party)
        await asyncio.sleep(0)
        self.there -= 1
        return self.most

    def present(self) -> int:
        return self.there

    async def who_after_a_pause(self) -> str | None:
        await asyncio.sleep(0.01)
        sender = self.sender
        return sender.name if sender else None


def test_concurrency_lets_as_many_async_handlers_overlap_and_no_more(spawn) -> None:
    """Three meet only if all three run at once; a fourth waits in the mailbox."""
    meeting = spawn(Meeting)
    assert [reply.result(5) for reply in [meeting.ask(Meeting.meet, 3) for _ in range(3)]] == [3, 3, 3]
    many = [meeting.ask(Meeting.meet, 3) for _ in range(20)]
    assert {reply.result(5) for reply in many} == {3}


def test_a_handler_that_comes_while_others_wait_runs_at_once_if_there_is_room(spawn) -> None:
    meeting = spawn(Meeting)
    waiting = [meeting.ask(Meeting.meet, 3) for _ in range(2)]
    assert until(lambda: meeting.ask(Meeting.present).result(5) == 2, "both wait inside")
    assert not waiting[0].done()
    assert meeting.ask(Meeting.meet, 3).result(5) == 3
    assert [reply.result(5) for reply in waiting] == [3, 3]


def test_overlapping_handlers_know_their_own_senders(spawn) -> None:
    class Asker(Actor):
        async def ask(self, meeting: ActorRef[Meeting]) -> str | None:
            return await meeting.ask(Meeting.who_after_a_pause)

    meeting, first, second = spawn(Meeting), spawn(Asker), spawn(Asker)
    replies = [(asker, asker.ask(Asker.ask, meeting)) for asker in (first, second) for _ in range(3)]
    direct = meeting.ask(Meeting.who_after_a_pause)
    assert [reply.result(5) for _, reply in replies] == [asker.name for asker, _ in replies]
    assert direct.result(5) is None


@pytest.mark.parametrize("value", [0, -1, "2", 1.5, None, True])
def test_a_concurrency_that_makes_no_sense_is_a_spawn_error(system: ActorSystem, value: Any) -> None:
    class Wide(Actor):
        concurrency = value

    with pytest.raises(SpawnError, match=r"Wide\.concurrency must be a whole number from 1 on, not"):
        system.spawn(Wide)


# --- hooks


class Hooked(Actor):
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        journal.write("init")

    def on_start(self) -> None:
        self.journal.write("on_start")

    def on_stop(self, reason: ExitReason) -> None:
        self.journal.write("on_stop", reason.kind)

    def leave(self) -> str:
        self.stop()
        self.journal.write("left")
        return "done"

    def fail(self) -> None:
        raise ValueError("told to fail")

    def where(self) -> int:
        return os.getpid()


class HookedAsync(Hooked):
    async def on_start(self) -> None:
        await asyncio.sleep(0)
        self.journal.write("on_start")

    async def on_stop(self, reason: ExitReason) -> None:
        await asyncio.sleep(0)
        self.journal.write("on_stop", reason.kind)


@pytest.mark.parametrize("kind", [Hooked, HookedAsync])
def test_spawn_returns_once_on_start_has_returned(spawn, tmp_path: Path, kind: type[Hooked]) -> None:
    journal = Journal(tmp_path / "journal")
    spawn(kind, journal)
    assert journal.lines() == ["init", "on_start"]


@pytest.mark.parametrize("kind", [Hooked, HookedAsync])
def test_on_stop_hears_that_the_actor_stopped_itself(spawn, tmp_path: Path, kind: type[Hooked]) -> None:
    """`self.stop()`: after this message, whose asker still gets its answer."""
    journal = Journal(tmp_path / "journal")
    hooked = spawn(kind, journal)
    assert hooked.ask(Hooked.leave).result(5) == "done"
    assert hooked.wait(5) == ExitReason("normal")
    assert journal.lines() == ["init", "on_start", "left", "on_stop normal"]


@pytest.mark.parametrize("kind", [Hooked, HookedAsync])
def test_on_stop_hears_of_a_shutdown(spawn, tmp_path: Path, kind: type[Hooked]) -> None:
    journal = Journal(tmp_path / "journal")
    hooked = spawn(kind, journal)
    hooked.stop()
    assert hooked.wait(5).kind == "shutdown"
    assert journal.lines()[-1] == "on_stop shutdown"


@pytest.mark.parametrize("kind", [Hooked, HookedAsync])
def test_on_stop_hears_of_the_exception_that_ends_the_process(spawn, tmp_path: Path, kind: type[Hooked]) -> None:
    journal = Journal(tmp_path / "journal")
    hooked = spawn(kind, journal, restart="temporary")
    hooked.tell(Hooked.fail)
    reason = hooked.wait(5)
    assert (reason.kind, reason.error) == ("exception", "ValueError: told to fail")
    assert journal.lines()[-1] == "on_stop exception"


def test_on_start_runs_again_in_the_next_incarnation(spawn, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    hooked = spawn(Hooked, journal)
    first = hooked.ask(Hooked.where).result(5)
    hooked.tell(Hooked.fail)
    assert hooked.ask(Hooked.where).result(5) != first
    assert journal.lines() == ["init", "on_start", "on_stop exception", "init", "on_start"]


def test_an_exception_in_a_hook_crashes_the_actor(spawn) -> None:
    class Fragile(Actor):
        def on_stop(self, reason: ExitReason) -> None:
            raise RuntimeError("on_stop failed")

        def leave(self) -> None:
            self.stop()

    fragile = spawn(Fragile, restart="temporary")
    fragile.tell(Fragile.leave)
    reason = fragile.wait(5)
    assert (reason.kind, reason.error) == ("exception", "RuntimeError: on_stop failed")


def test_a_hook_that_raises_in_on_down_crashes_the_actor(spawn) -> None:
    class Watcher(Actor):
        def watch(self, other: ActorRef[Any]) -> None:
            self.monitor(other)

        def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
            raise RuntimeError(f"{ref.name} is gone")

    watcher, other = spawn(Watcher, restart="temporary"), spawn(Counter)
    watcher.ask(Watcher.watch, other).result(5)
    other.stop()
    assert watcher.wait(5).error == f"RuntimeError: {other.name} is gone"

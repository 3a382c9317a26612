"""An actor in the test's own process: real codec, real rules of a handler, nothing around it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import threading
from typing import Any

import pytest

from actors import (
    Actor,
    ActorDied,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorSystem,
    CodecError,
    ExitReason,
    SpawnError,
)
from actors.testing import Local, Sent, local, stub


@dataclasses.dataclass
class Order:
    number: int


class Store(Actor):
    def add(self, item: Any) -> None: ...
    def count(self) -> int: ...  # type: ignore[empty-body]
    async def fetch(self, key: str) -> str: ...  # type: ignore[empty-body]


class Shop(Actor):
    """Uses all that an actor has."""

    def __init__(self, store: ActorRef[Store] | None = None) -> None:
        self.store = store
        self.seen: list[Any] = [("constructor", self.ref.name)]
        self.downs: list[Any] = []

    async def on_start(self) -> None:
        await asyncio.sleep(0)
        self.seen.append("on_start")

    def on_stop(self, reason: ExitReason) -> None:
        self.seen.append(("on_stop", reason.kind))

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        self.downs.append((ref, reason))

    def echo(self, *values: Any, **more: Any) -> Any:
        return values, more

    def same(self, value: Any) -> Any:
        self.kept = value
        return value

    async def later(self, value: int) -> int:
        await asyncio.sleep(0.001)
        return value

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def fail_later(self, text: str) -> None:
        await asyncio.sleep(0)
        raise ValueError(text)

    def order(self, order: Order) -> int:
        assert self.store is not None
        self.store.tell(Store.add, order)
        return self.store.ask(Store.count).result()

    async def order_later(self, key: str) -> str:
        assert self.store is not None
        return await self.store.ask(Store.fetch, key)

    def who(self) -> ActorRef[Any] | None:
        return self.sender

    def leave(self) -> None:
        self.stop()

    def to_myself(self, times: int) -> None:
        self.seen.append(times)
        if times:
            self.ref.tell(Shop.to_myself, times - 1)
            self.seen.append("sent")

    def ask_myself(self) -> Any:
        return self.ref.ask(Shop.who).result()

    def remember(self, what: str) -> None:
        self.seen.append((what, self.sender))

    def set_timers(self) -> None:
        self.after(5.0, self.remember, "after")
        self.ticks = self.every(2.0, self.remember, "every")

    def cancel(self) -> None:
        self.ticks.cancel()

    def soon(self) -> None:
        self.after(0, self.remember, "soon")
        self.seen.append("handler")

    def fail_in(self, seconds: float) -> None:
        self.after(seconds, self.fail, "in a timer")

    def hire(self, name: str | None = None) -> ActorRef[Store]:
        return self.spawn(Store, name=name, restart="temporary")

    async def hire_later(self) -> ActorRef[Any]:
        return await self.spawn_async(Shop, self.store)

    def watch(self, ref: ActorRef[Any]) -> None:
        self.monitor(ref)

    def end(self, ref: ActorRef[Any]) -> None:
        self.link(ref)
        ref.stop()

    def find(self, name: str) -> ActorRef[Any]:
        return self.system.lookup(name)

    def look(self) -> Any:
        return self.system.tree()

    def say(self) -> None:
        self.log.warning("said", number=1)

    def _private(self) -> None: ...


class Plain(Actor):
    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


def test_an_actor_that_never_touches_the_runtime_is_a_plain_object() -> None:
    assert Plain(1).add(2) == 3


def test_a_message_is_handled_when_the_call_returns() -> None:
    plain = local(Plain, 10)
    plain.tell(Plain.add, 5)
    assert plain.ask(Plain.add, 1) == 16
    assert plain.ask("add", amount=1) == 17
    assert plain.instance.value == 17


def test_constructor_and_hooks_run_with_the_runtime_there() -> None:
    shop = local(Shop, name="shop")
    assert shop.instance.seen == [("constructor", "shop"), "on_start"]
    shop.stop()
    assert shop.instance.seen[-1] == ("on_stop", "shutdown")
    assert shop.reason is not None and shop.reason.kind == "shutdown"


def test_values_go_through_the_codec() -> None:
    """What arrives is a copy, equal in type and value."""
    shop, sent = local(Shop), [Order(1), (2, {3})]
    assert shop.ask(Shop.same, sent) == sent
    assert shop.instance.kept == sent
    assert shop.instance.kept is not sent
    assert shop.ask(Shop.echo, 1, b=2) == ((1,), {"b": 2})


def test_what_cant_be_sent_raises_where_it_would() -> None:
    shop = local(Shop)
    with pytest.raises(CodecError, match="lock"):
        shop.tell(Shop.same, threading.Lock())
    with pytest.raises(CodecError, match="lock"):
        local(Shop, threading.Lock())  # type: ignore[arg-type]
    shop.instance.store = threading.Lock()  # type: ignore[assignment]

    class Careless(Shop):
        def result(self) -> Any:
            return threading.Lock()

    with pytest.raises(CodecError, match="the result"):
        local(Careless).ask(Careless.result)


def test_only_public_methods_are_messages() -> None:
    shop = local(Shop)
    for name in ("_private", "on_start", "stop"):
        with pytest.raises(AttributeError, match="can't be called"):
            shop.ask(name)
    with pytest.raises(AttributeError, match="no public method 'missing'"):
        shop.ask("missing")


def test_async_handlers_run_and_may_sleep() -> None:
    shop = local(Shop)
    assert shop.ask(Shop.later, 5) == 5
    with pytest.raises(ValueError, match="late"):
        shop.ask(Shop.fail_later, "late")


async def _in_a_coroutine(shop: Local[Shop]) -> Any:
    assert shop.ask(Shop.echo, 1) == ((1,), {})
    with pytest.raises(RuntimeError, match="make the test a plain function"):
        shop.ask(Shop.later, 1)


def test_in_a_coroutine_what_does_not_wait_works_and_what_waits_says_so() -> None:
    asyncio.run(_in_a_coroutine(local(Shop)))


def test_an_exception_goes_to_the_asker_and_the_actor_lives_on() -> None:
    shop = local(Shop)
    with pytest.raises(ValueError, match="no"):
        shop.ask(Shop.fail, "no")
    assert shop.reason is None
    assert shop.ask(Shop.who) is None


@pytest.mark.parametrize("method", [Shop.fail, Shop.fail_later])
def test_an_exception_in_a_tell_ends_the_actor(method: Any) -> None:
    shop = local(Shop)
    shop.tell(method, "bad")
    assert isinstance(shop.failure, ValueError)
    assert shop.reason == ExitReason("exception", error="ValueError: bad")
    assert shop.instance.seen[-1] == ("on_stop", "exception")
    with pytest.raises(ActorDied, match="ValueError: bad"):
        shop.tell(Shop.who)
    with pytest.raises(ActorDied, match="ValueError: bad"):
        shop.ask(Shop.who)


def test_with_on_error_continue_it_lives_on() -> None:
    shop = local(Shop, on_error="continue")
    shop.tell(Shop.fail, "bad")
    assert shop.reason is None
    assert shop.ask(Shop.who) is None


def test_a_failing_start_is_a_spawn_error_with_its_cause() -> None:
    class Broken(Actor):
        def on_start(self) -> None:
            raise KeyError("missing")

    with pytest.raises(SpawnError, match="KeyError") as raised:
        local(Broken)
    assert isinstance(raised.value.__cause__, KeyError)


def test_what_it_tells_and_asks_is_recorded_and_answered() -> None:
    store = stub(Store, name="store")
    store.answers(Store.count, 3)
    shop = local(Shop, store.ref)
    assert shop.ask(Shop.order, Order(1)) == 3
    assert store.received == [Sent(store.ref, "add", (Order(1),)), Sent(store.ref, "count", asked=True)]
    assert shop.sent == store.received


def test_a_stub_answers_with_an_exception_or_a_function() -> None:
    store = stub(Store)
    shop = local(Shop, store.ref)
    store.calls(Store.fetch, lambda key: key * 2)
    assert shop.ask(Shop.order_later, "ab") == "abab"
    store.raises(Store.fetch, LookupError("ab"))
    with pytest.raises(LookupError, match="ab"):
        shop.ask(Shop.order_later, "ab")


def test_an_ask_that_nobody_answers_says_how_to_answer_it() -> None:
    shop = local(Shop, stub(Store).ref)
    for method, argument in ((Shop.order, Order(1)), (Shop.order_later, "a")):
        with pytest.raises(AssertionError, match=r"nobody answers.*stub\.answers"):
            shop.ask(method, argument)  # type: ignore[arg-type]


def test_the_sender_is_whom_the_test_says_or_the_actor_that_sent() -> None:
    other, shop = stub(Store, name="other"), local(Shop)
    assert shop.ask(Shop.who) is None
    shop.sender = other.ref
    assert shop.ask(Shop.who) == other.ref


def test_a_message_to_itself_comes_after_the_one_in_hand() -> None:
    shop = local(Shop)
    shop.tell(Shop.to_myself, 2)
    assert shop.instance.seen[2:] == [2, "sent", 1, "sent", 0]
    with pytest.raises(AssertionError, match="nobody answers"):  # a deadlock in reality
        shop.ask(Shop.ask_myself)


def test_two_local_actors_speak_to_each_other() -> None:
    first = local(Plain, 1)

    class Friend(Actor):
        def add(self, ref: ActorRef[Plain], amount: int) -> int:
            ref.tell(Plain.add, amount)
            return ref.ask(Plain.add, amount).result()

    assert local(Friend).ask(Friend.add, first.ref, 10) == 21


def test_timers_run_when_the_clock_is_advanced_at_their_times() -> None:
    shop = local(Shop)
    shop.tell(Shop.set_timers)
    shop.clock.advance(1.9)
    assert shop.instance.seen[2:] == []
    shop.clock.advance(4.1)
    assert [what for what, _ in shop.instance.seen[2:]] == ["every", "every", "after", "every"]
    shop.tell(Shop.cancel)
    shop.clock.advance(100)
    assert len(shop.instance.seen) == 6


def test_ten_small_steps_are_one_large_one() -> None:
    """Sums of floats are a little off, and no timer is missed for that."""
    shop = local(Shop)
    shop.tell(Shop.set_timers)
    for _ in range(20):
        shop.clock.advance(0.1)
    assert shop.instance.seen[2:] == [("every", None)]


def test_a_timer_of_no_seconds_comes_after_the_message_in_hand() -> None:
    shop = local(Shop)
    shop.tell(Shop.soon)
    assert shop.instance.seen[2:] == ["handler", ("soon", None)]


def test_an_exception_in_a_timer_ends_the_actor() -> None:
    shop = local(Shop)
    shop.tell(Shop.fail_in, 1.0)
    shop.clock.advance(1.0)
    assert str(shop.failure) == "in a timer"


def test_time_goes_forward_only() -> None:
    with pytest.raises(ValueError, match="forward"):
        local(Shop).clock.advance(-1)


def test_children_are_recorded_and_stubs_stand_for_them() -> None:
    shop = local(Shop, name="shop")
    child = shop.ask(Shop.hire, "store")
    (spawned,) = shop.spawned
    assert (spawned.factory, spawned.args, spawned.stub.ref, child.name) == (Store, (), child, "shop/store")
    assert spawned.options["restart"] == "temporary"
    shop.instance.store = child
    spawned.stub.answers("count", 7)
    assert shop.ask(Shop.order, Order(1)) == 7
    assert shop.ask(Shop.hire_later).name == "shop/shop-1"


def test_the_end_of_a_monitored_actor_is_told_by_the_test() -> None:
    shop, other = local(Shop), stub(Store)
    with pytest.raises(AssertionError, match="does not monitor"):
        shop.down(other.ref)
    shop.tell(Shop.watch, other.ref)
    shop.down(other.ref, ExitReason("normal"))
    assert shop.instance.downs == [(other.ref, ExitReason("normal"))]
    with pytest.raises(AssertionError, match="does not monitor"):  # once
        shop.down(other.ref)


def test_links_and_commands_are_recorded() -> None:
    shop, other = local(Shop), stub(Store)
    shop.tell(Shop.end, other.ref)
    assert shop.acts == [("link", other.ref), ("stop", other.ref)]


def test_lookup_finds_stubs_by_name() -> None:
    shop, other = local(Shop), stub(Store, name="etl/store")
    assert shop.ask(Shop.find, "etl/store") == other.ref
    with pytest.raises(ActorNotFound, match=r"stub\(name="):
        shop.ask(Shop.find, "etl/nobody")


def test_what_needs_a_guardian_is_refused_by_name() -> None:
    with pytest.raises(ActorsError, match="use a real system"):
        local(Shop).ask(Shop.look)


def test_log_lines_are_recorded() -> None:
    shop = local(Shop)
    shop.tell(Shop.say)
    (line,) = shop.logged
    assert (line["event"], line["number"], line["log_level"]) == ("said", 1, "warning")
    assert line["actor"] == shop.ref.address


def test_an_actor_that_leaves_has_ended_after_the_message() -> None:
    with local(Shop) as shop:
        shop.tell(Shop.leave)
        assert shop.reason == ExitReason("normal")
        assert shop.instance.seen[-1] == ("on_stop", "normal")
    assert shop.reason == ExitReason("normal")


def test_outside_of_its_messages_this_process_is_no_actor() -> None:
    shop = local(Shop)
    with pytest.raises(ActorsError, match="only a running actor"):
        assert shop.instance.ref


@pytest.mark.usefixtures("leak_guard")
def test_nothing_is_left_of_local_actors() -> None:
    for _ in range(3):
        shop = local(Shop, stub(Store).ref)
        shop.ask(Shop.later, 1)
    del shop
    gc.collect()


@pytest.mark.usefixtures("leak_guard")
def test_a_fork_leaves_local_actors_as_they_are_and_cuts_real_systems_off() -> None:
    """In the child: a local actor is a copy, the system is the parent's."""
    with ActorSystem() as own, local(Asked) as actor:
        assert actor.ask(Asked.number) == 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                own.tree()
            except ActorsError as error:
                code = 0 if "forked" in str(error) and actor.ask(Asked.number) == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Asked(Actor):
    def number(self) -> int:
        return 1

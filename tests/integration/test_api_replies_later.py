"""Replies in time and in event loops: deadlines of asks, awaiting, cancelled tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, AskTimeout
from kit import Gate, Journal, system_name, until
from kit.worker import Worker

# --- deadlines


def test_using_a_timeout_ends_the_ask_when_it_is_over(spawn, gate: Gate) -> None:
    worker = spawn(Worker, name="slow")
    held = worker.ask(Worker.hold, gate)
    late = worker.using(timeout=0.02).ask(Worker.echo, 1)
    with pytest.raises(AskTimeout, match=f"{worker.address}: echo") as timeout:
        late.result()
    assert isinstance(timeout.value, TimeoutError)
    assert late.done()
    gate.open()
    held.result(5)


def test_an_expired_call_is_not_handled(spawn, journal: Journal, gate: Gate) -> None:
    worker = spawn(Worker, journal)
    held = worker.ask(Worker.hold, gate)
    expired = worker.using(timeout=0.01).ask(Worker.note, "expired")
    with pytest.raises(AskTimeout):
        expired.result()
    gate.open()
    held.result(5)
    worker.ask(Worker.note, "after").result(5)
    assert journal.lines() == ["after"]


def test_a_call_that_expires_unseen_is_not_handled_either(spawn, journal: Journal, gate: Gate) -> None:
    """Nobody waits for the reply: the deadline travels with the call and is looked at where it would be handled."""
    worker = spawn(Worker, journal)
    held = worker.ask(Worker.hold, gate)
    unseen = worker.using(timeout=0.01).ask(Worker.note, "unseen")
    threading.Event().wait(0.02)
    gate.open()
    held.result(5)
    worker.ask(Worker.note, "after").result(5)
    assert journal.lines() == ["after"]
    assert isinstance(unseen.exception(5), AskTimeout)


def test_a_deadline_cancels_an_async_handler_that_runs(spawn, journal: Journal) -> None:
    worker = spawn(Worker, journal)
    with pytest.raises(AskTimeout):
        worker.using(timeout=0.05).ask(Worker.linger, "x").result()
    journal.until("cancelled", "x")
    assert worker.ask(Worker.echo, 1).result(5) == 1


def test_a_deadline_is_kept_for_callbacks_and_futures_too(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    held = worker.ask(Worker.hold, gate)
    future = worker.using(timeout=0.02).ask(Worker.echo, 1).future()
    with pytest.raises(AskTimeout):
        future.result(5)
    called = threading.Event()
    worker.using(timeout=0.02).ask(Worker.echo, 1).add_done_callback(lambda _: called.set())
    assert called.wait(5)
    gate.open()
    held.result(5)


def test_a_deadline_is_kept_by_done_too(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    held = worker.ask(Worker.hold, gate)
    reply = worker.using(timeout=0.01).ask(Worker.echo, 1)
    until(reply.done, "it expired")
    assert isinstance(reply.exception(0), AskTimeout)
    gate.open()
    held.result(5)


def test_a_deadline_is_kept_for_callbacks_inside_an_actor(spawn, gate: Gate) -> None:
    class Asker(Actor):
        async def expire(self, other: ActorRef[Worker]) -> str:
            return type(await asyncio.wrap_future(self._asked(other)).exception()).__name__

        def _asked(self, other: ActorRef[Worker]) -> concurrent.futures.Future[Any]:
            return other.using(timeout=0.02).ask(Worker.echo, 1).future()

        async def expired(self, other: ActorRef[Worker]) -> str:
            try:
                return str(await asyncio.wrap_future(self._asked(other)))
            except Exception as error:
                return type(error).__name__

    worker = spawn(Worker)
    held = worker.ask(Worker.hold, gate)
    assert spawn(Asker).ask(Asker.expired, worker).result(5) == "AskTimeout"
    gate.open()
    held.result(5)


def test_a_deadline_longer_than_the_answer_changes_nothing(spawn) -> None:
    worker = spawn(Worker)
    assert worker.using(timeout=30).ask(Worker.echo, 1).result() == 1
    assert worker.using(timeout=30).ask(Worker.echo_later, 1).result() == 1
    assert worker.using().ask(Worker.echo, 1).result() == 1


def test_ask_timeout_of_the_system_is_the_default_deadline_also_for_its_actors(leak_guard, tmp_path: Path) -> None:
    class Asker(Actor):
        def ask_it(self, other: ActorRef[Worker]) -> str:
            try:
                return str(other.ask(Worker.echo, 1).result())
            except AskTimeout:
                return "timeout"

    gate = Gate(tmp_path / "gate")
    with ActorSystem(system_name("short"), ask_timeout=0.05) as system:
        worker, asker = system.spawn(Worker), system.spawn(Asker)
        held = worker.using(timeout=30).ask(Worker.hold, gate)
        with pytest.raises(AskTimeout):
            worker.ask(Worker.echo, 1).result()
        assert asker.using(timeout=30).ask(Asker.ask_it, worker).result() == "timeout"
        gate.open()
        assert held.result() == "held"


def test_without_a_deadline_an_ask_waits_while_its_callee_lives(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    reply = worker.ask(Worker.hold, gate)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(reply.exception()))
    thread.start()
    until(lambda: worker.info()["busy_since"], "it is in hand")
    worker.kill()
    thread.join(5)
    assert isinstance(got[0], ActorDied)


# --- asyncio


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def test_await_gives_value_and_exception(spawn) -> None:
    worker = spawn(Worker)

    async def main() -> None:
        assert await worker.ask(Worker.echo, 1) == 1
        reply = worker.ask(Worker.echo_later, 2)
        assert await reply == 2
        assert await reply == 2
        with pytest.raises(KeyError):
            await worker.ask(Worker.fail, "why")

    run(main)


def test_a_coroutine_that_only_asks_lets_its_loop_turn(spawn) -> None:
    """Answers that are there at once need no turn; other tasks, timers and descriptors do."""
    worker = spawn(Worker)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = os.pipe()
        seen: list[str] = []
        loop.call_later(0, seen.append, "timer")
        loop.add_reader(ours, lambda: (seen.append("descriptor"), loop.remove_reader(ours)))
        other = asyncio.ensure_future(asyncio.sleep(0))
        os.write(theirs, b"x")
        for _ in range(200):
            await worker.ask(Worker.echo, 1)
        assert other.done()
        assert sorted(seen) == ["descriptor", "timer"]
        os.close(ours)
        os.close(theirs)

    run(main)


def test_result_in_a_coroutine_raises_await_it(spawn) -> None:
    worker = spawn(Worker)

    async def main() -> None:
        reply = worker.ask(Worker.echo_later, 1)
        with pytest.raises(RuntimeError, match="in a coroutine, await it"):
            reply.result()
        with pytest.raises(RuntimeError, match="in a coroutine, await it"):
            reply.exception(5)
        assert await reply == 1
        assert reply.result() == 1  # there is nothing to wait for any more

    run(main)


def test_gather_wait_for_shield_and_task_groups_take_replies(spawn, gate: Gate) -> None:
    worker, held = spawn(Worker), spawn(Worker)

    async def main() -> None:
        assert await asyncio.gather(*[worker.ask(Worker.echo, n) for n in range(50)]) == list(range(50))
        assert await asyncio.wait_for(worker.ask(Worker.echo, 1), 5) == 1
        assert await asyncio.shield(worker.ask(Worker.echo, 2)) == 2
        holding = held.ask(Worker.hold, gate)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held.ask(Worker.echo, 3), 0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await held.ask(Worker.echo, 3)

        async def ask(number: int) -> int:
            return await worker.ask(Worker.echo_later, number)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(n)) for n in range(20)]
        assert [task.result() for task in tasks] == list(range(20))
        results = await asyncio.gather(worker.ask(Worker.fail, "x"), worker.ask(Worker.echo, 4), return_exceptions=True)
        assert isinstance(results[0], KeyError)
        assert results[1] == 4
        assert [await each for each in asyncio.as_completed([worker.ask(Worker.echo, 5)])] == [5]
        await asyncio.to_thread(gate.open)
        assert await holding == "held"

    run(main)


def test_cancelling_the_awaiting_task_drops_a_queued_call(spawn, journal: Journal, gate: Gate) -> None:
    worker = spawn(Worker, journal)

    async def main() -> None:
        held = worker.ask(Worker.hold, gate)
        task = asyncio.ensure_future(worker.ask(Worker.note, "dropped"))
        await asyncio.to_thread(until, lambda: worker.info()["mailbox"]["depth"] == 2, "it waits")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(gate.open)
        await held
        await worker.ask(Worker.note, "after")

    run(main)
    assert journal.lines() == ["after"]


def test_cancelling_the_awaiting_task_cancels_a_running_async_handler(spawn, journal: Journal) -> None:
    worker = spawn(Worker, journal)

    async def main() -> None:
        task = asyncio.ensure_future(worker.ask(Worker.linger, "t"))
        await asyncio.to_thread(journal.until, "begin", "t")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    journal.until("cancelled", "t")
    assert worker.ask(Worker.echo, 1).result(5) == 1


def test_a_timeout_around_await_cancels_the_handler(spawn, journal: Journal) -> None:
    worker = spawn(Worker, journal)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.ask(Worker.linger, "w"), 0.05)

    run(main)
    journal.until("cancelled", "w")


def test_awaiting_a_cancelled_reply_raises_cancelled_error(spawn, gate: Gate) -> None:
    worker = spawn(Worker)

    async def main() -> None:
        held = worker.ask(Worker.hold, gate)
        reply = worker.ask(Worker.echo, 1)
        reply.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reply
        await asyncio.to_thread(gate.open)
        await held

    run(main)


def test_a_deadline_is_kept_for_await(spawn, gate: Gate) -> None:
    worker = spawn(Worker)

    async def main() -> None:
        held = worker.ask(Worker.hold, gate)
        with pytest.raises(AskTimeout):
            await worker.using(timeout=0.02).ask(Worker.echo, 1)
        await asyncio.to_thread(gate.open)
        await held

    run(main)


def test_a_reply_may_be_awaited_by_several_tasks_and_waited_for_by_a_thread(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    reply = worker.ask(Worker.hold, gate)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(reply.result(5)))
    thread.start()

    async def main() -> list[Any]:
        async def one() -> Any:
            return await reply

        tasks = [asyncio.ensure_future(one()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.open)
        return await asyncio.gather(*tasks)

    assert run(main) == ["held"] * 3
    thread.join(5)
    assert got == ["held"]


def test_a_loop_that_was_closed_does_not_disturb_the_next(spawn, gate: Gate) -> None:
    worker = spawn(Worker)

    async def first() -> None:
        task = asyncio.ensure_future(worker.ask(Worker.hold, gate))
        await asyncio.to_thread(until, lambda: worker.info()["busy_since"], "it is in hand")
        assert not task.done()  # it is cancelled when the loop ends

    run(first)
    gate.open()

    async def second() -> Any:
        return await worker.ask(Worker.echo, 2)

    for _ in range(3):
        assert run(second) == 2
    assert worker.ask(Worker.echo, 3).result(5) == 3

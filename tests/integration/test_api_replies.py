"""Replies: the answer of an ask, blocking, by callback, as a future; cancelled, never lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import traceback
from typing import Any

import pytest

from actors import ActorSystem, AskTimeout, Reply
from kit import Gate, Journal, until
from kit.worker import Worker

# --- result, exception, done


def test_result_gives_the_value_and_again(spawn) -> None:
    reply = spawn(Worker).ask(Worker.echo, {"a": (1, 2)})
    assert isinstance(reply, Reply)
    assert reply.result(timeout=5) == {"a": (1, 2)}
    assert reply.result() is reply.result()
    assert reply.done()


def test_none_is_a_result(spawn) -> None:
    reply = spawn(Worker).ask(Worker.echo, None)
    assert reply.result(5) is None
    assert reply.exception(0) is None


def test_result_with_a_timeout_raises_and_the_reply_stays_good(spawn, gate: Gate) -> None:
    reply = spawn(Worker).ask(Worker.hold, gate)
    with pytest.raises(AskTimeout, match=r"hold: no answer within 0\.01 s") as timeout:
        reply.result(0.01)
    assert isinstance(timeout.value, TimeoutError)
    with pytest.raises(AskTimeout):
        reply.result(0)
    with pytest.raises(AskTimeout):
        reply.exception(0.01)
    assert not reply.done()
    assert reply.running()
    gate.open()
    assert reply.result(5) == "held"
    assert not reply.running()


def test_exception_gives_what_result_raises(spawn) -> None:
    worker = spawn(Worker)
    error = worker.ask(Worker.fail, "why").exception(5)
    assert isinstance(error, KeyError)
    assert error.args == ("why",)
    assert worker.ask(Worker.echo, 1).exception(5) is None


def test_an_exception_arrives_in_its_own_type_with_the_remote_traceback(spawn) -> None:
    with pytest.raises(KeyError) as error:
        spawn(Worker).ask(Worker.fail, "why").result(5)
    shown = "".join(traceback.format_exception(error.value))
    assert "raise KeyError(text)" in shown  # the line in the actor
    assert "in fail" in shown


def test_the_actor_lives_on_after_an_exception_in_an_ask(spawn) -> None:
    worker = spawn(Worker)
    for _ in range(3):
        with pytest.raises(KeyError):
            worker.ask(Worker.fail, "why").result(5)
    assert worker.info()["incarnation"] == 1


def test_done_never_blocks_and_becomes_true_without_being_waited_for(spawn, gate: Gate) -> None:
    reply = spawn(Worker).ask(Worker.hold, gate)
    assert not reply.done()
    gate.open()
    until(reply.done, "the answer came")
    assert reply.result(0) == "held"


def test_a_reply_shows_what_was_asked_and_its_state(spawn) -> None:
    worker = spawn(Worker, name="shown")
    reply = worker.ask(Worker.echo, 1)
    reply.result(5)
    assert repr(reply) == f"<Reply {worker.address}: echo value>"


def test_an_answer_that_nobody_reads_harms_nothing(spawn) -> None:
    worker = spawn(Worker)
    for number in range(100):
        worker.ask(Worker.echo, number)
    assert worker.ask(Worker.echo, "last").result(5) == "last"


# --- callbacks and futures


def test_a_callback_is_called_once_with_the_reply(spawn, gate: Gate) -> None:
    called: list[Reply[Any]] = []
    done = threading.Event()
    reply = spawn(Worker).ask(Worker.hold, gate)
    reply.add_done_callback(called.append)
    reply.add_done_callback(lambda _: done.set())
    assert called == []
    gate.open()
    assert done.wait(5)  # nobody calls result()
    assert called == [reply]
    assert called[0].result(0) == "held"


def test_a_callback_added_late_is_called_at_once(spawn) -> None:
    reply = spawn(Worker).ask(Worker.echo, 1)
    reply.result(5)
    called: list[Reply[Any]] = []
    reply.add_done_callback(called.append)
    assert called == [reply]


def test_a_callback_that_raises_does_not_stop_the_others(spawn, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    reply = spawn(Worker).ask(Worker.hold, gate)
    reply.add_done_callback(lambda _: 1 / 0)
    reply.add_done_callback(lambda _: done.set())
    gate.open()
    assert done.wait(5)
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_ask_spawn_and_wait(system: ActorSystem, spawn) -> None:
    """It runs in the reader thread, which goes on listening meanwhile."""
    got: list[Any] = []
    done = threading.Event()

    def use_everything(reply: Reply[Any]) -> None:
        try:
            child = system.spawn(Worker)
            got.append(child.ask(Worker.echo, "from the callback").result(5))
            child.stop()
            got.append(child.wait(5).kind)
        except BaseException as error:
            got.append(error)
        done.set()

    worker = spawn(Worker)
    worker.ask(Worker.echo, 1).add_done_callback(use_everything)
    assert done.wait(10)
    assert got == ["from the callback", "shutdown"]


def test_a_callback_that_waits_for_another_thread_which_asks_the_guardian_does_not_hang(
    system: ActorSystem, spawn
) -> None:
    got: list[Any] = []
    done = threading.Event()

    def delegate(_: Reply[Any]) -> None:
        thread = threading.Thread(target=lambda: got.append(system.tree()["system"]))
        thread.start()
        thread.join(10)
        done.set()

    spawn(Worker).ask(Worker.echo, 1).add_done_callback(delegate)
    assert done.wait(10)
    assert got == [system.name]


def test_a_callback_that_exits_harms_nobody(spawn) -> None:
    def leave(_: Reply[Any]) -> None:
        raise SystemExit

    worker, gate_passed = spawn(Worker), threading.Event()
    worker.ask(Worker.echo_later, 1).add_done_callback(leave)
    worker.ask(Worker.echo_later, 2).add_done_callback(lambda _: gate_passed.set())
    assert gate_passed.wait(5)
    assert spawn(Worker).ask(Worker.echo, 3).result(5) == 3


def test_future_is_a_real_future(spawn, gate: Gate) -> None:
    worker, other = spawn(Worker), spawn(Worker)
    held = worker.ask(Worker.hold, gate).future()
    quick = [other.ask(Worker.echo, number).future() for number in range(5)]
    failing = other.ask(Worker.fail, "why").future()
    assert isinstance(held, concurrent.futures.Future)
    done, pending = concurrent.futures.wait(
        [held, *quick, failing], timeout=5, return_when=concurrent.futures.FIRST_EXCEPTION
    )
    assert failing in done
    assert held in pending
    assert [future.result(5) for future in quick] == list(range(5))
    gate.open()
    assert {future.result() for future in concurrent.futures.as_completed([held, *quick], timeout=5)} == {
        "held",
        0,
        1,
        2,
        3,
        4,
    }
    with pytest.raises(KeyError):
        failing.result(0)


def test_cancelling_the_future_cancels_the_call(spawn, journal: Journal, gate: Gate) -> None:
    worker = spawn(Worker, journal)
    held = worker.ask(Worker.hold, gate)
    reply = worker.ask(Worker.note, "cancelled")
    future = reply.future()
    assert future.cancel()
    assert reply.cancelled()
    gate.open()
    held.result(5)
    assert worker.ask(Worker.note, "after").result(5) == "after"
    assert journal.lines() == ["after"]
    assert future in concurrent.futures.wait([future], timeout=5).done


def test_cancelling_the_reply_cancels_its_futures(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    held = worker.ask(Worker.hold, gate)
    reply = worker.ask(Worker.echo, 1)
    future = reply.future()
    assert reply.cancel()
    assert future in concurrent.futures.wait([future], timeout=5).done
    assert future.cancelled()
    gate.open()
    held.result(5)


def test_a_future_can_be_wrapped_for_asyncio(spawn) -> None:
    async def main() -> Any:
        return await asyncio.wrap_future(spawn(Worker).ask(Worker.echo, 5).future())

    assert asyncio.run(main()) == 5


# --- cancel


def test_cancel_drops_a_queued_call(spawn, journal: Journal, gate: Gate) -> None:
    worker = spawn(Worker, journal)
    held = worker.ask(Worker.hold, gate)
    replies = [worker.ask(Worker.note, str(number)) for number in range(4)]
    assert replies[1].cancel()
    assert replies[2].cancel()
    assert not replies[2].cancel()  # it has ended already
    assert replies[1].cancelled()
    assert replies[1].done()
    with pytest.raises(concurrent.futures.CancelledError):
        replies[1].result(5)
    with pytest.raises(concurrent.futures.CancelledError):
        replies[1].exception(5)
    gate.open()
    held.result(5)
    assert replies[3].result(5) == "3"
    assert journal.lines() == ["0", "3"]


def test_cancel_cancels_a_running_async_handler_and_the_actor_lives(spawn, journal: Journal) -> None:
    worker = spawn(Worker, journal)
    reply = worker.ask(Worker.linger, "a")
    journal.until("begin", "a")
    assert reply.cancel()
    journal.until("cancelled", "a")
    assert worker.ask(Worker.echo, 1).result(5) == 1
    assert worker.info()["incarnation"] == 1


def test_cancel_reaches_through_the_asks_of_the_handler(spawn, journal: Journal) -> None:
    first, second = spawn(Worker, journal), spawn(Worker, journal)
    reply = first.ask(Worker.linger_through, second, "far")
    journal.until("begin", "far")
    reply.cancel()
    journal.until("cancelled", "far")
    assert first.ask(Worker.echo, 1).result(5) == 1
    assert second.ask(Worker.echo, 2).result(5) == 2


def test_a_sync_handler_runs_to_its_end_and_its_late_answer_is_dropped(spawn, gate: Gate) -> None:
    worker = spawn(Worker)
    reply = worker.ask(Worker.hold, gate)
    until(lambda: worker.info()["busy_since"], "it is in hand")
    assert reply.cancel()
    gate.open()
    assert worker.ask(Worker.echo, 1).result(5) == 1
    with pytest.raises(concurrent.futures.CancelledError):
        reply.result(0)


def test_a_handler_may_refuse_to_be_cancelled_and_the_next_one_is_not_harmed(spawn, journal: Journal) -> None:
    worker = spawn(Worker, journal)
    for _ in range(2):
        reply = worker.ask(Worker.deny_cancellation)
        journal.until("begin", times=1)
        reply.cancel()
        assert worker.ask(Worker.echo_later, 1).result(5) == 1
    reply = worker.ask(Worker.linger, "last")
    journal.until("begin", "last")
    reply.cancel()
    journal.until("cancelled", "last")
    assert worker.ask(Worker.echo, 2).result(5) == 2


def test_cancelling_what_has_ended_says_so(spawn) -> None:
    reply = spawn(Worker).ask(Worker.echo, 1)
    assert reply.result(5) == 1
    assert not reply.cancel()
    assert not reply.cancelled()
    assert reply.result() == 1


def test_cancel_races_with_the_answer_and_either_wins(spawn) -> None:
    """Whatever comes first, the actor lives and later calls are right."""
    worker = spawn(Worker)
    for number in range(300):
        reply = worker.ask(Worker.echo_later, number)
        if reply.cancel():
            with pytest.raises(concurrent.futures.CancelledError):
                reply.result(5)
        else:
            assert reply.result(5) == number
    assert worker.ask(Worker.echo, "after").result(5) == "after"
    assert worker.info()["incarnation"] == 1


def test_thousands_of_cancelled_calls_leave_no_slot_taken(system: ActorSystem, spawn) -> None:
    worker = spawn(Worker)
    for number in range(3000):
        worker.ask(Worker.echo, number).cancel()
    worker.ask(Worker.echo, "after").result(5)
    until(lambda: worker.ask(Worker.echo, 0).result(5) == 0 and not system._client.endpoint.table, "all slots are free")

"""Replies without a system: one outcome, callbacks that run once, whatever comes between."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

from actors import ActorDied, AskTimeout, ExitReason, RemoteError, Reply, SpawnError, SystemDied, wire
from actors.codec import encode
from actors.failures import encode_error
from actors.message import Kind
from actors.reply import _MISSING, NEVER, died
from actors.transports._ring import ReplyBase


class Endpoint:
    """The receiving side, as far as a reply needs it."""

    def __init__(self) -> None:
        self.table: dict[int, Any] = {}
        self.watched: list[Any] = []

    def watch(self, reply: Any) -> None:
        self.watched.append(reply)

    def pump(self) -> None:
        pass

    def elsewhere(self, call: Any) -> bool:
        return False


class Client:
    """The connection, as far as a reply needs it."""

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        self.withdrawn: list[Any] = []
        self.gone = None

    def address(self, name: str) -> str:
        return f"actor://unit/{name}"

    def withdraw(self, reply: Any) -> None:
        self.withdrawn.append(reply)

    def cycle(self, uid: int) -> str:
        return ""


@pytest.fixture
def reply() -> Reply[Any]:
    pending: Reply[Any] = Reply()
    client: Any = Client()
    pending.client, pending.uid, pending.label, pending.deadline = client, 5, ("worker", "work"), 0
    pending.got, pending.position, pending.corr = _MISSING, NEVER, 77
    client.endpoint.table[77] = pending
    return pending


def fill(reply: ReplyBase, kind: int, body: bytes = b"", flags: int = 0) -> None:
    """As the collector does it: kind last, then callbacks."""
    reply.body, reply.flags, reply.kind = body, flags, int(kind)
    if reply.cbs:
        reply.run_callbacks()  # type: ignore[attr-defined]


def test_a_value_is_decoded_once(reply: Reply[Any]) -> None:
    fill(reply, Kind.VALUE, *encode([1, (2, 3)]))
    assert reply.result(0) == [1, (2, 3)]
    assert reply.result(0) is reply.result(0)
    assert reply.exception(0) is None


def test_an_error_is_raised_again_and_again(reply: Reply[Any]) -> None:
    fill(reply, Kind.ERROR, *encode_error(KeyError("why")))
    for _ in range(2):
        with pytest.raises(KeyError, match="why"):
            reply.result(0)
    assert isinstance(reply.exception(0), KeyError)


def test_an_error_that_could_not_be_sent_says_who_raised_it(reply: Reply[Any]) -> None:
    error = ValueError("holds a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    fill(reply, Kind.ERROR, *encode_error(error))
    with pytest.raises(RemoteError, match="actor://unit/worker: work: ValueError: holds a lock"):
        reply.result(0)


def test_a_death_says_who_why_and_whether_it_comes_back(reply: Reply[Any]) -> None:
    said = {"uid": 5, "name": "worker", "reason": ExitReason("exit", code=3).to_wire(), "restarting": True, "begun": 1}
    fill(reply, Kind.DIED, wire.dumps(said))
    with pytest.raises(
        ActorDied, match=r"actor://unit/worker: work: its incarnation died \(exited with code 3\)"
    ) as error:
        reply.result(0)
    assert (error.value.reason, error.value.restarting) == (ExitReason("exit", code=3), True)


def test_the_end_of_the_system_is_a_death_too() -> None:
    assert isinstance(died("x", {"system": "demo", "text": "its guardian ended"}), SystemDied)
    assert died("x", {"reason": None}).reason is None


def test_a_refusal_of_the_guardian_has_its_own_type(reply: Reply[Any]) -> None:
    fill(reply, Kind.REFUSED, wire.dumps(["SpawnError", "it did not start"]))
    with pytest.raises(SpawnError, match="it did not start"):
        reply.result(0)


def test_cancel_ends_it_withdraws_the_call_and_leaves_a_stand_in(reply: Reply[Any]) -> None:
    assert reply.cancel()
    assert reply.cancelled()
    assert not reply.cancel()
    client: Any = reply.client
    assert client.withdrawn == [reply]
    assert client.endpoint.table[77] is not reply
    fill(client.endpoint.table[77], Kind.VALUE, *encode("late"))
    with pytest.raises(concurrent.futures.CancelledError):
        reply.result(0)


def test_a_deadline_that_has_passed_ends_it(reply: Reply[Any]) -> None:
    reply.deadline, reply.seconds = 1, 0.5  # long ago
    assert reply.done()
    with pytest.raises(AskTimeout, match=r"actor://unit/worker: work: no answer within 0\.5 s"):
        reply.result(0)
    client: Any = reply.client
    assert client.withdrawn == [reply]


def test_the_first_outcome_stays(reply: Reply[Any]) -> None:
    fill(reply, Kind.VALUE, *encode(1))
    assert not reply.cancel()
    reply.deadline = 1
    reply.expire()
    assert reply.result(0) == 1


def test_callbacks_run_once_in_order_and_late_ones_at_once(reply: Reply[Any]) -> None:
    called: list[Any] = []
    reply.add_done_callback(lambda each: called.append(("first", each)))
    reply.add_done_callback(lambda each: called.append(("second", each)))
    assert called == []
    fill(reply, Kind.VALUE, *encode(1))
    reply.run_callbacks()
    reply.add_done_callback(lambda each: called.append(("late", each)))
    assert called == [("first", reply), ("second", reply), ("late", reply)]


def test_who_wants_a_callback_makes_somebody_watch(reply: Reply[Any]) -> None:
    reply.add_done_callback(lambda _: None)
    client: Any = reply.client
    assert client.endpoint.watched == [reply]


def test_many_threads_that_run_callbacks_run_each_once(reply: Reply[Any]) -> None:
    called: list[int] = []
    for number in range(200):
        reply.add_done_callback(lambda _, number=number: called.append(number))  # type: ignore[misc]
    reply.body, reply.flags = encode(1)
    reply.kind = int(Kind.VALUE)
    threads = [threading.Thread(target=reply.run_callbacks) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(called) == list(range(200))


def test_a_callback_that_a_signal_handler_interrupts_keeps_none_of_the_others_from_running(reply: Reply[Any]) -> None:
    """A future is settled all the same: its callback is ours and runs again."""
    interrupted: list[int] = []

    def interrupt(_: Any) -> None:
        interrupted.append(1)
        raise KeyboardInterrupt

    reply.add_done_callback(interrupt)
    future = reply.future()
    called: list[Any] = []
    reply.add_done_callback(called.append)
    with pytest.raises(KeyboardInterrupt):
        fill(reply, Kind.VALUE, *encode("there"))
    reply.run_callbacks()
    assert future.result(0) == "there"
    assert called == [reply]
    assert interrupted == [1]


def test_a_callback_for_a_closed_loop_is_dropped(reply: Reply[Any]) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()

    async def wait() -> None:
        reply._call(lambda _: None, asyncio.get_running_loop())

    asyncio.run(main())
    fill(reply, Kind.VALUE, *encode(1))
    assert reply.result(0) == 1

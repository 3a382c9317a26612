"""Named mailboxes as programs use them: what `queue.Queue` promises, between processes, and what it does not have."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorsError, ActorSystem, CodecError, Mailbox, MailboxClosed, SpecError
from kit import Waiting, system_name
from kit.program import Program

Spawn = Callable[..., Any]

Box = Mailbox[Any]
names = iter(range(1_000_000))


@pytest.fixture
def box(system: ActorSystem) -> Iterator[Box]:
    """A new mailbox for each test."""
    made: Box = system.mailbox(f"box-{next(names)}")
    yield made
    made.close()


@pytest.fixture
def small(system: ActorSystem) -> Iterator[Box]:
    """One that has room for two messages."""
    made: Box = system.mailbox(f"box-{next(names)}", maxsize=2)
    yield made
    made.close()


class Worker(Actor):
    def drain(self, box: Box) -> list[Any]:
        return list(box)

    async def drain_async(self, box: Box) -> list[Any]:
        return [item async for item in box]

    def put(self, box: Box, *items: Any) -> None:
        for item in items:
            box.put(item)

    def same(self, box: Box) -> Box:
        return box


# --- what queue.Queue promises


def test_first_in_is_first_out(box: Box) -> None:
    for item in range(5):
        box.put(item)
    assert [box.get() for _ in range(5)] == list(range(5))


def test_size_empty_and_full_tell_what_waits(small: Box) -> None:
    assert (small.qsize(), small.empty(), small.full(), small.maxsize) == (0, True, False, 2)
    small.put(1)
    assert (small.qsize(), small.empty(), small.full()) == (1, False, False)
    small.put(2)
    assert (small.qsize(), small.empty(), small.full()) == (2, False, True)


def test_nowait_raises_full_and_empty(small: Box) -> None:
    small.put_nowait(1)
    small.put_nowait(2)
    with pytest.raises(queue.Full, match=r"2 messages wait \(maxsize\)"):
        small.put_nowait(3)
    assert [small.get_nowait(), small.get_nowait()] == [1, 2]
    with pytest.raises(queue.Empty, match="is empty"):
        small.get_nowait()


def test_a_timeout_is_waited_for_and_then_full_or_empty(small: Box) -> None:
    start = time.monotonic()
    with pytest.raises(queue.Empty):
        small.get(timeout=0.05)
    small.put(1)
    small.put(2)
    with pytest.raises(queue.Full, match=r"for 0\.05 s"):
        small.put(3, timeout=0.05)
    assert time.monotonic() - start >= 0.1


def test_a_negative_timeout_is_a_value_error_also_where_nothing_had_to_be_waited_for(box: Box) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        box.put(1, timeout=-1)
    box.put(1)
    with pytest.raises(ValueError, match="non-negative"):
        box.get(timeout=-1)
    assert box.get(False, -1) == 1, "without blocking it is ignored"


def test_a_put_that_waits_goes_on_when_there_is_room(small: Box) -> None:
    small.put(1)
    small.put(2)
    waiting = Waiting(lambda: small.put(3))
    assert waiting.waits()
    assert small.get() == 1
    assert waiting.result() is None
    assert [small.get(), small.get()] == [2, 3]


def test_a_get_that_waits_goes_on_when_there_is_something(box: Box) -> None:
    waiting = Waiting(box.get)
    assert waiting.waits()
    box.put("it")
    assert waiting.result() == "it"


def test_each_of_several_that_wait_gets_one(box: Box) -> None:
    waiting = [Waiting(box.get) for _ in range(4)]
    assert all(each.waits() for each in waiting)
    for item in range(4):
        box.put(item)
    assert sorted(each.result() for each in waiting) == [0, 1, 2, 3]


def test_task_done_more_often_than_put_is_a_value_error(box: Box) -> None:
    box.put(1)
    box.get()
    box.task_done()
    with pytest.raises(ValueError, match="too many times"):
        box.task_done()


def test_join_waits_until_everything_is_done(box: Box) -> None:
    box.join()
    box.put(1)
    box.put(2)
    waiting = Waiting(box.join)
    box.get()
    box.task_done()
    assert waiting.waits()
    with pytest.raises(TimeoutError, match="not everything"):
        box.join(timeout=0.01)
    with box.take():
        assert waiting.waits()
    assert waiting.result() is None


def test_after_close_puts_fail_and_gets_drain_then_end(box: Box) -> None:
    box.put(1)
    box.close()
    box.close()
    with pytest.raises(MailboxClosed, match="is closed; nothing can be put"):
        box.put(2)
    assert box.get() == 1
    for get in (box.get, box.get_nowait, lambda: box.get(timeout=5)):
        with pytest.raises(MailboxClosed, match="nothing is left"):
            get()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queue.ShutDown is new in 3.13")
def test_closed_is_shut_down(box: Box) -> None:
    box.close()
    with pytest.raises(queue.ShutDown):  # type: ignore[attr-defined,unused-ignore]
        box.get()


def test_close_frees_those_who_wait(system: ActorSystem, small: Box, box: Box) -> None:
    small.put(1)
    small.put(2)
    waiting = [Waiting(lambda: small.put(3)), Waiting(box.get), Waiting(lambda: list(box))]
    assert all(each.waits() for each in waiting)
    small.close()
    box.close()
    put, got, iterated = (each.result() for each in waiting)
    assert isinstance(put, MailboxClosed)
    assert isinstance(got, MailboxClosed)
    assert iterated == []


def test_an_item_that_cannot_be_sent_raises_where_it_is_put(box: Box) -> None:
    with pytest.raises(CodecError, match="lock"):
        box.put({"it": threading.Lock()})
    assert box.empty()


# --- between processes


def test_many_producers_and_competing_consumers_share_the_work(spawn: Spawn, box: Box) -> None:
    drained = [spawn(Worker).ask(method, box) for method in (Worker.drain, Worker.drain, Worker.drain_async)]
    putting = [spawn(Worker).ask(Worker.put, box, *range(start, start + 300)) for start in (0, 1000, 2000)]
    for reply in putting:
        reply.result(timeout=20)
    box.close()
    got = [reply.result(timeout=20) for reply in drained]
    assert sorted(itertools.chain.from_iterable(got)) == [*range(300), *range(1000, 1300), *range(2000, 2300)]
    for each in got:
        for start in (0, 1000, 2000):
            of_one = [item for item in each if start <= item < start + 300]
            assert of_one == sorted(of_one), "each consumer sees a producer's messages in order"


def test_a_mailbox_is_a_value_that_is_sent_and_pickled(spawn: Spawn, box: Box) -> None:
    box.put(1)
    for other in (spawn(Worker).ask(Worker.same, box).result(timeout=10), pickle.loads(pickle.dumps(box))):
        assert (other, hash(other), repr(other)) == (box, hash(box), repr(box))
        assert other.qsize() == 1


@pytest.mark.parametrize("size", [0, 1, 2000, 3000, 100_000, 5_000_000])
def test_messages_of_every_size_arrive_whole(box: Box, size: int) -> None:
    item = os.urandom(size)
    box.put(item)
    assert box.get() == item
    box.put(item)
    with pytest.raises(KeyError), box.take() as message:
        assert message == item
        raise KeyError
    with box.take() as message:
        assert message == item
    box.task_done()
    box.join(5)


def test_bytes_bound_a_mailbox_too(system: ActorSystem) -> None:
    tiny: Box = system.mailbox(f"box-{next(names)}", capacity=4096)
    with pytest.raises(queue.Full, match="its 4096 bytes are in use"):
        for _ in range(100):
            tiny.put(bytes(500), block=False)
    assert 0 < tiny.qsize() < 8
    tiny.close()


def test_another_program_reaches_it_by_name(own: ActorSystem, tmp_path: Path) -> None:
    jobs: Box = own.mailbox("jobs", maxsize=10)
    results: Box = own.mailbox("results")
    program = Program(
        tmp_path,
        worker="""
        import sys
        from actors import ActorSystem

        with ActorSystem.attach(sys.argv[1]) as system:
            results = system.mailbox("results")
            for job in system.mailbox("jobs"):
                results.put(job * job)
            results.put("over")
        print("done")
        """,
    )
    running = Waiting(lambda: program.run("worker.py", own.name))
    for job in range(30):
        jobs.put(job)
    jobs.close()
    assert [results.get(timeout=20) for _ in range(31)] == [*(job * job for job in range(30)), "over"]
    assert running.result() == ["done"]


def test_who_names_it_later_gets_the_same_and_other_numbers_are_refused(system: ActorSystem, small: Box) -> None:
    assert system.mailbox(small.name) == small
    assert system.mailbox(small.name, maxsize=2).maxsize == 2
    with pytest.raises(SpecError, match="was made with maxsize=2"):
        system.mailbox(small.name, maxsize=3)
    with pytest.raises(SpecError, match="use 1 to 255 letters"):
        system.mailbox("no spaces")
    with pytest.raises(SpecError, match="capacity"):
        system.mailbox("other", capacity=10)


def test_a_closed_name_stays_closed_so_that_a_late_consumer_ends(system: ActorSystem, box: Box) -> None:
    box.put(1)
    assert box.get() == 1
    box.close()
    assert list(box) == []
    late: Box = system.mailbox(box.name)
    assert (list(late), late.qsize(), late.empty(), late.full()) == ([], 0, True, False)
    late.join()
    late.close()
    with pytest.raises(MailboxClosed):
        late.put(1)


def test_two_systems_mailboxes_of_one_name_do_not_meet(box: Box, own: ActorSystem) -> None:
    there: Box = own.mailbox(box.name)
    box.put("here")
    assert box != there
    assert there.empty()
    assert box.get() == "here"


def test_a_forked_child_is_told_and_may_attach(own: ActorSystem) -> None:
    box: Box = own.mailbox("jobs")
    box.put(1)
    with box.take():
        pid = os.fork()
        if pid == 0:
            try:
                said = Waiting(box.get).result()
                attached = ActorSystem.attach(own.name)
                box.put("from the child")
                attached.close()
                os._exit(0 if isinstance(said, ActorsError) and "forked" in str(said) else 2)
            except BaseException:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (box.get(timeout=5), box.empty()) == ("from the child", True)


def test_closing_a_system_ends_its_consumers_after_what_was_put(own: ActorSystem) -> None:
    """A consumer in a handler that only ends with its mailbox does not hold the system's end up."""
    box: Box = own.mailbox("jobs")
    results = [own.spawn(Worker, shutdown=60.0).ask(method, box) for method in (Worker.drain, Worker.drain_async)]
    for item in range(10):
        box.put(item)
    own.close()
    assert sorted(itertools.chain.from_iterable(reply.result(timeout=5) for reply in results)) == list(range(10))


# --- take


def test_a_block_that_ends_well_is_the_end_of_its_message(box: Box) -> None:
    box.put(1)
    taken = box.take()
    with taken as message:
        assert (message, taken.redelivered, box.qsize()) == (1, 0, 0)
    assert box.empty()
    box.join(timeout=0)


def test_a_block_that_raises_gives_its_message_back_to_the_front(box: Box) -> None:
    box.put(1)
    box.put(2)
    for times in range(3):
        taken = box.take()
        with pytest.raises(KeyError), taken as message:
            assert (message, taken.redelivered) == (1, times)
            raise KeyError
    assert [box.get(), box.get()] == [1, 2]


def test_blocks_may_overlap_and_take_their_turn(box: Box) -> None:
    for item in range(3):
        box.put(item)
    with box.take() as first, box.take() as second:
        assert (first, second, box.get()) == (0, 1, 2)


def test_take_waits_and_raises_as_get_does(box: Box) -> None:
    for taking, error in ((box.take(block=False), queue.Empty), (box.take(timeout=0.01), queue.Empty)):
        with pytest.raises(error), taking:
            pass
    with pytest.raises(ValueError, match="non-negative"):
        box.take(timeout=-1)
    waiting = Waiting(lambda: box.take().__enter__())
    assert waiting.waits()
    box.close()
    assert isinstance(waiting.result(), MailboxClosed)


def test_consumers_of_a_closed_mailbox_wait_for_what_others_have_in_hand(spawn: Spawn, box: Box) -> None:
    """It may come back."""
    box.put("job")
    with pytest.raises(KeyError), box.take():
        other = spawn(Worker).ask(Worker.drain, box)
        box.close()
        time.sleep(0.05)
        assert not other.done()
        raise KeyError
    assert other.result(timeout=10) == ["job"]


def test_a_signal_handler_that_raises_while_waiting_loses_nothing(box: Box) -> None:
    class Enough(Exception):
        pass

    def enough(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, enough)
    try:
        for wait in (box.get, lambda: box.take().__enter__(), lambda: next(box)):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Enough):
                wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    box.put(1)
    assert box.get(timeout=5) == 1


# --- in coroutines


def test_awaitable_forms_wait_without_blocking_the_loop(small: Box) -> None:
    async def main() -> None:
        getting = asyncio.create_task(small.get_async())
        await asyncio.sleep(0.01)
        assert not getting.done()
        await small.put_async(1)
        assert await asyncio.wait_for(getting, 10) == 1
        await small.put_async(2)
        await small.put_async(3)
        putting = asyncio.create_task(small.put_async(4))
        await asyncio.sleep(0.01)
        assert not putting.done()
        async with small.take_async() as message:
            assert message == 2
        await asyncio.wait_for(putting, 10)
        assert [await small.get_async(), await small.get_async()] == [3, 4]
        for _ in range(3):
            small.task_done()
        await asyncio.wait_for(small.join_async(), 10)

    asyncio.run(main())


def test_in_a_coroutine_blocking_forms_say_so_instead_of_blocking(small: Box) -> None:
    async def main() -> None:
        for wait in (small.get, lambda: small.take().__enter__(), lambda: next(small)):
            with pytest.raises(RuntimeError, match="would block the event loop"):
                wait()
        small.put(1)
        small.put(2)
        with pytest.raises(queue.Full, match="use put_async"):
            small.put(3)
        with pytest.raises(RuntimeError, match="use join_async"):
            small.join()

    asyncio.run(main())


def test_many_coroutines_that_wait_get_one_each_and_end_with_the_mailbox(box: Box) -> None:
    async def main() -> None:
        getting = [asyncio.create_task(box.get_async()) for _ in range(10)]
        await asyncio.sleep(0.01)
        for item in range(8):
            box.put(item)
        assert sorted(await asyncio.wait_for(_some(getting, 8), 10)) == list(range(8))
        rest = [task for task in getting if not task.done()]
        box.close()
        ends = await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), 10)
        assert [type(end) for end in ends] == [MailboxClosed, MailboxClosed]

    asyncio.run(main())


async def _some(tasks: list[asyncio.Task[Any]], count: int) -> list[Any]:
    """The results of the first `count` that end."""
    while sum(task.done() for task in tasks) < count:
        await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    return [task.result() for task in tasks if task.done()]


def test_a_cancelled_wait_loses_nothing_and_passes_its_turn_on(box: Box) -> None:
    async def main() -> None:
        first, second = asyncio.create_task(box.get_async()), asyncio.create_task(box.get_async())
        await asyncio.sleep(0.01)
        box.put(1)
        first.cancel()
        assert await asyncio.wait_for(second, 10) == 1
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())


def test_an_async_block_that_raises_gives_its_message_back(box: Box) -> None:
    async def main() -> None:
        box.put(1)
        with pytest.raises(KeyError):
            async with box.take_async():
                raise KeyError
        taken = box.take_async()
        async with taken as message:
            assert (message, taken.redelivered) == (1, 1)

    asyncio.run(main())


def test_loops_of_several_threads_and_blocking_threads_share_one_mailbox(box: Box) -> None:
    async def drain() -> list[int]:
        return [item async for item in box]

    consumers = [Waiting(lambda: asyncio.run(drain())) for _ in range(2)] + [Waiting(lambda: list(box))]
    for item in range(300):
        box.put(item)
        if item % 50 == 0:
            time.sleep(0.005)
    box.close()
    assert sorted(itertools.chain.from_iterable(each.result() for each in consumers)) == list(range(300))


def test_without_a_connection_it_says_how_to_get_one() -> None:
    with pytest.raises(ActorsError, match=r"use ActorSystem\.attach"):
        Mailbox(system_name(), "jobs").put(1)

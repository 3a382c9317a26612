"""A program's threads, event loops, callbacks and signal handlers, all at once: nothing is lost, mixed up or stuck."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

from actors import Actor, ActorRef, ActorSystem, AskTimeout, Reply
from kit import Gate, until


class Echo(Actor):
    def __init__(self) -> None:
        self.count = 0

    def echo(self, value: Any) -> Any:
        self.count += 1
        return value

    async def echo_later(self, value: Any) -> Any:
        self.count += 1
        await asyncio.sleep(0)
        return value

    def hold(self, gate: Gate) -> str:
        gate.wait()
        return "held"

    def counted(self) -> int:
        return self.count

    def relay(self, other: ActorRef[Echo], values: list[int]) -> list[int]:
        return [reply.result(30) for reply in [other.ask(Echo.echo, value) for value in values]]

    async def relay_async(self, other: ActorRef[Echo], values: list[int]) -> list[int]:
        return list(await asyncio.gather(*[other.ask(Echo.echo, value) for value in values]))

    async def fan_out(self, others: list[ActorRef[Echo]], count: int) -> int:
        replies = [other.ask(Echo.echo, number) for number in range(count) for other in others]
        return sum([await reply for reply in replies])


# --- threads


def test_eight_threads_hammer_one_actor_and_each_gets_its_own_answers(spawn) -> None:
    echo = spawn(Echo)

    def hammer(me: int) -> list[Any]:
        return [echo.ask(Echo.echo, (me, number)).result(30) for number in range(300)]

    with ThreadPoolExecutor(8) as pool:
        for me, got in enumerate(pool.map(hammer, range(8))):
            assert got == [(me, number) for number in range(300)]
    assert echo.ask(Echo.counted).result(5) == 2400


def test_eight_threads_with_pipelined_asks_to_several_actors(spawn) -> None:
    echoes = [spawn(Echo) for _ in range(3)]

    def hammer(me: int) -> bool:
        replies = [(number, echoes[number % 3].ask(Echo.echo_later, (me, number))) for number in range(300)]
        return all(reply.result(30) == (me, number) for number, reply in replies)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == [True] * 8


def test_tells_of_eight_threads_all_arrive(spawn) -> None:
    echo = spawn(Echo)

    def tell(me: int) -> None:
        for number in range(500):
            echo.tell(Echo.echo, (me, number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))
    assert echo.ask(Echo.counted).result(20) == 4000


def test_one_reply_may_be_waited_for_by_many_threads(spawn, tmp_path: Path) -> None:
    echo, gate = spawn(Echo), Gate(tmp_path / "gate")
    reply = echo.ask(Echo.hold, gate)
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(reply.result) for _ in range(8)]
        impatient = [pool.submit(reply.exception, 0.01) for _ in range(8)]
        assert {type(each.exception(30)) for each in impatient} == {AskTimeout}
        gate.open()
        assert [each.result(30) for each in waiting] == ["held"] * 8


def test_many_threads_may_spawn_and_stop_at_once(system: ActorSystem) -> None:
    def cycle(number: int) -> int:
        ref = system.spawn(Echo)
        got: int = ref.ask(Echo.echo, number).result(30)
        ref.stop()
        ref.wait(30)
        return got

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(cycle, range(18))) == list(range(18))


def test_a_thread_that_ends_leaves_nothing(spawn) -> None:
    echo = spawn(Echo)
    echo.ask(Echo.echo, 1).result(5)
    before = len(list(descriptors()))
    for _ in range(30):
        thread = threading.Thread(target=lambda: echo.ask(Echo.echo_later, 1).result(5))
        thread.start()
        thread.join()
    until(lambda: len(list(descriptors())) <= before, "the threads' descriptors are closed")


def descriptors() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        yield entry.name


# --- event loops


def test_two_loops_in_two_threads_work_at_the_same_time(spawn) -> None:
    echo, other = spawn(Echo), spawn(Echo)

    async def ask_all(me: int) -> list[Any]:
        return await asyncio.gather(*[(echo, other)[n % 2].ask(Echo.echo_later, (me, n)) for n in range(200)])

    async def main(me: int) -> bool:
        for _ in range(5):
            if await ask_all(me) != [(me, n) for n in range(200)]:
                return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda me: asyncio.run(main(me)), range(2))) == [True, True]


def test_one_after_the_other_in_one_loop(spawn) -> None:
    echo = spawn(Echo)

    async def main() -> int:
        return sum([await echo.ask(Echo.echo, 1) for _ in range(1000)])

    assert asyncio.run(main()) == 1000


def test_loops_threads_and_callbacks_mixed(spawn) -> None:
    """All four ways to get an answer, at the same time, on the same actors."""
    echoes = [spawn(Echo) for _ in range(2)]
    called: list[Any] = []
    lock = threading.Lock()

    def note(reply: Reply[Any]) -> None:
        with lock:
            called.append(reply.result(0))

    def blocking(me: int) -> bool:
        return all(echoes[n % 2].ask(Echo.echo, (me, n)).result(30) == (me, n) for n in range(200))

    def calling(me: int) -> bool:
        for n in range(200):
            echoes[n % 2].ask(Echo.echo, (me, n)).add_done_callback(note)
        return True

    def futures(me: int) -> bool:
        pending = [echoes[n % 2].ask(Echo.echo_later, n).future() for n in range(200)]
        return sorted(future.result(0) for future in as_completed(pending, timeout=30)) == list(range(200))

    def looping(me: int) -> bool:
        async def main() -> bool:
            for n in range(200):
                if await echoes[n % 2].ask(Echo.echo_later, (me, n)) != (me, n):
                    return False
            return True

        return asyncio.run(main())

    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(kind, 10 * index + me)
            for index, kind in enumerate((blocking, calling, futures, looping))
            for me in range(2)
        ]
        assert [each.result(60) for each in work] == [True] * 8
    until(lambda: len(called) == 400, "all callbacks were called")
    assert sorted(called) == sorted((10 + me, n) for me in range(2) for n in range(200))


def test_futures_of_many_actors_with_wait(spawn) -> None:
    echoes = [spawn(Echo) for _ in range(3)]
    pending = [echo.ask(Echo.echo, number).future() for number in range(100) for echo in echoes]
    done, rest = wait(pending, timeout=30)
    assert not rest
    assert sum(future.result() for future in done) == 3 * sum(range(100))


# --- pipelines of asks


def test_twenty_thousand_asks_without_reading_a_reply(spawn) -> None:
    echo = spawn(Echo)
    replies = [echo.ask(Echo.echo, number) for number in range(20_000)]
    assert [reply.result(60) for reply in replies] == list(range(20_000))


def test_twenty_thousand_asks_whose_replies_nobody_keeps(spawn) -> None:
    echo = spawn(Echo)
    for number in range(20_000):
        echo.ask(Echo.echo, number)
    assert echo.ask(Echo.counted).result(60) == 20_000


def test_twenty_thousand_asks_at_once_in_a_loop(spawn) -> None:
    """More than the mailbox and the reply lane hold: the rest waits for room."""
    echo = spawn(Echo)

    async def main() -> list[int]:
        return await asyncio.gather(*[echo.ask(Echo.echo, number) for number in range(20_000)])

    assert asyncio.run(main()) == list(range(20_000))


def test_actors_pipeline_asks_to_each_other(spawn) -> None:
    first, second = spawn(Echo), spawn(Echo)
    values = list(range(3000))
    assert first.ask(Echo.relay, second, values).result(60) == values
    assert first.ask(Echo.relay_async, second, values * 4).result(60) == values * 4
    assert first.ask(Echo.fan_out, [second, spawn(Echo)], 500).result(60) == 2 * sum(range(500))


def test_two_actors_flood_each_other_with_tells_and_neither_stops(spawn) -> None:
    class Flooder(Echo):
        async def flood(self, other: ActorRef[Echo], count: int) -> int:
            for number in range(count):
                await other.tell_async(Echo.echo, number)
            return count

    first, second = spawn(Flooder), spawn(Flooder)
    both = [first.ask(Flooder.flood, second, 3000), second.ask(Flooder.flood, first, 3000)]
    assert [reply.result(60) for reply in both] == [3000, 3000]
    assert [ref.ask(Echo.counted).result(60) for ref in (first, second)] == [3000, 3000]


# --- signal handlers


class Interrupted(BaseException):
    """As KeyboardInterrupt: raised by a signal handler, anywhere."""


@contextlib.contextmanager
def interruptions(rng: random.Random) -> Iterator[list[int]]:
    """A timer signal whose handler raises, again and again, at random times, while `armed[0]` says so."""
    armed = [0, 0]

    def again() -> None:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00005, 0.002))

    def handler(number: int, frame: Any) -> None:
        again()
        if armed[0]:
            armed[1] += 1
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    again()
    try:
        yield armed
    finally:
        armed[0] = 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def result_despite(armed: list[int], reply: Reply[Any]) -> Any:
    """`reply.result()`, again after each interruption."""
    while True:
        try:
            armed[0] = 1
            value = reply.result(30)
            armed[0] = 0
            return value
        except Interrupted:
            armed[0] = 0


def test_a_future_is_never_settled_in_the_thread_that_signal_handlers_run_in(spawn) -> None:
    """Its lock would stay locked if one raised at the wrong moment, and everybody who collects would wait for it."""
    echo = spawn(Echo)
    settled: queue.Queue[threading.Thread] = queue.Queue()
    for number in range(50):
        reply = echo.ask(Echo.echo, number)
        reply.future().add_done_callback(lambda _: settled.put(threading.current_thread()))
        assert reply.result(30) == number
    assert threading.main_thread() not in [settled.get(timeout=30) for _ in range(50)]


def test_an_exception_raised_by_a_signal_handler_inside_result_loses_nothing(spawn, rng: random.Random) -> None:
    """Hundreds of interruptions of the main thread, while other threads, a loop and callbacks get their answers too."""
    echo = spawn(Echo)
    stop = threading.Event()
    wrong: list[str] = []

    def blocking(me: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if echo.ask(Echo.echo_later, (me, number)).result(30) != (me, number):
                wrong.append(f"thread {me} at {number}")

    def looping() -> None:
        async def main() -> None:
            while not stop.is_set():
                if await asyncio.gather(*[echo.ask(Echo.echo, n) for n in range(5)]) != list(range(5)):
                    wrong.append("loop")

        asyncio.run(main())

    called: list[Any] = []
    futures, asked = [], 0
    threads = [threading.Thread(target=blocking, args=(me,)) for me in range(2)] + [threading.Thread(target=looping)]
    for thread in threads:
        thread.start()
    try:
        with interruptions(rng) as armed:
            while armed[1] < 300:
                asked += 1
                reply = echo.ask(Echo.echo_later, asked)
                if asked % 5 == 0:
                    echo.ask(Echo.echo, asked).add_done_callback(called.append)
                    futures.append(echo.ask(Echo.echo, asked).future())
                assert result_despite(armed, reply) == asked
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)
    assert [future.result(30) for future in futures] == [5 * (n + 1) for n in range(len(futures))]
    until(lambda: len(called) >= len(futures) - 1, "the callbacks were called")


def test_an_exception_raised_by_a_signal_handler_inside_tell_leaves_the_mailbox_sound(
    spawn, rng: random.Random
) -> None:
    """Each message arrives once or not at all, in order; the actor and others go on."""

    class Sink(Actor):
        def __init__(self) -> None:
            self.got: list[int] = []

        def take(self, number: int, body: str) -> None:
            self.got.append(number)

        def all(self) -> list[int]:
            return self.got

    sink = spawn(Sink)
    sink.ask(Sink.all).result(5)  # its mailbox is mapped
    sent, body = [], "x" * 20_000  # larger ones fill the mailbox, so that tells wait
    with interruptions(rng) as armed:
        number = 0
        while armed[1] < 100:
            number += 1
            try:
                armed[0] = 1
                sink.tell(Sink.take, number, body)
                armed[0] = 0
                sent.append(number)
            except Interrupted:
                armed[0] = 0
    got = sink.ask(Sink.all).result(60)
    assert got == sorted(set(got))
    assert set(sent) <= set(got)


def test_an_exception_raised_by_a_signal_handler_inside_spawn_leaves_the_system_sound(
    system: ActorSystem, rng: random.Random
) -> None:
    interrupted = 0
    with interruptions(rng) as armed:
        while armed[1] < 20:
            try:
                armed[0] = 1
                ref = system.spawn(Echo)
                armed[0] = 0
                ref.kill()
            except Interrupted:
                armed[0] = 0
                interrupted += 1
    assert interrupted > 0
    ref = system.spawn(Echo)
    assert ref.ask(Echo.echo, 1).result(30) == 1
    ref.kill()


# --- monitors from the program


def test_a_monitors_callback_is_called_exactly_once_for_each_of_many(spawn) -> None:
    downs: list[Any] = []
    refs = [spawn(Echo) for _ in range(8)]
    for ref in refs:
        ref.monitor(downs.append)
    for ref in refs:
        ref.kill()
    until(lambda: len(downs) == 8, "eight downs")
    for ref in refs:
        ref.wait(10)
    assert {down.ref for down in downs} == set(refs)
    assert len(downs) == 8

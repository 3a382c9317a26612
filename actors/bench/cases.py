"""Our side of every figure: one function a case; it starts a system, measures once and returns one number.

python -m actors.bench.cases ask.actors
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

from ..errors import ActorDied
from ..executor import ActorPoolExecutor
from ..pipes import Program
from ..ref import ActorRef
from ..system import ActorSystem
from .peers.mechanisms import CAT, lock_in_turn
from .peers.pools import TASKS, itself, mapped, same
from .peers.python import ARRAYS, MEGABYTES, MESSAGE, PROCESSES, SENDERS, TELLS, main, p50, pss
from .usage import memory, processor_time, system_pids
from .workers import Asker, Bytes, Consumer, Echo, Producer, Sender, Sink, ask_in_turn

SECONDS = 0.9
PIECE = 512 << 10  # bytes of a message to a program


def ask_blocking() -> float:
    with ActorSystem() as system:
        other = system.spawn(Echo)
        return p50(lambda: other.ask(Echo.echo, MESSAGE).result())


def ask_in_a_handler() -> float:
    with ActorSystem() as system:
        asker, other = system.spawn(Asker), system.spawn(Echo)
        return asker.ask(Asker.median, other, SECONDS).result()


def ask_in_the_programs_loop() -> float:
    with ActorSystem() as system:
        return asyncio.run(ask_in_turn(system.spawn(Echo), SECONDS))


def tell() -> float:
    with ActorSystem() as system:
        sink = system.spawn(Sink)
        sink.ask(Sink.count).result()
        start = time.perf_counter()
        for _ in range(TELLS):
            sink.tell(Sink.take, MESSAGE)
        handled = sink.ask(Sink.count).result()
        elapsed = time.perf_counter() - start
        assert handled == TELLS, f"{handled} of {TELLS} were handled"
        return TELLS / elapsed


def tell_from_four() -> float:
    with ActorSystem() as system:
        sink = system.spawn(Sink)
        senders = [system.spawn(Sender) for _ in range(SENDERS)]
        for sender in senders:
            sender.ask(Sender.flood, sink, 1).result()  # first contact is not measured
        start = time.perf_counter()
        for reply in [sender.ask(Sender.flood, sink, TELLS // SENDERS) for sender in senders]:
            reply.result()
        handled = sink.ask(Sink.count).result()
        elapsed = time.perf_counter() - start
        assert handled == TELLS + SENDERS, f"{handled} of {TELLS + SENDERS} were handled"
        return TELLS / elapsed


def megabyte() -> float:
    return large(os.urandom(1 << 20), MEGABYTES)


def array() -> float:
    import numpy

    return large(numpy.arange(1.0 * (1 << 20)), ARRAYS)


def large(value: Any, count: int) -> float:
    """Messages a second of a large value, one way, until all are handled; the first few are not measured."""
    with ActorSystem() as system:
        sink = system.spawn(Sink)
        for number in (10, count):
            start = time.perf_counter()
            for _ in range(number):
                sink.tell(Sink.take, value)
            sink.ask(Sink.count).result()
        return count / (time.perf_counter() - start)


def box() -> float:
    with ActorSystem() as system:
        jobs = system.mailbox("jobs")
        taken = system.spawn(Consumer).ask(Consumer.drain, jobs)
        start = time.perf_counter()
        for _ in range(TELLS):
            jobs.put(MESSAGE)
        jobs.close()
        handled = taken.result()
        elapsed = time.perf_counter() - start
        assert handled == TELLS, f"{handled} of {TELLS} were taken"
        return TELLS / elapsed


def box_of_four() -> float:
    with ActorSystem() as system:
        jobs = system.mailbox("jobs")
        taken = [system.spawn(Consumer).ask(Consumer.drain, jobs) for _ in range(SENDERS)]
        producers = [system.spawn(Producer) for _ in range(SENDERS)]
        for producer in producers:
            producer.ask(Producer.flood, jobs, 1).result()  # first contact is not measured
        start = time.perf_counter()
        for reply in [producer.ask(Producer.flood, jobs, TELLS // SENDERS) for producer in producers]:
            reply.result()
        jobs.close()
        handled = sum(reply.result() for reply in taken)
        elapsed = time.perf_counter() - start
        assert handled == TELLS + SENDERS, f"{handled} of {TELLS + SENDERS} were taken"
        return TELLS / elapsed


def cat() -> float:
    """Bytes a second through `cat` as an actor: messages in, messages out to another actor."""
    with ActorSystem() as system:
        sink = system.spawn(Bytes)
        program = system.spawn_program(["cat"], framing="raw", to=sink)
        piece = bytes(PIECE)
        sink.ask(Bytes.count).result()
        start = time.perf_counter()
        for _ in range(CAT // PIECE):
            program.tell(Program.write, piece)
        program.tell(Program.close_stdin)
        program.wait()
        taken = sink.ask(Bytes.count).result()
        elapsed = time.perf_counter() - start
        assert taken == CAT, f"{taken} of {CAT} bytes came back"
        return CAT / elapsed


def submit() -> float:
    with ActorPoolExecutor(1) as pool:
        return p50(lambda: pool.submit(same, MESSAGE).result())


def map_tiny() -> float:
    with ActorPoolExecutor(2) as pool:
        return mapped(lambda: pool.map(itself, range(TASKS)))


def spawn() -> float:
    with ActorSystem() as system:
        return p50(lambda: system.spawn(Echo), seconds=0.3, warm=2)


def kill_to_next_answer() -> float:
    with ActorSystem() as system:
        times = [_killed_and_answering(system.spawn(Echo)) for _ in range(10)]
    return statistics.median(times)


def kill_among_siblings() -> float:
    with ActorSystem() as system:
        siblings = [system.spawn(Echo) for _ in range(PROCESSES)]
        times = [_killed_and_answering(system.spawn(Echo)) for _ in range(10)]
        assert all(sibling.ask(Echo.pid).result() for sibling in siblings)
    return statistics.median(times)


def _killed_and_answering(actor: ActorRef[Echo]) -> float:
    pid = actor.ask(Echo.pid).result()
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            if actor.ask(Echo.pid).result() != pid:
                return time.perf_counter() - start
        except ActorDied:  # the ask was in hand when the signal arrived
            continue


def start() -> float:
    begin = time.perf_counter()
    with ActorSystem() as system:
        system.spawn(Echo).ask(Echo.echo, MESSAGE).result()
        return time.perf_counter() - begin


def memory_an_actor() -> float:
    from .numeric import Numeric

    with ActorSystem() as system:
        for actor in [system.spawn(Numeric) for _ in range(PROCESSES)]:
            actor.ask(Numeric.total).result()
        return memory(system_pids()) / PROCESSES


def gigabyte() -> float:
    return growth_of_shared(1 << 30)


def growth_of_shared(size: int) -> float:
    """What the program and four actors that read all of it take beyond an array, of its size."""
    import numpy

    from .numeric import Numeric

    with ActorSystem(memory=2 * size) as system:
        actors = [system.spawn(Numeric) for _ in range(4)]
        for actor in actors:
            actor.ask(Numeric.total).result()
        before = sum(map(pss, [os.getpid(), *system_pids()]))
        shared = system.share(numpy.ones(size, dtype=numpy.uint8))
        sums = [actor.ask(Numeric.add, shared).result() for actor in actors]
        assert sums == [size] * 4
        return (sum(map(pss, [os.getpid(), *system_pids()])) - before - size) / size


def lock() -> float:
    with ActorSystem() as system:
        return lock_in_turn(system.lock("bench"), 1000)


def idle() -> float:
    with ActorSystem() as system:
        for actor in [system.spawn(Echo) for _ in range(PROCESSES)]:
            actor.ask(Echo.echo, MESSAGE).result()
        pids = [os.getpid(), *system_pids()]
        time.sleep(1.0)  # the start has settled
        before, begin = processor_time(pids), time.perf_counter()
        time.sleep(2.0)
        return (processor_time(pids) - before) / (time.perf_counter() - begin)


CASES: dict[str, Callable[[], float]] = {
    "ask.actors": ask_blocking,
    "ask.python-ring": ask_blocking,
    "ask.handler": ask_in_a_handler,
    "ask.loop": ask_in_the_programs_loop,
    "tell.actors": tell,
    "tell.python-ring": tell,
    "tell4.actors": tell_from_four,
    "megabyte.actors": megabyte,
    "array.actors": array,
    "box.actors": box,
    "box4.actors": box_of_four,
    "cat.actors": cat,
    "submit.actors": submit,
    "map.actors": map_tiny,
    "spawn.actors": spawn,
    "kill.actors": kill_to_next_answer,
    "kill.siblings": kill_among_siblings,
    "start.actors": start,
    "memory.actors": memory_an_actor,
    "gigabyte.actors": gigabyte,
    "lock.actors": lock,
    "idle.actors": idle,
}

if __name__ == "__main__":
    main(CASES)

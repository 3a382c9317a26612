"""Right uses: type-checked, never run. Each line must be accepted, with exactly the type that is asserted."""
# mypy: warn-unused-ignores
# pyright: strict, reportPrivateUsage=false

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, assert_type

from actors import (
    Actor,
    ActorDied,
    ActorPoolExecutor,
    ActorRef,
    ActorSystem,
    BroadcastRef,
    ExitReason,
    Fifo,
    Mailbox,
    MailboxOptions,
    PoolRef,
    Program,
    Reply,
    Timer,
    Topic,
)
from actors.coordination import Barrier, Event, File, Lock, Semaphore
from actors.pipeline import Pipeline, Profile, Run, Stage
from actors.supervision import Backoff, Child, Supervisor
from actors.testing import Call, Local, Probe, Stub, TestSystem, kill, kill_at, local, stub, wait_restarted


class Counter(Actor):
    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.value = start
        self.step = step

    def add(self, amount: int, *, twice: bool = False) -> int:
        self.value += amount
        return self.value

    async def add_later(self, amount: int) -> int:
        return self.add(amount)

    def reset(self) -> None:
        self.value = 0

    async def names(self) -> list[str]:
        return []

    def on_start(self) -> None:
        timer = self.every(1.0, self.add, 5, twice=True)
        assert_type(timer, Timer)
        timer.cancel()
        self.after(0.5, self.reset)
        self.after(0.5, self.add_later, 1)

    async def on_stop(self, reason: ExitReason) -> None:
        assert_type(reason.kind == "normal", bool)


class Kept(Actor):
    snapshot_every = 10

    def snapshot(self) -> dict[str, int]:
        return {}

    def restore(self, state: dict[str, int]) -> None: ...


class KeptAsync(Actor):
    async def snapshot(self) -> list[str]:
        return []

    async def restore(self, state: list[str]) -> None: ...


class Plain(Actor):
    """An actor without a constructor and with every kind of forwarding."""

    def myself(self) -> ActorRef[Plain]:
        return self.ref

    def forward(self, counter: ActorRef[Counter]) -> Reply[int]:
        return counter.ask(Counter.add, 1)

    async def through(self, counter: ActorRef[Counter]) -> int:
        return await counter.ask(Counter.add_later, 1) + await counter.ask(Counter.add, 2)

    def start_child(self) -> ActorRef[Counter]:
        return self.spawn(Counter, 5, name="child")

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        self.log.info("down", ref=ref, reason=str(reason))


P = ParamSpec("P")
R = TypeVar("R")


def logged(function: Callable[P, R]) -> Callable[P, R]:
    return function


class Decorated(Actor):
    @logged
    def size(self, text: str) -> int:
        return len(text)

    @logged
    async def size_later(self, text: str) -> int:
        return len(text)


class Adds(Protocol):
    """What a caller needs of an actor, whoever it is."""

    def add(self, amount: int) -> int: ...


def spawning(system: ActorSystem) -> None:
    assert_type(system.spawn(Counter), ActorRef[Counter])
    assert_type(system.spawn(Counter, 10), ActorRef[Counter])
    assert_type(system.spawn(Counter, 10, name="counter", restart="permanent", shutdown=1.0), ActorRef[Counter])
    assert_type(system.spawn(functools.partial(Counter, step=2), 10), ActorRef[Counter])
    assert_type(system.spawn(lambda: Counter(3)), ActorRef[Counter])
    assert_type(system.spawn(Plain), ActorRef[Plain])
    system.spawn(Counter, max_restarts=3, within=10.0, backoff=Backoff(0.1, 2.0), on_error="continue", redeliver=2)
    system.spawn(Counter, mailbox=MailboxOptions(capacity=1 << 16, overflow="raise"), start_timeout=1.0)


def programs(system: ActorSystem, counter: ActorRef[Counter]) -> None:
    program = system.spawn_program(
        ["sort", Path("file")], framing="raw", to=counter, method=Counter.add, restart="permanent"
    )
    assert_type(program, ActorRef[Program])
    assert_type(program.ask(Program.write, b"data"), Reply[None])
    assert_type(program.ask(Program.read), Reply[Any])
    assert_type(program.ask(Program.pid), Reply[int])
    assert_type(system.fifo(Path("pipe"), "w", framing="msgpack", limit=100), ActorRef[Fifo])
    assert_type(Child(Program, ["sort"], "lines", counter, name="sort"), Child[Program])
    assert_type(system.spawn(functools.partial(Program, ["sort"], cwd="/tmp"), name="sort"), ActorRef[Program])


def asking(counter: ActorRef[Counter], decorated: ActorRef[Decorated]) -> None:
    assert_type(counter.ask(Counter.add, 1), Reply[int])
    assert_type(counter.ask(Counter.add, amount=1, twice=True), Reply[int])
    assert_type(counter.ask(Counter.add_later, 1), Reply[int])
    assert_type(counter.ask(Counter.add, 1).result(timeout=2.0), int)
    assert_type(counter.ask(Counter.reset).result(), None)
    assert_type(counter.ask(Counter.names).result(), list[str])
    assert_type(counter.using(timeout=2.0), ActorRef[Counter])
    assert_type(counter.using(timeout=2.0).ask(Counter.add, 1), Reply[int])
    assert_type(decorated.ask(Decorated.size, "a"), Reply[int])
    assert_type(decorated.ask(Decorated.size_later, "a"), Reply[int])


def asking_by_name(counter: ActorRef[Counter]) -> None:
    reply: Reply[Any] = counter.ask("add", 1)
    counter.tell("add", 1, twice=True)
    counter.proxy().add(5)
    counter.proxy().add.tell(5)
    reply.cancel()


async def awaiting(system: ActorSystem, counter: ActorRef[Counter]) -> None:
    assert_type(await counter.ask(Counter.add, 1), int)
    assert_type(await counter.ask(Counter.add_later, 1), int)
    assert_type(await asyncio.wait_for(counter.ask(Counter.add, 1), 2.0), int)
    first, second = await asyncio.gather(counter.ask(Counter.add, 1), counter.ask(Counter.names))
    assert_type(first, int)
    assert_type(second, list[str])
    assert_type(await system.spawn_async(Counter, 10), ActorRef[Counter])
    assert_type(await counter.wait_async(), ExitReason)
    await counter.tell_async(Counter.add, 1)


def telling(counter: ActorRef[Counter], plain: ActorRef[Plain]) -> None:
    counter.tell(Counter.add, 5)
    counter.tell(Counter.add_later, 5)
    counter.tell(Counter.reset)
    plain.tell(Plain.forward, counter)


def replying(reply: Reply[int]) -> None:
    assert_type(reply.done(), bool)
    assert_type(reply.cancel(), bool)
    assert_type(reply.exception(timeout=1.0), BaseException | None)
    assert_type(reply.future(), concurrent.futures.Future[int])
    concurrent.futures.wait([reply.future()])
    reply.add_done_callback(lambda done: print(done.result() + 1))


def managing(counter: ActorRef[Counter]) -> None:
    assert_type(counter.address, str)
    assert_type(counter.wait(timeout=1.0), ExitReason)
    counter.stop()
    counter.kill()
    counter.restart()
    counter.resume()


def protocols(adds: ActorRef[Adds], counter: ActorRef[Counter]) -> None:
    assert_type(adds.ask(Adds.add, 1), Reply[int])
    anyone: ActorRef[Actor] = counter  # a reference to a Counter is one to an Actor
    refs: list[ActorRef[Any]] = [anyone, adds]
    assert len({*refs}) == 2


def looking_up(system: ActorSystem) -> None:
    assert_type(system.lookup("counter", Counter), ActorRef[Counter])
    assert_type(ActorSystem.attach("demo"), ActorSystem)


def dying(counter: ActorRef[Counter]) -> None:
    try:
        counter.ask(Counter.reset).result()
    except ActorDied as died:
        assert_type(died.reason, ExitReason | None)
        assert_type(died.restarting, bool)


def trees() -> Supervisor:
    assert_type(Child(Counter, 3, name="counter", count=2), Child[Counter])
    assert_type(Child(Plain), Child[Plain])
    stores = Supervisor(Child(Counter, 3, restart="transient", shutdown=10.0), name="stores")
    return Supervisor(
        stores, Child(Plain, name="plain"), name="top", strategy="rest_for_one", max_restarts=5, within=30.0
    )


def executing() -> None:
    with ActorPoolExecutor(2, initializer=print, initargs=("up",), max_tasks_per_child=10, retries=1) as executor:
        assert_type(executor.submit(divmod, 7, 2), concurrent.futures.Future[tuple[int, int]])
        assert_type(executor.map(str, [1, 2], chunksize=1, timeout=1.0), Iterator[str])
        plain: concurrent.futures.Executor = executor
        plain.shutdown(wait=True, cancel_futures=True)
        executor.kill_workers()


def pooling(system: ActorSystem) -> None:
    pool = system.pool(Counter, 10, size=(1, 4), routing="hash", key=abs, name="counters")
    assert_type(pool, PoolRef[Counter])
    assert_type(pool.ask(Counter.add, 1), Reply[int])
    assert_type(pool.ask(Counter.names), Reply[list[str]])
    assert_type(pool.members(), list[ActorRef[Counter]])
    pool.tell(Counter.reset)
    pool.resize(3)
    like_any_other: ActorRef[Counter] = pool
    like_any_other.stop()
    everybody = system.pool(Counter, 10, routing="broadcast")
    assert_type(everybody, BroadcastRef[Counter])
    assert_type(everybody.ask(Counter.add, 1), Reply[list[int]])
    assert_type(everybody.ask(Counter.add_later, 1).result(), list[int])


async def system_as_a_context() -> None:
    async with ActorSystem("demo") as system:
        assert_type(system, ActorSystem)
    with ActorSystem() as other:
        assert_type(other, ActorSystem)


def probing(system: TestSystem) -> None:
    probe = system.probe(Counter)
    assert_type(probe, Probe[Counter])
    assert_type(probe.ref, ActorRef[Counter])
    assert_type(probe.expect(ExitReason, timeout=1.0), ExitReason)
    assert_type(probe.expect(Counter.add), Call[int])
    assert_type(probe.expect(Counter.names), Call[list[str]])
    probe.expect(Counter.names, 1.0).reply(["a"])
    assert_type(probe.expect("add"), Call[Any])
    assert_type(system.probe(name="any").receive().args, tuple[Any, ...])
    assert_type(probe.expect_down(probe.ref), ExitReason)


async def probing_async(probe: Probe[Counter]) -> None:
    assert_type(await probe.expect_async(ExitReason), ExitReason)
    assert_type(await probe.expect_async(Counter.add), Call[int])


def faults(counter: ActorRef[Counter], system: TestSystem) -> None:
    assert_type(wait_restarted(counter, kill(counter)), int)
    kill_at(counter, "in_handler", method=Counter.add).wait()
    system.kill_at("unborn", "in_on_start")
    system.clock.advance(1.5)


def in_this_process() -> None:
    counter = local(Counter, 10, name="counter")
    assert_type(counter, Local[Counter])
    assert_type(counter.instance, Counter)
    assert_type(counter.ask(Counter.add, 1, twice=True), int)
    assert_type(counter.ask(Counter.add_later, 1), int)
    counter.tell(Counter.reset)
    counter.clock.advance(1)
    other = stub(Counter)
    assert_type(other, Stub[Counter])
    assert_type(other.ref, ActorRef[Counter])
    other.answers(Counter.add, 5)
    other.answers(Counter.names, ["a"])
    other.raises(Counter.add, ValueError())


async def coordinating(system: ActorSystem) -> None:
    lock = system.lock("printer")
    assert_type(lock, Lock)
    with lock:
        assert_type(lock.token, int)
    async with lock as held:
        assert_type(held, Lock)
    assert_type(await lock.acquire_async(1.0), bool)
    assert_type(lock.acquire(timeout=1.0), bool)
    assert_type(lock.holder(), str | None)
    permits = system.semaphore("licences", 3, bounded=True)
    assert_type(permits, Semaphore)
    permits.release(2)
    assert_type(system.barrier("meeting", 3, lambda: None, 1.0), Barrier)
    assert_type(await system.barrier("meeting", 3).wait_async(), int)
    assert_type(system.event("go"), Event)
    assert_type(system.event("go").wait(0.5), bool)
    with system.file("notes.txt", timeout=1.0) as file:
        assert_type(file, File)
        file.append("text", b"bytes")
        assert_type(file.read(), bytes)
    async with system.file("notes.txt") as file:
        await file.replace_async("all")


# --- named mailboxes and topics


def queueing(system: ActorSystem) -> None:
    jobs: Mailbox[int] = system.mailbox("jobs", maxsize=10, capacity=1 << 20)
    jobs.put(1)
    jobs.put(1, False)
    jobs.put(1, timeout=2.0)
    jobs.put_nowait(1)
    assert_type(jobs.get(), int)
    assert_type(jobs.get(True, 1.0), int)
    assert_type(jobs.get_nowait(), int)
    assert_type(list(jobs), list[int])
    assert_type((jobs.qsize(), jobs.empty(), jobs.full(), jobs.maxsize), tuple[int, bool, bool, int])
    taken = jobs.take(timeout=1.0)
    with taken as job:
        assert_type(job, int)
    assert_type(taken.redelivered, int)
    jobs.task_done()
    jobs.join(timeout=1.0)
    jobs.close()


async def queueing_in_a_coroutine(jobs: Mailbox[str]) -> None:
    await jobs.put_async("it")
    assert_type(await jobs.get_async(), str)
    async for job in jobs:
        assert_type(job, str)
    async with jobs.take_async() as job:
        assert_type(job, str)
    await jobs.join_async()


async def publishing(system: ActorSystem, counter: ActorRef[Counter]) -> None:
    ticks: Topic[int] = system.topic("ticks")
    ticks.subscribe(counter, Counter.add)
    ticks.subscribe(counter, Counter.add_later)
    ticks.subscribe(counter, "add")
    assert_type(ticks.publish(1), int)
    assert_type(await ticks.publish_async(1), int)
    ticks.unsubscribe(counter, Counter.add)
    ticks.unsubscribe(counter)


def piping(pipeline: Pipeline) -> None:
    stage = Stage(Counter, 1, workers=2, on_error="skip", timeout=1.0, backoff=Backoff())
    assert_type(Pipeline(stage, len, ["sort", "-u"], str.upper), Pipeline)
    Stage(
        [Path("tool"), "-u"], framing="msgpack", encoding=None, limit=1 << 20, cwd=Path("/"), env={"A": "b", "C": None}
    )
    run = pipeline.run(["a"], progress=True, checkpoint="position")
    assert_type(run, Run)
    with run:
        assert_type(run.skipped, int)
    assert_type(pipeline.profile(), Profile)
    assert_type(pipeline.profile().bottleneck, str)

"""Wrong uses: type-checked, never run. Each marked line must be refused by every checker: an ignore that is not
needed is an error here.
"""
# mypy: warn-unused-ignores
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any

from actors import Actor, ActorPoolExecutor, ActorRef, ActorSystem, Mailbox, Reply, Topic
from actors.pipeline import Pipeline, Stage
from actors.supervision import Child, Supervisor
from actors.testing import Probe, TestSystem, kill_at, local, stub


class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        return amount

    async def add_later(self, amount: int) -> int:
        return amount

    def on_start(self) -> None:
        self.every(1.0, self.add)  # type: ignore[call-arg]
        self.after(1.0, self.add, "five")  # type: ignore[arg-type]
        self.after("soon", self.add, 5)  # type: ignore[arg-type]


class Other(Actor):
    def add(self, amount: int) -> int:
        return amount


def spawning(system: ActorSystem) -> None:
    system.spawn(Counter, "ten")  # type: ignore[arg-type]
    system.spawn(Counter, 1, 2)  # type: ignore[arg-type]
    system.spawn(int, 1)  # type: ignore[type-var]
    system.spawn(Counter, restart="sometimes")  # type: ignore[arg-type]
    system.spawn(Counter, nmae="counter")  # type: ignore[call-arg]
    other: ActorRef[Other] = system.spawn(Counter)  # type: ignore[arg-type]
    other.stop()


def programs(system: ActorSystem) -> None:
    system.spawn_program(["sort"], framing="words")  # type: ignore[arg-type]
    system.spawn_program(["sort"], nmae="sort")  # type: ignore[call-arg]
    system.spawn_program([1])  # type: ignore[list-item]
    system.fifo("pipe", "rw")  # type: ignore[arg-type]


def pooling(system: ActorSystem) -> None:
    system.pool(Counter, "ten")  # type: ignore[arg-type]
    system.pool(Counter, 1, routing="random")  # type: ignore[call-overload]
    system.pool(Counter, 1, routing="broadcast", key=len)  # type: ignore[call-overload]
    system.pool(Counter, 1).ask(Counter.add, "1")  # type: ignore[call-overload]
    number: int = system.pool(Counter, 1, routing="broadcast").ask(Counter.add, 1).result()  # type: ignore[assignment]
    print(number)


def executing(executor: ActorPoolExecutor) -> None:
    executor.submit(divmod, 7)  # type: ignore[arg-type]
    executor.submit(len)  # type: ignore[call-arg]


def asking(counter: ActorRef[Counter]) -> None:
    counter.ask(Counter.add)  # type: ignore[call-overload]
    counter.ask(Counter.add, "1")  # type: ignore[call-overload]
    counter.ask(Counter.add, 1, 2)  # type: ignore[call-overload]
    counter.ask(Counter.add, amonut=1)  # type: ignore[call-overload]
    counter.ask(Other.add, 1)  # type: ignore[call-overload]
    counter.ask(1)  # type: ignore[call-overload]
    text: Reply[str] = counter.ask(Counter.add, 1)  # type: ignore[call-overload]
    number: str = counter.ask(Counter.add, 1).result()  # type: ignore[assignment]
    counter.using(timeout="2")  # type: ignore[arg-type]
    print(text, number)


def telling(counter: ActorRef[Counter]) -> None:
    counter.tell(Counter.add)  # type: ignore[call-overload]
    counter.tell(Counter.add, "1")  # type: ignore[call-overload]
    counter.tell(Other.add, 1)  # type: ignore[call-overload]
    counter.add(1)  # type: ignore[attr-defined]


async def awaiting(counter: ActorRef[Counter]) -> None:
    text: str = await counter.ask(Counter.add_later, 1)  # type: ignore[call-overload]
    await counter.tell_async(Counter.add, "1")  # type: ignore[call-overload]
    print(text)


def describing() -> None:
    Child(Counter, "ten")  # type: ignore[arg-type]
    Child(Counter, restart="sometimes")  # type: ignore[arg-type]
    Supervisor(Child(Counter), strategy="one_for_most")  # type: ignore[arg-type]
    Supervisor(Counter)  # type: ignore[arg-type]


def narrowing(anyone: ActorRef[Actor]) -> ActorRef[Counter]:
    return anyone  # type: ignore[return-value]


def unknown(counter: ActorRef[Counter], value: Any) -> None:
    counter.address = value  # type: ignore[misc]


def testing(system: TestSystem, probe: Probe[Counter], counter: ActorRef[Counter]) -> None:
    TestSystem(clock="slow")  # type: ignore[arg-type]
    system.probe(5)  # type: ignore[call-overload]
    probe.expect(Counter.add).reply("text")  # type: ignore[arg-type]
    text: str = probe.expect(int)  # type: ignore[assignment]
    kill_at(counter, "somewhere")  # type: ignore[arg-type]
    local(Counter, "ten")  # type: ignore[arg-type]
    local(Counter).ask(Counter.add, "1")  # type: ignore[call-overload]
    local(Counter).tell(Counter.add)  # type: ignore[call-overload]
    local(Counter).ask(Other.add, 1)  # type: ignore[call-overload]
    stub(Counter, nmae=text)  # type: ignore[call-overload]


async def queueing(jobs: Mailbox[int]) -> None:
    jobs.put("1")  # type: ignore[arg-type]
    await jobs.put_async("1")  # type: ignore[arg-type]
    text: str = jobs.get()  # type: ignore[assignment]
    with jobs.take() as job:
        text = job  # type: ignore[assignment]
    jobs.get(timeout="1")  # type: ignore[arg-type]
    print(text)


def publishing(ticks: Topic[int], words: Topic[str], counter: ActorRef[Counter]) -> None:
    ticks.publish("1")  # type: ignore[arg-type]
    words.subscribe(counter, Counter.add)  # type: ignore[arg-type]
    ticks.subscribe(counter, Other.add)  # type: ignore[arg-type]


def piping() -> None:
    Stage(3)  # type: ignore[arg-type]
    Stage(len, workers="two")  # type: ignore[arg-type]
    Stage(["cat"], framing="words")  # type: ignore[arg-type]
    Stage(len, on_error="stop")  # type: ignore[arg-type]
    Pipeline(len).run(3)  # type: ignore[arg-type]

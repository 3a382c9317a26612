"""Actors come and go by the thousand, and nothing grows: descriptors, mappings, threads, memory, processes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from actors import Actor, ActorDied, ActorSystem
from actors.supervision import Backoff, Child, Supervisor
from kit import Resources, children, family, process, until

WARM_UP = 30  # cycles after which every cache has what it will have
CYCLES = [pytest.param(200, marks=pytest.mark.timeout(300)), pytest.param(2000, marks=pytest.mark.nightly)]
SLACK = 4 << 20  # bytes that allocators hold back
REMEMBERED = 1000  # bytes a cycle: what is still known of an ended actor, up to a limit


class Worker(Actor):
    """Answers."""

    def echo(self, item: object) -> object:
        return item

    def fail(self) -> None:
        os._exit(3)


def stop(system: ActorSystem) -> None:
    worker = system.spawn(Worker)
    assert worker.ask(Worker.echo, 1).result(20) == 1
    worker.stop()
    worker.wait(20)


def kill(system: ActorSystem) -> None:
    worker = system.spawn(Worker)
    downs: list[object] = []
    worker.monitor(downs.append)
    worker.tell(Worker.echo, bytes(100_000))
    worker.kill()
    worker.wait(20)
    until(lambda: downs, "the monitor heard")


def crash(system: ActorSystem) -> None:
    worker = system.spawn(Worker, max_restarts=1, backoff=Backoff(0.0, 0.0))
    with pytest.raises(ActorDied):
        worker.ask(Worker.fail).result(20)
    assert worker.ask(Worker.echo, bytes(300_000)).result(20) == bytes(300_000)  # too large for the ring: by handle
    worker.stop()
    worker.wait(20)


def tree(system: ActorSystem) -> None:
    running = system.start(Supervisor(Child(Worker, name="worker"), name="tree"))
    running["worker"].tell(Worker.echo, 1)
    running.stop()
    running.wait(20)


def listen(system: ActorSystem) -> None:
    worker = system.spawn(Worker)
    worker.using(timeout=20).ask(Worker.echo, 1).result()
    events = system.events()
    worker.stop()
    worker.wait(20)
    events.close()


def measure(system: ActorSystem) -> dict[str, Resources]:
    """What the system's own processes hold, once all that ended is gone and the zygote has let go of what it was sent."""

    def settled() -> dict[str, Resources]:
        titles = [each.title for pid in children(system.guardian_pid) if (each := process(pid))]
        if sorted(title.split("/")[-1].split()[-1] for title in titles) != ["spare", "steady", "zygote"]:
            return {}
        pids = {"program": os.getpid(), **family(system.guardian_pid)._asdict()}
        first, second = ({name: Resources.of(pid) for name, pid in pids.items()} for _ in range(2))
        return first if counts(first) == counts(second) else {}

    return until(settled, "all are gone that went")


def counts(resources: dict[str, Resources]) -> dict[str, tuple[int, ...]]:
    """Without the memory."""
    return {name: each[:3] for name, each in resources.items()}


def no_more(now: dict[str, Resources], before: dict[str, Resources]) -> dict[str, Resources]:
    """`now`, if nobody holds more than before: a segment kept for the next large message may have been let go since."""
    then = counts(before)
    return (
        now
        if all(held <= had for name, each in counts(now).items() for held, had in zip(each, then[name], strict=True))
        else {}
    )


@pytest.mark.parametrize("cycles", CYCLES)
@pytest.mark.parametrize("cycle", [stop, kill, crash, tree, listen], ids=lambda cycle: cycle.__name__)
def test_nothing_grows_over_cycles_of(cycle: Callable[[ActorSystem], None], cycles: int, system: ActorSystem) -> None:
    """Guardian, zygote, warden and program hold after N cycles what they held after the first few; no zombie is left."""
    if cycles > 200 and cycle is not stop:
        cycles //= 4
    steady = system.spawn(Worker, name="steady")
    assert steady.ask(Worker.echo, 0).result(20) == 0
    for _ in range(WARM_UP):
        cycle(system)
    before = measure(system)
    for _ in range(cycles):
        cycle(system)
    after = until(lambda: no_more(measure(system), before), f"as before: {counts(before)}")
    grown = {name: after[name].resident - before[name].resident for name in after}
    print(f"resident bytes grown over {cycles} cycles: {grown}")
    assert max(grown.values()) < SLACK + cycles * REMEMBERED, f"grown: {grown}"

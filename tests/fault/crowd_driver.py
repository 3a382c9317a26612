"""What many senders at one ring run in a process of their own: `crowd_driver.py <extension> <scenario> <seed> <numbers…>`.

As ring_driver.py, whose world, children and shared counters it uses. Findings are printed as JSON.
"""

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from ring_driver import PATIENCE, World, fork, load, reap, shared


def heirs(ring: Any, rng: random.Random, blocked: int, rounds: int) -> dict[str, Any]:
    """The lock's owner is killed while so many wait for the lock: all of them send, and what it had published is there."""
    found: Counter[str] = Counter()
    for _ in range(rounds):
        world, point = World(ring, 1 << 16), rng.choice((1, 2, 3, 4))

        def stop(world: World = world, point: int = point) -> None:
            world.mail.fault(-point)
            world.send(0, 0, 60)

        owner = fork(stop)
        os.waitid(os.P_PID, owner, os.WSTOPPED)
        waiters = [fork(partial(world.send, 1 + slot, 0, 60)) for slot in range(blocked)]
        if rng.random() < 0.5:  # else some of them come after its death
            _until_asleep(waiters)
        os.kill(owner, signal.SIGKILL)
        found["not killed"] += reap(owner) != -signal.SIGKILL
        found["unexpected exits"] += sum(world.consume_until_end(pid) != 0 for pid in waiters)
        world.drain()
        found["lost"] += sum(world.expected[1 + slot] != 1 for slot in range(blocked))
        found["wrong of the dead"] += world.expected[0] != (point == 4)
        found["not inherited once"] += world.mail.stats()["recovered"] != 1
        found["depth"] += world.depth()
        found.update({name: count for name, count in world.found.items() if name != "records"})
    return dict(found)


def heirs_die(ring: Any, rng: random.Random, deaths: int) -> dict[str, Any]:
    """Whoever takes the lock over from a dead owner, and so cleans up after it, dies as well, again and again."""
    world, published = World(ring, 1 << 16), 0
    for number in range(deaths):
        point = rng.choice((1, 2, 3, 4))

        def die(number: int = number, point: int = point) -> None:
            world.mail.fault(point)
            world.send(number, 0, 60)

        world.found["not killed"] += reap(fork(die)) != -signal.SIGKILL
        published += point == 4
        world.found["miscounted"] += world.depth() != published
    world.found["the next one is held up"] += reap(fork(partial(world.send, deaths, 0, 60))) != 0
    world.drain()
    world.found["lost"] += sum(world.expected.values()) != published + 1
    world.found["not inherited"] += world.mail.stats()["recovered"] != deaths
    return {**world.found, "depth": world.depth()}


def wake_ups(ring: Any, rng: random.Random, rounds: int) -> dict[str, Any]:
    """Two processes answer each other, each sleeping for up to 50 us between its last look and its wait: a wait that ends
    for nothing, while there is mail and the bell was not rung, is a lost wake-up."""
    here, there, counts = World(ring, 1 << 16), World(ring, 1 << 16), shared(2)

    def answer() -> None:
        mine = random.Random(rng.random())
        for number in range(rounds):
            _receive(there, mine, counts, 1)
            here.mail.push(b"", 1, 0, 1, number, 0, PATIENCE)

    pid, slowest = fork(answer), 0.0
    for number in range(rounds):
        start = time.perf_counter()
        there.mail.push(b"", 1, 0, 0, number, 0, PATIENCE)
        _receive(here, rng, counts, 0)
        slowest = max(slowest, time.perf_counter() - start)
    return {"unexpected exit": reap(pid), "lost wake-ups": counts[0] + counts[1], "slowest": round(slowest, 3)}


def _receive(world: World, rng: random.Random, counts: memoryview, slot: int) -> None:
    spin = rng.choice((0.0, 20.0))
    while world.inbox.next(spin) is None:
        end = time.perf_counter() + rng.random() * 50e-6
        while time.perf_counter() < end:
            pass
        if not select.select([world.bell], [], [], 1.0)[0]:
            counts[slot] += world.depth() > 0 and not select.select([world.bell], [], [], 0)[0]
        world.inbox.clear()


def crowd(ring: Any, rng: random.Random, senders: int, each: int) -> dict[str, Any]:
    """So many send at once, as fast as they can, to one consumer through a ring that is always full."""
    world, counts, go = World(ring, 1 << 16), shared(senders), shared(1)

    def send(slot: int) -> None:
        while not go[0]:
            time.sleep(0.0001)
        for number in range(each):
            if not world.send(slot, number, 60):
                raise RuntimeError("push failed")
            counts[slot] += 1

    pids = [fork(partial(send, slot)) for slot in range(senders)]
    go[0], share = 1, 0.0
    for pid in pids:
        world.found["unexpected exits"] += world.consume_until_end(pid) != 0
        share = share or min(counts) / each
    world.drain()
    world.found["lost"] = senders * each - world.found["records"]
    return {**world.found, "depth": world.depth(), "least when the first had sent all": round(share, 3)}


def _until_asleep(pids: list[int]) -> None:
    """Until all of them sleep in the kernel; the bound is a safety net."""
    end = time.monotonic() + PATIENCE
    for pid in pids:
        while time.monotonic() < end:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SZ":
                break
            time.sleep(0.0001)


def main() -> None:
    path, scenario, seed, *rest = sys.argv[1:]
    rng = random.Random(int(seed))
    random.seed(seed)
    print(json.dumps(globals()[scenario](load(path), rng, *map(int, rest))))


if __name__ == "__main__":
    main()

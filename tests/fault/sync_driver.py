"""What the fault tests of locks, semaphores and barriers run in a process of their own: `sync_driver.py <extension>
<scenario> <seed> …`.

Its findings are printed as JSON. The extension is a build with -DRING_FAULTS: `Sync.fault(point)` makes the process kill
itself there. This process is the guardian: it reaps the dead and sweeps their slots; its children are the processes that
contend.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from ring_driver import fork, load, reap, shared

LOCK, SEMAPHORE, BARRIER = 1, 2, 3
PATIENCE = 30.0  # seconds after which something is taken to be stuck
CONTENDERS = 8
BROKEN, REFUSED = 7, 8  # exit codes
TAKING, SLEEPING, GIVING = (1, 2, 3, 4), (5, 6), (1, 2, 3, 4, 7)  # points in sync.h


class Place:
    """One page; `view(slot)` opens it as another process does."""

    def __init__(self, ring: Any, kind: int, n: int, bounded: bool = False) -> None:
        self.ring, self.kind, self.n = ring, kind, n
        self.fd = ring.create_sync(kind, n, bounded, 100)
        self.guardian = self.view(0)

    def view(self, slot: int) -> Any:
        if self.kind == BARRIER:
            from actors.coordination.barrier import Barrier

            made: Any = Barrier("driver", "barrier", {"n": self.n})
        else:
            made = self.ring.Sync()
        made.map(self.fd, slot)
        return made

    def assign(self, slot: int) -> None:
        self.guardian.assign(slot, slot)


def started(place: Place, slot: int, work: Callable[[Any], object]) -> int:
    place.assign(slot)
    return fork(lambda: work(place.view(slot)))


def until(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return True


def asleep(pid: int) -> bool:
    """In a futex."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


# --- one death at a point


def dies_taking(ring: Any, rng: random.Random, kind: int, point: int) -> dict[str, Any]:
    """A process dies while it takes the only permit: it is there again, whether it had it or not."""
    place = Place(ring, kind, 1)

    def work(mine: Any) -> None:
        mine.fault(point)
        mine.acquire(False)

    killed = reap(started(place, 1, work)) == -signal.SIGKILL
    before = place.guardian.number
    held = place.guardian.sweep(1)
    place.assign(2)
    next_one = place.view(2)
    return {
        "killed": killed,
        "held": held,
        "taken": next_one.acquire(False),
        "told": next_one.abandoned == bool(held),
        "grown": next_one.number > before,
        "count": place.guardian.count,
    }


def dies_giving(ring: Any, rng: random.Random, kind: int, point: int) -> dict[str, Any]:
    """A process dies while it gives the permit back, for which another sleeps: that one has it, and soon."""
    place = Place(ring, kind, 1)
    go = os.eventfd(0)

    def work(mine: Any) -> None:
        mine.acquire()
        os.eventfd_read(go)
        mine.fault(point)
        mine.release()

    holder = started(place, 1, work)
    until(lambda: not place.guardian.count)
    waiter = started(place, 2, lambda mine: os._exit(0 if mine.acquire(timeout=PATIENCE) else 1))
    slept = until(lambda: asleep(waiter))
    os.eventfd_write(go, 1)
    killed = reap(holder) == -signal.SIGKILL
    place.guardian.sweep(1)
    taken = reap(waiter) == 0
    return {
        "killed": killed,
        "slept": slept,
        "taken": taken,
        "left": place.guardian.sweep(2),
        "count": place.guardian.count,
    }


def dies_sleeping(ring: Any, rng: random.Random, kind: int, point: int) -> dict[str, Any]:
    """A process dies when it goes to sleep, or when it was woken: the next one sleeps for nothing at most a slice."""
    place = Place(ring, kind, 1)
    place.assign(9)
    holder = place.view(9)
    holder.acquire()

    def work(mine: Any) -> None:
        mine.fault(point)
        mine.acquire()

    victim = started(place, 1, work)
    if point == 6:
        until(lambda: asleep(victim))
    else:
        reap(victim)
    waiter = started(place, 2, lambda mine: os._exit(0 if mine.acquire(timeout=PATIENCE) else 1))
    until(lambda: asleep(waiter))
    holder.release()  # wakes the first one, which dies of it
    killed = point != 6 or reap(victim) == -signal.SIGKILL
    held = place.guardian.sweep(1)
    return {"killed": killed, "held": held, "taken": reap(waiter) == 0, "left": place.guardian.sweep(2)}


def overwritten(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A process dies after its change and before its account; others have changed the word since: it is known still."""
    place = Place(ring, SEMAPHORE, 3)

    def work(mine: Any) -> None:
        mine.acquire()
        mine.fault(3)
        mine.acquire()

    pid = started(place, 1, work)
    reap(pid)
    place.assign(2)
    other = place.view(2)
    for _ in range(50):
        other.acquire()
        other.release()
    before = place.guardian.count
    return {"before": before, "held": place.guardian.sweep(1), "count": place.guardian.count}


def released_by_two(ring: Any, rng: random.Random) -> dict[str, Any]:
    """One permit of a bounded semaphore is taken, and two processes give it back at once: one of them is told."""
    place = Place(ring, SEMAPHORE, 1, True)
    place.assign(9)
    mine = place.view(9)
    mine.acquire()

    def work(other: Any) -> None:
        other.fault(-1)
        try:
            other.release()
        except ValueError:
            os._exit(REFUSED)

    pid = started(place, 1, work)
    os.waitid(os.P_PID, pid, os.WSTOPPED)  # it has looked, and is about to change the word
    mine.release()
    while True:
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return {"refused": os.waitstatus_to_exitcode(status) == REFUSED, "count": place.guardian.count}


# --- deaths anywhere


def contend(mine: Any, slot: int, words: memoryview, rng: random.Random, point: int, n: int) -> None:
    """Take and give back until told to stop. words: 0 stop, 1 inside (locks: by whom; semaphores: how many), 2 largest
    token, 3 violations, then acquisitions of each slot."""
    calm = rng.randrange(30)
    while not words[0]:
        if point and not calm:
            mine.fault(point)
        calm -= 1
        if not mine.acquire(timeout=PATIENCE):
            words[3] += 1
            raise RuntimeError("waited for ever")
        if n == 1:
            if words[1]:
                words[3] += 1
            words[1] = slot
            if mine.number <= words[2]:
                words[3] += 1
            words[2] = mine.number
            if rng.random() < 0.05:
                time.sleep(0.001)
            if words[1] != slot:
                words[3] += 1
            words[1] = 0
        words[8 + slot] += 1
        mine.release()


def deaths(ring: Any, rng: random.Random, kind: int, n: int, times: int) -> dict[str, Any]:
    """Eight contend; so many times one of them is killed, at a point or anywhere."""
    place, words = Place(ring, kind, n), shared(8 + CONTENDERS + 1)
    found: Counter[str] = Counter()

    def start(slot: int, point: int) -> int:
        seed = rng.randrange(1 << 32)
        return started(
            place,
            slot,
            lambda mine: contend(mine, slot, words, random.Random(seed), point, n if kind == SEMAPHORE else 1),
        )

    def end(slot: int, pid: int) -> None:
        found["deaths"] += reap(pid) == -signal.SIGKILL
        if kind == LOCK and words[1] == slot:  # nobody else can write it before the sweep
            words[1] = 0
        found["held"] += place.guardian.sweep(slot) > 0

    pids = {slot: start(slot, 0) for slot in range(1, CONTENDERS + 1)}
    while found["deaths"] < times:
        if rng.random() < 0.5:
            slot = rng.choice(sorted(pids))
            os.kill(pids[slot], signal.SIGKILL)
            end(slot, pids[slot])
            pids[slot] = start(slot, rng.choice([0, *TAKING, *SLEEPING, 7]))
        for slot, pid in list(pids.items()):  # those that came upon their point
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                end(slot, pid)
                pids[slot] = start(slot, 0)
        time.sleep(rng.random() * 0.01)
    words[0] = 1
    slots = {pid: slot for slot, pid in pids.items()}
    while slots:  # as they end: one that comes upon its point now still holds what others wait for
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        end(slots.pop(ended.si_pid), ended.si_pid)
    found["violations"] = words[3]
    found["missing"] = n - place.guardian.count
    found["acquired"] = sum(words[8 + slot] for slot in range(1, CONTENDERS + 1))
    return dict(found)


def handovers(ring: Any, rng: random.Random, times: int) -> dict[str, Any]:
    """Eight take turns until there were so many handovers: no wake-up is lost, and nobody is left out."""
    place, words = Place(ring, LOCK, 1), shared(8 + CONTENDERS + 1)

    def work(slot: int, mine: Any) -> None:
        with mine:
            words[4] += 1
        until(lambda: words[4] == CONTENDERS)  # nobody is alone
        while words[1] < times:
            if not mine.acquire(timeout=PATIENCE):
                raise RuntimeError("waited for ever")
            words[1] += words[2] != slot
            words[2] = slot
            words[8 + slot] += 1
            mine.release()

    start = time.monotonic()
    pids = [started(place, slot, partial(work, slot)) for slot in range(1, CONTENDERS + 1)]
    stuck = sum(reap(pid) != 0 for pid in pids)
    each = sorted(words[8 + slot] for slot in range(1, CONTENDERS + 1))
    return {
        "handovers": words[1],
        "stuck": stuck,
        "least": each[0],
        "acquired": sum(each),
        "count": place.guardian.count,
        "seconds": round(time.monotonic() - start, 2),
    }


def barrier_dies(ring: Any, rng: random.Random, point: int) -> dict[str, Any]:
    """One of three dies at a point of its arrival or its sleep (0: killed asleep), and two others wait. If it had arrived
    the barrier is broken; else it is as it was, and a third makes it go on."""
    place = Place(ring, BARRIER, 3)

    def victim(mine: Any) -> None:
        mine.fault(point)
        mine.wait()

    def waits(mine: Any) -> None:
        try:
            mine.wait(PATIENCE)
        except BrokenBarrierError:
            os._exit(BROKEN)

    dying = started(place, 1, victim)
    if not point:
        until(lambda: place.guardian.count == 1 and asleep(dying))
        os.kill(dying, signal.SIGKILL)
    killed = reap(dying) == -signal.SIGKILL
    arrived = place.guardian.count
    others = [started(place, slot, waits) for slot in (2, 3)] if not arrived else [started(place, 2, waits)]
    waiting = until(lambda: place.guardian.count == 2 and all(asleep(pid) for pid in others))
    held = place.guardian.sweep(1)
    if not arrived:
        others.append(started(place, 4, waits))
    return {
        "killed": killed,
        "waiting": waiting,
        "arrived": arrived,
        "held": held,
        "ends": [reap(pid) for pid in others],
    }


SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {
    "dies_taking": dies_taking,
    "dies_giving": dies_giving,
    "dies_sleeping": dies_sleeping,
    "overwritten": overwritten,
    "released_by_two": released_by_two,
    "deaths": deaths,
    "handovers": handovers,
    "barrier_dies": barrier_dies,
}

if __name__ == "__main__":
    extension, scenario, seed, *arguments = sys.argv[1:]
    ring = sys.modules["actors.transports._ring"] = load(extension)
    print(json.dumps(SCENARIOS[scenario](ring, random.Random(int(seed)), *map(int, arguments))))

"""What the fault tests of a shared ring run in a process of their own: `box_driver.py <extension> <scenario> <seed>`.

As ring_driver.py, for rings with several consumers: this process is the owner and one of the consumers; its children,
each with an endpoint of its own, die by SIGKILL at the points that takers.h and taker.py mark, and are reclaimed as the guardian
would do it.
"""

import contextlib
import json
import os
import random
import select
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from ring_driver import PATIENCE, fork, load, reap, shared

ME, CHILD = 1, 7
TAKING, ENDING, GIVING = range(10, 15), range(15, 19), range(19, 22)
TAKEN = 12  # from this point on a record is in hand


class Box:
    """A shared ring, and what this process knows of it."""

    def __init__(self, ring: Any, capacity: int = 1 << 16, most: int = 0) -> None:
        self.module, self.most = ring, most
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        fd = ring.create(capacity)
        self.ring = ring.Ring(fd, self.bell)
        os.close(fd)
        self.join(ME)

    def join(self, me: int) -> None:
        self.ring.join(me, self.most)

    def put(self, sender: int, number: int, length: int = 60, timeout: float = PATIENCE) -> bool:
        body = sender.to_bytes(4, "little") + number.to_bytes(4, "little") + random.randbytes(length)
        said: int = self.ring.push(body + zlib.crc32(body).to_bytes(4, "little"), 3, 0, 0, 0, 0, timeout)
        return said >= 0

    def get(self, timeout: float, keep: bool) -> tuple[int, int, int, int] | None:
        """(sender, number, tries, position); None: nothing there."""
        got = self.ring.get(timeout, keep, None)
        if isinstance(got, int):
            return None
        body, _, tries, position = got
        if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            raise RuntimeError("torn")
        return int.from_bytes(body[:4], "little"), int.from_bytes(body[4:8], "little"), tries, position

    def bury(self, endpoint: int) -> None:
        self.ring.reclaim(endpoint)
        self.ring.rouse()


def taker_dies_at(ring: Any, rng: random.Random, point: int) -> dict[str, Any]:
    """One consumer, one death, while it has the third of six messages in hand or is about to."""
    box, found = Box(ring, most=7), Counter[str]()
    for number in range(6):
        box.put(0, number)

    def die() -> None:
        box.join(CHILD)
        for _ in range(2):
            got = box.get(0.0, True)
            if got is None or not box.ring.end(got[3], True):
                raise RuntimeError("not taken")
        if point in TAKING:
            box.ring.fault(point)
        got = box.get(0.0, True)
        if got is None:
            raise RuntimeError("not taken")
        box.ring.fault(point)
        if point in GIVING or point == 22:
            box.ring.poll()  # there is somebody to wake
            box.ring.give_back(got[3])
        else:
            box.ring.end(got[3], True)

    found["not killed"] = reap(fork(die)) != -signal.SIGKILL
    box.bury(CHILD)
    over = point in (16, 17, 18)
    found["waiting miscounted"] = box.ring.waits() - (3 if over else 4)
    stats = box.ring.stats()
    found["depth miscounted"] = stats["accepted"] - stats["handled"] - (3 if over else 4)
    for number in range(6, 9 + over):
        found["no room"] += not box.put(0, number, timeout=0.0)
    found["too much room"] = box.put(0, 99, timeout=0.0)
    tries = 1 if point >= TAKEN else 0
    for number in range(3 if over else 2, 9 + over):
        got = box.get(0.0, True)
        if got is None or got[:3] != (0, number, tries if number == 2 else 0):
            found["unexpected message"] += 1
        if got is not None:
            box.ring.end(got[3], True)
    found["left over"] = box.get(0.0, True) is not None
    found["unfinished"] = not box.ring.finished(0.0)
    found["head left behind"] = box.ring.stats()["head"] != box.ring.stats()["tail"]
    return dict(found)


def head_is_left(ring: Any, rng: random.Random) -> dict[str, Any]:
    """The last consumer dies when a full ring is over and its head not moved: producers have room all the same."""
    box, found = Box(ring, 4096), Counter[str]()
    while box.put(0, 0, timeout=0.0):
        pass

    def die() -> None:
        box.join(CHILD)
        first = box.get(0.0, True)
        while (got := box.get(0.0, False)) is not None:
            pass
        box.ring.fault(17)
        if first is not None and got is None:
            box.ring.end(first[3], True)

    found["not killed"] = reap(fork(die)) != -signal.SIGKILL
    box.bury(CHILD)
    found["no room"] = not box.put(0, 1, timeout=1.0)
    return dict(found)


def producer_dies_at(ring: Any, rng: random.Random, point: int) -> dict[str, Any]:
    """One producer dies while a consumer sleeps: what was published is taken, and the next producer goes on."""
    box, found, seen = Box(ring), Counter[str](), shared(1)

    def consume() -> None:
        box.join(CHILD)
        seen[0] = 1
        for number in range(3 if point >= 4 else 2):
            got = box.get(PATIENCE, False)
            if got is None or got[:2] != ((0, number) if number < 2 or point < 4 else (1, 0)):
                raise RuntimeError(f"unexpected: {got}")

    def die() -> None:
        box.put(0, 0)
        box.ring.fault(point)
        box.ring.poll()  # there is somebody to wake
        box.put(0, 1)

    consumer = fork(consume)
    while not seen[0]:
        time.sleep(0.001)
    pid = fork(die)
    found["not killed"] = reap(pid) != -signal.SIGKILL
    box.bury(CHILD + 1)
    found["not sent"] = not box.put(*((0, 1) if point < 4 else (1, 0)))
    found["consumer"] = reap(consumer)
    found["waiting miscounted"] = box.ring.waits()
    found["not recovered"] = box.ring.stats()["recovered"] != (point <= 4)
    return dict(found)


class Log:
    """What was handled, by whichever consumer: written before `end`, so that it outlives its writer."""

    def __init__(self) -> None:
        self.words, self.lengths = [shared(1 << 20) for _ in range(3)], shared(3)

    def add(self, lane: int, sender: int, number: int, tries: int) -> None:
        self.words[lane][self.lengths[lane]] = tries << 48 | sender << 32 | number
        self.lengths[lane] += 1

    def read(self) -> list[tuple[int, int, int]]:
        """(sender, number, tries)"""
        lanes = [words[: self.lengths[lane]].tolist() for lane, words in enumerate(self.words)]
        return [(word >> 32 & 0xFFFF, word & 0xFFFFFFFF, word >> 48) for lane in lanes for word in lane]


def produce(box: Box, sender: int, counts: memoryview, stop: memoryview, point: int, calm: int) -> None:
    """`counts[sender]` says how many puts have returned."""
    box.join(100 + sender)
    while not stop[0]:
        if point and counts[sender] == calm:
            box.ring.fault(point)
        if not box.put(sender, counts[sender], random.choice((0, 60, 300))):
            raise RuntimeError("put failed")
        counts[sender] += 1


def consume(box: Box, me: int, lane: int, log: Log, stop: memoryview, point: int, calm: int) -> None:
    box.join(me)
    taken = 0
    while not stop[0] or box.ring.waits():
        got = box.get(0.05, True)
        if got is None:
            continue
        taken += 1
        if point and taken >= calm:
            box.ring.fault(point)
        if taken % 7 == 0:
            box.ring.give_back(got[3])
            continue
        log.add(lane, *got[:3])
        zlib.crc32(bytes(20_000))  # some work, to be killed in
        box.ring.end(got[3], True)


def many_die(ring: Any, rng: random.Random, deaths: int) -> dict[str, Any]:
    """Consumers and producers die anywhere, while others of both go on: nothing is lost, and what comes again says so."""
    box, counts, stop, log = Box(ring), shared(4096), shared(1), Log()
    found, senders, endpoints = Counter[str](), iter(range(2, 4096)), iter(range(1000, 9999))
    steady = [fork(partial(produce, box, sender, counts, stop, 0, 0)) for sender in (0, 1)]
    steady.append(fork(partial(consume, box, 500, 0, log, stop, 0, 0)))
    lanes: dict[int, int] = {}
    for _ in range(deaths):
        point = rng.choice([*range(10, 23), *[0] * 13]) if rng.random() < 0.7 else rng.choice([1, 2, 3, 4, 5, 22])
        calm = rng.randrange(1, 20)
        if point and point < 10:
            endpoint, sender = 0, next(senders)
            pid = fork(partial(produce, box, sender, counts, stop, point, calm))
            lanes[sender] = pid
        else:
            endpoint, sender = next(endpoints), 0
            pid = fork(partial(consume, box, endpoint, 1, log, stop, point, calm))
        # one without a point dies after its k-th message; one that never came to its point, too
        progress, slot, most = (
            (log.lengths, 1, 60 if point else rng.randrange(12)) if endpoint else (counts, sender, 60)
        )
        least, fd = progress[slot] + most, os.pidfd_open(pid)
        while progress[slot] < least and not select.select([fd], [], [], 0.0002)[0]:
            pass
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)
        found["unexpected exits"] += reap(pid) != -signal.SIGKILL
        if endpoint:
            box.bury(endpoint)
        else:
            box.ring.rouse()
    stop[0] = 1
    for pid in steady:
        found["unexpected exits"] += reap(pid) != 0
    while (got := box.get(0.2, True)) is not None:
        log.add(2, *got[:3])
        box.ring.end(got[3], True)
    found["unfinished"] = not box.ring.finished(0.0)
    found["waiting miscounted"] = box.ring.waits()
    stats = box.ring.stats()
    found["depth miscounted"] = stats["accepted"] - stats["handled"]
    return {**found, **judge(log.read(), counts, {0, 1, *lanes})}


def judge(handled: list[tuple[int, int, int]], counts: memoryview, senders: set[int]) -> dict[str, int]:
    """Every message whose put returned was handled, and none with the same number of tries twice."""
    once = {each[:2] for each in handled}
    accepted = {(sender, number) for sender in senders for number in range(counts[sender])}
    perhaps = {(sender, counts[sender]) for sender in senders}  # published by one that died before put returned
    return {
        "lost": len(accepted - once),
        "unknown": len(once - accepted - perhaps),
        "twice without a word": len(handled) - len(set(handled)),
        "handled": len(handled),
        "redelivered": sum(tries > 0 for _, _, tries in handled),
    }


def keeper_is_stopped(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A consumer stands inside the lock: others are told whose it is, the owner is not held up, and it can go on."""
    box = Box(ring)
    box.put(0, 0)
    box.put(0, 1)

    def stop() -> None:
        box.join(CHILD)
        box.ring.fault(-11)
        box.get(0.0, False)

    pid = fork(stop)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    found: dict[str, Any] = {
        "said": box.ring.get(0.05, False, None) == ring.STUCK,
        "keeper": box.ring.keeper() == pid,
        "put": box.put(0, 2, timeout=0.0),
        "reclaimed": box.ring.reclaim(99),
        "waits": box.ring.waits(),
    }
    os.kill(pid, signal.SIGCONT)
    found["exit"] = reap(pid)
    found["next"] = (box.get(0.0, False) or (0, 0))[1]
    return found


def room_is_made_meanwhile(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A producer looks whether a full mailbox is full; before it has done so, all that was in it is over. It has room."""
    box = Box(ring, most=1)
    box.put(0, 0)

    def put() -> None:
        box.join(CHILD)
        box.ring.fault(-23)
        if not box.put(0, 1, timeout=0.0):
            raise RuntimeError("no room")

    pid = fork(put)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    first = box.get(0.0, False)
    os.kill(pid, signal.SIGCONT)
    found: dict[str, Any] = {"first": (first or (0, 9))[1], "exit": reap(pid)}
    found["second"] = (box.get(0.0, False) or (0, 9))[1]
    return found


def begun_end_is_over(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A consumer dies as it is about to end a `take` block. The message comes back, and another takes it by `get`: it is
    unfinished until task_done, also when the next death has been mended while an older message is in hand."""
    box, found = Box(ring), Counter[str]()
    for number in range(2):
        box.put(0, number)
    oldest = box.get(0.0, True)

    def die(point: int) -> None:
        box.join(CHILD)
        box.ring.fault(point)
        got = box.get(0.0, True)
        if got is not None:
            box.ring.end(got[3], True)

    for point in (15, 10):
        found["not killed"] += reap(fork(partial(die, point))) != -signal.SIGKILL
        box.bury(CHILD)
        if point == 15:
            found["not back"] = (box.get(0.0, False) or (0, 9))[1] != 1
    box.ring.waits()  # inherits
    if oldest is not None:
        box.ring.end(oldest[3], True)
    found["finished too early"] = box.ring.finished(0.0) is not False
    found["not counted"] = not box.ring.task_done()
    found["never finished"] = not box.ring.finished(0.0)
    return dict(found)


def taken_back_meanwhile(ring: Any, rng: random.Random) -> dict[str, Any]:
    """What a consumer has just taken is given back in its name, before it could be handed over: it is not handed over."""
    box = Box(ring)
    box.put(0, 0)

    def get() -> None:
        box.join(CHILD)
        box.ring.fault(-14)
        said = box.ring.get(0.0, False, None)
        if said != ring.LEFT:
            raise RuntimeError(f"it was handed over: {said}")

    pid = fork(get)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    reclaimed = box.ring.reclaim(CHILD)
    os.kill(pid, signal.SIGCONT)
    return {"reclaimed": reclaimed, "exit": reap(pid), "tries": (box.get(0.0, False) or (0, 0, 9))[2]}


def interrupted_at_the_end(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A handler raises while `get` waits to hand over what it has taken, since another consumer stands inside the lock."""
    box, raised = Box(ring), shared(1)
    box.put(0, 0)

    def interrupt(*_: object) -> None:
        raised[0] = 1
        raise InterruptedError

    def get(point: int) -> None:
        signal.signal(signal.SIGUSR1, interrupt)
        box.join(CHILD + point)
        box.ring.fault(-point)
        with contextlib.suppress(InterruptedError):
            box.get(0.0, False)

    pids = []
    for point in (14, 10):
        pids.append(fork(partial(get, point)))
        os.waitid(os.P_PID, pids[-1], os.WSTOPPED)
    os.kill(pids[0], signal.SIGUSR1)
    os.kill(pids[0], signal.SIGCONT)
    end = time.monotonic() + PATIENCE
    while not raised[0] and time.monotonic() < end:
        time.sleep(0.001)
    os.kill(pids[1], signal.SIGCONT)
    exits = [reap(pid) for pid in pids]
    return {"raised": raised[0], "exits": exits, "back": (box.get(0.0, False) or (0, 9))[1:3]}


def main() -> None:
    path, scenario, seed, *rest = sys.argv[1:]
    rng = random.Random(int(seed))
    random.seed(seed)
    signal.alarm(1000 if scenario == "many_die" else 100)
    known = (
        *(taker_dies_at, head_is_left, producer_dies_at, many_die, keeper_is_stopped),
        *(room_is_made_meanwhile, begun_end_is_over, taken_back_meanwhile, interrupted_at_the_end),
    )
    scenarios: dict[str, Callable[..., dict[str, Any]]] = {each.__name__: each for each in known}
    print(json.dumps(scenarios[scenario](load(path), rng, *map(int, rest))))


if __name__ == "__main__":
    main()

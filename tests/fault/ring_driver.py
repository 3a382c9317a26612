"""What the fault tests of the ring run in a process of their own: `ring_driver.py <extension> <scenario> <seed>`.

Its findings are printed as JSON. The extension is a build with -DRING_FAULTS, or "python", the ring in Python with its
points (marked.py): `Ring.fault(point)` makes the process kill itself there, `fault(-point)` stop itself. This process is
consumer and guardian in one; its children die.
"""

import importlib.util
import json
import mmap
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
from itertools import pairwise
from typing import Any

import marked

HURT = (60, 300, 3000, 100_000)  # bodies: inside one cache line's reach, over pages, copied without the GIL
PATIENCE = 20.0  # seconds after which something is taken to be stuck: no outcome depends on it otherwise
SENDERS = 4096


def load(path: str) -> Any:
    """path: of the extension; or "python"."""
    if path == "python":
        return marked.load()
    spec = importlib.util.spec_from_file_location("actors.transports._ring", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{error!r}", file=sys.stderr)
            os._exit(1)
    return pid


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shared(words: int) -> memoryview:
    """64-bit words that children write and this process reads."""
    return memoryview(mmap.mmap(-1, words * 8)).cast("Q")


class World:
    """A mailbox with its lanes and bell, and a consumer that checks whatever it takes."""

    def __init__(self, ring: Any, capacity: int = 1 << 20) -> None:
        self.module = ring
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        fds = [ring.create(size) for size in (4096, 4096, capacity)]
        self.replies, self.control, self.mail = (ring.Ring(fd, self.bell) for fd in fds)
        self.inbox = ring.Inbox(self.bell, self.replies, self.control, self.mail)
        self.expected: Counter[int] = Counter()  # sender -> the number of its next record
        self.found: Counter[str] = Counter()
        for fd in fds:
            os.close(fd)

    def send(self, sender: int, number: int, length: int) -> bool:
        body = random.randbytes(length)
        said: int = self.mail.push(zlib.crc32(body).to_bytes(4, "little") + body, 1, 0, sender, number, 0, PATIENCE)
        return said >= 0

    def check(self, record: tuple[Any, ...]) -> None:
        _, _, sender, number, _, _, _, body = record
        self.found["records"] += 1
        self.found["torn"] += zlib.crc32(body[4:]) != int.from_bytes(body[:4], "little")
        self.found["disordered"] += number != self.expected[sender]
        self.expected[sender] = number + 1

    def consume_until(self, done: Callable[[], bool], wake: int = -1) -> None:
        """Handle mail until `done`; a sleep that nothing ends is counted as a stall."""
        end = time.monotonic() + PATIENCE
        while not done():
            record = self.inbox.next(20.0)
            if record is not None:
                self.check(record)
            elif select.select([fd for fd in (self.bell, wake) if fd >= 0], [], [], 0.01)[0]:
                self.inbox.clear()
            if time.monotonic() > end:
                self.found["stalls"] += 1
                return

    def consume_until_end(self, pid: int) -> int:
        """Handle mail until that child has ended; its exit status."""
        fd = os.pidfd_open(pid)
        self.consume_until(lambda: bool(select.select([fd], [], [], 0)[0]), fd)
        os.close(fd)
        return reap(pid)

    def drain(self) -> None:
        while (record := self.inbox.next(0)) is not None:
            self.check(record)

    def depth(self) -> int:
        stats = self.mail.stats()
        return int(stats["accepted"] - stats["handled"])


def at_least(counts: memoryview, slot: int, value: int) -> bool:
    return bool(counts[slot] >= value)


def is_over(end: float) -> bool:
    return time.monotonic() >= end


def steady(world: World, slot: int, counts: memoryview, stop: memoryview, lengths: tuple[int, ...]) -> None:
    """Push until told to stop, in bursts, so that the mailbox is now full and now empty."""
    while not stop[0]:
        if not world.send(slot, counts[slot], random.choice(lengths)):
            raise RuntimeError("push failed")
        counts[slot] += 1
        if random.random() < 0.3:
            time.sleep(0.0001)


def victim(world: World, slot: int, counts: memoryview, rng: random.Random, point: int) -> None:
    """Push until dead; `counts[slot]` says how many pushes have returned."""
    calm = rng.randrange(4)
    while True:
        if point and counts[slot] == calm:
            world.mail.fault(point)
        if not world.send(slot, counts[slot], rng.choice(HURT)):
            raise RuntimeError("push failed")
        counts[slot] += 1


def producers_die(ring: Any, rng: random.Random, share: int) -> dict[str, Any]:
    """So many deaths at each point and six times as many anywhere, while two others go on sending."""
    world, counts, stop = World(ring), shared(SENDERS), shared(1)

    others = [fork(partial(steady, world, slot, counts, stop, HURT[:3])) for slot in (0, 1)]
    deaths = [point for point in range(1, 7) for _ in range(share)] + [0] * 6 * share
    rng.shuffle(deaths)
    for slot, point in enumerate(deaths, 2):
        pid = fork(partial(victim, world, slot, counts, random.Random(slot), point))
        if not point:
            least, delay = rng.randrange(30), rng.random() * 0.0005
            world.consume_until(partial(at_least, counts, slot, least))
            world.consume_until(partial(is_over, time.monotonic() + delay))
            os.kill(pid, signal.SIGKILL)
        world.found["unexpected exits"] += world.consume_until_end(pid) != -signal.SIGKILL
        world.mail.owed()
        for other in (0, 1):
            world.consume_until(partial(at_least, counts, other, counts[other] + 1))
    stop[0] = 1
    for pid in others:
        world.found["unexpected exits"] += world.consume_until_end(pid) != 0
    world.drain()
    slots = range(len(deaths) + 2)
    world.found["lost"] = sum(max(0, counts[slot] - world.expected[slot]) for slot in slots)
    world.found["too many"] = sum(world.expected[slot] - counts[slot] > (slot > 1) for slot in slots)
    world.found["depth"] = world.depth()
    return {**world.found, "deaths": len(deaths), "recovered": world.mail.stats()["recovered"]}


def producer_dies_at(ring: Any, rng: random.Random, point: int) -> dict[str, Any]:
    """One sender, one death: what is left is exactly what was published, and the next sender goes on at once."""
    found: Counter[str] = Counter()
    for length in HURT:
        world, counts = World(ring), shared(1)

        def die(world: World = world, counts: memoryview = counts, length: int = length) -> None:
            for number in range(4):
                if number == 3:
                    world.mail.fault(point)
                world.send(0, number, length)
                counts[0] += 1

        found["not killed"] += reap(fork(die)) != -signal.SIGKILL
        found["depth before"] += world.depth() != (4 if point >= 4 else 3)
        found["not sent"] += not world.send(1, 0, 60)
        found["depth with the next"] += world.depth() != (5 if point >= 4 else 4)
        world.drain()
        found["wrong records"] += world.expected != Counter({0: 4 if point >= 4 else 3, 1: 1})
        found["depth after"] += world.depth()
        found["not recovered"] += world.mail.stats()["recovered"] != (point <= 4)
        found.update(world.found)
    return dict(found)


def bell_is_owed(ring: Any, rng: random.Random, point: int) -> dict[str, Any]:
    """The sender dies after its record is published and before the bell is struck, while the consumer sleeps."""
    found: Counter[str] = Counter()
    world = World(ring)
    for number in range(50):
        found["not asleep"] += world.inbox.next(0) is not None

        def die(number: int = number) -> None:
            world.mail.fault(point)
            world.send(0, number, 60)

        found["not killed"] += reap(fork(die)) != -signal.SIGKILL
        found["rung by the dead"] += bool(select.select([world.bell], [], [], 0)[0])
        found["not owed"] += not world.mail.owed()
        found["not rung"] += not select.select([world.bell], [], [], 0)[0]
        world.inbox.clear()
        world.drain()
    found["lost"] = 50 - world.expected[0]
    found.update(world.found)
    return dict(found)


class Log:
    """What was handled, by whichever consumer: written before done(), so that it outlives its writer."""

    def __init__(self) -> None:
        self.words, self.length = shared(1 << 22), shared(1)

    def add(self, record: tuple[Any, ...]) -> None:
        self.words[self.length[0]] = record[2] << 32 | record[3]
        self.length[0] += 1

    def read(self) -> list[tuple[int, int]]:
        return [(word >> 32, word & 0xFFFFFFFF) for word in self.words[: self.length[0]].tolist()]


def consume(world: World, attempt: int, point: int, log: Log) -> None:
    """One incarnation: handle mail until killed."""
    if not world.mail.claim(attempt):
        raise RuntimeError("not granted")
    inbox = world.module.Inbox(world.bell, world.replies, world.control, world.mail)
    taken = 0
    while True:
        record = inbox.next(20.0)
        if record is None:
            select.select([world.bell], [], [], PATIENCE)
            inbox.clear()
            continue
        zlib.crc32(bytes(50_000))  # some work before and after the effect, to be killed in
        log.add(record)
        zlib.crc32(bytes(50_000))
        taken += 1
        if point and taken == 20:
            world.mail.fault(point)


def consumers_die(ring: Any, rng: random.Random, share: int) -> dict[str, Any]:
    """Consumers killed anywhere, some between two words of done(): each record is handled once, or was in hand."""
    world, counts, stop, log = World(ring, 1 << 16), shared(2), shared(1), Log()
    others = [fork(partial(steady, world, slot, counts, stop, (0, 60, 300))) for slot in (0, 1)]
    in_hand: list[tuple[int, int]] = []
    deaths = [7, 8] * share + [0] * 6 * share
    rng.shuffle(deaths)
    for attempt, point in enumerate(deaths, 1):
        world.mail.grant(attempt)
        least = log.length[0] + rng.randrange(100)
        pid = fork(partial(consume, world, attempt, point, log))
        fd = os.pidfd_open(pid)
        if not point:
            end = time.monotonic() + PATIENCE
            while log.length[0] < least and time.monotonic() < end:
                os.sched_yield()
            select.select([fd], [], [], rng.random() * 0.001)
            os.kill(pid, signal.SIGKILL)
        world.found["stalls"] += not select.select([fd], [], [], PATIENCE)[0]
        os.close(fd)
        world.found["unexpected exits"] += reap(pid) != -signal.SIGKILL
        held = world.mail.in_hand(0)
        world.found["more than one in hand"] += len(held) > 1
        in_hand += [(record[2], record[3]) for record in held]
    stop[0] = 1
    for pid in others:
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            finish(world, log)
        world.found["unexpected exits"] += ended[1] != 0
    finish(world, log)
    return {**world.found, **judge(log.read(), in_hand, counts), "depth": world.depth()}


def finish(world: World, log: Log) -> None:
    for record in iter(world.mail.take, None):
        log.add(record)
        world.mail.done(record[6])


def judge(handled: list[tuple[int, int]], in_hand: list[tuple[int, int]], counts: memoryview) -> dict[str, int]:
    """Every accepted record was handled once, in its sender's order; those in hand at a death at most once."""
    held = set(in_hand)
    accepted = {(sender, number) for sender in (0, 1) for number in range(counts[sender])}
    order = [[number for who, number in handled if who == sender] for sender in (0, 1)]
    return {
        "lost": len(accepted - set(handled) - held),
        "handled twice": len(handled) - len(set(handled)),
        "reported twice": len(in_hand) - len(held),
        "disordered": sum(later < earlier for one in order for earlier, later in pairwise(one)),
        "unknown": len((set(handled) | held) - accepted),
        "handled": len(handled),
        "in hand": len(in_hand),
    }


def counts_are_exact(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A death between a fact and its count: of a sender that cancels, and of a consumer that finishes."""
    found: Counter[str] = Counter()
    world = World(ring)
    positions = [world.mail.push(b"", 1, 0, 5, number, 0, 0) for number in range(4)]

    def cancel() -> None:
        world.mail.fault(9)
        world.mail.cancel(positions[2], 5, 2)

    found["not killed"] += reap(fork(cancel)) != -signal.SIGKILL
    world.send(0, 0, 60)  # inherits the lock, settles the count
    found["cancel miscounted"] = world.depth() - 4
    for attempt, point in enumerate((7, 8), 1):
        world.mail.grant(attempt)

        def finish(attempt: int = attempt, point: int = point) -> None:
            world.mail.claim(attempt)
            record = world.mail.take()
            world.mail.fault(point)
            world.mail.done(record[6])

        found["not killed"] += reap(fork(finish)) != -signal.SIGKILL
        found["in hand"] += len(world.mail.in_hand(0))
        found["finish miscounted"] += world.depth() != 4 - attempt
        found["head left behind"] += world.mail.stats()["head"] != positions[1 if attempt == 1 else 3]
    return dict(found)


def owner_is_stopped(ring: Any, rng: random.Random) -> dict[str, Any]:
    """A sender is stopped inside the lock: others are told, the owner is not held up, and it goes on when continued."""
    world = World(ring)

    def stop() -> None:
        world.mail.fault(-2)
        world.send(1, 0, 60)

    pid = fork(stop)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    found: dict[str, Any] = {
        "said": world.mail.push(b"", 1, 0, 2, 0, 0, 0.05) == ring.STUCK,
        "answer": world.mail.answer(b"", 1, 0, 2, 0) == ring.STUCK,
        "owner": world.mail.owner() == pid,
        "cancelled": world.mail.cancel(0, 1, 0) is not None,
        "taken": world.mail.take(),
    }
    world.mail.close()
    found["quiet while it stands"] = world.mail.quiet()
    os.kill(pid, signal.SIGCONT)
    found["exit"] = reap(pid)
    found["quiet after it"] = world.mail.quiet()
    found["swept"] = len(world.mail.sweep())
    return found


def stopped_owner_is_killed(ring: Any, rng: random.Random) -> dict[str, Any]:
    """Senders that wait in the lock are freed by the death of its stopped owner."""
    world = World(ring)

    def stop() -> None:
        world.mail.fault(-2)
        world.send(1, 0, 60)

    owner = fork(stop)
    os.waitid(os.P_PID, owner, os.WSTOPPED)
    waiters = [fork(partial(world.send, slot, 0, 60)) for slot in (2, 3)]
    os.kill(owner, signal.SIGKILL)
    found: dict[str, Any] = {"owner": reap(owner), "waiters": [reap(pid) for pid in waiters]}
    world.drain()
    return {**found, "records": sorted(world.expected.items()), "recovered": world.mail.stats()["recovered"]}


def main() -> None:
    path, scenario, seed, *rest = sys.argv[1:]
    rng = random.Random(int(seed))
    random.seed(seed)
    signal.alarm(100)
    print(json.dumps(globals()[scenario](load(path), rng, *map(int, rest))))


if __name__ == "__main__":
    main()

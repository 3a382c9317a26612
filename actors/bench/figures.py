"""What is measured, by whom, in which unit, and what it should be.

A figure ("round trip") has cases, one a contestant; one of them may be the reference that ratios are taken to. A target
is a ratio to the reference (of this machine, in this round) where there is one to beat, else a limit.
"""

from __future__ import annotations

from dataclasses import dataclass

ROOT = __name__.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity. `scale` turns what a case returns (seconds, messages a second, bytes, cores) into `unit`."""

    name: str
    title: str
    unit: str
    scale: float
    reference: str | None = None
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One contestant's measurement: `module` is run with the case's name. `needs`: a module, or "cc", without which
    it is left out.
    """

    name: str
    label: str
    module: str
    needs: str | None = None
    transport: str | None = None  # what ACTORS_TRANSPORT says, where it is not the machine's own choice

    @property
    def figure(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Target:
    """Times better than the figure's reference (`ratio`), or at most so much of the unit (`limit`)."""

    case: str
    ratio: float | None = None
    limit: float | None = None


FIGURES = (
    Figure("ask", "ask: a round trip, 60-byte dict both ways, callee awake", "µs", 1e6, "ask.pipe"),
    Figure(
        "tell", "tell: one sender, 60-byte dict, until all are handled", "k/s", 1e-3, "tell.queue", more_is_better=True
    ),
    Figure("tell4", "tell: four senders to one", "k/s", 1e-3, "tell4.queue", more_is_better=True),
    Figure("megabyte", "1 MB of bytes, one way", "/s", 1, "megabyte.pipe", more_is_better=True),
    Figure("array", "an array of 8 MB, one way", "/s", 1, "array.pipe", more_is_better=True),
    Figure(
        "box",
        "named mailbox: one producer, one consumer, 60-byte dict, until all are taken",
        "k/s",
        1e-3,
        "box.queue",
        more_is_better=True,
    ),
    Figure("box4", "named mailbox: four producers, four consumers", "k/s", 1e-3, "box4.queue", more_is_better=True),
    Figure(
        "cat", "1 GiB through an external program, `cat`, in and out", "MB/s", 1e-6, "cat.popen", more_is_better=True
    ),
    Figure("submit", "an executor's submit(f, dict).result(), one worker that is up", "µs", 1e6, "submit.pool"),
    Figure(
        "map",
        "an executor's map of 10,000 tiny tasks, two workers that are up",
        "k/s",
        1e-3,
        "map.pool-best",
        more_is_better=True,
    ),
    Figure("spawn", "spawn to ready, class of an imported module", "ms", 1e3, "spawn.process"),
    Figure("kill", "SIGKILL to the next answer", "ms", 1e3, "kill.process"),
    Figure("start", "system start to the first answer", "ms", 1e3),
    Figure(
        "memory", "memory a process, 20 with NumPy: PSS and shared memory of the whole", "MB", 1e-6, "memory.process"
    ),
    Figure("gigabyte", "an array of 1 GiB shared with 4 actors: memory (PSS) of all beyond its size", "% of it", 100.0),
    Figure("signal", "SIGKILL until whoever waits for the end knows", "ms", 1e3, "signal.process"),
    Figure("socket", "unix socket: a question to the guardian (a peer: to another process)", "µs", 1e6, "socket.pipe"),
    Figure("fifo", "FIFO: lines of 60 bytes, writer to handler", "k/s", 1e-3, "fifo.open", more_is_better=True),
    Figure(
        "append",
        "file: records, each on disk before the next",
        "/s",
        1,
        "append.fsync",
        more_is_better=True,
    ),
    Figure("lock", "lock: `with lock: pass`, nobody else wants it", "ns", 1e9, "lock.manager"),
    Figure(
        "tiny",
        "pipeline: 100,000 tiny items through 2 workers, in order",
        "k/s",
        1e-3,
        "tiny.imap",
        more_is_better=True,
    ),
    Figure(
        "cpu",
        "pipeline: items of 1 ms of CPU, 2 workers: times one process alone",
        "x",
        1.0,
        "cpu.pool",
        more_is_better=True,
    ),
    Figure(
        "stream",
        "pipeline: arrays of 8 MB through 3 stages of a process each, in order",
        "/s",
        1.0,
        "stream.pools",
        more_is_better=True,
    ),
    Figure("idle", "CPU of 20 idle actors and their system", "% of a core", 100.0),
)

OURS = f"{ROOT}.cases"
PYTHON = f"{ROOT}.peers.python"
POOLS = f"{ROOT}.peers.pools"
PIPELINES = f"{ROOT}.pipelines"
MECHANISMS = f"{ROOT}.mechanisms"
THEIR_MECHANISMS = f"{ROOT}.peers.mechanisms"
FLOOR = f"{ROOT}.floor"

CASES = (
    Case("ask.actors", "actors: blocking", OURS),
    Case("ask.handler", "actors: in an actor's async handler", OURS),
    Case("ask.loop", "actors: in the program's asyncio loop", OURS),
    Case("ask.python-ring", "actors: blocking, ring in Python", OURS, transport="python"),
    Case("ask.pipe", "multiprocessing.Pipe", PYTHON),
    Case("ask.queue", "multiprocessing.Queue, two of them", PYTHON),
    Case("ask.pool", "concurrent.futures.ProcessPoolExecutor", POOLS),
    Case("ask.ray", "Ray", f"{ROOT}.peers.ray", needs="ray"),
    Case("ask.xoscar", "Xoscar", f"{ROOT}.peers.xoscar", needs="xoscar"),
    Case("ask.thespian", "Thespian, TCP base", f"{ROOT}.peers.thespian", needs="thespian"),
    Case("ask.pykka", "Pykka, threads of one process", f"{ROOT}.peers.pykka", needs="pykka"),
    Case("ask.floor-spin", "floor: C, spinning on shared memory", FLOOR, needs="cc"),
    Case("ask.floor-pipe", "floor: C, a byte through pipes", FLOOR, needs="cc"),
    Case("tell.actors", "actors", OURS),
    Case("tell.python-ring", "actors: ring in Python", OURS, transport="python"),
    Case("tell.queue", "multiprocessing.Queue", PYTHON),
    Case("tell.pipe", "multiprocessing.Pipe", PYTHON),
    Case("tell.ray", "Ray", f"{ROOT}.peers.ray", needs="ray"),
    Case("tell.xoscar", "Xoscar", f"{ROOT}.peers.xoscar", needs="xoscar"),
    Case("tell.thespian", "Thespian, TCP base", f"{ROOT}.peers.thespian", needs="thespian"),
    Case("tell.pykka", "Pykka, threads of one process", f"{ROOT}.peers.pykka", needs="pykka"),
    Case("tell4.actors", "actors", OURS),
    Case("tell4.queue", "multiprocessing.Queue", PYTHON),
    Case("megabyte.actors", "actors", OURS),
    Case("megabyte.pipe", "multiprocessing.Pipe", PYTHON),
    Case("array.actors", "actors", OURS, needs="numpy"),
    Case("array.pipe", "multiprocessing.Pipe", PYTHON, needs="numpy"),
    Case("box.actors", "actors", OURS),
    Case("box.queue", "multiprocessing.Queue", PYTHON),
    Case("box4.actors", "actors", OURS),
    Case("box4.queue", "multiprocessing.Queue", PYTHON),
    Case("cat.actors", "actors: Program, from the program to another actor", OURS),
    Case("cat.popen", "subprocess.Popen, 64 KiB reads", THEIR_MECHANISMS),
    Case("submit.actors", "actors: ActorPoolExecutor", OURS),
    Case("submit.pool", "concurrent.futures.ProcessPoolExecutor, spawn", POOLS),
    Case("submit.pool-fork", "concurrent.futures.ProcessPoolExecutor, fork", POOLS),
    Case("map.actors", "actors: ActorPoolExecutor, as it is", OURS),
    Case("map.pool", "concurrent.futures.ProcessPoolExecutor, as it is", POOLS),
    Case("map.pool-best", "concurrent.futures.ProcessPoolExecutor, best chunksize", POOLS),
    Case("spawn.actors", "actors", OURS),
    Case("spawn.process", "multiprocessing, spawn: start to the first answer", PYTHON),
    Case("kill.actors", "actors: the restarted actor's answer", OURS),
    Case("kill.siblings", "actors: the same among 20 siblings", OURS),
    Case("kill.process", "multiprocessing, spawn: a new process's answer", PYTHON),
    Case("start.actors", "actors", OURS),
    Case("memory.actors", "actors", OURS, needs="numpy"),
    Case("memory.process", "multiprocessing, spawn", PYTHON, needs="numpy"),
    Case("gigabyte.actors", "actors", OURS, needs="numpy"),
    Case("signal.actors", "actors: ref.wait()", MECHANISMS),
    Case("signal.process", "multiprocessing: Process.join()", THEIR_MECHANISMS),
    Case("socket.actors", "actors: system.lookup", MECHANISMS),
    Case("socket.pipe", "multiprocessing.Pipe, a byte both ways", THEIR_MECHANISMS),
    Case("fifo.actors", "actors: system.fifo", MECHANISMS),
    Case("fifo.open", "a file object in another process, line by line", THEIR_MECHANISMS),
    Case("append.actors", "actors: system.file, one `with` for all", MECHANISMS),
    Case("append.each", "actors: system.file, a `with` for each", MECHANISMS),
    Case("append.fsync", "flock, write, fsync for each", THEIR_MECHANISMS),
    Case("lock.actors", "actors: system.lock", OURS),
    Case("lock.multiprocessing", "multiprocessing.Lock", THEIR_MECHANISMS),
    Case("lock.manager", "multiprocessing.Manager().Lock", THEIR_MECHANISMS),
    Case("tiny.actors", "actors", PIPELINES),
    Case("tiny.imap1", "multiprocessing.Pool.imap, chunksize 1", POOLS),
    Case("tiny.imap", "multiprocessing.Pool.imap, its best chunksize", POOLS),
    Case("tiny.joblib", "joblib, its own batches", POOLS, needs="joblib"),
    Case("tiny.mpire", "mpire, imap", POOLS, needs="mpire"),
    Case("cpu.actors", "actors", PIPELINES),
    Case("cpu.pool", "multiprocessing.Pool.imap, fork, chunksize 10", POOLS),
    Case("stream.actors", "actors", PIPELINES, needs="numpy"),
    Case("stream.pools", "multiprocessing.Pool.imap, three chained", POOLS, needs="numpy"),
    Case("stream.pool", "multiprocessing.Pool.imap, thrice through one of three", POOLS, needs="numpy"),
    Case("stream.stage", "multiprocessing.Pool.imap, all in one stage of two", POOLS, needs="numpy"),
    Case("idle.actors", "actors", OURS),
)

TARGETS = (
    Target("ask.actors", ratio=5.0),
    Target("ask.handler", ratio=2.0),
    Target("ask.loop", ratio=2.0),
    Target("tell.actors", ratio=3.0),
    Target("tell4.actors", ratio=4.0),
    Target("megabyte.actors", ratio=7.0),
    Target("array.actors", ratio=3.0),
    Target("box.actors", ratio=3.0),
    Target("box4.actors", ratio=3.0),
    Target("cat.actors", ratio=0.5),
    Target("submit.actors", ratio=4.0),
    Target("map.actors", ratio=1.0),
    Target("spawn.actors", ratio=8.0),
    Target("kill.actors", ratio=8.0),
    Target("kill.siblings", ratio=8.0),
    Target("start.actors", limit=250.0),
    Target("memory.actors", limit=6.0),
    Target("gigabyte.actors", limit=5.0),
    Target("lock.actors", ratio=100.0),
    Target("tiny.actors", ratio=1.0),  # the reference is the best of five chunk sizes
    Target("cpu.actors", ratio=0.9),
    Target("stream.actors", ratio=3.0),
    Target("idle.actors", limit=0.5),
)

FIGURE = {figure.name: figure for figure in FIGURES}
CASE = {case.name: case for case in CASES}

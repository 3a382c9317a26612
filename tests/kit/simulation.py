"""A guardian in a simulated world: its real tree, registry, desk, hands, watch and deaths on a virtual clock, with
processes that are born, crash, hang and obey by chance.

Rule: everything follows from the seed, so a failure is repeated by it. Only what touches the kernel is simulated: the
clock, kill, births, and the lanes to other processes. What must always hold is asserted where it happens, the rest at
the end, when faults have ceased and all was stopped.
Rejected: asyncio with a fake clock (ten times slower, and the order of what is due at once is not ours).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from actors.exits import ExitReason
from actors.guardian import deaths, desk, hands, timers
from actors.guardian.pools import Pools
from actors.guardian.registry import Record, Registry
from actors.guardian.topics import Topics
from actors.guardian.watch import Watch
from actors.message import ROOT, Kind
from actors.supervision import Backoff, Policy
from actors.supervision import actions as act
from actors.supervision.tree import Tree

PROGRAM = 2  # its endpoint
EXITS = [
    ExitReason("exit", code=0), ExitReason("exit", code=1), ExitReason("exit", code=3),
    ExitReason("signal", signal=signal.SIGKILL), ExitReason("signal", signal=signal.SIGSEGV),
]  # fmt: skip
BACKOFFS = (None, Backoff(0.0, 0.0), Backoff(0.5, 2.0, jitter=0.2), Backoff(stable=0.0))


class Hands(hands.Hands):
    """Notes what the tree decided before it is carried out."""

    guardian: Any

    def _do_restarting(self, action: act.Restarting) -> None:
        self.guardian.restarting(action)
        super()._do_restarting(action)


class Clock(timers.Timers):
    """The guardian's alarms, on the simulation's time."""

    def __init__(self, world: Simulation) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return self._world.now


class Process:
    """A peer of the guardian's: one incarnation of an actor."""

    def __init__(self, number: int, uid: int) -> None:
        self.id, self.uid, self.pid = number, uid, 0
        self.alive, self.asked = True, False
        self.mailboxes: set[int] = set()
        self.answers: set[int] = set()
        self.sock = SimpleNamespace(fileno=lambda: number)


class Simulation:
    """What `actors.guardian.main.Guardian` is, in a world of chance."""

    system = "simulation"
    current: Simulation  # the one that runs: kill is its own

    def __init__(self, seed: object) -> None:
        self.chance = Random(str(seed))
        self.now, self.calm, self.left = 1000.0, False, False
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        self.numbers = itertools.count(PROGRAM)  # endpoints, pids, calls, and the order of what is due at once
        self.program = Process(next(self.numbers), 0)
        self.living: dict[int, Process] = {}  # uid -> its process
        self.births: dict[int, Record] = {}  # uid -> not sent yet
        self.answered: Counter[int] = Counter()  # corr -> answers to it
        self.asked: set[int] = set()
        self.downs: Counter[int] = Counter()  # monitor -> ends that it heard of
        self.crashes: Counter[int] = Counter()  # monitor -> incarnations' ends
        self.monitors: dict[int, bool] = {}  # number -> incarnations, too
        self.windows: dict[tuple[int, int], list[float]] = defaultdict(
            list
        )  # supervisor's start -> restarts that count
        self.counted: Counter[int] = Counter()  # uid -> its restarts, as far as looked at
        self.steps = 0
        self._compose()

    def _compose(self) -> None:
        Simulation.current = self
        world: Any = self
        self.registry = Registry()
        self.registry._uids = itertools.count(ROOT + 1)  # its own begin anywhere
        by_id = {PROGRAM: self.program}
        self.peers: Any = SimpleNamespace(
            by_id=by_id, actors={}, tell=self._tell, answer=self._answer, remove=lambda peer: by_id.pop(peer.id),
            refuse=lambda endpoint, corr, *_: self._answer(endpoint, corr), send=lambda *_: None, put=lambda *_: None,
            report=lambda *_: None, on_removed=[],
        )  # fmt: skip
        self.timers = self.alarms = Clock(self)
        self.watch = Watch(self.peers, self.system, PROGRAM, self.timers.after)
        self.mailroom: Any = SimpleNamespace(open=lambda record: None)
        self.nursery: Any = SimpleNamespace(
            want=lambda record: None, begin=self._begin, keep_spare=lambda: None, hello=self._hello,
            cancel=lambda record: self.births.pop(record.uid, None) is not None,
        )  # fmt: skip
        self.vitals: Any = SimpleNamespace(ready=lambda record: None)  # nobody here asks to be looked after
        self.oom: Any = SimpleNamespace(note=lambda pid: None)
        self.stacks: Any = SimpleNamespace(close=lambda peer: None)
        self.topics, self.pools = Topics(self.peers), Pools(world)
        self.tree = Tree(Random(self.chance.random()))
        self.desk, self.deaths, self.hands = desk.Desk(world), deaths.Deaths(world), Hands(world)

    def off(self, fd: int) -> None:
        """No sockets here."""

    def leave(self) -> None:
        self.left = True

    # --- time

    @classmethod
    @contextlib.contextmanager
    def patched(cls) -> Iterator[None]:
        """The signals that the guardian's modules send go to the running simulation."""
        kernel = SimpleNamespace(kill=lambda pid, number: cls.current._kill(pid, number), close=None, getpid=lambda: 1)
        with contextlib.ExitStack() as stack:
            for module in (hands, deaths):
                stack.enter_context(mock.patch.object(module, "os", kernel))
            yield

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        heapq.heappush(self.queue, (self.now + seconds, next(self.numbers), call))

    def advance(self) -> bool:
        """The next thing that happens. False: nothing will."""
        self.steps += 1
        assert self.steps < 20_000, "it does not come to rest"
        due = self.timers.timeout()
        if due is None and not self.queue:
            return False
        if not self.queue or (due is not None and self.now + due <= self.queue[0][0]):
            self.now += due or 0.0
            self.timers.run()
        else:
            self.now, _, call = heapq.heappop(self.queue)
            call()
        return True

    def soon(self) -> float:
        return self.chance.choice((0.0, 0.001, 0.01, 0.5, 2.0))

    # --- births and deaths

    def _begin(self, record: Record) -> None:
        assert record.uid not in self.living, f"two incarnations of {record.name!r}"
        assert record.uid not in self.births
        self._check_turn(record)
        self.births[record.uid] = record
        self.after(self.soon(), lambda: self._send(record) if self.births.get(record.uid) is record else None)

    def _check_turn(self, record: Record) -> None:
        """Whoever starts below one_for_all or rest_for_one has all before it running, or failed."""
        above = self.registry.by_uid.get(record.parent)
        if above is not None and above.kind == "supervisor" and above.options["strategy"] != "one_for_one":
            siblings = self.tree.children(above.uid)
            before = siblings[: siblings.index(record.uid)]
            assert all(self.tree.status(each) in ("running", "failed") for each in before), record.name

    def _send(self, record: Record) -> None:
        del self.births[record.uid]
        process: Any = Process(next(self.numbers), record.uid)
        record.pid, record.bye, record.peer = 0, {}, process
        self.living[record.uid] = self.peers.by_id[process.id] = process
        assert self.registry.named(record.name) is record, "a process whose name is another's"
        if not self.calm and self.chance.random() < 0.02:
            self.after(self.soon(), lambda: self._died_unborn(record, process))
        else:
            self.after(self.soon(), lambda: self._lives(record, process))

    def _died_unborn(self, record: Record, process: Process) -> None:
        self._gone(process)
        self.deaths.ended(record, ExitReason("exception", error="no process could be made"))

    def _lives(self, record: Record, process: Any) -> None:
        self.desk.op_hello(process, {"pid": process.id + 10_000}, [])
        if self.calm or self.chance.random() < 0.93:
            self.after(self.soon(), lambda: self._ready(record, process))
        elif self.chance.random() < 0.7:
            record.bye = {"kind": "exception", "error": "told to", "started": False}
            self.exit(process, ExitReason("exit", code=1))
        elif self.chance.random() < 0.5:
            self.exit(process, self.chance.choice(EXITS))
        # else it never gets ready

    def _hello(self, record: Record, pid: int) -> None:
        record.pid = pid

    def _ready(self, record: Record, process: Any) -> None:
        if process.alive:
            self.desk.op_ready(process, {}, [])
            if not self.calm and self.chance.random() < 0.2:
                self.after(self.soon(), lambda: self.exit(process, self.chance.choice(EXITS)))

    def exit(self, process: Process, kernel: ExitReason) -> None:
        """As the kernel reports it."""
        if process.alive:
            record = self.deaths.by_pid.pop(process.pid)
            self._gone(process)
            self.deaths.ended(record, self.deaths._reason(record, kernel))

    def _gone(self, process: Process) -> None:
        process.alive = False
        del self.living[process.uid]

    def _kill(self, pid: int, number: int) -> None:
        process = self.peers.by_id.get(pid - 10_000)
        assert process is not None, "a signal to nobody"
        if number == signal.SIGKILL or self.calm or self.chance.random() < 0.7:
            reason = ExitReason("signal", signal=signal.Signals(number))
            self.after(0.0005, lambda: self.exit(process, reason))

    # --- what others hear

    def _tell(self, peer: Process, kind: Kind, value: Any = None, *_: object) -> None:
        if kind == Kind.DOWN:
            (self.crashes if value["restarting"] else self.downs)[value["monitor"]] += 1
        elif kind == Kind.STOP:
            peer.asked = True
            if self.calm or self.chance.random() < 0.8:
                self.after(self.soon(), lambda: self._obey(peer))

    def _obey(self, process: Process) -> None:
        if not process.pid and process.alive:  # it says hello first
            self.after(0.01, lambda: self._obey(process))
        elif process.alive:
            self.registry.by_uid[process.uid].bye = {"kind": "shutdown"}
            self.exit(process, EXITS[0])

    def _answer(self, endpoint: int, corr: int, *_: object) -> None:
        if corr:
            self.answered[corr] += 1

    def restarting(self, action: act.Restarting) -> None:
        """The independent count of OTP's restart intensity (of supervisors that give up), and the backoff's bounds."""
        uid, record = action.uid, self.registry.by_uid[action.uid]
        assert 0 <= action.delay <= 5.0 * 1.2, "longer than any backoff allows"
        if uid not in self.tree or self.tree.restarts(uid) == self.counted[uid]:
            return  # it has ended meanwhile, or restarts with its group
        self.counted[uid] = self.tree.restarts(uid)
        above = self.registry.by_uid.get(record.parent)
        higher = self.registry.by_uid.get(above.parent) if above is not None else None
        if above is not None and above.kind == "supervisor" and higher is not None and higher.kind == "supervisor":
            policy = self.tree.policy(above.uid)
            window = self.windows[above.uid, self.tree.incarnation(above.uid)]
            window.append(self.now)
            recent = [then for then in window if self.now <= then + policy.within]
            assert policy.max_restarts is None or len(recent) <= policy.max_restarts, (
                f"{above.name!r} restarts too often"
            )

    # --- the program

    def request(self, operation: str, **fields: Any) -> int:
        corr = next(self.numbers)
        self.asked.add(corr)
        getattr(self.desk, f"op_{operation}")(self.program, {"corr": corr, **fields}, [])
        return corr

    def policy(self, may_be_significant: bool, supervisor: bool) -> Policy:
        choose = self.chance.choice
        restart = choose(("permanent", "transient", "temporary"))
        return Policy(
            restart,
            math.inf if supervisor else choose((1.0, 0.0, math.inf)),
            choose((0, 1, 3, None)),
            choose((1.0, 5.0)),
            choose(BACKOFFS),
            math.inf if supervisor else choose((3.0, 30.0)),
            may_be_significant and restart != "permanent" and choose((True, False)),
            choose(("never", "any_significant", "all_significant")) if supervisor else "never",
        )

    def shape(self, under: int, depth: int, nodes: list[dict[str, Any]], significant: bool = False) -> None:
        """Nodes as `op_spawn` takes them."""
        supervisor = depth == 0 or (depth < 3 and self.chance.random() < 0.3)
        policy = self.policy(significant, supervisor)
        strategy = self.chance.choice(("one_for_one", "one_for_all", "rest_for_one"))
        mine = len(nodes)
        nodes.append(
            {
                "name": f"{'s' if supervisor else 'w'}{self.chance.randrange(4) if under < 0 else mine}",
                "under": under,
                "kind": "supervisor" if supervisor else "worker",
                "policy": policy.to_wire(),
                "strategy": strategy if supervisor else None,
                "options": {"strategy": strategy},
            }
        )
        for _ in range(self.chance.randint(1, 4) if supervisor else 0):
            self.shape(mine, depth + 1, nodes, policy.auto_shutdown != "never")

    def act(self) -> None:
        """One thing that a user, or chance, does."""
        choose, known = self.chance.choice, list(self.registry.by_uid)
        deed = choose(("tree", "spawn", "monitor", "wait", "link", "command", "command", *["crash"] * 6))
        if deed in ("tree", "spawn") and len(known) < 30:
            nodes: list[dict[str, Any]] = []
            self.shape(-1, 0 if deed == "tree" else 3, nodes)
            self.request("spawn", parent=choose([ROOT, *known]), nodes=nodes)
        elif deed == "monitor" and known:
            number = next(self.numbers)
            self.monitors[number] = choose((True, False))
            wish: Any = {"uid": choose(known), "monitor": number, "incarnations": self.monitors[number]}
            self.desk.op_monitor(self.program, wish, [])
        elif deed == "wait" and known:
            self.request("wait", uid=choose(known))
        elif deed == "link" and self.living and known:
            process: Any = choose(list(self.living.values()))
            self.desk.op_link(process, {"uid": choose(known), "seq": 1}, [])
        elif deed == "crash" and (pids := list(self.deaths.by_pid)):
            record = self.deaths.by_pid[choose(pids)]
            self.exit(self.living[record.uid], choose(EXITS))
        elif deed == "command" and known:
            uid, name = choose(known), choose(("stop", "kill", "restart", "resume", "resume"))
            getattr(self.desk, f"op_{name}")(self.program, {"uid": uid}, [])

    # --- a whole life

    def run(self, deeds: int = 30) -> None:
        """Deeds at random times, then peace, then the end. AssertionError: a promise was broken."""
        Simulation.current = self
        for _ in range(deeds):
            self.act()
            until = self.now + self.soon()
            while (self.queue or self.timers.timeout() is not None) and self.next_time() <= until:
                self.advance()
            self.now = max(self.now, until)
        self.calm = True
        for process in [each for each in self.living.values() if each.asked]:
            self._obey(process)
        while self.advance():
            pass
        self.check_peace()
        self.hands.perform(self.tree.stop_all(self.now, drain=self.chance.random() < 0.5))
        while self.advance():
            pass
        self.check_end()

    def next_time(self) -> float:
        due = self.timers.timeout()
        return min(math.inf if due is None else self.now + due, self.queue[0][0] if self.queue else math.inf)

    def check_peace(self) -> None:
        """All that can run runs."""
        for record in self.registry.by_uid.values():
            status = self.tree.status(record.uid)
            assert status in ("running", "failed"), f"{record.name} is {status}"
            assert (record.uid in self.living) == (record.is_worker and status == "running"), record.name

    def check_end(self) -> None:
        """Nothing is left, and everybody was told, once."""
        assert self.left, "the guardian stays"
        assert not self.living
        assert not self.registry.by_uid
        assert not self.registry.by_name
        unanswered = {corr for corr in self.asked if self.answered[corr] != 1}
        assert not unanswered, f"answered not once: {unanswered}"
        assert all(self.downs[monitor] == 1 for monitor in self.monitors), "an end is heard of once"
        assert self.downs.keys() == self.monitors.keys()
        assert all(self.monitors[monitor] for monitor in self.crashes), "crashes were not asked for"
        assert not (self.watch.monitors or self.watch.waits or self.watch.links)
        assert not any(monitors or waits for monitors, waits in self.watch.of_peer.values())

"""Whatever processes, timers and users do, and in whatever order, the tree keeps its promises to the guardian."""

import math
import os
import signal
from random import Random

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.exits import ExitReason
from actors.supervision import Backoff, Policy
from actors.supervision.actions import (
    Action,
    AllStopped,
    Ask,
    Ended,
    Failed,
    Ready,
    Restarted,
    Restarting,
    Signal,
    Spawn,
    StartFailed,
)
from actors.supervision.tree import Tree

REASONS = [
    ExitReason("normal"),
    ExitReason("shutdown"),
    ExitReason("exit", code=0),
    ExitReason("exit", code=1),
    ExitReason("exception", error="ValueError: boom"),
    ExitReason("signal", signal=signal.SIGKILL),
]
POLICIES = st.sampled_from(
    [
        Policy(restart, shutdown, max_restarts, 5.0, backoff, start_timeout)
        for restart in ("permanent", "transient", "temporary")
        for max_restarts in (None, 0, 1, 3)
        for shutdown in (1.0, 0, math.inf)
        for backoff, start_timeout in ((None, 3.0), (Backoff(0.5, 2.0), math.inf), (Backoff(stable=0.0), 3.0))
    ]
)
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
PICK = st.integers(0, 10**6)
SHAPES = st.recursive(  # of a supervisor: a worker's policy, or a supervisor with children
    POLICIES, lambda inner: st.tuples(POLICIES, STRATEGIES, st.lists(inner, max_size=4)), max_leaves=8
)


class Guardian(RuleBasedStateMachine):
    """Carries out actions in a world where every process obeys in the end; complains of those that can't be."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree(Random(1))
        self.now = 0.0
        self.uids = 0
        self.workers: set[int] = set()
        self.alive: dict[int, int] = {}  # uid -> incarnation
        self.unready: set[int] = set()  # alive, and has not said ready
        self.told_to_go: set[int] = set()  # alive, asked or signalled
        self.incarnations: dict[int, int] = {}
        self.owed: set[int] = set()  # exited, its fate not told yet
        self.waiting: set[int] = set()  # start asked for, not answered yet
        self.was_ready: set[int] = set()
        self.ended: set[int] = set()
        self.to_end: set[int] = set()  # stopped or killed by hand
        self.strategy: dict[int, str] = {}
        self.all_stopped = 0

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, AllStopped):
                assert not self.alive, "all stopped with live processes"
                self.all_stopped += 1
                continue
            assert action.uid not in self.ended, f"{action} about an ended uid"
            self.carry_out(action)
        for action in actions:
            if isinstance(action, Spawn):
                self.check_order_of_start(action.uid)

    def carry_out(self, action: Action) -> None:
        match action:
            case Spawn(uid, incarnation):
                assert uid in self.workers
                assert uid not in self.alive, "two incarnations alive"
                assert uid not in self.owed, "spawned before it was told that the last one restarts"
                assert incarnation == self.incarnations.get(uid, 0) + 1
                self.alive[uid] = self.incarnations[uid] = incarnation
                self.unready.add(uid)
            case Ask(uid, seconds):
                assert uid in self.alive
                assert seconds is None or 0 < seconds < math.inf
                self.told_to_go.add(uid)
            case Signal(uid):
                assert uid in self.alive
                self.told_to_go.add(uid)
            case Ready(uid):
                assert uid not in self.was_ready, "ready for the first time, again"
                assert uid not in self.unready
                self.was_ready.add(uid)
                self.waiting.discard(uid)
            case Restarted(uid):
                assert uid in self.was_ready
                assert uid not in self.unready
            case StartFailed(uid):
                assert uid in self.waiting, "an answer that nobody waits for"
                self.waiting.remove(uid)
            case Restarting(uid, _, delay):
                assert delay >= 0
                if uid in self.workers:
                    assert uid in self.owed, "told twice, or without an exit"
                    self.owed.remove(uid)
            case Failed(uid):
                assert uid not in self.alive
                self.owed.discard(uid)
            case Ended(uid):
                assert uid not in self.alive
                self.owed.discard(uid)
                self.waiting.discard(uid)
                self.ended.add(uid)

    def check_order_of_start(self, uid: int) -> None:
        """Under one_for_all and rest_for_one, whoever starts has all before it running (or failed)."""
        if uid in self.tree and self.strategy.get(self.tree.parent(uid)) not in (None, "one_for_one"):
            siblings = self.tree.children(self.tree.parent(uid))
            before = siblings[: siblings.index(uid)]
            assert all(self.tree.status(other) in ("running", "failed") for other in before)

    def pick(self, number: int, among: set[int] | dict[int, int]) -> int:
        candidates = sorted(among)
        return candidates[number % len(candidates)]

    @property
    def nodes(self) -> set[int]:
        return set(range(1, self.uids + 1)) - self.ended

    # --- users

    @rule(number=PICK, policy=POLICIES)
    def spawn(self, number: int, policy: Policy) -> None:
        self.grow(policy, self.pick(number, self.nodes | {0}))

    @rule(number=PICK, shape=SHAPES)
    def start_tree(self, number: int, shape: object) -> None:
        top = self.grow(shape, self.pick(number, self.nodes | {0}))
        if top in self.tree and top not in self.workers:
            self.waiting.add(top)
            self.perform(self.tree.start(top, self.now))

    def grow(self, shape: object, parent: int, start: bool = True) -> int:
        self.uids += 1
        uid = self.uids
        if isinstance(shape, Policy):
            self.workers.add(uid)
            if start:
                self.waiting.add(uid)
            self.perform(self.tree.add(uid, parent, f"n{uid}", "worker", shape, self.now, start=start))
            return uid
        assert isinstance(shape, tuple)
        policy, strategy, children = shape
        self.strategy[uid] = strategy
        actions = self.tree.add(uid, parent, f"n{uid}", "supervisor", policy, self.now, strategy, start=False)
        self.waiting.update(uid for action in actions if isinstance(action, StartFailed))
        self.perform(actions)
        if uid in self.tree:
            for child in children:
                self.grow(child, uid, start=False)
        return uid

    @precondition(lambda self: self.nodes)
    @rule(number=PICK, event=st.sampled_from(["stop", "stop", "drain", "kill", "restart", "resume", "remove"]))
    def command(self, number: int, event: str) -> None:
        uid = self.pick(number, self.nodes)
        if event in ("stop", "drain", "kill"):
            self.to_end.add(uid)
        if event == "drain":
            self.perform(self.tree.stop(uid, self.now, drain=True))
        else:
            self.perform(getattr(self.tree, event)(uid, self.now))

    # --- processes and time

    @precondition(lambda self: self.unready)
    @rule(number=PICK)
    def becomes_ready(self, number: int) -> None:
        uid = self.pick(number, self.unready)
        self.unready.remove(uid)
        self.perform(self.tree.ready(uid, self.now, self.alive[uid]))

    @precondition(lambda self: self.unready)
    @rule(number=PICK, reason=st.sampled_from(REASONS[3:]))
    def can_not_start(self, number: int, reason: ExitReason) -> None:
        uid = self.pick(number, self.unready)
        self.unready.remove(uid)
        self.told_to_go.add(uid)  # by itself
        self.perform(self.tree.start_failed(uid, reason, self.now, self.alive[uid]))

    @precondition(lambda self: self.alive)
    @rule(number=PICK, reason=st.sampled_from(REASONS))
    def exits(self, number: int, reason: ExitReason) -> None:
        self.exit(self.pick(number, self.alive), reason)

    def exit(self, uid: int, reason: ExitReason) -> None:
        incarnation = self.alive.pop(uid)
        self.unready.discard(uid)
        self.told_to_go.discard(uid)
        self.owed.add(uid)
        self.perform(self.tree.exited(uid, reason, self.now, incarnation))
        assert self.tree.exited(uid, reason, self.now, incarnation) == [], "an exit counts once"

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.tree.due(self.now))

    @precondition(lambda self: self.tree.deadline is not None)
    @rule()
    def alarm_rings(self) -> None:
        assert self.tree.deadline is not None
        self.now = max(self.now, self.tree.deadline)
        self.perform(self.tree.due(self.now))
        assert self.tree.deadline is None or self.tree.deadline > self.now, "an alarm in the past is a busy loop"

    # --- what always holds

    @invariant()
    def the_dead_are_forgotten_and_the_living_are_known(self) -> None:
        assert all(uid in self.tree for uid in self.nodes)
        assert not any(uid in self.tree for uid in self.ended)
        assert self.alive.keys() <= self.nodes

    @invariant()
    def a_status_says_what_is(self) -> None:
        for uid in self.nodes & self.workers:
            status = self.tree.status(uid)
            if uid in self.alive:
                assert status in ("starting", "running", "stopping")
                assert (status == "starting") == (uid in self.unready and uid not in self.told_to_go)
                assert (status == "running") <= (uid not in self.unready)
            else:
                assert status in ("stopping", "backoff", "failed", "stopped")

    def settle(self) -> None:
        """From now on every process gets ready and obeys, and time passes."""
        for _ in range(2000):
            if self.told_to_go:
                self.exit(max(self.told_to_go), ExitReason("shutdown"))
            elif self.unready:
                self.becomes_ready(0)
            elif self.tree.deadline is not None:
                self.alarm_rings()
            else:
                return
        raise AssertionError("it does not settle")

    def teardown(self) -> None:
        """All that can run runs, all that was stopped has ended, every question is answered; then all can stop."""
        self.settle()
        assert {self.tree.status(uid) for uid in self.nodes} <= {"running", "failed"}
        assert {uid for uid in self.nodes & self.workers if self.tree.status(uid) == "running"} == self.alive.keys()
        assert self.to_end <= self.ended
        assert not self.waiting
        assert not self.owed
        self.perform(self.tree.stop_all(self.now, drain=self.uids % 2 == 0))
        self.settle()
        assert self.all_stopped == 1
        assert self.ended == set(range(1, self.uids + 1))


TestGuardian = Guardian.TestCase
TestGuardian.settings = settings(
    max_examples=int(os.environ.get("SUPERVISION_EXAMPLES", "100")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

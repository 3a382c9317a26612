"""Left alone after each event, the tree has come to what OTP's documents say: compared with an independent model."""

from __future__ import annotations

import os
import signal
from random import Random

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.exits import ExitReason
from actors.supervision import Backoff, Policy
from actors.supervision.actions import Action, Ask, Signal, Spawn
from actors.supervision.tree import Tree
from kit.otp import Otp, Part

PERIOD = 5.0
NORMAL = [ExitReason("normal"), ExitReason("shutdown"), ExitReason("exit", code=0)]
ABNORMAL = [ExitReason("exit", code=3), ExitReason("exception"), ExitReason("signal", signal=signal.SIGSEGV)]
PICK = st.integers(0, 10**6)
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


@st.composite
def trees(draw: st.DrawFn) -> Part:
    names = (f"n{number}" for number in range(100))

    def options(auto_shutdown: str) -> dict[str, object]:
        restart = draw(st.sampled_from(["permanent", "permanent", "transient", "temporary"]))
        may = auto_shutdown != "never" and restart != "permanent"
        return {"restart": restart, "significant": may and draw(st.booleans())}

    def part(depth: int, auto_shutdown: str) -> Part:
        given = options(auto_shutdown)
        if depth and draw(st.integers(0, 2)):
            return Part(next(names), intensity=draw(st.sampled_from([None, None, 2])), **given)  # type: ignore[arg-type]
        auto = draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
        below = [] if depth > 2 else [part(depth + 1, auto) for _ in range(draw(st.integers(1, 4)))]
        strategy, limit = draw(st.sampled_from(STRATEGIES)), draw(st.sampled_from([0, 1, 2, 3, None]))
        return Part(next(names), intensity=limit, strategy=strategy, auto_shutdown=auto, children=below, **given)  # type: ignore[arg-type]

    return part(0, "never")


class Comparison(RuleBasedStateMachine):
    """Every event goes to both; every process of the tree obeys at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree(Random(1))
        self.uids: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.starts: dict[str, int] = {}
        self.unlucky: dict[str, int] = {}

    @initialize(top=trees())
    def begin(self, top: Part) -> None:
        self.grow(top, 0, start=False)
        self.perform(self.tree.start(self.uids[top.name], 0.0))
        self.model = Otp(top, PERIOD)

    def grow(self, part: Part, parent: int, start: bool) -> None:
        uid = self.uids[part.name] = len(self.uids) + 1
        self.names[uid] = part.name
        policy = Policy(
            restart=part.restart,  # type: ignore[arg-type]
            max_restarts=part.intensity,
            within=PERIOD,
            backoff=Backoff(0.0, 0.0),
            significant=part.significant,
            auto_shutdown=part.auto_shutdown,  # type: ignore[arg-type]
        )
        kind = "supervisor" if part.strategy else "worker"
        strategy = part.strategy or None
        self.perform(self.tree.add(uid, parent, part.name, kind, policy, self.now, strategy, start))  # type: ignore[arg-type]
        for child in part.children:
            self.grow(child, uid, start=False)

    @property
    def now(self) -> float:
        return self.model.now if hasattr(self, "model") else 0.0

    def perform(self, actions: list[Action]) -> None:
        waiting = list(actions)
        while waiting:
            match waiting.pop(0):
                case Spawn(uid, _):
                    waiting += self.born(uid)
                case Ask(uid):
                    waiting += self.tree.exited(uid, ExitReason("shutdown"), self.now)
                case Signal(uid, signum):
                    waiting += self.tree.exited(uid, ExitReason("signal", signal=signum), self.now)
                case _:
                    pass
        assert self.tree.deadline is None, "nothing takes time here"

    def born(self, uid: int) -> list[Action]:
        name = self.names[uid]
        self.starts[name] = self.starts.get(name, 0) + 1
        if not self.unlucky.get(name, 0):
            return self.tree.ready(uid, self.now)
        self.unlucky[name] -= 1
        said = self.tree.start_failed(uid, ABNORMAL[1], self.now)
        return said + self.tree.exited(uid, ExitReason("exit", code=1), self.now)

    def pick(self, number: int, among: list[Part]) -> Part:
        return sorted(among, key=lambda part: part.name)[number % len(among)]

    @property
    def running(self) -> list[Part]:
        return [part for part in self.model.parts.values() if part.up and not part.strategy]

    # --- events

    @precondition(lambda self: self.running)
    @rule(
        number=PICK,
        abnormal=st.sampled_from([True, True, False]),
        kind=st.integers(0, 2),
        fails=st.integers(0, 3),
        victim=PICK,
    )
    def exits(self, number: int, abnormal: bool, kind: int, fails: int, victim: int) -> None:
        """A worker ends; the next starts of some worker (it itself, or a sibling that is restarted with it) fail."""
        part, unlucky = self.pick(number, self.running), self.pick(victim, self.running)
        if unlucky.restart != "temporary" and fails:
            self.unlucky[unlucky.name] = self.model.unlucky[unlucky.name] = fails
        reason = (ABNORMAL if abnormal else NORMAL)[kind]
        self.perform(self.tree.exited(self.uids[part.name], reason, self.now))
        self.model.exit(part, abnormal)
        self.be_lucky()

    def be_lucky(self) -> None:
        """What was not used up is the same on both sides; from here on starts succeed."""
        assert {name: left for name, left in self.unlucky.items() if left} == {
            name: left for name, left in self.model.unlucky.items() if left
        }
        self.unlucky.clear()
        self.model.unlucky.clear()

    @precondition(lambda self: self.model.top)
    @rule(number=PICK, command=st.sampled_from(["stop", "restart", "restart", "resume"]))
    def command(self, number: int, command: str) -> None:
        part = self.pick(number, list(self.model.parts.values()))
        if part is self.model.top or (command == "resume" and not part.failed):
            return
        self.perform(getattr(self.tree, command)(self.uids[part.name], self.now))
        getattr(self.model, command)(part)

    @precondition(lambda self: len(self.uids) < 40 and self.model.top)
    @rule(number=PICK, restart=st.sampled_from(["permanent", "transient", "temporary"]))
    def add(self, number: int, restart: str) -> None:
        supervisors = [part for part in self.model.parts.values() if part.strategy and part.up]
        above, part = self.pick(number, supervisors), Part(f"added{len(self.uids)}", restart)
        self.grow(part, self.uids[above.name], start=True)
        self.model.add(above, part)

    @precondition(lambda self: hasattr(self, "model"))
    @rule(seconds=st.sampled_from([0.5, 2.5, PERIOD, PERIOD + 2**-20]))
    def time_passes(self, seconds: float) -> None:
        self.model.now += seconds

    # --- what is compared

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        parts = self.model.parts
        assert {name for name, uid in self.uids.items() if uid in self.tree} == parts.keys()
        for name, part in parts.items():
            uid = self.uids[name]
            expected = "failed" if part.failed else "running" if part.up else "stopped"
            assert (name, self.tree.status(uid)) == (name, expected)
            assert [self.names[child] for child in self.tree.children(uid)] == [child.name for child in part.children]
            assert (name, self.starts.get(name, 0)) == (name, part.starts)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(
    max_examples=int(os.environ.get("SUPERVISION_EXAMPLES", "150")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

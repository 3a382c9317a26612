"""What the tree remembers of one worker or supervisor.

Rule: `phase` is what is, `goal` and `leaving` are what shall be; the tree closes the gap one step at a time, so that an
event that crosses another only changes what shall be. Rejected: one state for both ("stopping in order to restart after
a backoff unless stopped for good"): the states multiply with each feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from typing import Literal

from ..exits import ExitReason
from .policy import Policy
from .strategy import Strategy

Kind = Literal["worker", "supervisor"]

SHUTDOWN = ExitReason("shutdown")


class Phase(Enum):
    """How far up a node is."""

    DOWN = "down"  # no process, and no child that has one
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"  # asked to stop, or dead with children still to stop


class Goal(Enum):
    """Where a node shall be in the end."""

    HELD = "held"  # added, its start not asked for yet
    UP = "up"
    FAILED = "failed"  # down until it is resumed
    GONE = "gone"  # down, and then forgotten


class Patience(Enum):
    """How a node is stopped."""

    DRAIN = "drain"  # no time limit
    LIMIT = "limit"  # its policy's shutdown time
    KILL = "kill"


class Node:
    """One worker or supervisor below its parent; the root is the only one without."""

    __slots__ = (
        "alive",
        "asked",
        "at_end",
        "attempt",
        "children",
        "goal",
        "incarnation",
        "kind",
        "leaving",
        "name",
        "not_before",
        "parent",
        "patience",
        "phase",
        "policy",
        "reason",
        "renewing",
        "restarts",
        "start_error",
        "stop_by",
        "strategy",
        "terminated",
        "times",
        "uid",
        "up_since",
        "verdict",
        "was_ready",
    )

    def __init__(
        self, uid: int, parent: Node | None, name: str, kind: Kind, policy: Policy, strategy: Strategy | None
    ) -> None:
        self.uid = uid
        self.parent = parent
        self.name = name
        self.kind: Kind = kind
        self.policy = policy
        self.strategy: Strategy = strategy or "one_for_one"
        self.children: dict[int, Node] = {}  # in start order

        self.phase = Phase.DOWN
        self.goal = Goal.HELD
        self.leaving = False  # must go down, before it may come up again
        self.alive = False  # a worker's process exists, as far as the kernel has told
        self.not_before = 0.0  # end of the backoff
        self.patience = Patience.LIMIT
        self.terminated = False  # SIGTERM was sent
        self.stop_by = math.inf  # when the time to stop is over
        self.renewing = (
            False  # its process is being recycled; if meanwhile it is to go for good, the next handles what is left
        )

        self.incarnation = 0
        self.restarts = 0  # because it failed
        self.attempt = 0  # restarts since it was last stable
        self.times: tuple[float, ...] = ()  # restarts that count: a supervisor's children's, a worker's own
        self.up_since: float | None = None  # when this incarnation became ready

        self.at_end = False  # a supervisor whose automatic shutdown waits until it is up
        self.asked = False  # someone waits for the answer to its first start
        self.was_ready = False  # in any incarnation
        self.start_error: tuple[ExitReason, int] | None = None  # why that start failed, and whose fault it was
        self.verdict: ExitReason | None = None  # why this incarnation ends, if known before the kernel tells
        self.reason = SHUTDOWN  # of the last exit

    @property
    def above(self) -> Node:
        """The parent of a node that is not the root."""
        assert self.parent is not None, "the root is never judged, started or stopped"
        return self.parent

    @property
    def limit(self) -> float | None:
        """Seconds that it has to stop; None is no limit."""
        return None if self.patience is Patience.DRAIN or self.policy.shutdown == math.inf else self.policy.shutdown

    @property
    def is_over(self) -> bool:
        """Down for good: to be forgotten."""
        return self.phase is Phase.DOWN and self.goal is Goal.GONE

    @property
    def in_order(self) -> bool:
        """Its children are started and stopped one at a time; otherwise each goes its own way."""
        return self.kind == "supervisor" and (self.phase is Phase.STARTING or self.strategy != "one_for_one")

    @property
    def can_escalate(self) -> bool:
        """A supervisor with a supervisor above. The root does not count, nor do actors: they have no strategy."""
        above = self.parent
        return self.kind == "supervisor" and above is not None and above.kind == "supervisor" and bool(above.parent)

    @property
    def takes_children(self) -> bool:
        """May nodes be added below it? A worker takes them also while it stops: its last messages may need a helper."""
        if self.kind == "worker":
            return self.alive and self.patience is not Patience.KILL
        return self.goal in (Goal.UP, Goal.HELD)

    @property
    def lets_start(self) -> bool:
        """Its children may be started now."""
        return self.alive or (self.phase in (Phase.STARTING, Phase.RUNNING) and not self.leaving)

    @property
    def takes_down(self) -> bool:
        """It is ending and stops all its children, in reverse. A worker's process ends first: it may need them."""
        return self.phase is Phase.STOPPING and not self.alive

    def walk(self, everything: bool = False) -> Iterator[Node]:
        """This node, then what shares its fate below it: not the children of a live worker, which stay as long as it
        does. `everything`: those as well."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            if everything or not node.alive:
                stack.extend(reversed(node.children.values()))

    def take_down(self) -> None:
        """It and what shares its fate must go down, and come up again; what is temporary does not come up."""
        for node in list(self.walk()):
            if node is not self and node.policy.restart == "temporary" and node.phase is not Phase.DOWN:
                node.give_up(SHUTDOWN)
            elif node.phase is not Phase.DOWN:
                node.leaving = True

    def give_up(self, reason: ExitReason) -> None:
        """It and what shares its fate must go down and be forgotten."""
        for node in self.walk():
            if node.goal is Goal.GONE:
                continue
            if node.goal is not Goal.FAILED:  # then the reason is why it failed
                node.reason = reason if node is self else SHUTDOWN
            node.goal, node.leaving = Goal.GONE, node.phase is not Phase.DOWN

    def fail(self, reason: ExitReason) -> None:
        """It and what shares its fate must go down and stay there until resumed. What is still waited for by whoever asked
        for its first start is given up instead: that must be answered."""
        self.take_down()
        for node in list(self.walk()):
            if node.asked:
                node.give_up(reason)
            elif node.goal is not Goal.GONE:
                node.goal, node.reason = Goal.FAILED, reason

    def clear_record(self) -> None:
        """As if it had never failed."""
        self.attempt, self.not_before, self.times = 0, 0.0, ()

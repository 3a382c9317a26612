"""A supervision tree played by hand: every event says what the tree asked for, in words."""

from __future__ import annotations

import math
from random import Random
from typing import Any

from actors.exits import ExitReason
from actors.supervision import Backoff, Policy
from actors.supervision.actions import Action, AllStopped, Ended, Escalated, Failed, Signal, StartFailed
from actors.supervision.node import Kind
from actors.supervision.tree import Tree

CRASH = ExitReason("exception", error="ValueError: boom")
OTHER = ExitReason("exception", error="KeyError: other")
NORMAL = ExitReason("normal")
BACKOFF = Backoff(initial=1.0, maximum=4.0, factor=2.0, jitter=0.0, stable=10.0)

Spec = tuple[str, dict[str, Any], tuple[Any, ...]]


def worker(name: str, **policy: Any) -> Spec:
    return name, policy, ()


def supervisor(name: str, *children: Spec, **policy: Any) -> Spec:
    return name, {"supervisor": True, **policy}, children


class Play:
    """A tree, a clock and names. Every event returns what the tree asked for, as words: "spawn a", "ended a"."""

    def __init__(self) -> None:
        self.tree = Tree(Random(1))
        self.now = 100.0
        self.uids = {"root": 0}
        self.names = {0: "root"}
        self.last: list[Action] = []

    def words(self, actions: list[Action]) -> list[str]:
        self.last = actions
        return [self.word(action) for action in actions]

    def word(self, action: Action) -> str:
        if isinstance(action, AllStopped):
            return "all stopped"
        kind = {"StartFailed": "start failed"}.get(type(action).__name__, type(action).__name__.lower())
        if isinstance(action, Signal):
            kind = action.signum.name.removeprefix("SIG").lower()
        return f"{kind} {self.names[action.uid]}"

    def add(self, spec: Spec, parent: str = "root", start: bool = True) -> list[str]:
        """A worker is added; a supervisor is added with all below it and then started."""
        name, options, children = spec
        options = dict(options)
        is_supervisor = options.pop("supervisor", False)
        strategy = options.pop("strategy", None)
        limits = {"max_restarts": None, "shutdown": math.inf, "start_timeout": math.inf} if is_supervisor else {}
        policy = Policy(**{"backoff": BACKOFF, **limits, **options})
        uid = len(self.uids)
        self.uids[name], self.names[uid] = uid, name
        kind: Kind = "supervisor" if is_supervisor else "worker"
        now = start and not is_supervisor
        added = self.tree.add(uid, self.uids[parent], name, kind, policy, self.now, strategy, now)
        for child in children:
            self.add(child, name, start=False)
        return self.words(added + (self.tree.start(uid, self.now) if is_supervisor and start else []))

    def ready(self, *names: str) -> list[str]:
        return self.words([action for name in names for action in self.tree.ready(self.uids[name], self.now)])

    def exit(self, name: str, reason: ExitReason = CRASH) -> list[str]:
        return self.words(self.tree.exited(self.uids[name], reason, self.now))

    def start_failed(self, name: str, reason: ExitReason = CRASH) -> list[str]:
        self.tree.start_failed(self.uids[name], reason, self.now)
        return self.exit(name, ExitReason("exit", code=1))

    def do(self, event: str, name: str, **options: Any) -> list[str]:
        """stop, kill, restart, resume, remove, start."""
        return self.words(getattr(self.tree, event)(self.uids[name], self.now, **options))

    def after(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.words(self.tree.due(self.now))

    def status(self, name: str) -> str:
        return self.tree.status(self.uids[name])

    def reasons(self, kind: type[Ended | Failed | StartFailed | Escalated]) -> list[tuple[str, ExitReason]]:
        """Who and why, of the last event's actions of this kind."""
        return [(self.names[action.uid], action.reason) for action in self.last if isinstance(action, kind)]


def running(play: Play, spec: Spec, parent: str = "root") -> None:
    """Add it and let every worker become ready as soon as it is spawned."""
    words = play.add(spec, parent)
    while spawned := [word.removeprefix("spawn ") for word in words if word.startswith("spawn ")]:
        words = play.ready(*spawned)


def three(strategy: str, **policy: Any) -> Spec:
    return supervisor("top", worker("a"), worker("b"), worker("c"), strategy=strategy, **policy)

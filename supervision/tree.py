"""The supervision tree as a state machine (interface only for now)."""

from __future__ import annotations

import random
from typing import Literal

from ..exits import ExitReason
from .actions import Action
from .policy import Policy
from .strategy import Strategy

Kind = Literal["worker", "supervisor"]
Status = Literal["starting", "running", "stopping", "backoff", "failed", "stopped"]

ROOT = 0


class Tree:
    """Nodes by uid; the caller gives uids from 1 on and never uses one twice. Uid 0 is the root.

    Events about a uid that the tree does not know (any more) are ignored: they crossed its end.
    `incarnation`, where taken, makes an event about an older incarnation be ignored; None is "the present one".
    """

    def __init__(self, random: random.Random) -> None: ...
    def add(
        self,
        uid: int,
        parent: int,
        name: str,
        kind: Kind,
        policy: Policy,
        now: float,
        strategy: Strategy | None = None,
        start: bool = True,
    ) -> list[Action]:
        """A node is to live below `parent`. It starts at once if `start` and its parent is up; below a supervisor that is itself not started
        it waits for that one's start. A supervisor that shall have children is added with start=False, then its children, then start(uid).
        If the parent is gone, ending or failed: [StartFailed, Ended]."""
        raise NotImplementedError

    def start(self, uid: int, now: float) -> list[Action]:
        """Start a node added with start=False and what is below it, in order, each when the one before is ready."""
        raise NotImplementedError

    def ready(self, uid: int, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process says that constructor and on_start are done."""
        raise NotImplementedError

    def start_failed(self, uid: int, reason: ExitReason, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process says that constructor or on_start failed. `exited` must still follow; this reason wins over the kernel's."""
        raise NotImplementedError

    def exited(self, uid: int, reason: ExitReason, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process has ended (or could not be made)."""
        raise NotImplementedError

    def stop(self, uid: int, now: float, drain: bool = False) -> list[Action]:
        """Graceful and for good, with all below. drain: no time limit; a later stop without it brings the limit back."""
        raise NotImplementedError

    def kill(self, uid: int, now: float) -> list[Action]:
        """SIGKILL for it and all below, at once and for good."""
        raise NotImplementedError

    def restart(self, uid: int, now: float) -> list[Action]:
        """By hand: stop gracefully and start again; not counted, no backoff. A failed node is resumed."""
        raise NotImplementedError

    def resume(self, uid: int, now: float) -> list[Action]:
        """Bring a failed node (and the failed supervisor above it, if any) back, with a clean count."""
        raise NotImplementedError

    def remove(self, uid: int, now: float) -> list[Action]:
        """Forget a node that is failed or was never started: Ended. Ignored while it has a process."""
        raise NotImplementedError

    def stop_all(self, now: float, drain: bool = False) -> list[Action]:
        """Stop the root's children in reverse, one at a time; AllStopped when nothing is left. Nothing can be added from here on."""
        raise NotImplementedError

    def kill_all(self, now: float) -> list[Action]:
        """SIGKILL for all at once; AllStopped when nothing is left."""
        raise NotImplementedError

    def due(self, now: float) -> list[Action]:
        """Time has passed: call it at `deadline`."""
        raise NotImplementedError

    @property
    def deadline(self) -> float | None:
        """When `due` must be called next; None: no need."""
        raise NotImplementedError

    # queries; KeyError for a uid that the tree does not know
    def __contains__(self, uid: int) -> bool:
        raise NotImplementedError

    def status(self, uid: int) -> Status:
        raise NotImplementedError

    def restarts(self, uid: int) -> int:
        """How often it was restarted because it failed."""
        raise NotImplementedError

    def incarnation(self, uid: int) -> int:
        """0 before the first start."""
        raise NotImplementedError

    def children(self, uid: int = ROOT) -> tuple[int, ...]:
        """In start order."""
        raise NotImplementedError

    def parent(self, uid: int) -> int:
        raise NotImplementedError

    def name(self, uid: int) -> str:
        raise NotImplementedError

    def kind(self, uid: int) -> Kind:
        raise NotImplementedError

    def policy(self, uid: int) -> Policy:
        raise NotImplementedError

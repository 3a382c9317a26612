"""The supervision tree: a state machine that says what to do, and does nothing.

Rule: no clock, no process, no I/O. The guardian feeds events with the time and carries out the actions that come back.
Design: an event changes what shall be (here, or in the judge when something failed), then the settler takes every step
that can be taken.
Rejected: a process for each supervisor as in OTP: one more hop and one more thing to die for each level.
"""

from __future__ import annotations

import math
import signal
from random import Random
from typing import Literal

from ..exits import ExitReason
from .actions import Action, Ask, Ended, Recycled, Restarted, Signal, StartFailed
from .judge import Judge
from .node import SHUTDOWN, Goal, Kind, Node, Patience, Phase
from .policy import Policy
from .settler import KILL_AFTER_AT_LEAST, Settler
from .strategy import Strategy

Status = Literal["starting", "running", "stopping", "backoff", "failed", "stopped"]

ROOT = 0


class Tree:
    """Nodes by uid; the caller gives uids from 1 on and never uses one twice. Uid 0 is the root, a supervisor that
    never fails.

    Events about a uid that the tree does not know (any more) are ignored: they crossed its end. `now` is in seconds,
    monotonic. `incarnation`, where taken, makes an event about an older incarnation be ignored; None is the present
    one.
    """

    def __init__(self, random: Random) -> None:
        self._root = Node(ROOT, None, "", "supervisor", Policy(shutdown=math.inf), "one_for_one")
        self._root.phase, self._root.goal = Phase.RUNNING, Goal.UP
        self._settler = Settler(self._root)
        self._judge = Judge(self._settler, random)
        self._nodes = self._settler.nodes

    # --- events -------------------------------------------------------------------------------------------------

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
        """A node is to live below `parent`. It starts at once if `start` and its parent is up. Below a supervisor that
        was not started yet it waits for that one's start: add a supervisor with start=False, then its children, then
        `start(uid)`. If the parent is gone, ending or failed: [StartFailed, Ended]. ValueError if the uid is in use."""
        self._settler.now = now
        if uid in self._nodes:
            raise ValueError(f"uid {uid} is in use by {self._nodes[uid].name!r}; give every node a new one")
        above = self._nodes.get(parent)
        if above is None or not above.takes_children:
            reason = ExitReason("shutdown", error="its parent has ended, is ending or has failed")
            return [StartFailed(uid, reason, uid), Ended(uid, reason)]
        node = self._nodes[uid] = above.children[uid] = Node(uid, above, name, kind, policy, strategy)
        if start and above.goal is not Goal.HELD:
            node.goal, node.asked = Goal.UP, True
            self._settler.touch(node)
        return self._settler.settle()

    def start(self, uid: int, now: float) -> list[Action]:
        """Start a node added with start=False and all below it, in order, each when the one before is ready."""
        if (node := self._node(uid, now)) and node.goal is Goal.HELD:
            node.asked = True
            for each in node.walk():
                each.goal = Goal.UP
            self._settler.touch(node)
        return self._settler.settle()

    def ready(self, uid: int, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process says that its constructor and `on_start` are done."""
        if node := self._process(uid, now, incarnation):
            if node.phase is Phase.STARTING:
                self._settler.up(node)
            elif node.up_since is None and node.verdict is None:  # asked to stop meanwhile
                node.up_since = now
                if node.limit is None:
                    self._settler.timers.cancel(uid)
                if node.renewing:
                    node.renewing = False
                    self._settler.out += [Restarted(uid), Ask(uid, node.limit, final=node.goal is Goal.GONE)]
        return self._settler.settle()

    def start_failed(self, uid: int, reason: ExitReason, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process says that its constructor or `on_start` failed. `exited` must still follow; this reason
        wins then."""
        if (node := self._process(uid, now, incarnation)) and node.phase is Phase.STARTING:
            node.verdict = reason
            node.phase = Phase.STOPPING
            until = now + max(KILL_AFTER_AT_LEAST, min(node.policy.shutdown, node.policy.start_timeout))
            self._settler.timers.set(uid, until)  # it leaves by itself; if not, it is signalled
        return self._settler.settle()

    def exited(self, uid: int, reason: ExitReason, now: float, incarnation: int | None = None) -> list[Action]:
        """The worker's process has ended, or could not be made."""
        if node := self._process(uid, now, incarnation):
            reason, node.verdict = node.verdict or reason, None
            node.renewing = node.renewing and node.up_since is not None  # not again what could not even start
            self._settler.timers.cancel(uid)
            self._judge.ended(node, reason)
            node.alive, node.phase = False, Phase.STOPPING
            for child in reversed(node.children.values()):
                self._stop(child, node.patience is Patience.DRAIN)
            self._settler.touch_children(node)
        return self._settler.settle()

    def stop(self, uid: int, now: float, drain: bool = False) -> list[Action]:
        """Stop it and all below gracefully and for good. drain: without a time limit; a later stop brings the limit
        back."""
        if node := self._node(uid, now):
            self._stop(node, drain)
        return self._settler.settle()

    def kill(self, uid: int, now: float) -> list[Action]:
        """SIGKILL it and all below at once and for good."""
        if node := self._node(uid, now):
            node.give_up(SHUTDOWN)
            self._settler.kill(node)
            self._settler.touch(node)
        return self._settler.settle()

    def restart(self, uid: int, now: float) -> list[Action]:
        """By hand: stop it gracefully and start it again; not counted, no backoff. A failed node is resumed."""
        node = self._node(uid, now)
        if node and node.goal is Goal.FAILED:
            return self.resume(uid, now)
        if node and node.goal is Goal.UP:
            node.attempt = 0
            node.take_down()
            self._settler.wait(node, until=now)
            self._settler.touch(node)
        return self._settler.settle()

    def recycle(self, uid: int, reason: ExitReason, now: float, incarnation: int | None = None) -> list[Action]:
        """A limit is reached: replace the worker's process, gracefully, without a time limit, whatever its restart type;
        not counted, no backoff. If it is being stopped for good, the next process handles what is left of its mail."""
        node = self._process(uid, now, incarnation)
        if node and node.up_since is not None and node.verdict is None and not node.renewing and not node.terminated:
            if node.goal is Goal.UP and not node.leaving:
                node.patience = Patience.DRAIN
                node.take_down()
                self._settler.wait(node, until=now)
                self._settler.touch(node)
            elif node.goal is not Goal.GONE or node.patience is Patience.KILL:
                return self._settler.settle()
            node.renewing = True
            self._settler.out.append(Recycled(uid, reason))
        return self._settler.settle()

    def hung(
        self, uid: int, reason: ExitReason, now: float, stopped: bool = False, incarnation: int | None = None
    ) -> list[Action]:
        """The worker's process makes no progress: SIGTERM, and SIGKILL a moment later; SIGKILL at once if it is
        `stopped`, since it hears nothing else. `exited` must still follow; this reason wins then."""
        node = self._process(uid, now, incarnation)
        if node and node.up_since is not None and node.verdict is None and node.patience is not Patience.KILL:
            node.verdict = reason
            node.phase = Phase.STOPPING
            if stopped:
                self._settler.timers.cancel(uid)
                self._settler.out.append(Signal(uid, signal.SIGKILL))
            else:
                self._settler.terminate(node)
        return self._settler.settle()

    def resume(self, uid: int, now: float) -> list[Action]:
        """Bring a failed node back with a clean count, and with it the failed supervisor that it may be below."""
        node = self._node(uid, now)
        if node and node.goal is Goal.FAILED:
            while node.parent and node.parent.goal is Goal.FAILED:
                node = node.parent
            if node.phase is Phase.DOWN:  # before that, nobody was told that it failed
                for each in node.walk():
                    each.goal = Goal.UP
                    each.clear_record()
                self._settler.touch(node)
        return self._settler.settle()

    def remove(self, uid: int, now: float) -> list[Action]:
        """Forget a node that has failed or was never started. Ignored for others: stop them."""
        node = self._node(uid, now)
        if node and node.goal in (Goal.FAILED, Goal.HELD) and node.phase is Phase.DOWN:
            self._stop(node, drain=False)
        return self._settler.settle()

    def stop_all(self, now: float, drain: bool = False) -> list[Action]:
        """Stop the root's children in reverse, one at a time, then AllStopped. Nothing can be added from here on."""
        self._settler.now = now
        if self._close():
            for child in reversed(self._root.children.values()):
                self._stop(child, drain)
        return self._settler.settle()

    def kill_all(self, now: float) -> list[Action]:
        """SIGKILL everything at once; AllStopped when nothing is left. Nothing can be added from here on."""
        self._settler.now = now
        if self._close():
            for child in self._root.children.values():
                child.give_up(SHUTDOWN)
                self._settler.kill(child)
        return self._settler.settle()

    def due(self, now: float) -> list[Action]:
        """Time has passed. To be called at `deadline`; earlier or later is harmless."""
        self._settler.now = now
        for uid in self._settler.timers.take(now):
            node = self._nodes[uid]
            if node.phase is Phase.STARTING:
                text = f"TimeoutError: not ready within {node.policy.start_timeout:g} s"
                node.verdict = ExitReason("exception", error=text)
                node.phase = Phase.STOPPING
                self._settler.out.append(Signal(uid, signal.SIGKILL))
            elif node.phase is Phase.STOPPING:
                self._settler.press(node)
            self._settler.touch(node)
        return self._settler.settle()

    @property
    def deadline(self) -> float | None:
        """When to call `due` next; None: no need."""
        return self._settler.timers.next

    # --- queries: KeyError for a uid that the tree does not know --------------------------------------------------

    def __contains__(self, uid: int) -> bool:
        return uid in self._nodes

    def status(self, uid: int) -> Status:
        """ "stopped" is: not started yet, or waiting for its turn while its group restarts."""
        node = self._nodes[uid]
        match node.phase:
            case Phase.STARTING:
                return "starting"
            case Phase.RUNNING:
                return "running"
            case Phase.STOPPING:
                return "stopping"
            case Phase.DOWN:
                return "failed" if node.goal is Goal.FAILED else "backoff" if uid in self._settler.timers else "stopped"

    def restarts(self, uid: int) -> int:
        """How often it was restarted because it failed."""
        return self._nodes[uid].restarts

    def incarnation(self, uid: int) -> int:
        """Number of the present or last start; 0 before the first."""
        return self._nodes[uid].incarnation

    def children(self, uid: int = ROOT) -> tuple[int, ...]:
        """Uids in start order."""
        return tuple(self._nodes[uid].children)

    def parent(self, uid: int) -> int:
        """Uid of the node above; the root is its own."""
        return (self._nodes[uid].parent or self._root).uid

    def name(self, uid: int) -> str:
        """As given to `add`."""
        return self._nodes[uid].name

    def kind(self, uid: int) -> Kind:
        """As given to `add`."""
        return self._nodes[uid].kind

    def policy(self, uid: int) -> Policy:
        """As given to `add`."""
        return self._nodes[uid].policy

    # --- parts of the above -----------------------------------------------------------------------------------------

    def _stop(self, node: Node, drain: bool) -> None:
        for each in node.walk():
            if drain and each.goal is not Goal.GONE and each.phase is not Phase.STOPPING:
                each.patience = Patience.DRAIN
            elif not drain and each.patience is Patience.DRAIN:
                each.patience = Patience.LIMIT
                if each.phase is Phase.STOPPING:
                    self._settler.request_stop(each)
        node.give_up(SHUTDOWN)
        self._settler.touch(node)

    def _node(self, uid: int, now: float) -> Node | None:
        self._settler.now = now
        return self._nodes.get(uid) if uid != ROOT else None

    def _process(self, uid: int, now: float, incarnation: int | None) -> Node | None:
        """The worker, if the event is about a process that it has."""
        node = self._node(uid, now)
        return node if node and node.alive and incarnation in (None, node.incarnation) else None

    def _close(self) -> bool:
        """The root takes nothing more and goes when its children are gone; False if it is gone."""
        if self._root.phase is Phase.DOWN:
            return False
        self._root.goal, self._root.phase = Goal.GONE, Phase.STOPPING
        self._settler.touch(self._root)
        return True

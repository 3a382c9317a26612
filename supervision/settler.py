"""Takes the nodes, one step at a time, from what is to what shall be.

Rule: looks only at phases and goals, never at why; judging is the tree's part. For each parent touched: the last child
that must go is stopped, else the first that must come is started; the exit or readiness that this brings touches the
parent again. Nothing is remembered of how far a restart has come, so a second failure, a stop or an addition in the
middle of one needs no case of its own. Children of running `one_for_one` supervisors, of actors and of the root are
settled each on its own, hence in parallel.
Rejected: a list of pending steps for each restart (it must be merged with the next one), and recursion in place of the
queue (ten thousand children may end in one event).
"""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Callable

from .actions import Action, AllStopped, Ask, Ended, Failed, Ready, Restarted, Restarting, Signal, Spawn, StartFailed
from .node import SHUTDOWN, Goal, Node, Patience, Phase
from .timers import Timers

KILL_AFTER = 0.1  # of the shutdown time, from SIGTERM to SIGKILL: enough to flush, not to work
KILL_AFTER_AT_LEAST = 0.05  # seconds


class Settler:
    """All nodes below `root`, their alarms, and the actions that the present event has led to.

    The caller sets `now`, changes goals, touches the nodes it changed, and then calls `settle`.
    """

    def __init__(self, root: Node) -> None:
        self.nodes = {root.uid: root}
        self.timers = Timers()
        self.now = 0.0
        self.out: list[Action] = []
        self.finish: Callable[[Node], None] = lambda _: (
            None
        )  # the judge's: an automatic shutdown that waited for a start
        self._unsettled: deque[tuple[Node, Node | None]] = deque()  # parents, with the child that changed

    def touch(self, node: Node) -> None:
        """Something about `node` changed."""
        if node.parent:
            self._unsettled.append((node.parent, node))
        self.touch_children(node)

    def touch_children(self, node: Node) -> None:
        """Something changed that all children of `node` depend on."""
        self._unsettled.append((node, None))

    def settle(self) -> list[Action]:
        """Take every step that can be taken now."""
        while self._unsettled:
            parent, child = self._unsettled.popleft()
            if child and child.uid not in parent.children:
                continue
            if child and child.is_over:  # whoever's turn it is: its monitors don't wait for its siblings
                self._remove(child)
            elif parent.takes_down:
                self._stop_next(parent)
            elif parent.in_order:
                self._step(parent)
            elif child:
                self._drive(child)
        out, self.out = self.out, []
        return out

    def up(self, node: Node) -> None:
        """It is ready."""
        node.phase = Phase.RUNNING
        node.up_since = self.now
        self.timers.cancel(node.uid)
        self.out.append(Restarted(node.uid) if node.was_ready else Ready(node.uid))
        node.was_ready, node.asked = True, False
        self.touch(node)
        if node.at_end:
            node.at_end = False
            self.finish(node)

    def wait(self, node: Node, until: float) -> None:
        """Don't start it earlier."""
        node.not_before = until
        if node.phase is Phase.DOWN:
            if until > self.now:
                self.timers.set(node.uid, until)
            else:
                self.timers.cancel(node.uid)

    def request_stop(self, node: Node) -> None:
        """Ask a worker, with its time limit; a supervisor only has the limit. A worker that is not ready yet keeps its
        start timeout where there is no other limit."""
        if node.limit == 0:
            self.kill(node)
        elif node.alive or node.kind == "supervisor":
            if node.alive and not (node.renewing and node.up_since is None):  # that one is asked when it is ready
                self.out.append(Ask(node.uid, node.limit, final=node.goal is Goal.GONE))
            if node.limit is not None:
                node.stop_by = self.now + node.limit
                self.timers.set(node.uid, node.stop_by)
            elif node.up_since is not None:
                self.timers.cancel(node.uid)

    def press(self, node: Node) -> None:
        """The time to stop is over."""
        if not node.alive:
            self.kill(node)
        elif node.terminated or node.limit is None:
            self.out.append(Signal(node.uid, signal.SIGKILL))
        else:
            self.terminate(node)

    def terminate(self, node: Node) -> None:
        """SIGTERM, and SIGKILL a moment later."""
        node.terminated = True
        self.out.append(Signal(node.uid, signal.SIGTERM))
        grace = KILL_AFTER * node.policy.shutdown if node.policy.shutdown < math.inf else 0.0
        self.timers.set(node.uid, self.now + max(KILL_AFTER_AT_LEAST, grace))

    def kill(self, node: Node) -> None:
        """SIGKILL for every process at and below it, at once. Goals stay, but a worker's children go with it."""
        for each in list(node.walk(everything=True)):
            if each is not node and each.above.kind == "worker":
                each.give_up(SHUTDOWN)
            if each.phase is Phase.DOWN or each.patience is Patience.KILL:
                continue
            each.patience = Patience.KILL
            each.leaving, each.phase = True, Phase.STOPPING
            self.timers.cancel(each.uid)
            if each.alive:
                self.out.append(Signal(each.uid, signal.SIGKILL))
            self.touch_children(each)

    def _stop_next(self, parent: Node) -> None:
        """All children go, the last first."""
        for child in reversed(parent.children.values()):
            if child.is_over:
                return self._remove(child)
            if child.phase is not Phase.DOWN:
                return self._begin_stop(child)
        return self._down(parent)

    def _step(self, parent: Node) -> None:
        """One child at a time: those that must go, the last first; then those that must come, the first first."""
        for child in reversed(parent.children.values()):
            if child.is_over:
                return self._remove(child)
            if child.leaving:
                return self._begin_stop(child)
        for child in parent.children.values():
            if child.goal is Goal.UP and child.phase is not Phase.RUNNING:
                return self._drive(child)
        if parent.phase is Phase.STARTING and not parent.leaving:
            self.up(parent)
        return None

    def _drive(self, child: Node) -> None:
        """One child, on its own."""
        if child.leaving:
            self._begin_stop(child)
        elif child.phase is Phase.DOWN and child.goal is Goal.UP and child.above.lets_start and self._is_time(child):
            self._begin_start(child)

    def _is_time(self, child: Node) -> bool:
        return self.now >= child.not_before  # otherwise its alarm will ring

    def _begin_start(self, node: Node) -> None:
        node.phase = Phase.STARTING
        node.incarnation += 1
        node.up_since, node.terminated, node.patience = None, False, Patience.LIMIT
        node.renewing, node.stop_by = False, math.inf
        if node.kind == "worker":
            node.alive = True
            self.out.append(Spawn(node.uid, node.incarnation))
            self.timers.set(node.uid, self.now + node.policy.start_timeout)
            return
        self.timers.cancel(node.uid)
        node.times, node.at_end = (), False
        for child in node.children.values():  # a new start of its supervisor clears a child's record, as in OTP
            child.clear_record()
        self.touch_children(node)

    def _begin_stop(self, node: Node) -> None:
        if node.phase is not Phase.STOPPING:
            node.phase = Phase.STOPPING
            self.request_stop(node)
            self.touch_children(node)

    def _renew(self, node: Node) -> None:
        """What is being stopped for good was being recycled: one more process handles what is left, in what is left of
        the time."""
        node.incarnation += 1
        node.alive, node.up_since = True, None
        self.out += [Restarting(node.uid, node.reason, 0.0), Spawn(node.uid, node.incarnation)]
        started = self.now + node.policy.start_timeout
        self.timers.set(node.uid, started if node.limit is None else node.stop_by)

    def _down(self, node: Node) -> None:
        if node.renewing and node.goal is Goal.GONE and node.patience is not Patience.KILL and not node.terminated:
            return self._renew(node)
        node.phase, node.leaving = Phase.DOWN, False
        self.timers.cancel(node.uid)
        if node.parent is None:
            self.out.append(AllStopped())
            return None
        if node.goal is Goal.FAILED and node.parent.goal is not Goal.FAILED:
            self.out.extend(Failed(each.uid, node.reason) for each in reversed(list(node.walk())))
        elif node.goal is Goal.UP and node.not_before > self.now:
            self.timers.set(node.uid, node.not_before)
        self.touch(node)
        return None

    def _remove(self, node: Node) -> None:
        """Forget it, and what is down with it, in reverse."""
        for each in reversed(list(node.walk())):
            del self.nodes[each.uid], each.above.children[each.uid]
            self.timers.cancel(each.uid)
            if each.asked:
                self.out.append(StartFailed(each.uid, *(each.start_error or (each.reason, each.uid))))
            self.out.append(Ended(each.uid, each.reason))
        self.touch_children(node.above)

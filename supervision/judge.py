"""Who is restarted, who has failed and who is forgotten when something ended.

Rule: changes only what shall be (goals, who must leave, not before when) and touches what it changed; the settler does
the rest. A failure is judged at once, up to the top if need be. A supervisor counts the restarts of its children;
beyond its limit it stops them and fails in its parent's eyes, with the first cause, whatever that was: restarts used up
by normal exits are a failure, too. (OTP exits `shutdown` then, which leaves a transient supervisor down without a
word.) A supervisor with `auto_shutdown` ends when its significant children have ended by themselves; what its own
supervisor makes of that is a matter of its restart type, as for any normal end. Supervisors below the root or below an
actor have nobody to escalate to: there the child that used up the restarts has failed, keeps its place until it is
resumed, and its siblings are untouched.
"""

from __future__ import annotations

from random import Random

from ..exits import ExitReason
from .actions import Escalated, Restarting
from .backoff import Backoff
from .node import SHUTDOWN, Goal, Node, Phase
from .settler import Settler
from .strategy import affected


class Judge:
    """OTP's rules over the nodes of `settler`; `random` spreads the backoff."""

    def __init__(self, settler: Settler, random: Random) -> None:
        self._settler = settler
        self._random = random
        settler.finish = self._finish

    def ended(self, node: Node, reason: ExitReason) -> None:
        """A worker's process has ended: because it was to, or did it fail?"""
        if not node.leaving:
            self._failed(node, reason, reason.abnormal, node.uid)
        else:
            node.reason = SHUTDOWN if reason.kind == "exit" and reason.code == 0 else reason
            self._announce(node)

    def _failed(self, node: Node, reason: ExitReason, abnormal: bool, cause: int) -> None:
        """A worker ended by itself, or a supervisor gave up."""
        if node.was_ready or not self._abort_start(node, reason, cause):
            if not node.policy.wants_restart(abnormal):
                node.give_up(reason)
                self._settler.touch(node)
                self._auto_shutdown(node)
            elif self._count(node):
                self._restart_group(node)
            else:
                self._exhausted(node, reason, cause)
        node.reason = reason  # also if it fell with its supervisor, for whose children the reason is only "shut down"
        self._announce(node)

    def _announce(self, node: Node) -> None:
        """Say that it comes back, if it does. A failure or an end is told when all of it is down."""
        if node.goal is Goal.UP:
            above: Node | None = node
            until = self._settler.now
            while above:
                until = max(until, above.not_before)
                above = above.parent
            self._settler.out.append(Restarting(node.uid, node.reason, until - self._settler.now))

    def _abort_start(self, node: Node, reason: ExitReason, cause: int) -> bool:
        """If someone still waits for the first start that `node` is part of: that start has failed, as a whole."""
        asked: Node | None = node
        while asked and not asked.asked:
            asked = asked.parent if asked.parent and asked.parent.kind == "supervisor" else None
        if asked is None:
            return False
        asked.start_error = (reason, cause)
        asked.give_up(reason)
        self._settler.touch(asked)
        return True

    def _auto_shutdown(self, node: Node) -> None:
        """A child has ended by itself: does that end its supervisor? A failed one may be resumed, so it has not ended."""
        parent = node.above
        if not node.policy.significant or parent.policy.auto_shutdown == "never":
            return
        others = (each for each in parent.children.values() if each.policy.significant and each.goal is not Goal.GONE)
        if parent.policy.auto_shutdown == "any_significant" or not any(others):
            if parent.phase is Phase.STARTING:
                parent.at_end = True  # whoever waits for its start hears first that it has started
            else:
                self._finish(parent)

    def _finish(self, node: Node) -> None:
        """Automatic shutdown of a supervisor."""
        if node.can_escalate:
            self._failed(node, SHUTDOWN, abnormal=False, cause=node.uid)
        else:
            node.give_up(SHUTDOWN)
            self._settler.touch(node)

    def _count(self, node: Node) -> bool:
        """Count one restart of `node`, on its own account and on its supervisor's; False if that is one too many."""
        accounts = [each for each in (node, node.above) if (each is node) == (each.kind == "worker")]
        allowed = []
        for each in accounts:
            each.times, within = each.policy.intensity.add(each.times, self._settler.now)
            allowed.append(within)
        return all(allowed)

    def _restart_group(self, node: Node) -> None:
        """Stop and start again those that the strategy says, after the backoff."""
        parent, now = node.above, self._settler.now
        backoff = (node.policy.backoff if node.kind == "worker" else None) or parent.policy.backoff or Backoff()
        if node.up_since is not None and now - node.up_since >= backoff.stable:
            node.attempt = 0
        delay = backoff.delay(node.attempt, self._random)
        node.attempt += 1
        node.restarts += 1
        group = [node]
        if parent.strategy != "one_for_one":  # which would only search through all children for this one
            candidates = [uid for uid, child in parent.children.items() if child.goal is Goal.UP]
            group = [parent.children[uid] for uid in affected(parent.strategy, candidates, node.uid)]
        for each in group:
            if each.policy.restart == "temporary" and each.phase is not Phase.DOWN:
                each.give_up(SHUTDOWN)
            else:
                each.take_down()
                self._settler.wait(each, max(each.not_before, now + delay))
        self._settler.touch(node)

    def _exhausted(self, node: Node, reason: ExitReason, cause: int) -> None:
        """Its restarts are used up: the supervisor escalates; at the top, `node` has failed."""
        parent = node.above
        if parent.can_escalate:
            self._settler.out.append(Escalated(parent.uid, reason, cause))
            self._failed(parent, reason, abnormal=True, cause=cause)
        elif not self._abort_start(node, reason, cause):
            if parent.kind == "supervisor":
                parent.times = ()  # the account is settled with this child; its siblings have all restarts again
            node.fail(reason)
            for each in node.walk():
                if each is node or each.is_over:
                    self._settler.touch(each)

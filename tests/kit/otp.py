"""OTP's supervisors as a model: who runs, how often each was started, who has failed, after each event.

Written from the supervisor chapter of OTP's design principles and the manual page of `supervisor`, not from the tree
that it judges. It knows neither processes nor steps: an event is followed by all that it leads to, at once, so it is
right about what a tree comes to when it is left alone, and silent about the way.

Where we differ from OTP on purpose (docs/decisions/0015), so does the model: a supervisor that gives up has failed,
whatever the exits were; at the top the child fails instead of the tree; whoever has ended stays away when its
supervisor restarts; a child that can't start while its supervisor restarts is that one's to restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal


@dataclass(eq=False)
class Part:
    """A worker; with a strategy, a supervisor."""

    name: str
    restart: str = "permanent"
    significant: bool = False
    intensity: int | None = None  # a supervisor's for its children, a worker's own
    strategy: str = ""
    auto_shutdown: str = "never"
    children: list[Part] = field(default_factory=list)

    above: Part | None = None
    up: bool = False
    failed: bool = False
    starts: int = 0
    times: list[float] = field(default_factory=list)

    def walk(self) -> Iterator[Part]:
        yield self
        for child in self.children:
            yield from child.walk()


class GaveUp(Exception):
    """A supervisor below another has used up its restarts and is down."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.name)
        self.part = part


class Otp:
    """One tree. Events name a part that is there."""

    def __init__(self, top: Part, period: float) -> None:
        self.top: Part | None = top
        self.period = period
        self.now = 0.0
        self.unlucky: dict[str, int] = {}  # how many of its next starts fail
        for part in top.walk():
            for child in part.children:
                child.above = part
        self._start(top)

    @property
    def parts(self) -> dict[str, Part]:
        return {part.name: part for part in self.top.walk()} if self.top else {}

    # --- events

    def exit(self, part: Part, abnormal: bool) -> None:
        """A worker ends by itself."""
        part.up = False
        while True:
            try:
                return self._died(part, abnormal)
            except GaveUp as gave_up:
                part, abnormal = gave_up.part, True

    def stop(self, part: Part) -> None:
        """By hand and for good: terminate_child, delete_child."""
        self._down(part)
        self._forget(part)

    def add(self, above: Part, part: Part) -> None:
        part.above = above
        above.children.append(part)
        self._start(part)

    def restart(self, part: Part) -> None:
        """By hand: terminate_child, restart_child. Not counted."""
        if part.failed:
            self.resume(part)
        elif part.up:
            self._down(part)
            self._bring(part)

    def resume(self, part: Part) -> None:
        """A failed part comes back with a clean record, and with it the failed supervisor around it."""
        while part.above and part.above.failed:
            part = part.above
        for each in part.walk():
            each.failed, each.times = False, []
        self._bring(part)

    # --- what follows

    def _bring(self, part: Part) -> None:
        """Start it; a start that fails is a crash."""
        try:
            if not self._start(part):
                self._again(part)
        except GaveUp as gave_up:
            self.exit(gave_up.part, True)

    def _died(self, part: Part, abnormal: bool) -> None:
        """OTP's table."""
        if part.restart == "permanent" or (part.restart == "transient" and abnormal):
            self._again(part)
            return
        above = part.above
        self._forget(part)
        if above and part.significant and above.auto_shutdown != "never":
            others = any(child.significant for child in above.children)
            if above.auto_shutdown == "any_significant" or not others:
                self._down(above)
                self._died(above, False) if above.above else self._forget(above)

    def _again(self, part: Part) -> None:
        """Count a restart, then stop and start again those that the strategy says."""
        above = part.above
        assert above, "a top supervisor's end is nobody's to restart"
        if self._too_many(part, above):
            self._exhausted(part, above)
            return
        rest = above.children[above.children.index(part) :]
        candidates: dict[str, list[Part]] = {
            "one_for_one": [part], "one_for_all": list(above.children), "rest_for_one": rest,
        }  # fmt: skip
        group = [each for each in candidates[above.strategy] if not each.failed]
        for each in reversed(group):
            if each.up and each.restart == "temporary":
                self._down(each)
                self._forget(each)
            else:
                self._down(each)
        self._start_all(above, group)

    def _too_many(self, part: Part, above: Part) -> bool:
        found = False
        for each in (above, *([] if part.strategy else [part])):
            each.times = [time for time in each.times if self.now - time <= self.period] + [self.now]
            found = found or (each.intensity is not None and len(each.times) > each.intensity)
        return found

    def _exhausted(self, part: Part, above: Part) -> None:
        if above.above:
            self._down(above)
            raise GaveUp(above)
        above.times = []
        self._down(part)
        for each in part.walk():
            each.failed = True

    def _start_all(self, above: Part, parts: list[Part]) -> None:
        """In order; one that can't start is restarted by the rules of its supervisor before the next has its turn."""
        for each in parts:
            if each in above.children and not each.up and not each.failed and not self._start(each):
                self._again(each)

    def _start(self, part: Part) -> bool:
        if part.strategy:
            for each in (part, *part.children):
                each.times = []
            try:
                self._start_all(part, list(part.children))
            except GaveUp as gave_up:
                if gave_up.part is not part:
                    raise
                return False
        else:
            part.starts += 1
            if self.unlucky.get(part.name, 0):
                self.unlucky[part.name] -= 1
                return False
        part.up = True
        return True

    def _down(self, part: Part) -> None:
        """Stop it and all below, in reverse; what is temporary below does not come back."""
        for child in reversed(list(part.children)):
            was_up = child.up
            self._down(child)
            if child.restart == "temporary" and was_up:
                self._forget(child)
        part.up = False

    def _forget(self, part: Part) -> None:
        if part.above:
            part.above.children.remove(part)
        else:
            self.top = None


Kind = Literal["worker", "supervisor"]

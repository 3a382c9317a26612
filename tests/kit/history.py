"""The history of a run in which processes died: what was sent, accepted, handled and reported, and whether that is what
was promised.

Promise that is checked: every accepted message was handled or reported (never neither); nothing was handled that was
never sent; each sender's messages were handled in the order in which it sent them; nothing was handled twice, except
messages that were in hand at a death when `redeliver` allows it, and those not more often than it says.

"Begun" and "handled" are written by the actor itself (`Journal`), before and after its work, so a message that was in
hand at a death is begun and not handled. Rejected: counting only ("1,000 sent, 1,000 received"), which a loss and a
double together pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from .journal import Journal

Message = tuple[str, int]  # (sender, its number, growing from message to message)


class History:
    """Collects, then judges. Numbers of one sender must grow."""

    def __init__(self) -> None:
        self.attempted: set[Message] = set()
        self.accepted: set[Message] = set()
        self.reported: Counter[Message] = Counter()
        self.begun: list[Message] = []
        self.handled: list[Message] = []

    def sent(self, sender: str, number: int, accepted: bool = True) -> None:
        """A sender pushed this; `accepted` when the call returned."""
        self.attempted.add((sender, number))
        if accepted:
            self.accepted.add((sender, number))

    def report(self, sender: str, number: int) -> None:
        """Somebody was told that this message was not, or not surely, handled: ActorDied or a dead letter."""
        self.reported[sender, number] += 1

    def read(self, journal: Journal) -> None:
        """Take in lines `try|sent|begin|end|told SENDER NUMBER`; other lines are the test's own."""
        for row in journal.rows():
            if len(row) != 3 or row[0] not in ("try", "sent", "begin", "end", "told"):
                continue
            message = (row[1], int(row[2]))
            if row[0] in ("try", "sent"):
                self.sent(*message, accepted=row[0] == "sent")
            elif row[0] == "told":
                self.report(*message)
            else:
                (self.begun if row[0] == "begin" else self.handled).append(message)

    def check(self, redeliver: int = 0) -> None:
        """AssertionError with every broken promise."""
        problems = [*self._lost(), *self._unexpected(), *self._doubled(redeliver), *self._disordered()]
        assert not problems, "\n".join(problems)

    def _lost(self) -> list[str]:
        return _named(
            "accepted, but neither handled nor reported", self.accepted - set(self.handled) - set(self.reported)
        )

    def _unexpected(self) -> list[str]:
        strange = set(self.begun) - self.attempted
        return [
            *_named("handled, but never sent", strange),
            *_named("reported, but never sent", set(self.reported) - self.attempted),
            *_named("reported more than once", (each for each, times in self.reported.items() if times > 1)),
        ]

    def _doubled(self, redeliver: int) -> list[str]:
        ended = Counter(self.handled)
        twice = [each for each, times in ended.items() if times > 1 + redeliver]
        begun = [each for each, times in Counter(self.begun).items() if times > 1 + redeliver]
        return [*_named("handled to the end too often", twice), *_named("begun too often", begun)]

    def _disordered(self) -> list[str]:
        """Of each sender, first beginnings must come in the order sent (a redelivered message is begun again later)."""
        latest: dict[str, int] = defaultdict(lambda: -1)
        seen: set[Message] = set()
        wrong = []
        for sender, number in self.begun:
            if (sender, number) in seen:
                continue
            seen.add((sender, number))
            if number < latest[sender]:
                wrong.append((sender, number))
            latest[sender] = max(latest[sender], number)
        return _named("handled after a later message of its sender", wrong)


def _named(what: str, messages: Iterable[Message]) -> list[str]:
    found = sorted(set(messages))
    names = ", ".join(f"{sender}:{number}" for sender, number in found[:10])
    return [f"{len(found)} {what}: {names}{' …' if len(found) > 10 else ''}"] if found else []

"""How much of what waits at a pool's old members a sender moves to the new ones."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.rebalance import move, part
from actors.transports._ring import CLOSED, FULL, Corrupt


class Port:
    """A mailbox: what it says to a push."""

    def __init__(self, said: int | Exception) -> None:
        self.said, self.got = said, list[tuple[Any, ...]]()

    def cancel(self, *_: int) -> tuple[bytes, int]:
        return b"body", 0

    def push(self, *record: Any) -> int:
        if isinstance(self.said, Exception):
            raise self.said
        self.got.append(record)
        return self.said


def moved(*said: int | Exception) -> tuple[SimpleNamespace, dict[int, Any]]:
    """An ask of number 7 at member 1, moved to members that say this."""
    ports = dict(enumerate((Port(0), *map(Port, said)), 1))
    table: dict[int, Any] = {}
    reply = SimpleNamespace(uid=1, corr=7, kind=-1, position=64, label=("old", "run"), deadline=5, failure=None)
    reply.fail = lambda error: setattr(reply, "failure", error)
    table[7] = reply
    client: Any = SimpleNamespace(
        ports=ports, me=3, address=str, endpoint=SimpleNamespace(table=table, ids=itertools.count(100)),
        damaged=lambda name, error: ValueError(f"{name}: {error}"),
    )  # fmt: skip
    assert move(client, reply, [(uid, f"member-{uid}") for uid in range(2, len(ports) + 1)])  # type: ignore[arg-type]
    return reply, table


def test_a_moved_ask_has_a_new_number_and_place() -> None:
    reply, table = moved(640)
    assert (reply.uid, reply.position, reply.label, table) == (2, 640, ("member-2", "run"), {100: reply})
    assert reply.failure is None


def test_one_that_does_not_take_it_is_passed_by() -> None:
    reply, table = moved(CLOSED, Corrupt("written over"), FULL, 128)
    assert (reply.uid, reply.position, table) == (5, 128, {100: reply})


def test_what_nobody_takes_ends_with_the_reason() -> None:
    reply, table = moved(CLOSED, Corrupt("written over"))
    assert "member-3: written over" in str(reply.failure)
    assert table == {}


def test_a_sender_alone_levels_it() -> None:
    assert part({1: 41, 2: 0}, {1: 40}) == {1: 20}
    assert part({1: 41, 2: 21, 3: 0, 4: 0}, {1: 40, 2: 20}) == {1: 25, 2: 5}
    assert part({1: 1, 2: 0}, {}) == {}
    assert part({1: 2, 2: 0}, {1: 1}) == {1: 1}
    assert part({1: 5, 2: 5}, {1: 4, 2: 4}) == {1: 0, 2: 0}


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 4)
)  # a member's messages: so many of each sender
def test_many_senders_together_take_no_member_below_the_level(members: list[list[int]], new: int) -> None:
    depths = {uid: 1 + sum(counts) for uid, counts in enumerate(members)} | {100 + n: 0 for n in range(new)}
    level = -(-sum(depths.values()) // len(depths))
    senders = max(map(len, members))
    moved = dict.fromkeys(depths, 0)
    for sender in range(senders):
        ours = {uid: counts[sender] for uid, counts in enumerate(members) if sender < len(counts) and counts[sender]}
        for uid, count in part(depths, ours).items():
            assert 0 <= count <= ours[uid]
            moved[uid] += count
    for uid in range(len(members)):
        assert depths[uid] - moved[uid] >= min(level, depths[uid])

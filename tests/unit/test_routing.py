"""Pools' pure parts: who gets a message, and how many members a pool should have."""

from __future__ import annotations

import collections
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardian.pools import QUIET, wanted
from actors.routing import Membership, weightiest

MEMBERS = [(uid, f"pool/{uid}") for uid in range(100, 105)]


def test_round_robin_takes_turns_and_least_busy_the_least_busy() -> None:
    turns = Membership(MEMBERS, "round-robin", None)
    assert collections.Counter(
        turns.choose(MEMBERS, (), {}, lambda _: (0, False, 0)) for _ in range(50)
    ) == dict.fromkeys(MEMBERS, 10)
    loads = {uid: (uid % 3, False, 0) for uid, _ in MEMBERS}
    busy = Membership(MEMBERS, "least-busy", None)
    chosen = {busy.choose(MEMBERS, (), {}, lambda member: loads[member[0]]) for _ in range(20)}
    assert chosen == {member for member in MEMBERS if member[0] % 3 == 0}


def test_of_the_equally_full_the_one_that_waits_for_nobody_and_began_last_is_chosen() -> None:
    known = Membership(MEMBERS, "least-busy", None)
    loads = {uid: (1, uid != 103 and uid != 104, -uid) for uid, _ in MEMBERS}
    assert {known.choose(MEMBERS, (), {}, lambda member: loads[member[0]]) for _ in range(20)} == {MEMBERS[4]}


@given(st.lists(st.binary(max_size=20), min_size=50, max_size=50, unique=True), st.integers(2, 12))
def test_a_key_moves_only_to_or_from_the_member_that_comes_or_goes(keys: list[bytes], count: int) -> None:
    members = [(1000 + number, "") for number in range(count)]
    fewer = members[:-1]
    for key in keys:
        now = weightiest(members, key)
        assert weightiest(fewer, key) == now or now == members[-1]


def test_keys_are_spread_evenly() -> None:
    counts = collections.Counter(weightiest(MEMBERS, str(key).encode()) for key in range(5000))
    assert all(800 < counts[member] < 1200 for member in MEMBERS)


@pytest.mark.parametrize("args", [(), (1,)])
def test_a_key_comes_from_the_function_or_the_first_argument(args: tuple[Any, ...]) -> None:
    plain = Membership(MEMBERS, "hash", None)
    if args:
        assert plain.key_of(args, {}) == plain.key_of((1, 2), {"b": 3}) == plain.key_of((), {"a": 1})
        assert Membership(MEMBERS, "hash", lambda a: 1).key_of((99,), {}) == plain.key_of((1,), {})
    else:
        with pytest.raises(TypeError, match="no argument"):
            plain.key_of((), {})


@pytest.mark.parametrize(
    ("size", "depths", "quiet", "expected"),
    [
        (2, [1, 1], 0.0, 2),  # busy, nothing waits
        (2, [2, 1], 0.0, 3),  # one waits
        (2, [100, 100], 0.0, 4),  # a burst doubles it at most
        (6, [100] * 6, 0.0, 8),  # and not beyond the bound
        (8, [100] * 8, 0.0, 8),
        (4, [0, 0, 1, 0], QUIET, 3),  # idle for long: one leaves
        (4, [0, 0, 0, 0], QUIET / 2, 4),
        (4, [1, 1, 1, 1], QUIET * 9, 4),  # nobody is idle
        (1, [0], QUIET * 9, 1),
        (0, [], 0.0, 1),  # all have ended: the least is kept
    ],
)
def test_how_many_members_a_pool_should_have(size: int, depths: list[int], quiet: float, expected: int) -> None:
    assert wanted(size, 1, 8, depths, quiet) == expected

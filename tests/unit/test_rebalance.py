"""How much of what waits at a pool's old members a sender moves to the new ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.rebalance import part


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

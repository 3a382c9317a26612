"""A pool has grown: what waits at its old members is shared with the new ones.

Rule: each sender moves what it has asked itself and nobody has begun: it takes the newest back (`Ring.cancel`) and sends
them to the new members, in their order. It moves its part of what is above the level that all would have, so that many
senders, who each hear of the change, together move it once. A moved ask has a new number: what is still said of the old
one (that its member died, say) concerns nobody.

What stays where it is: asks of a pool that routes by key, since a key's messages keep their order; large ones, whose
memory is lent to their receiver; and tells, which their senders can't tell apart once they are sent.

Rejected: members that hand on what they have; it would have to be told to every asker, over the death of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import ActorDied, ActorsError, MailboxFull
from .message import Kind
from .routing import Member
from .transports._ring import CLOSED, Corrupt

if TYPE_CHECKING:
    from .client import Client
    from .reply import Reply

ASK = int(Kind.ASK)


def part(depths: Mapping[int, int], ours: Mapping[int, int]) -> dict[int, int]:
    """How many of its waiting asks this sender moves away from each member. depths: messages of every member, the one in
    hand too; ours: of this sender, at the old ones.
    """
    level = -(-sum(depths.values()) // len(depths))
    above = {uid: max(0, depths[uid] - level) for uid in ours}
    return {uid: min(ours[uid], above[uid] * ours[uid] // max(1, depths[uid] - 1)) for uid in ours}


def rebalance(client: Client, old: Sequence[Member], new: Sequence[Member]) -> None:
    """Move this process's part. A message that no member takes any more ends with the reason."""
    waiting: dict[int, list[Reply[Any]]] = {uid: [] for uid, _ in old}
    for reply in list(client.endpoint.table.values()):
        if reply.uid in waiting and reply.kind < 0 and reply.position >= 0 and reply not in client.large:
            waiting[reply.uid].append(reply)
    ours = {uid: len(replies) for uid, replies in waiting.items() if replies}
    if not ours:
        return
    depths = {uid: _depth(client, (uid, name)) for uid, name in (*old, *new)}
    turn = 0
    for uid, count in part(depths, ours).items():
        replies = sorted(waiting[uid], key=lambda reply: reply.position)
        for reply in replies[len(replies) - count :]:
            turn += move(client, reply, [*new[turn % len(new) :], *new[: turn % len(new)], *old])


def _depth(client: Client, member: Member) -> int:
    try:
        stats = (client.ports.get(member[0]) or client.map(*member)).stats()
    except ActorsError:
        return 0
    return stats["accepted"] - stats["handled"]


def move(client: Client, reply: Reply[Any], members: Sequence[Member]) -> bool:
    """To the first of these that takes it. False: it is begun, or over."""
    port = client.ports.get(reply.uid)
    message = port.cancel(reply.position, client.me, reply.corr) if port is not None and reply.kind < 0 else None
    if message is None:
        return False
    table, number = client.endpoint.table, reply.corr
    reply.corr = next(client.endpoint.ids)
    table[reply.corr] = reply
    table.pop(number, None)
    error: ActorsError = ActorDied(f"{client.address(members[0][1])}: it was to take this message, and is gone")
    for uid, name in members:
        if reply.kind >= 0:  # given up meanwhile
            break
        try:
            port = client.ports.get(uid) or client.map(uid, name)
        except ActorsError as failure:
            error = failure
            continue
        reply.uid, reply.label = uid, (name, reply.label[1])
        try:
            position = port.push(message[0], ASK, message[1], client.me, reply.corr, reply.deadline, 0.0)
        except Corrupt as damage:
            error = client.damaged(name, damage)
            continue
        if position >= 0:
            reply.position = position
            if reply.kind >= 0:
                client.withdraw(reply)
            return True
        if position != CLOSED:
            error = MailboxFull(f"{client.address(name)}: its mailbox is full, and so are those of the others")
    table.pop(reply.corr, None)
    reply.fail(error)
    return True

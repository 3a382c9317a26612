"""What connected processes are handed: descriptors of mailboxes, lanes, segments, named mailboxes and locks; definitions;
members of topics. Exchanges, a part of the desk.

Rule: the guardian keeps a descriptor of everything that is shared, and hands out copies; who has which is noted, so that
each can be told when it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .coordination import who

if TYPE_CHECKING:
    from ..wire import Message
    from .main import Guardian
    from .peers import Peer


class Handout:
    """Operations that map something."""

    def __init__(self, guardian: Guardian) -> None:
        self.guardian = guardian
        self.definitions: dict[str, bytes] = {}  # of classes that not every process can import; never read here

    def op_map(self, peer: Peer, m: Message, fds: list[int]) -> None:
        uid, guardian = m["uid"], self.guardian
        record = guardian.registry.by_uid.get(uid)
        answer: dict[str, Any] = {"seq": m["seq"], "uid": uid}
        if record is not None and not record.is_worker:
            guardian.peers.send(peer, {**answer, "supervisor": True})
        elif record is None or record.mail is None:
            guardian.peers.send(peer, {**answer, **guardian.registry.ended.get(uid, {"name": "", "reason": None})})
        elif record.mail.closed:
            failed = uid in guardian.tree and guardian.tree.status(uid) == "failed"
            reason = record.last_reason if failed else {"kind": "shutdown"}  # it is stopping
            guardian.peers.send(peer, {**answer, "name": record.name, "reason": reason, "failed": failed})
        else:
            guardian.mailroom.users.setdefault(uid, set()).add(peer.id)
            peer.mailboxes.add(uid)
            options = record.options.get("mailbox") or {}
            guardian.peers.send(
                peer, {**answer, "overflow": options.get("overflow", "block")}, [record.mail_fd, record.door]
            )

    def op_lane(self, peer: Peer, m: Message, fds: list[int]) -> None:
        peers = self.guardian.peers
        other = peers.by_id.get(m["endpoint"])
        if other is None:
            peers.send(peer, {"seq": m["seq"]})
        else:
            peers.lane_users.setdefault(other.id, set()).add(peer.id)
            peer.answers.add(other.id)
            peers.send(peer, {"seq": m["seq"]}, [other.replies_fd, other.bell])

    def op_ledger(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.peers.send(
            peer, {"seq": m["seq"], "budget": self.guardian.segments.budget}, [self.guardian.segments.ledger()]
        )

    def op_segment(self, peer: Peer, m: Message, fds: list[int]) -> None:
        answer = self.guardian.segments.add(peer.id, fds[0], m["size"])
        if answer["id"]:
            fds[0] = -1  # kept
        self.guardian.peers.send(peer, {"seq": m["seq"], **answer})

    def op_map_segment(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.peers.send(peer, {"seq": m["seq"]}, self.guardian.segments.map(peer, m["id"]))

    def op_unsegment(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.segments.give_back(peer.id, m["ids"])

    def op_fetch(self, peer: Peer, m: Message, fds: list[int]) -> None:
        fd = self.guardian.mailroom.blob(m["blob"])
        self.guardian.peers.send(peer, {"seq": m["seq"]}, [fd] if fd >= 0 else [])
        self.guardian.mailroom.drop_blob(m["blob"])

    def op_define(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.definitions.setdefault(m["key"], m["body"])
        self.guardian.peers.send(peer, {"seq": m["seq"]})

    def op_definition(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.peers.send(peer, {"seq": m["seq"], "body": self.definitions.get(m["key"])})

    # --- locks, semaphores, barriers, events

    def op_coordinate(self, peer: Peer, m: Message, fds: list[int]) -> None:
        try:
            fd, slot = self.guardian.coordination.open(peer.id, m["name"], m["kind"], m["what"], m["limits"])
        except SpecError as error:
            self.guardian.peers.send(peer, {"seq": m["seq"], "refused": str(error)})
        else:
            self.guardian.peers.send(peer, {"seq": m["seq"], "slot": slot}, [fd])

    def op_await(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.coordination.wait(peer, m["corr"], m["name"], m["seen"])

    def op_leave(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.coordination.leave(peer.id, m["call"], m["name"])

    def op_changed(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.coordination.changed(m["name"], m["changes"])

    def op_whois(self, peer: Peer, m: Message, fds: list[int]) -> None:
        other = self.guardian.peers.by_id.get(m["endpoint"])
        record = self.guardian.registry.by_uid.get(other.uid) if other is not None else None
        address = self.guardian.watch.address(record.name) if record is not None else ""
        self.guardian.peers.send(peer, {"seq": m["seq"], "text": who(other, address)})

    # --- named mailboxes and topics

    def op_box(self, peer: Peer, m: Message, fds: list[int]) -> None:
        box = self.guardian.boxes.open(peer.id, m["name"], m["maxsize"], m["capacity"])
        answer: dict[str, Any] = {"seq": m["seq"]}
        if box is None:
            self.guardian.peers.send(peer, {**answer, "over": True})
        else:
            said = {"uid": box.uid, "maxsize": box.maxsize, "capacity": box.capacity}
            self.guardian.peers.send(peer, {**answer, **said}, [box.fd, box.bell])

    def op_box_close(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.boxes.close(m["name"])
        self.guardian.peers.send(peer, {"seq": m["seq"]})

    def op_box_over(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.boxes.over(m["name"])

    def op_topic(self, peer: Peer, m: Message, fds: list[int]) -> None:
        version, members = self.guardian.topics.publish(peer.id, m["name"])
        self.guardian.peers.send(peer, {"seq": m["seq"], "version": version, "members": members})

    def op_topic_join(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self.guardian.registry.by_uid.get(m["uid"])
        if record is None:
            ended = self.guardian.registry.ended.get(m["uid"], {"name": "", "reason": None})
            self.guardian.peers.send(peer, {"seq": m["seq"], "ended": ended})
        else:
            self.guardian.topics.subscribe(m["name"], record.uid, record.name, m["method"])
            self.guardian.peers.send(peer, {"seq": m["seq"]})

    def op_topic_leave(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.topics.unsubscribe(m["name"], m["uid"], m["method"])
        self.guardian.peers.send(peer, {"seq": m["seq"]})

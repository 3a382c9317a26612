"""What connected processes ask for: one method an operation, `op_…`, found by name.

Rule: every request is checked here and answered exactly once: at once over the socket when it carries a `seq`
(exchanges), or through the control lane when it carries a `corr` (requests), sometimes later. Nothing here waits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..address import check_name, join
from ..errors import SpecError
from ..exits import ExitReason
from ..message import ROOT, Kind
from ..supervision.policy import Policy
from .handout import Handout
from .registry import Record
from .watch import UNKNOWN

if TYPE_CHECKING:
    from ..wire import Message
    from .peers import Peer


class Desk(Handout):
    """Dispatches requests."""

    def serve(self, peer: Peer, message: Message, fds: list[int]) -> None:
        operation = getattr(self, f"op_{message.get('op')}", None)
        try:
            if "lost" in message:
                self._refuse(peer, message, message["lost"])
            elif operation is not None:
                operation(peer, message, fds)
        except OSError as error:  # no descriptors, no memory: whoever asked is told, and the system goes on
            self._refuse(peer, message, str(error))
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def _refuse(self, peer: Peer, m: Message, error: str) -> None:
        text = f"system {self.guardian.system!r}: {m.get('op')}: {error}"
        if m.get("corr"):
            self.guardian.peers.refuse(peer.id, m["corr"], "ActorsError", text)
        elif m.get("seq"):
            self.guardian.peers.send(peer, {"seq": m["seq"], "error": text})

    # --- starting

    def op_spawn(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """nodes: a list, parents first: {name | base, under: index or -1, kind, policy, strategy, payload, modules,
        options, setting}.
        """
        guardian = self.guardian
        records: list[Record] = []
        parent = m.get("parent", ROOT)
        above = guardian.registry.by_uid.get(parent)
        if parent != ROOT and above is None:
            guardian.peers.refuse(peer.id, m["corr"], "ActorDied", "the parent has ended")
            return
        if parent in guardian.tree and (problem := self._misfit(m["nodes"][0], parent)):
            guardian.peers.refuse(peer.id, m["corr"], "SpecError", problem)
            return
        try:
            for node in m["nodes"]:
                over = above if node["under"] < 0 else records[node["under"]]
                records.append(self.record(node, over))
        except (SpecError, OSError) as error:
            for record in records:
                guardian.hands.discard(record)
            text = str(error) if isinstance(error, SpecError) else f"no mailbox could be made: {error}"
            guardian.peers.refuse(peer.id, m["corr"], "SpawnError", text)
            return
        records[0].spawner = (peer.id, m["corr"])
        refused = next((module for record in records if (module := guardian.nursery.want(record))), None)
        if refused is not None:
            for record in records:
                guardian.hands.discard(record)
            guardian.peers.refuse(peer.id, m["corr"], "ModuleUnavailable", refused)
            return
        if "pool" in records[0].options:
            guardian.pools.found(records, m["nodes"])
        self._grow(m["nodes"], records, parent)

    def _misfit(self, node: dict[str, Any], parent: int) -> str:
        """Why it can't be a child of this one; "" if it can."""
        try:
            Policy.from_wire(node["policy"]).check_below(self.guardian.tree.policy(parent))
        except SpecError as error:
            return f"child {node.get('name') or node['base']!r} of {self.guardian.tree.name(parent)!r}: {error}"
        return ""

    def record(self, node: dict[str, Any], above: Record | None) -> Record:
        """A new record, with its mailbox. SpecError: its name is taken. OSError: no descriptors, no memory."""
        registry = self.guardian.registry
        prefix = above.name if above else ""
        name = join(prefix, node["name"]) if node.get("name") else registry.free_name(join(prefix, node["base"]))
        check_name(name)
        taken = registry.named(name)
        if taken is not None:
            raise SpecError(
                f"the name {name!r} is taken by a running actor (uid {taken.uid}); stop it first or choose another name"
            )
        record = Record(registry.new_uid(), name, above.uid if above else ROOT, node)
        Policy.from_wire(node["policy"])
        if record.is_worker:
            self.guardian.mailroom.open(record)
        registry.add(record)  # last: a name is not taken by what could not be made
        return record

    def _grow(self, nodes: list[dict[str, Any]], records: list[Record], parent: int) -> None:
        guardian, tree, now = self.guardian, self.guardian.tree, self.guardian.alarms.now()
        single = len(nodes) == 1
        for node, record in zip(nodes, records, strict=True):
            above = parent if node["under"] < 0 else records[node["under"]].uid
            policy = Policy.from_wire(node["policy"])
            start = single or node["under"] >= 0
            guardian.hands.perform(
                tree.add(record.uid, above, record.name, node["kind"], policy, now, node.get("strategy"), start=start)
            )
        if not single:
            guardian.hands.perform(tree.start(records[0].uid, now))

    # --- the life of an actor's process

    def op_hello(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self._own(peer)
        if record is not None:
            self.guardian.deaths.born(record, peer, m["pid"])

    def op_ready(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self._own(peer)
        if record is not None:
            record.owed = ()
            self.guardian.hands.perform(self.guardian.tree.ready(record.uid, self.guardian.alarms.now()))
            self.guardian.nursery.keep_spare()
            self.guardian.vitals.ready(record)
            self.guardian.oom.note(record.pid)

    def op_recycle(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """It has handled as many messages as one process shall, and leaves."""
        record = self._own(peer)
        if record is not None:
            reason = ExitReason("shutdown", error=m["why"])
            self.guardian.hands.perform(self.guardian.tree.recycle(record.uid, reason, self.guardian.alarms.now()))

    def op_bye(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self._own(peer)
        if record is not None:
            record.bye = m

    def op_slots(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """Its first snapshot: from now on they are kept for it."""
        record = self._own(peer)
        if record is not None:
            self.guardian.mailroom.keep(record, fds[:])
            fds.clear()
        self.guardian.peers.send(peer, {"seq": m["seq"]})

    def op_unrestored(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """Its restore() failed; it has begun afresh."""
        record = self._own(peer)
        if record is not None:
            self.guardian.mailroom.keep(record, [])
            self.guardian.mailroom.owe_nothing(record, {"kind": "exception", "error": m["error"]})
            text = "restore() failed: its snapshot is dropped, and it starts afresh"
            self.guardian.watch.log(
                "error", text, actor=self.guardian.watch.address(record.name), exception=m["traceback"]
            )
            self.guardian.watch.event("unrestored", record, {"kind": "exception", "error": m["error"]})

    def _own(self, peer: Peer) -> Record | None:
        """The record of the actor behind this connection, if that is its present incarnation."""
        record = self.guardian.registry.by_uid.get(peer.uid)
        return record if record is not None and record.peer is peer else None

    # --- commands

    def op_stop(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self._command(m, "stop")

    def op_kill(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self._command(m, "kill")

    def op_restart(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self._replace(peer, m, "restart")

    def op_resume(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self._replace(peer, m, "resume")

    def _command(self, m: Message, name: str) -> None:
        if m["uid"] in self.guardian.tree:
            self.guardian.hands.perform(getattr(self.guardian.tree, name)(m["uid"], self.guardian.alarms.now()))

    def _replace(self, peer: Peer, m: Message, name: str) -> None:
        """Answered when the old process has been told: what is sent from then on is for the next incarnation."""
        guardian = self.guardian
        answer: Message = {"seq": m.get("seq")}
        if m["uid"] in guardian.tree:
            self._command(m, name)
            guardian.hands.reopen()  # one that had FAILED is resumed
        else:
            answer["ended"] = guardian.registry.ended.get(m["uid"], {"reason": None})
        if "seq" in m:
            guardian.peers.send(peer, answer)

    def op_forget(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """Nobody waits for the answer to a request any more: what it was to start is stopped again."""
        waited = peer.id, m["call"]
        self.guardian.watch.forget_wait(*waited)
        for record in [each for each in self.guardian.registry.by_uid.values() if each.spawner == waited]:
            record.spawner = None
            self.guardian.hands.perform(self.guardian.tree.kill(record.uid, self.guardian.alarms.now()))

    def op_cancel(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self.guardian.registry.by_uid.get(m["uid"])
        if record is not None and record.peer is not None:
            self.guardian.peers.put(record.peer, b"", Kind.CANCEL, 0, peer.id, m["call"])

    def op_close(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.close(m["how"])

    # --- looking

    def op_ping(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.peers.answer(peer.id, m["corr"])

    def op_lookup(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self.guardian.registry.named(m["name"])
        if record is None:
            names = ", ".join(sorted(self.guardian.registry.by_name)[:20]) or "none"
            self.guardian.peers.refuse(
                peer.id,
                m["corr"],
                "ActorNotFound",
                f"{self.guardian.watch.address(m['name'])} does not exist; running: {names}",
            )
        else:
            pool = self.guardian.pools.by_uid.get(record.uid)
            answer = {"uid": record.uid, "name": record.name, "kind": record.kind, "pool": pool and pool.routing}
            self.guardian.peers.answer(peer.id, m["corr"], answer)

    def op_pool(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """Who its members are; the process is told of changes from now on."""
        pool, uid = self.guardian.pools.by_uid.get(m["uid"]), m["uid"]
        if pool is None:
            ended = self.guardian.registry.ended.get(uid, {"name": "", "reason": None})
            self.guardian.peers.send(peer, {"seq": m["seq"], **ended})
        else:
            pool.users.add(peer.id)
            self.guardian.peers.send(peer, {"seq": m["seq"], **pool.to_wire(), "key": pool.key})

    def op_resize(self, peer: Peer, m: Message, fds: list[int]) -> None:
        guardian, pool = self.guardian, self.guardian.pools.by_uid.get(m["uid"])
        if pool is None:
            ended = guardian.registry.ended.get(m["uid"], {"uid": m["uid"], "name": "", "reason": None})
            guardian.peers.answer(peer.id, m["corr"], ended, Kind.DIED)
            return
        try:
            guardian.pools.resize(pool, *m["size"])
        except (SpecError, OSError) as error:
            guardian.peers.refuse(peer.id, m["corr"], "SpawnError", f"pool {pool.record.name!r} can't grow: {error}")
        else:
            guardian.peers.answer(peer.id, m["corr"])

    def op_info(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self.guardian.registry.by_uid.get(m["uid"])
        if record is None:
            ended = self.guardian.registry.ended.get(m["uid"], {"uid": m["uid"], "name": "", "reason": None})
            self.guardian.peers.answer(peer.id, m["corr"], ended, Kind.DIED)
        else:
            self.guardian.peers.answer(peer.id, m["corr"], self.guardian.info(record))

    def op_stacks(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record, peers = self.guardian.registry.by_uid.get(m["uid"]), self.guardian.peers
        if record is None:
            ended = self.guardian.registry.ended.get(m["uid"], {"uid": m["uid"], "name": "", "reason": None})
            peers.answer(peer.id, m["corr"], ended, Kind.DIED)
        else:
            self.guardian.stacks.ask(record, lambda text: peers.answer(peer.id, m["corr"], text))

    def op_tree(self, peer: Peer, m: Message, fds: list[int]) -> None:
        guardian = self.guardian
        top = [
            guardian.info(guardian.registry.by_uid[uid])
            for uid in guardian.tree.children(m.get("uid", ROOT))
            if uid in guardian.registry.by_uid
        ]
        guardian.peers.answer(
            peer.id,
            m["corr"],
            {"system": guardian.system, "pid": os.getpid(), "memory": guardian.segments.info(), "children": top},
        )

    def op_who(self, peer: Peer, m: Message, fds: list[int]) -> None:
        registry, uid = self.guardian.registry, self.guardian.peers.actors.get(m["endpoint"], 0)
        record = registry.by_uid.get(uid)
        name = record.name if record else registry.ended.get(uid, {}).get("name", "")
        self.guardian.peers.send(peer, {"seq": m["seq"], "uid": uid if name else 0, "name": name})

    def op_cycle(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """Follow the `waiting` words from this actor: names of the cycle, if there is one."""
        by_uid, path, uid = self.guardian.registry.by_uid, list[int](), peer.uid
        while uid and uid in by_uid and uid not in path:
            path.append(uid)
            mail = by_uid[uid].mail
            uid = mail.waiting if mail is not None else 0
        names = [by_uid[each].name for each in [*path[path.index(uid) :], uid]] if uid in path else []
        self.guardian.peers.send(peer, {"seq": m["seq"], "names": names})

    # --- being told

    def op_wait(self, peer: Peer, m: Message, fds: list[int]) -> None:
        guardian, uid = self.guardian, m["uid"]
        record = guardian.registry.by_uid.get(uid)
        if record is None:
            ended = guardian.registry.ended.get(uid)
            guardian.peers.answer(peer.id, m["corr"], ended["reason"] if ended else UNKNOWN)
        elif guardian.tree.status(uid) == "failed":
            guardian.peers.answer(peer.id, m["corr"], record.last_reason)
        else:
            guardian.watch.wait(record, peer.id, m["corr"])

    def op_monitor(self, peer: Peer, m: Message, fds: list[int]) -> None:
        guardian, uid = self.guardian, m["uid"]
        failed = uid in guardian.tree and guardian.tree.status(uid) == "failed"
        record = guardian.registry.by_uid.get(uid)
        guardian.watch.monitor(
            peer, record, guardian.registry.ended.get(uid), uid, m["monitor"], m["incarnations"], failed
        )
        if "seq" in m:
            guardian.peers.send(peer, {"seq": m["seq"]})

    def op_demonitor(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.watch.demonitor(peer, m["monitor"])

    def op_link(self, peer: Peer, m: Message, fds: list[int]) -> None:
        other, mine = self.guardian.registry.by_uid.get(m["uid"]), self._own(peer)
        if other is not None and not other.is_worker:
            self.guardian.peers.send(peer, {"seq": m["seq"], "supervisor": True})
            return
        self.guardian.peers.send(peer, {"seq": m["seq"]})
        if mine is not None:
            self.guardian.deaths.link(mine, m["uid"])

    def op_unlink(self, peer: Peer, m: Message, fds: list[int]) -> None:
        if self._own(peer) is not None:
            self.guardian.watch.unlink(peer.uid, m["uid"])
        self.guardian.peers.send(peer, {"seq": m["seq"]})

    def op_subscribe(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.watch.subscribe(peer, m["what"], m["on"])
        self.guardian.peers.answer(peer.id, m.get("corr", 0))

    def op_clock(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """For systems on virtual time only."""
        virtual = self.guardian.virtual
        if virtual is None:
            self._refuse(peer, m, "it runs on real time")
        else:
            virtual.serve(peer, m)

    # --- reports

    def op_log(self, peer: Peer, m: Message, fds: list[int]) -> None:
        self.guardian.watch.forward(m["line"])

    def op_failure(self, peer: Peer, m: Message, fds: list[int]) -> None:
        """A handler raised and the actor goes on (on_error='continue')."""
        record = self._own(peer)
        if record is not None:
            self.guardian.watch.log(
                "error",
                m.get("what", "a handler failed; the actor goes on"),
                actor=self.guardian.watch.address(record.name),
                exception=m["traceback"],
            )
            if m.get("record"):
                kind, flags, body = m["record"]
                self.guardian.watch.dead_letter(
                    record, {"kind": "exception", "error": m["error"]}, (kind, flags, peer.id, 0, 0, 0, 0, body)
                )

    def op_dropped(self, peer: Peer, m: Message, fds: list[int]) -> None:
        record = self.guardian.registry.by_uid.get(m["uid"])
        if record is not None:
            body, kind, flags = m["record"]
            reason = {"kind": "exception", "error": "MailboxFull: its mailbox was full (overflow='drop')"}
            self.guardian.watch.dead_letter(record, reason, (kind, flags, peer.id, 0, 0, 0, 0, body))
            record.dropped += 1

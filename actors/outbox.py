"""Asks of coroutines that wait for room: a full mailbox, or a reply lane whose slots are all reserved.

Rule: an ask in a coroutine neither blocks the event loop nor is refused for want of room: awaiting its reply is the
wait. It lies here, in order, until the loop that asked can send it; what was given up or has expired meanwhile is
never sent. Later asks and tells of coroutines to the same actor do not overtake it. Threads that may block wait in
the push itself and never come here.

Rejected: raising `MailboxFull`, after which a coroutine could only poll; a task for each ask.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from .transports._ring import FULL, STUCK

if TYPE_CHECKING:
    from .client import Client
    from .reply import Reply

Record = tuple[bytes, int, int, int, int, int]  # of a push, without its timeout
Waiting = tuple["Reply[Any]", str, Record]

UNSENT = -2  # position of an ask that lies here
SHORTEST, LONGEST = 0.0005, 0.01  # seconds between tries; room has no descriptor to wait on


class Outbox:
    """One queue for each actor that has no room."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queues: dict[int, deque[Waiting]] = {}
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}  # which one sends a queue
        self._lock = threading.Lock()

    def put(self, reply: Reply[Any], name: str, record: Record) -> None:
        """Send it as soon as there is room. Called in a coroutine."""
        reply.position = UNSENT
        self.client.endpoint.table.pop(reply.corr, None)
        with self._lock:
            self.queues.setdefault(reply.uid, deque()).append((reply, name, record))
            sender = self._loops.get(reply.uid)
            if sender is None or sender.is_closed():
                self._later(asyncio.get_running_loop(), reply.uid, SHORTEST)

    def lose(self) -> None:
        """The system is gone."""
        with self._lock:
            waiting = [each for queue in self.queues.values() for each in queue]
            self.queues.clear()
            self._loops.clear()
        for reply, _, _ in waiting:
            reply.fail(self.client.system_died())

    def _later(self, loop: asyncio.AbstractEventLoop, uid: int, pause: float) -> None:
        self._loops[uid] = loop
        loop.call_later(pause, self._send, loop, uid, pause)

    def _send(self, loop: asyncio.AbstractEventLoop, uid: int, pause: float) -> None:
        """As many as there is room for; the others later."""
        queue = self.queues.get(uid)
        while queue:
            reply, name, record = queue[0]
            reply.expire()
            if reply.kind >= 0:
                self.client.take_back(reply)
            elif not self._push(reply, name, record):
                break
            queue.popleft()
            pause = SHORTEST
        with self._lock:
            if queue:
                self._later(loop, uid, min(pause * 2, LONGEST))
            else:
                self.queues.pop(uid, None)
                self._loops.pop(uid, None)

    def _push(self, reply: Reply[Any], name: str, record: Record) -> bool:
        """False: there is no room yet. An ask that can't be sent any more ends with the reason."""
        client, endpoint = self.client, self.client.endpoint
        if len(endpoint.table) >= endpoint.limit:
            endpoint.pump()
            if len(endpoint.table) >= endpoint.limit:
                return False
        try:
            port = client.ports.get(reply.uid) or client.map(reply.uid, name)
            endpoint.table[reply.corr] = reply
            position = port.push(*record, 0.0)
            if position in (FULL, STUCK) and not port.closed and client.waits_when_full(reply.uid):
                client.endpoint.table.pop(reply.corr, None)
                return False
            if position < 0:
                position = client.push_slowly(port, reply.uid, name, record, 0.0)
            reply.position = position
        except Exception as error:
            client.take_back(reply)
            reply.fail(error)
            return True
        if reply.kind >= 0:  # given up in another thread just now
            client.withdraw(reply)
        return True

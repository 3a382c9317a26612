"""The one thread that a program gets: it owns the door of its control lane.

Rule: it hears the guardian (answers to requests, ends, events, log lines) and its end, so that no call waits for ever; it collects answers only
when somebody asked for a callback and may never look. Callbacks of monitors, events and `add_done_callback` run here and must be short.

It stops before a fork and starts again after it, in the parent only, so that a program that forks forks with one thread less to worry about.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from .endpoint import Endpoint
from .transports._ring import Inbox, Ring

if TYPE_CHECKING:
    from .client import Client


class ProgramEndpoint(Endpoint):
    """The receiving side of a program, with the door for the reader."""

    def __init__(self, me: int, replies: Ring, bell: int, control: Ring, door: int) -> None:
        super().__init__(me, replies, bell)
        self.door = door
        self.hearing = Inbox(door, None, control, None)
        self.poke = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watched = self.closed = False

    def watch(self) -> None:
        if not self.watched:
            self.watched = True
            os.eventfd_write(self.poke, 1)

    def close(self) -> None:
        self.closed = True
        for fd in (self.bell, self.door, self.poke):
            os.close(fd)


class Reader:
    """Runs until the guardian is gone or `stop` is called."""

    def __init__(self, client: Client, endpoint: ProgramEndpoint) -> None:
        self.client, self.endpoint = client, endpoint
        self.thread: threading.Thread | None = None
        self.stopping = False

    def start(self) -> None:
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name=f"actors: {self.client.system} reader", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended. A no-op inside the thread itself (a callback that closes its system)."""
        thread, self.thread = self.thread, None
        self.stopping = True
        if thread is not None and thread is not threading.current_thread():
            os.eventfd_write(self.endpoint.poke, 1)
            thread.join()

    def _run(self) -> None:
        endpoint, client = self.endpoint, self.client
        poll = select.poll()
        poll.register(endpoint.door, select.POLLIN)
        poll.register(endpoint.poke, select.POLLIN)
        poll.register(client.sock.fileno(), select.POLLRDHUP)
        self._hear()
        while not self.stopping:
            for fd, _ in poll.poll():
                if fd == endpoint.door:
                    self._hear()
                elif fd == endpoint.bell:
                    endpoint.pump(0.0, None, True)
                elif fd == endpoint.poke:
                    os.eventfd_read(endpoint.poke)
                    if endpoint.watched:
                        poll.register(endpoint.bell, select.POLLIN)
                        endpoint.pump()
                else:
                    self._hear()
                    client.lose("its guardian ended")
                    return

    def _hear(self) -> None:
        endpoint = self.endpoint
        endpoint.hearing.collect(endpoint.table, endpoint.fire, endpoint.news, 0.0, None, True)
        while endpoint.fire:
            try:
                reply = endpoint.fire.pop()
            except IndexError:
                break
            reply.run_callbacks()
        self.client.dispatch()

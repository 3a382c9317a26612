"""The end of an executor: no more is taken, what was submitted is finished or cancelled, then the workers go.

Rule: whoever waits (`shutdown(wait=True)`) ends the workers itself, in its thread; where nobody waits, the reader does
it when the last task is over. It is done once, by whoever comes first (`finishing`).
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from ..errors import ActorsError
from .crew import Member

if TYPE_CHECKING:
    from .dispatcher import Dispatcher


class End:
    """How far the end of an executor has come, and what is next."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.closing = self.killed = self.awaited = self.finishing = False
        self.over = threading.Event()  # all is over and the workers are told to stop
        atexit.register(self.at_exit)

    def shutdown(self, wait: bool, cancel: bool) -> None:
        dispatcher = self.dispatcher
        if dispatcher.is_forked():
            return
        with dispatcher.deciding():
            self.closing = True
            self.awaited = self.awaited or wait
        if cancel:
            for task in list(dispatcher.tasks):
                task.cancel()
        for task in list(dispatcher.tasks):
            dispatcher.attend(task)
        if not wait:
            self.finish_if_idle()
            return
        try:
            while dispatcher.tasks:
                next(iter(dispatcher.tasks), _NOTHING)._wait(None)
            self._finish(wait=True)
        except BaseException:
            self.awaited = False
            self.finish_if_idle()
            raise

    def kill(self) -> None:
        """End all workers at once; what they had begun ends with `WorkerDied`, the rest is cancelled."""
        dispatcher = self.dispatcher
        if dispatcher.is_forked():
            return
        with dispatcher.deciding():
            self.closing = self.killed = True
            members = self._take_members()  # nothing more is sent
        for task in list(dispatcher.tasks):
            task.cancel()
        for member in members:
            dispatcher.crew.stop(member, kill=True)
        for task in list(dispatcher.tasks):
            dispatcher.attend(task)

    def at_exit(self) -> None:
        """The interpreter ends: finish what was submitted, as the standard executor does, unless Ctrl-C ends it."""
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            self.kill()
        self.shutdown(True, False)

    def release(self) -> None:
        """The executor is garbage: no more will be submitted. Called anywhere, also under the lock."""
        if not self.dispatcher.is_forked() and not self.over.is_set():
            self.dispatcher.client.endpoint.hand(lambda: self.shutdown(False, False))

    def finish_if_idle(self) -> None:
        if self.closing and not self.awaited and not self.dispatcher.tasks and not self.finishing:
            self.dispatcher.client.endpoint.hand(lambda: self._finish(wait=False))

    def _finish(self, wait: bool) -> None:
        """Nothing is left to do: end the workers."""
        dispatcher = self.dispatcher
        client, crew = dispatcher.client, dispatcher.crew
        with dispatcher.lock:
            first, self.finishing = not self.finishing, True
        if not first:
            if wait and not client.endpoint.is_owner():
                self.over.wait()
            return
        try:
            for member in self._take_members():
                crew.stop(member)
            if dispatcher.own:
                dispatcher.system.close("stop")
            elif wait and client.gone is None:
                crew.wait(lambda: dispatcher.scheduler.starting == 0, dispatcher.lock)
        except ActorsError as error:  # the system was faster
            logging.getLogger("actors").debug("executor: %s", error)
        finally:
            atexit.unregister(self.at_exit)
            self.over.set()

    def _take_members(self) -> list[Member]:
        scheduler = self.dispatcher.scheduler
        members, scheduler.workers = [cast(Member, worker) for worker in scheduler.workers], []
        return members


class _Nothing:
    def _wait(self, timeout: float | None) -> None:
        return


_NOTHING: Any = _Nothing()

"""How an `ActorSystem` ends, a part of that class: `close`, `aclose` and the end of `with`.

Rule: leaving `with` normally handles what was accepted; leaving it by an exception applies the shutdown times; Ctrl-C
while it closes goes one step further each time: drain, stop, kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Literal

from .client import Client
from .errors import ActorsError
from .reader import ProgramEndpoint

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

How = Literal["drain", "stop", "kill"]
NEXT: dict[How, How] = {"drain": "stop", "stop": "kill", "kill": "kill"}


class Closing:
    """Ends a system, or leaves the one of another program."""

    _client: Client
    _process: subprocess.Popen[bytes] | None  # the guardian's, in the program that started it
    _pid: int  # of the process that may close it: a forked child may not
    _guest = False  # attached
    _left = False

    def close(self, how: How = "drain") -> None:
        """Stop every actor in reverse order and end the system. Calling it again is harmless.

        how: "drain" handles all that was accepted, however long that takes; "stop" applies the shutdown times; "kill"
        does not ask. Ctrl-C meanwhile goes on with the next of these, and is raised when all is done.
        """
        if self._pid != os.getpid():  # a forked child leaves the program's system alone
            return
        if self._guest:
            self._leave()
            return
        if self._client.reader is None:
            raise ActorsError("an actor can't close the system that it lives in; use self.stop()")
        interrupted: KeyboardInterrupt | None = None
        if self._process is not None and self._process.poll() is None:
            while True:
                try:
                    self._ask_to_end(how)
                    _wait_for(self._process)
                    break
                except KeyboardInterrupt as error:
                    interrupted, how = error, NEXT[how]
        self._let_go()
        if interrupted is not None:
            raise interrupted

    def _ask_to_end(self, how: How) -> None:
        try:
            if isinstance(self._client.endpoint, ProgramEndpoint):
                self._client.endpoint.attend()
            self._client.send("close", how=how)
        except ActorsError:  # the guardian is gone already
            return

    def _leave(self) -> None:
        """Others may share the connection."""
        if not self._left:
            self._left = True
            self._client.users -= 1
        if self._client.users == 0 and self._client.reader is not None:
            self._let_go()

    def _let_go(self) -> None:
        """End the connection; of several threads one does, the others wait for it, except in a callback of the reader,
        for whose end that one may be waiting."""
        client = self._client
        if self._process is not None and self._process.wait() < 0:
            # the warden was killed, and where this program is PID 1 or a subreaper, the guardian fell to it
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, client.guardian_pid, os.WEXITED)
        if not client.closing.acquire(blocking=client.reader is None or not client.reader.is_current()):
            return
        try:
            if client.reader is not None:
                client.reader.stop()
            client.monitors.clear()  # nothing has ended where this program only leaves
            client.lose("it was closed")
            client.close()
            if isinstance(client.endpoint, ProgramEndpoint) and not client.endpoint.closed:
                client.endpoint.close()
        finally:
            client.closing.release()

    async def aclose(self, how: How = "drain") -> None:
        """`close` for coroutines. Cancelling it (Ctrl-C under asyncio.run) meanwhile goes on with the next of these,
        and is raised when all is done.
        """
        cancelled: asyncio.CancelledError | None = None
        if self._process is not None and self._pid == os.getpid():
            while self._process.poll() is None:
                try:
                    self._ask_to_end(how)
                    await _ended(self._process.pid)
                except asyncio.CancelledError as error:
                    cancelled, how = error, NEXT[how]
        self.close(how)
        if cancelled is not None:
            raise cancelled

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close("drain" if kind is None else "stop")

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    def _check_open(self) -> None:
        if self._left or self._client.gone is not None:
            raise ActorsError(f"system {self._client.system!r} is closed; start a new ActorSystem")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose("drain" if kind is None else "stop")


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    """Popen.wait alone would take a second Ctrl-C within 250 ms for the first."""
    with contextlib.suppress(ChildProcessError):  # reaped by somebody else
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.wait()


async def _ended(pid: int) -> None:
    """Until this child of the program has ended; it is not reaped."""
    loop = asyncio.get_running_loop()
    future, pidfd = loop.create_future(), os.pidfd_open(pid)
    try:
        loop.add_reader(pidfd, lambda: None if future.done() else future.set_result(None))
        await future
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)

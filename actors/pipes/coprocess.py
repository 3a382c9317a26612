"""A program that runs beside its actor: the process, the pipes to it, and how it is ended.

Rule: this is all that whoever runs a program needs of it, and it says nothing to anyone. `Program` is an actor that ends
as its program does; a stage of a pipeline reports it and goes on to answer: both feed `stdin`, read `stdout` and wait for
`exited`. A program has ended when its own process has, whoever may still hold its pipes.

The word is that of the Korn shell and gawk: a program with both its ends in one's hands.
Rejected: `asyncio.subprocess` (it reads ahead, loses the exact status, and knows no process group).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

from ..allocator import keep_freed
from ..exits import ExitReason
from .launch import launch
from .sink import Sink, enlarge
from .source import CHUNK, RAW, Source

PATIENCE = 1.0  # seconds between a sign of a program's end (its stdout closed, its stdin broken) and the end itself
KEPT = 4 << 20  # bytes of freed chunks of data: to fault them in anew takes longer than their way through the pipe


class Coprocess:
    """Runs `command` from now on. OSError: it can't be run. To be used in the event loop's thread, once a process: a
    SIGTERM to that is passed on to all of its group.
    """

    def __init__(
        self,
        command: list[str],
        framing: str,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
        linger: float = 0.0,
    ) -> None:
        """linger: seconds of silence after its end that end its output, where others still hold its pipes."""
        loop = asyncio.get_running_loop()
        self._process = launch(command, cwd, env or {})  # kept: its destructor would take the status away
        self.pid = self._process.pid
        stdin, stdout, stderr = self._descriptors()
        keep_freed(KEPT)
        for fd in (stdin, stdout):
            enlarge(fd)
        self.stdin = Sink(stdin)
        self.stdout, self.stderr = Source(stdout, RAW if framing == "raw" else CHUNK), Source(stderr)
        self.exited: asyncio.Future[ExitReason] = loop.create_future()
        self._linger, self._terminated = linger, False
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._on_exit)
        loop.add_signal_handler(signal.SIGTERM, self.terminate)

    @property
    def status(self) -> ExitReason | None:
        """How it has ended, as the kernel says; None: it runs."""
        return self.exited.result() if self.exited.done() else None

    async def ended_within(self, seconds: float) -> bool:
        await asyncio.wait([self.exited], timeout=seconds)
        return self.exited.done()

    async def end(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns when it has ended."""
        if self.status is None:
            self.terminate()
        if not await self.ended_within(grace):
            os.kill(self.pid, signal.SIGKILL)
        await asyncio.shield(self.exited)

    def terminate(self) -> None:
        """SIGTERM to the program and all that it has started: also when the guardian sends it to this process."""
        if not self._terminated:  # it comes back to this process, which is of the group
            self._terminated = True
            os.killpg(0, signal.SIGTERM)

    def _descriptors(self) -> list[int]:
        """Of its stdin, stdout and stderr, for us to close."""
        files = (self._process.stdin, self._process.stdout, self._process.stderr)
        fds = [os.dup(file.fileno()) for file in files if file]
        for file in files:
            if file:
                file.close()
        return fds

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        self.exited.set_result(ExitReason.from_wait(found.si_code, found.si_status))
        for source in (self.stdout, self.stderr):  # whoever else may hold them: what it has said is there
            source.finish(self._linger)

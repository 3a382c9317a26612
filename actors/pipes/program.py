"""`Program`: an external program as an actor. OTP calls it a port.

Rule: the program is the actor. It starts with it, its end is the actor's end, with its exit code or signal; what is
written to the actor goes to its stdin, what it says on stdout goes to one receiver (`to`) or to those who ask (`read`),
what it says on stderr goes to the log. Nothing piles up: a program that does not read fills its pipe, then the actor's
mailbox, and then its senders wait; a receiver that is slow stops the program where it writes.

Many handlers may wait at once (`concurrency`), each for the pipe or for a frame; writes keep their order because they
queue in `Sink` in the order of the mailbox.

Rejected: `communicate` (everything in memory); a shell (what its user means is a list of arguments).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NoReturn, cast, get_args

from ..actor import Actor
from ..errors import ActorDied, ActorsError, FramingError, SpecError
from ..exits import ExitReason
from ..ref import ActorRef
from . import plumbing
from .coprocess import PATIENCE, Coprocess
from .diary import Diary
from .framing import LIMIT, Framing, codec
from .launch import checked_command, end_as
from .outlet import Outlet, Pull, Push, pour, pour_rest
from .sink import Writing

Stdout = Literal["frames", "log"]
GRACE = 2.5  # seconds between the end of its input and SIGTERM, and from there to SIGKILL


class Program(Actor):
    """Runs `command` (a list: program and arguments; no shell) and ends with it.

    framing: how messages stand in its stdin and stdout: "lines" (str; bytes where `encoding` is None), "netstring" and
        "raw" (bytes), "msgpack" (plain data).
    to: the actor (or its name) that gets each frame of stdout as a message to its method `method` ("receive"), in
        order; when it ends, so does the program. None: frames wait for `read` and `request`.
    stdout: "log" puts its lines into the log, as those of stderr, and nobody reads frames.
    limit: bytes that a frame may have; a longer one, or one that is none, crashes the actor with `FramingError`.
    cwd, env: its working directory, and changes to the environment of the actor (None removes a variable).
    grace: seconds that it has, when the actor is to stop, to end by itself after the end of its input; then it gets
        SIGTERM, and SIGKILL after as many seconds, all within the actor's `shutdown` time. 0: SIGTERM at once.

    When the program ends, the actor does, with the same exit code or signal (`ExitReason`): 0 is a normal end. Calls in
    hand and waiting end with `ActorDied`, whose `reason` says it. Where frames are left to be read, it first waits for
    readers, as long as one comes within 5 seconds; what nobody is to read belongs into the log, or to an actor. Does
    not start (`SpawnError`): there is no such command, or it can't be executed.
    """

    concurrency: ClassVar[int] = 16

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        framing: Framing = "lines",
        to: ActorRef[Any] | str | None = None,
        method: Callable[..., object] | str = plumbing.RECEIVE,
        *,
        stdout: Stdout = "frames",
        encoding: str | None = "utf-8",
        limit: int = LIMIT,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        grace: float = GRACE,
    ) -> None:
        self._command = checked_command(command)
        self._codec, self._framing = codec(framing, limit, encoding), framing
        self._to, self._method = to, plumbing.checked_receiver(to, method)
        self._cwd = None if cwd is None else os.fspath(cwd)
        self._env, self._grace = dict(env or {}), grace
        self._logs_stdout = stdout == "log"
        if stdout not in get_args(Stdout):
            raise SpecError(f"stdout is {stdout!r}: use 'frames' or 'log'")
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
            raise SpecError(f"grace is {grace!r}: give seconds, 0 or more")
        self._stopping = False

    # --- messages

    def write(self, data: Any) -> Awaitable[None]:
        """Write one message to its stdin. An ask ends when the pipe has taken it. BrokenPipeError: it has closed its
        stdin; ValueError, TypeError: this can't be a frame, or `close_stdin` was called before.
        """
        frame = self._codec.encode(data)
        try:
            writing = self._program.stdin.send(frame)
        except OSError:
            return self._refused()
        if writing is None:
            return cast("Awaitable[None]", None)  # taken at once: nothing to await, which is most of the time
        return self._written(writing)

    async def read(self) -> Any:
        """The next frame of its stdout. EOFError: it has closed its stdout and runs on; ActorDied: it has ended, and
        everything was read.
        """
        return await self._pull().next()

    async def request(self, data: Any) -> Any:
        """Write one message and return the next frame: for programs that answer each line by a line. Requests of
        several callers are answered in their order.
        """
        pull = self._pull()
        frame = self._codec.encode(data)
        try:
            writing = self._program.stdin.send(frame)
        except OSError:
            await self._refused()
        answer = pull.next(owed=True)
        if writing is not None:
            try:
                await self._written(writing)
            except asyncio.CancelledError:
                if not writing.begun:
                    pull.forget(answer)
                raise
        return await answer

    def close_stdin(self) -> None:
        """It reads the end of its input after what was written before."""
        self._program.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal to the program (not to what it has started). ValueError: there is no such signal."""
        if not isinstance(number, int) or number not in signal.valid_signals():
            raise ValueError(f"{number!r} is no signal")
        os.kill(self._program.pid, number)

    def pid(self) -> int:
        """Its process."""
        return self._program.pid

    # --- life

    def on_start(self) -> None:
        """Start the program."""
        self._outlet: Outlet = plumbing.outlet(self._to, self._method)
        self._program = Coprocess(self._command, self._framing, self._cwd, self._env)
        self._program.exited.add_done_callback(lambda _: self._outlet.ending())
        plumbing.when_asked_to_stop(self._asked_to_stop)
        if isinstance(self._outlet, Push):
            self.monitor(self._outlet.to)
        self._life = asyncio.get_running_loop().create_task(self._live())

    async def _live(self) -> None:
        """From the start of the program to the end of the actor."""
        diary = asyncio.create_task(Diary(self._program.stderr, "stderr").keep())
        broken = await self._deliver()
        if not await self._program.ended_within(PATIENCE):
            if broken is not None and not self._stopping:
                plumbing.crash(broken)
            text = f"{self.ref.address}: its program has closed its stdout and runs on (process {self._program.pid})"
            self._outlet.fail(EOFError(text))
        status = await asyncio.shield(self._program.exited)
        await diary
        if self._stopping:
            return
        if self._outlet.dropped:
            self.log.warning("its program has ended; nobody read what it said", frames=self._outlet.dropped)
        if broken is not None:
            if not status.abnormal:
                plumbing.crash(broken)
            self.log.warning("its program has ended, and its output with it", error=str(broken))
        self._leave(status)

    async def _deliver(self) -> FramingError | None:
        """Its output, to the end. What was wrong with it."""
        try:
            if self._logs_stdout:
                await Diary(self._program.stdout, "stdout").keep()
            else:
                await pour(self._program.stdout, self._codec, self._outlet)
                await pour_rest(self._codec, self._outlet)
        except FramingError as error:
            return error
        except ActorDied as error:
            if not self._stopping:
                await self._without_receiver(error.reason)
        except Exception as error:
            plumbing.crash(error)
        return None

    def _leave(self, status: ExitReason) -> NoReturn:
        if status.kind == "exit":
            end_as(status.code, None)
        end_as(None, int(status.signal) if status.signal else status.code)

    # --- stopping

    def _asked_to_stop(self) -> None:
        """Reads that wait must not hold up the stop: what they wait for may never come."""
        self._outlet.fail(ActorDied(f"{self.ref.address} is stopping", ExitReason("shutdown")), requests=False)
        self._outlet.discard()

    async def on_stop(self, reason: ExitReason) -> None:
        """End the program: the end of its input, SIGTERM, SIGKILL."""
        if not reason.abnormal:
            await self._end_program()

    async def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        """Its receiver has ended."""
        await self._without_receiver(reason)

    async def _without_receiver(self, reason: ExitReason | None) -> NoReturn:
        if reason is not None and reason.abnormal:
            plumbing.crash(ActorsError(f"the receiver of its output {reason}"))
        await self._end_program()
        plumbing.leave_normally()

    async def _end_program(self) -> None:
        self._stopping = True
        self._outlet.discard()
        self._program.stdin.close()
        if not await self._program.ended_within(self._grace):
            await self._program.end(self._grace)
        if asyncio.current_task() is not self._life:
            await self._life  # the rest of its output

    # --- writing and reading

    async def _written(self, writing: Writing) -> None:
        try:
            await writing.done
        except asyncio.CancelledError:
            writing.withdraw()
            raise
        except OSError:
            await self._refused()

    async def _refused(self) -> NoReturn:
        """Nobody reads its stdin: because it has ended, which is what callers shall hear, or has closed it."""
        if await self._program.ended_within(PATIENCE):
            await asyncio.shield(self._life)
        raise BrokenPipeError(f"{self.ref.address}: its program has closed its stdin (process {self._program.pid})")

    def _pull(self) -> Pull:
        if self._logs_stdout or not isinstance(self._outlet, Pull):
            where = "to the log" if self._logs_stdout else f"to {self._to}"
            raise ActorsError(f"{self.ref.address}: its output goes {where}; nobody else can read it")
        return self._outlet

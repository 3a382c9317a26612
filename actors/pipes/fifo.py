"""`Fifo`: a named pipe as an actor, so that shell tools can feed actors and be fed.

Rule: the pipe is there as long as the actor is; writers and readers come and go. Reading, what one writer has not ended
(a last line without newline) is ended when the last writer has closed; then the pipe is opened anew, since the old
descriptor would only go on saying that nobody writes. Writing, a message is taken when a reader has opened the pipe,
and waits in the mailbox until then: that bounds it, and nothing that nobody could read counts as written. A reader that
leaves in the middle of a frame leaves it to the next one, whole, unless that one was there before the kernel could say so.

The order and wholeness of what several writers write at once is the kernel's promise: up to PIPE_BUF (4096 bytes) a
write is not divided.

Rejected: holding the pipe's other end open (then the end of a writer can't be told, and an unended line waits for the
next writer's first); O_RDWR for writing (the pipe's buffer would take what nobody will ever read).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

from ..actor import Actor
from ..errors import ActorDied, ActorsError, FramingError, SpecError
from ..exits import ExitReason
from ..ref import ActorRef
from . import plumbing
from .framing import LIMIT, Framing, codec
from .launch import end_as
from .outlet import Outlet, Pull, Push, pour, pour_rest
from .place import Place
from .sink import Sink
from .source import Source

Mode = Literal["r", "w"]


class Fifo(Actor):
    """A named pipe at `path`, made (mode 0600) if it is missing, and then removed at the end.

    mode: "r": frames from it go to `to` (an actor or its name; its method `method`, "receive"), or to those who ask
        (`read`). "w": messages (`write`) go into it, when a reader is there.
    framing, encoding, limit: as for `Program`.

    Does not start (`SpawnError`): the path is something else, or another actor reads from it. A SIGKILL leaves the pipe
    where it is; the next one takes it over.
    """

    concurrency: ClassVar[int] = 16

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode = "r",
        to: ActorRef[Any] | str | None = None,
        method: Callable[..., object] | str = plumbing.RECEIVE,
        framing: Framing = "lines",
        *,
        encoding: str | None = "utf-8",
        limit: int = LIMIT,
    ) -> None:
        if mode not in get_args(Mode):
            raise SpecError(f"mode is {mode!r}: use 'r' (read from the pipe) or 'w' (write into it)")
        if mode == "w" and to is not None:
            raise SpecError(f"to is {to!r}: with mode 'w' messages go into the pipe, and none come out")
        self._mode, self._framing = mode, (framing, limit, encoding)
        self._codec = codec(*self._framing)
        self._to, self._method = to, plumbing.checked_receiver(to, method)
        self._place = Place(path)
        self._sink: Sink | None = None
        self._opening: asyncio.Future[int] | None = None
        self._turn = asyncio.Lock()
        self._stopping = False

    # --- messages

    async def write(self, data: Any) -> None:
        """Write one message into the pipe. An ask ends when the pipe, with a reader at its other end, has taken it."""
        if self._mode != "w":
            raise ActorsError(f"{self.ref.address}: this named pipe is read from; to write, use mode='w'")
        frame = self._codec.encode(data)
        async with self._turn:
            while not await self._wrote(frame):
                pass

    async def read(self) -> Any:
        """The next frame out of the pipe."""
        if self._mode != "r" or not isinstance(self._outlet, Pull):
            why = f"its output goes to {self._to}" if self._mode == "r" else "it is written to"
            raise ActorsError(f"{self.ref.address}: nobody can read from this named pipe here: {why}")
        return await self._outlet.next()

    # --- life

    def on_start(self) -> None:
        """Make or take over the pipe."""
        self._outlet: Outlet = plumbing.outlet(self._to, self._method)
        self._place.claim()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminated)
        plumbing.when_asked_to_stop(self._asked_to_stop)
        if self._mode == "r":
            self._lock = self._place.open(os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(errno.EAGAIN, f"another actor reads from {self._place.path}") from None
            self._source = self._opened()
            self._life = asyncio.get_running_loop().create_task(self._listen())
        if isinstance(self._outlet, Push):
            self.monitor(self._outlet.to)

    async def _listen(self) -> None:
        """One round of writers after the other."""
        while not self._stopping:
            try:
                await pour(self._source, self._codec, self._outlet)
                await self._end_round()
            except ActorDied as error:
                await self.on_down(self.ref, error.reason or ExitReason("normal"))
            except Exception as error:
                plumbing.crash(error)
            if not self._stopping:
                before, self._source = self._source, self._opened()
                before.close()

    async def _end_round(self) -> None:
        """All writers have closed it: what they have not ended is ended."""
        try:
            await pour_rest(self._codec, self._outlet)
        except FramingError as error:  # of a writer that died, and not the next one's fault
            self.log.warning("a writer left half a frame in the named pipe; it is dropped", error=str(error))
        self._codec = codec(*self._framing)

    def _opened(self) -> Source:
        return Source(self._place.open(os.O_RDONLY | os.O_NONBLOCK), fifo=True)

    async def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> None:
        """Its receiver has ended."""
        if reason.abnormal:
            plumbing.crash(ActorsError(f"the receiver of {self._place.path} {reason}"))
        self._place.remove()
        plumbing.leave_normally()

    # --- stopping

    def _asked_to_stop(self) -> None:
        self._outlet.fail(ActorDied(f"{self.ref.address} is stopping", ExitReason("shutdown")))
        self._outlet.discard()

    async def on_stop(self, reason: ExitReason) -> None:
        """Hand on what is in the pipe, and remove it."""
        if self._mode == "r" and not reason.abnormal:
            self._stopping = True
            self._source.finish()
            await self._life
        if self._sink is not None:
            self._sink.close()
        if not reason.abnormal:
            self._place.remove()

    def _terminated(self) -> None:
        self._place.remove()
        end_as(None, signal.SIGTERM)

    # --- writing

    async def _wrote(self, frame: bytes) -> bool:
        """False: the reader left before all of it was written."""
        if self._sink is None:
            self._sink = Sink(await self._reader())
        writing = None
        try:
            writing = self._sink.send(frame)
            if writing is not None:
                await writing.done
        except OSError:
            self._sink = None
            return False
        except asyncio.CancelledError:
            if writing is not None:
                writing.withdraw()
            raise
        return True

    async def _reader(self) -> int:
        """A descriptor to write into, when somebody has opened the pipe for reading."""
        try:
            return self._place.open(os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if self._opening is None:  # a thread that blocks in `open` is told by the kernel, and ends with the process
            loop = asyncio.get_running_loop()
            self._opening = loop.run_in_executor(None, self._place.open, os.O_WRONLY)
        fd = await asyncio.shield(self._opening)
        self._opening = None
        return fd

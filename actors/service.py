"""A tree that runs as a service or a batch job: `actors run`, from its first signal handler to its exit code.

Rule: a good process. It is what a shell, a container or systemd expects of one:

    SIGTERM, SIGINT, SIGHUP   the first drains for `grace` seconds, then the shutdown times apply, which end in SIGKILL;
                              a second SIGTERM or SIGINT has its default effect, whereupon the guardian kills what is
                              left (hangups come in twos, from the shell and from the kernel: they don't count)
    exit code                 0: all have ended, none failed; 70 (EX_SOFTWARE): one has failed (its restarts are used up,
                              or it crashed and is never restarted), and the first cause is on stderr; 128 + n: ended
                              by signal n; 1: it could not start, or its guardian was killed
    SIGTSTP (Ctrl-Z)          stops this process alone; the actors, in a session of their own, go on, and `fg` finds them
    systemd                   READY=1 when the whole tree is ready, STOPPING=1 when it ends, WATCHDOG=1 (below)
    PID 1                     an init of its own above it (init.py)

What was ignored when this process started (nohup, a shell's background job) stays ignored: SIGINT and SIGHUP.

WATCHDOG=1 follows a round trip to the guardian's loop, twice in the time that the manager gives, so a guardian that hangs
is a service that hangs.

Design: one coroutine; the handlers are the interpreter's own, not the loop's, so that the second signal has its default
effect whatever the loop does.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import Awaitable
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

from . import screen
from .errors import ActorNotFound, ActorsError, SpecError
from .notify import Notifier
from .ref import ActorRef
from .reports import Event
from .stream import Stream
from .supervision import Supervisor
from .system import ActorSystem

T = TypeVar("T")
GRACE = 20.0  # seconds; Kubernetes and others kill after 30, and the shutdown times come after it
EX_SOFTWARE = 70  # sysexits.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAY_BE_IGNORED = (signal.SIGINT, signal.SIGHUP)


def check_grace(seconds: float) -> float:
    """SpecError: that is no time to wait."""
    if not seconds >= 0:
        raise SpecError(f"--grace {seconds:g}: give seconds, 0 or more (inf: as long as it takes)")
    return seconds


def run(tree: Supervisor, name: str, grace: float = GRACE) -> int:
    """Run the tree until all of it has ended or a signal comes: the exit code."""
    notifier = Notifier.take()
    notifier.tell(STATUS=f"starting {name}")
    with Interruption() as interruption:
        try:
            system = ActorSystem(name)
        except ActorsError:
            if interruption.number:  # of our whole group, to which the guardian still belonged
                return 128 + interruption.number
            raise
        with system:
            return asyncio.run(Service(system, tree, grace, notifier, interruption).live())


class Interruption:
    """The first signal, as an event of the running loop; a second SIGTERM or SIGINT has its default effect."""

    def __init__(self) -> None:
        self.number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came: asyncio.Event | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        for number in SIGNALS:
            if number not in MAY_BE_IGNORED or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _first(self, number: int, frame: FrameType | None) -> None:
        for each in self._before:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)
        self.number = number
        if self._loop is not None and self._came is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)

    async def wait(self) -> None:
        """Until it has come."""
        self._loop, self._came = asyncio.get_running_loop(), asyncio.Event()
        if not self.number:  # else it came before there was an event to set
            await self._came.wait()


class Service:
    """One run of a tree. Made outside of a loop, since it begins to listen to the system."""

    def __init__(
        self, system: ActorSystem, tree: Supervisor, grace: float, notifier: Notifier, interruption: Interruption
    ) -> None:
        self.system, self.tree, self.grace = system, tree, grace
        self.notifier, self.interruption = notifier, interruption
        self.events = system.events()

    async def live(self) -> int:
        """Start, stay, end: the exit code."""
        interrupted = asyncio.create_task(self.interruption.wait())
        failures, beat = asyncio.create_task(_failures(self.events)), asyncio.create_task(self._beat())
        failure = ""
        try:
            await self._stay(interrupted)
            if not self.interruption.number:
                self.events.close()
                failure = "".join(f"failed; the first cause: {each}" for each in (await failures)[:1])
            if failure:
                _say(f"{self.system.name} has {failure}")
            await self._drain(failure)
        finally:
            for task in (interrupted, failures, beat):
                task.cancel()
            await self.system.aclose("stop")
        number = self.interruption.number
        return 128 + number if number else EX_SOFTWARE if failure else 0

    async def _stay(self, interrupted: asyncio.Task[None]) -> None:
        """Until a signal comes, or nothing is left that runs or will."""
        if await _unless(interrupted, self.system.start_async(self.tree)) is not None:
            self.notifier.tell(READY=1, STATUS=f"{self.system.name} is running")
            await _unless(interrupted, _all_ended(self.system))

    async def _drain(self, failure: str) -> None:
        """Handle what was accepted while the grace time lasts; then the shutdown times apply."""
        number = self.interruption.number
        self.notifier.tell(
            STOPPING=1, STATUS=failure or (f"{signal.strsignal(number)}: finishing" if number else "done")
        )
        if number:
            _say(f"{signal.strsignal(number)}: finishing; once more kills")
        closing = asyncio.create_task(self.system.aclose("drain"))
        limit = None if math.isinf(self.grace) or not number else self.grace
        if not (await asyncio.wait({closing}, timeout=limit))[0]:
            _say(f"not finished within {self.grace:g} s: the shutdown times apply")
            self.notifier.tell(STATUS="not finished within the grace time: stopping")
            closing.cancel()  # which makes it go on with "stop"
            await asyncio.wait({closing})

    async def _beat(self) -> None:
        """Keep the manager's watchdog quiet as long as the guardian answers."""
        if not self.notifier.watchdog:
            return
        with suppress(ActorsError):  # the guardian is gone, and its word with it
            while True:
                await self.system.ping_async()
                self.notifier.tell(WATCHDOG=1)
                await asyncio.sleep(self.notifier.watchdog / 2)


async def _failures(events: Stream[Event]) -> list[str]:
    """What has failed and was not brought back, the first first, read to the end of the stream: whose restarts were used
    up, and who crashed and is never restarted.
    """
    found: dict[ActorRef[Any], str] = {}
    crashed: set[ActorRef[Any]] = set()
    async for event in events:
        name = event.details.get("cause", event.ref.name)
        if event.kind in ("failed", "escalated") or (event.kind == "stopped" and event.ref in crashed):
            found.setdefault(event.ref, f"{name} {event.reason}")
        elif event.kind == "crashed":
            crashed.add(event.ref)
        elif event.kind in ("restarting", "restarted"):
            crashed.discard(event.ref)
            if event.kind == "restarted":  # resumed, or its supervisor restarted it
                found.pop(event.ref, None)
    return list(found.values())


async def _unless(interrupted: asyncio.Task[None], work: Awaitable[T]) -> T | None:
    """What the work gives; None if the signal was faster: then it ends with the system, in order, and not at once."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # which nobody needs any more
    return None


async def _all_ended(system: ActorSystem) -> None:
    """Until no actor is left that runs or will. Supervisors alone keep nothing alive."""
    while True:
        workers = [info for info in screen.flat(await system.tree_async()) if info["kind"] == "worker"]
        alive = [info for info in workers if info["status"] not in ("failed", "stopped")]
        if not alive:
            return
        with suppress(ActorNotFound):  # it has just ended
            ref: ActorRef[Any] = await system.lookup_async(alive[0]["name"])
            await ref.wait_async()


def _say(text: str) -> None:
    with suppress(OSError):  # SIGHUP: the terminal is gone
        print(f"actors: {text}", file=sys.stderr, flush=True)

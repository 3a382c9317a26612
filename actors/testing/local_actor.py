"""`local`: an actor in the test's own process, for unit tests and their coverage.

Rule: the real class, the real codec and the real rules of a handler (`Loop`), one message at a time, and nothing around
it: no process, no mailbox memory, no supervisor. Others are stubs (`world.py`), time is a clock that the test moves. A
call returns when the message has been handled, and with it all that the actor sent to itself meanwhile.

What an actor does that is about processes (a crash's restart, limits, signals) is for a real system.

Rejected: mocks of `self.spawn` and the rest, which agree to anything.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, TypeVarTuple, overload

from .. import context
from ..errors import SpawnError
from ..exits import ExitReason
from ..failures import describe
from ..loop import Loop, Worker, width
from ..message import Kind
from ..monitor import Down, Monitor
from ..ref import ActorRef
from ..reply import died
from ..shipping import ship, unship
from ..supervision.spec import OnError, name_of
from ..system import ActorSystem
from .manual import ManualClock
from .world import Sent, Spawned, World, world

if TYPE_CHECKING:
    from ..actor import Actor
    from ..transports._ring import Record

A = TypeVar("A", bound="Actor")
T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

Act = tuple[str, ActorRef[Any]]  # ("stop" | "kill" | "restart" | "resume" | "link" | "unlink", whom)


class LocalClock(ManualClock):
    """The time of one local actor."""

    def __init__(self, drain: Callable[[], object]) -> None:
        super().__init__()
        self._drain = drain

    def advance(self, seconds: float) -> None:
        """Let time pass: timers run at their times, one after the other. ValueError: seconds below 0."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward only: advance({seconds!r})")
        until = self.time() + seconds
        while (due := self.next()) is not None and due <= until + 1e-6:  # a sum of floats may be a little off
            self.set(due)
            self.run_due()
            self._drain()
        self.set(until)


class _LocalLoop(Loop):
    """The rules of a handler, without a mailbox."""

    def __init__(self, surroundings: World, on_error: str, clock: ManualClock) -> None:
        super().__init__(surroundings, surroundings.endpoint, None, on_error)  # type: ignore[arg-type]
        self.clock = clock
        self.workers = [Worker()]

    async def handle(self, record: Record) -> None:
        value = self._begin(self.workers[0], record)
        if value is not None:
            await self._finish(self.workers[0], record, value)

    def _heard_down(self, monitor: Monitor, down: Down) -> None:
        self.post(self._call_on_down, monitor, down)  # nothing was sent that could come first

    async def run_posted(self) -> None:
        while self.local and not self.leaving:
            await self._run_local(self.workers[0], self.local.popleft())


class Local(Generic[A]):
    """An actor in this process. Made by `local`; a context manager that stops it.

    instance: the object itself. ref: its reference, good in this process. sent: what it told and asked others, in
    order; spawned: children that it started; acts: what it did to others (`("stop", ref)`); logged: its log lines, as
    dicts; clock: its time; sender: who sends it the messages that come from the test (None: a program).
    reason: why it has ended (None: it lives); failure: the exception that ended it.
    """

    def __init__(
        self, factory: Callable[..., A], args: tuple[Any, ...], name: str | None, on_error: OnError = "crash"
    ) -> None:
        import structlog

        self._world = world()
        self._inbox: collections.deque[Record] = collections.deque()
        self._events: asyncio.AbstractEventLoop | None = None
        self._handling = False
        self.sent: list[Sent] = []
        self.spawned: list[Spawned[Any]] = []
        self.acts: list[Act] = []
        self.children: collections.Counter[str] = collections.Counter()  # those without a name, by their base
        self.sender: ActorRef[Any] | None = None
        self.reason: ExitReason | None = None
        self.failure: BaseException | None = None
        self.clock = LocalClock(self._work)
        self.ref: ActorRef[A] = self._world.register(name or self._world.free_name(name_of(factory)), self)
        lines = structlog.testing.LogCapture()
        self.logged: list[Any] = lines.entries
        log = structlog.wrap_logger(None, processors=[lines], wrapper_class=structlog.BoundLogger)
        self._loop = _LocalLoop(self._world, on_error, self.clock)
        self._context = context.Context(
            self._world, ActorSystem._inside(self._world), self.ref, self._loop, log.bind(actor=self.ref.address)
        )
        self.instance: A = self._start(factory, args)

    def __repr__(self) -> str:
        return f"<Local {self.ref.address}{f' ended ({self.reason})' if self.reason else ''}>"

    def __enter__(self) -> Local[A]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if self._events is not None:
            self._events.close()

    # --- messages

    @overload
    def ask(self, method: Callable[Concatenate[A, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def ask(self, method: Callable[Concatenate[A, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def ask(self, method: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def ask(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Send a call, and return its answer or raise its exception. CodecError: something in it can't be sent;
        ActorDied: the actor has ended.
        """
        return self.ref.ask(method, *args, **kwargs).result()

    @overload
    def tell(self, method: Callable[Concatenate[A, P], object], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def tell(self, method: str, /, *args: Any, **kwargs: Any) -> None: ...
    def tell(self, method: Any, /, *args: Any, **kwargs: Any) -> None:
        """Send a message, and return when it has been handled. An exception ends the actor (`failure`), as in reality."""
        self.ref.tell(method, *args, **kwargs)

    def down(self, ref: ActorRef[Any], reason: ExitReason | None = None, *, restarting: bool = False) -> None:
        """Let it hear that `ref` has ended. AssertionError: it does not monitor `ref`."""
        found = [number for number, uid in self._world.watched.items() if uid == ref.uid]
        mine = [self._world.monitors[number] for number in found if number in self._world.monitors]
        if not mine:
            raise AssertionError(f"{self.ref.address} does not monitor {ref.address}")
        for number, monitor in zip(found, mine, strict=False):
            if not restarting:
                del self._world.watched[number], self._world.monitors[number]
            monitor._callback(monitor, Down(ref, reason or ExitReason("signal"), restarting))
        self._work()

    def stop(self) -> None:
        """Ask it to stop: `on_stop` runs, with the reason "shutdown". Harmless if it has ended."""
        if self.reason is None:
            self._loop._leave(ExitReason("shutdown"))
            self._work()

    # --- inside

    def _start(self, factory: Callable[..., A], args: tuple[Any, ...]) -> A:
        made, arguments = unship(ship(factory, args).payload)
        try:
            with self._acting():
                instance: A = self._loop.blocking(made, *arguments)
            if instance is None or inspect.isawaitable(instance):
                raise TypeError(f"the factory {factory!r} made {instance!r}, not an actor")
            width(instance)
            self._loop.instance = instance
            self._drive(self._loop.hook(getattr(instance, "on_start", lambda: None)))
        except Exception as error:
            self.failure, self.reason = error, ExitReason("exception", error=describe(error))
            raise SpawnError(f"{self.ref.address} did not start: {self.reason}") from error
        self.instance = instance
        self._work()
        return instance

    def accept(self, record: Record) -> None:
        """A message came; it is handled now, or after the one in hand."""
        self._inbox.append(record)
        if not self._handling:
            self._work()

    def _work(self) -> None:
        if not self._handling and self.reason is None:
            self._drive(self._drained())

    async def _drained(self) -> None:
        loop = self._loop
        self._handling = True
        try:
            while not loop.leaving and (self._inbox or loop.local or self.clock.run_due()):
                await loop.run_posted()
                if self._inbox and not loop.leaving:
                    await loop.handle(self._inbox.popleft())
            if loop.leaving:
                await self._end()
        finally:
            self._handling = False

    async def _end(self) -> None:
        error = self._loop.failure
        self.failure = error
        reason = ExitReason("exception", error=describe(error)) if error else self._loop.reason or ExitReason("normal")
        try:
            if hasattr(self.instance, "on_stop"):
                await self._loop.hook(self.instance.on_stop, reason)
        except Exception as raised:
            self.failure, reason = raised, ExitReason("exception", error=describe(raised))
        self.reason = reason
        said = {"reason": reason.to_wire()}
        for record in self._inbox:
            reply = self._world.endpoint.table.pop(record[3], None)
            if record[0] == Kind.ASK and reply is not None:
                reply.fail(died(self.ref.address, said))
        self._inbox.clear()

    def _drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the actor's code: on an event loop of its own, or inside one that runs already step by step."""
        with self._acting():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return self._own_loop().run_until_complete(work)
            return _stepped(work, self.ref.address)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._events is None:
            self._events = asyncio.new_event_loop()
            weakref.finalize(self, self._events.close)
        return self._events

    def _acting(self) -> _Acting:
        return _Acting(self)


class _Acting:
    """While its code runs, it is this process's actor, and what is sent is sent by it."""

    def __init__(self, actor: Local[Any]) -> None:
        self._actor = actor

    def __enter__(self) -> None:
        self._before = context._current
        context.enter(self._actor._context)
        self._actor._world.acting.append(self._actor)

    def __exit__(self, *_: object) -> None:
        self._actor._world.acting.pop()
        context.enter(self._before)


def _stepped(work: Coroutine[Any, Any, T], who: str) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        while work.send(None) is None:  # asyncio.sleep(0)
            pass
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise RuntimeError(
        f"{who}: an async handler waits for something, and the event loop of this test can't run meanwhile; "
        "make the test a plain function, or use a real system"
    )


def local(factory: Callable[[*Ts], A], /, *args: *Ts, name: str | None = None, on_error: OnError = "crash") -> Local[A]:
    """Start an actor in this process, for a unit test. Factory, arguments and on_error as in `ActorSystem.spawn`.

    Raises SpawnError, caused by what the constructor or `on_start` raised; CodecError when an argument can't be sent.
    """
    return Local(factory, args, name, on_error)

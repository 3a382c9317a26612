"""`Actor`: what a user's class inherits.

Rule: this class adds names, not state: everything lives in the process's context, so a subclass needs no
`super().__init__()` and is an ordinary object in a unit test. Public methods of a subclass are its messages; the names
defined here and those that begin with `_` are not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, TypeVarTuple

from . import ref as _ref
from .context import Timer, current
from .errors import ActorsError
from .steps import drive, drive_async

if TYPE_CHECKING:
    from typing import Self, Unpack

    from .exits import ExitReason
    from .monitor import Monitor
    from .options import SpawnOptions
    from .pool import PoolRef, Size
    from .ref import ActorRef
    from .routing import Routing
    from .system import ActorSystem

P = ParamSpec("P")
A = TypeVar("A", bound="Actor")
Ts = TypeVarTuple("Ts")


class Actor:
    """Base class of actors: one instance in one OS process, one message at a time.

    `concurrency` (class attribute): up to so many async handlers overlap; 1 by default.
    `snapshot_every` (class attribute): with `snapshot` and `restore`, after so many messages the state is saved; 1 by
    default.
    """

    concurrency: ClassVar[int] = 1
    snapshot_every: ClassVar[int] = 1

    # --- who am I

    @property
    def ref(self) -> ActorRef[Self]:
        """The reference to this actor, to be sent to others."""
        return current().ref

    @property
    def system(self) -> ActorSystem:
        """The system that this actor belongs to."""
        return current().system

    @property
    def sender(self) -> ActorRef[Any] | None:
        """Who sent the message in hand: a reference, or None when it came from a program (or a timer)."""
        context = current()
        uid, name = context.client.sender_of(context.agenda.caller())
        return _ref.ActorRef(context.client.system, name, uid) if uid else None

    @property
    def log(self) -> Any:
        """A structlog logger bound to this actor's address; its lines come out in the program's log."""
        return current().log

    # --- hooks

    def on_start(self) -> Awaitable[None] | None:
        """Called once a process, before the first message. If it raises, the actor has not started (`SpawnError`, or
        one more crash).
        """
        return None

    def on_stop(self, reason: ExitReason) -> Awaitable[None] | None:
        """Called before the process ends by itself (stop, shutdown, exception), within the shutdown time. A signal
        gives no time for it.
        """
        return None

    def on_down(self, ref: ActorRef[Any], reason: ExitReason) -> Awaitable[None] | None:
        """Called when an actor that was monitored with `self.monitor` has ended, after all that it had sent to this one
        was handled.
        """
        return None

    def snapshot(self) -> Any:
        """State that shall survive a crash, or a coroutine that returns it: anything that a message can carry, encoded
        when it is returned. Called when nothing is in hand, after every `snapshot_every` messages (and timer calls).
        What it raises, and a state that can't be sent, crashes the actor; the last good snapshot stays.
        """
        return None

    def restore(self, state: Any) -> Awaitable[None] | None:
        """Called after the constructor and before `on_start` with what the last `snapshot` returned, if there was one.
        If it raises: that is reported (a log line, an `unrestored` event), and the actor begins with a new object and
        without a snapshot.
        """
        return None

    # --- acts

    def spawn(self, factory: Callable[[*Ts], A], /, *args: *Ts, **options: Unpack[SpawnOptions]) -> ActorRef[A]:
        """Start a child: it is named below this actor and stops when this actor's process ends. Options and errors as
        `ActorSystem.spawn`.
        """
        context = current()
        return context.system._spawn_below(context.ref, factory, args, options)  # type: ignore[no-any-return]

    async def spawn_async(
        self, factory: Callable[[*Ts], A], /, *args: *Ts, **options: Unpack[SpawnOptions]
    ) -> ActorRef[A]:
        """`spawn` for async handlers."""
        context = current()
        return await context.system._spawn_below_async(context.ref, factory, args, options)  # type: ignore[no-any-return]

    def pool(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        size: Size = 2,
        routing: Routing = "least-busy",
        key: Callable[..., Any] | None = None,
        **options: Unpack[SpawnOptions],
    ) -> PoolRef[A]:
        """Start a pool below this actor, which stops when this actor's process ends. As `ActorSystem.pool`."""
        context = current()
        steps = context.system._pool_steps(context.ref.uid, factory, args, size, routing, key, options)
        return drive(steps)

    async def pool_async(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        size: Size = 2,
        routing: Routing = "least-busy",
        key: Callable[..., Any] | None = None,
        **options: Unpack[SpawnOptions],
    ) -> PoolRef[A]:
        """`pool` for async handlers."""
        context = current()
        steps = context.system._pool_steps(context.ref.uid, factory, args, size, routing, key, options)
        return await drive_async(steps)

    def after(self, seconds: float, method: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Call a bound method of this actor once, in `seconds`, as if it were a message to itself."""
        return current().agenda.later(seconds, False, method, args, kwargs)

    def every(self, seconds: float, method: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Call a bound method every `seconds`. A tick that comes while the last one still waits is left out; ticks
        don't drift.
        """
        return current().agenda.later(seconds, True, method, args, kwargs)

    def monitor(self, ref: ActorRef[Any], *, incarnations: bool = False) -> Monitor:
        """Hear of `ref`'s end through `on_down`, exactly once, also when it has ended already."""
        monitor: Monitor = current().agenda.down(_ref.checked(ref), incarnations)
        return monitor

    def link(self, ref: ActorRef[Any]) -> None:
        """Tie this incarnation to `ref`'s: when either ends abnormally, the other is killed, and ended for the same
        reason (as in OTP). While `ref` restarts, to its next one; when it has ended abnormally or FAILED, this one ends
        at once. Once it returns the link holds; making it again changes nothing. ActorsError: it is a supervisor.
        """
        context = current()
        answer, _ = context.client.exchange("link", uid=_ref.checked(ref).uid)
        if answer.get("supervisor"):
            raise ActorsError(f"{ref.address} is a supervisor and has no process to be linked to; monitor it instead")

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Untie them again; harmless where there is no link. Once it returns, `ref`'s end does this one no harm."""
        current().client.exchange("unlink", uid=_ref.checked(ref).uid)

    def stop(self) -> None:
        """End after the message in hand, with reason `normal`. What is still queued becomes `ActorDied` and dead
        letters.
        """
        current().agenda.leave()


_ref.RESERVED.update(name for name in vars(Actor) if not name.startswith("_"))

"""What starts the actors of an `ActorSystem`: `spawn`, `spawn_program`, `fifo`, `pool` and `start`, a part of that class.

Rule: every way is one `spawn` request to the guardian, of one node or of a whole tree (`_request_steps`). A node carries
what its process needs to be born; options are checked here, where the caller sees the mistake.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, Unpack, overload

from . import surroundings
from .address import check_name
from .client import Client
from .errors import ModuleUnavailable, SpawnError, SpecError
from .limits import Limits
from .mailbox import MailboxOptions
from .message import ROOT
from .modules import send_by_value
from .options import SpawnOptions, actor_options, split_options
from .pool import BroadcastRef, PoolRef, Size, reference
from .pool import options as pool_options
from .ref import ActorRef
from .routing import Routing
from .shipping import ship
from .steps import drive, drive_async
from .supervision import Backoff, Policy, Restart
from .supervision.spec import OnError, Supervisor, name_of, plain

if TYPE_CHECKING:
    from .actor import Actor
    from .pipes.fifo import Fifo, Mode
    from .pipes.framing import Framing
    from .pipes.program import Program
    from .pipes.spawning import FifoOptions, ProgramOptions
    from .supervised import Supervised

A = TypeVar("A", bound="Actor")
Ts = TypeVarTuple("Ts")


class Spawning:
    """Starts actors, pools, programs and trees."""

    name: str
    _client: Client
    _setting: (
        dict[str, Any] | None
    )  # environment and import path as the system's program had them; None: not its program

    def spawn(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        name: str | None = None,
        restart: Restart = "transient",
        shutdown: float = 5.0,
        start_timeout: float = 30.0,
        max_restarts: int | None = None,
        within: float = 5.0,
        backoff: Backoff | None = None,
        on_error: OnError = "crash",
        redeliver: int = 0,
        mailbox: MailboxOptions | None = None,
        progress_timeout: float | None = None,
        max_memory: int | None = None,
        max_messages: int | None = None,
        nice: int = 0,
        affinity: Iterable[int] | None = None,
        rlimits: Mapping[str, int] | None = None,
    ) -> ActorRef[A]:
        """Start an actor in a process of its own and return its reference once `on_start` has returned.

        factory: an Actor class, or anything that makes one; it and `args` are sent to the new process
        (`functools.partial` carries keywords). restart: "permanent", "transient" (after an abnormal exit) or
        "temporary". A crashed actor is restarted for ever, with `backoff`, unless `max_restarts` within `within`
        seconds says otherwise; past it, it has FAILED. shutdown: seconds between the request to stop and SIGTERM.
        on_error: whether an exception in a tell or timer ends the process. redeliver: process deaths after which a
        message in hand is handled again. progress_timeout: seconds without progress after which it is ended as hung.
        max_memory (bytes), max_messages: beyond, the process is replaced between two messages. nice, affinity,
        rlimits: of its process (all of them: `Limits`).

        Raises `SpawnError` with the child's traceback when the constructor or `on_start` fails; `CodecError` when
        factory or args can't be sent.
        """
        policy = Policy(restart, shutdown, max_restarts, within, backoff or Backoff(), start_timeout)
        limits = Limits(progress_timeout, max_memory, max_messages, nice, affinity, rlimits)
        options = actor_options(on_error, redeliver, mailbox, limits)
        return drive(self._spawn_steps(ROOT, factory, args, name, policy, options))

    async def spawn_async(
        self, factory: Callable[[*Ts], A], /, *args: *Ts, **options: Unpack[SpawnOptions]
    ) -> ActorRef[A]:
        """`spawn` for coroutines; same options and errors."""
        steps = self._spawn_steps(ROOT, factory, args, *split_options(options))
        return await drive_async(steps)

    def spawn_program(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        framing: Framing = "lines",
        to: ActorRef[Any] | str | None = None,
        method: Callable[..., object] | str = "receive",
        **options: Unpack[ProgramOptions],
    ) -> ActorRef[Program]:
        """Start an external program as an actor, `Program`: messages to it (`write`) go to its stdin, what it says on
        stdout goes to `to` (an actor or its name; its method `method`) or to those who ask (`read`, `request`).

        Options: those of `Program` (framing, stdout, encoding, limit, cwd, env, grace) and of `spawn`. A default name
        comes from the command; `grace` is half of `shutdown`. Raises `SpawnError` when there is no such command, or it
        can't be executed; `SpecError` for a senseless argument. In a tree: `Child(Program, command, …)`.
        """
        from .pipes.spawning import program

        factory, base, rest = program(command, framing, to, method, options)
        return drive(self._spawn_steps(ROOT, factory, (), *split_options(rest), base))

    def fifo(
        self,
        path: str | os.PathLike[str],
        mode: Mode = "r",
        *,
        to: ActorRef[Any] | str | None = None,
        method: Callable[..., object] | str = "receive",
        framing: Framing = "lines",
        **options: Unpack[FifoOptions],
    ) -> ActorRef[Fifo]:
        """Start an actor, `Fifo`, for the named pipe at `path`, which is made (mode 0600) if it is missing and then
        removed at the end. mode "r": frames that others write into it go to `to`, or to those who ask (`read`); "w":
        messages (`write`) go into it, as soon as a reader is there.

        Options: those of `Fifo` (encoding, limit) and of `spawn`. Raises `SpawnError` when the path is something else,
        or another actor reads from it; `SpecError` for a senseless argument. In a tree: `Child(Fifo, path, …)`.
        """
        from .pipes.spawning import fifo

        factory, base, rest = fifo(path, mode, to, method, framing, options)
        return drive(self._spawn_steps(ROOT, factory, (), *split_options(rest), base))

    def _spawn_below(self, parent: ActorRef[Any], factory: Any, args: tuple[Any, ...], options: SpawnOptions) -> Any:
        return drive(self._spawn_steps(parent.uid, factory, args, *split_options(options)))

    async def _spawn_below_async(
        self, parent: ActorRef[Any], factory: Any, args: tuple[Any, ...], options: SpawnOptions
    ) -> Any:
        return await drive_async(self._spawn_steps(parent.uid, factory, args, *split_options(options)))

    @overload
    def pool(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        size: Size = 2,
        routing: Literal["least-busy", "round-robin", "hash"] = "least-busy",
        key: Callable[..., Any] | None = None,
        **options: Unpack[SpawnOptions],
    ) -> PoolRef[A]: ...
    @overload
    def pool(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        size: Size = 2,
        routing: Literal["broadcast"],
        key: None = None,
        **options: Unpack[SpawnOptions],
    ) -> BroadcastRef[A]: ...
    def pool(  # type: ignore[misc]
        self,
        factory: Any,
        /,
        *args: Any,
        size: Size = 2,
        routing: Routing = "least-busy",
        key: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        """Start several actors of one kind behind one reference, and return it once all are ready.

        size: how many; a pair (least, most): it begins with the least, grows while messages wait, and shrinks when
        members have been idle for some seconds. routing: who gets a message: "least-busy" (fewest messages in its
        mailbox), "round-robin", "hash" (by `key(*args, **kwargs)`, or the first argument: one key, one member), or
        "broadcast" (all; an ask's reply is the list of all answers). Options and errors as `spawn`, for each member.
        """
        return drive(self._pool_steps(ROOT, factory, args, size, routing, key, options))  # type: ignore[arg-type]

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
        """`pool` for coroutines; same options and errors."""
        return await drive_async(self._pool_steps(ROOT, factory, args, size, routing, key, options))

    def _pool_steps(
        self,
        parent: int,
        factory: Any,
        args: tuple[Any, ...],
        size: Size,
        routing: Routing,
        key: Callable[..., Any] | None,
        options: SpawnOptions,
    ) -> Generator[Any, Any, Any]:
        if not callable(factory):
            raise SpecError(f"the factory must be a class or another callable, not {factory!r}")
        about = pool_options(size, routing, key)
        name, policy, actor = split_options(options)
        if name is not None:
            check_name(name)
        above = Policy("transient", math.inf, None, 5.0, policy.backoff, math.inf)
        pool = {"name": name, "base": f"{name_of(factory)}_pool", "under": -1, "kind": "supervisor"}
        nodes: list[Any] = [
            ({**pool, "policy": above.to_wire(), "strategy": "one_for_one", "options": {"pool": about}}, None, ())
        ]
        member = {"under": 0, "kind": "worker", "policy": policy.to_wire(), "options": actor}
        nodes += (({**member, "name": str(number)}, factory, args) for number in range(1, about["size"][0] + 1))
        answer = yield from self._request_steps(parent, nodes)
        return reference(self.name, {**answer, "pool": routing})

    def start(self, tree: Supervisor) -> Supervised:
        """Start a supervision tree; returns when every child is ready, in order. SpawnError: one was not, and all are
        stopped again.
        """
        return drive(self._start_steps(tree))

    async def start_async(self, tree: Supervisor) -> Supervised:
        """`start` for coroutines."""
        return await drive_async(self._start_steps(tree))

    def _spawn_steps(
        self,
        parent: int,
        factory: Any,
        args: tuple[Any, ...],
        name: str | None,
        policy: Policy,
        options: dict[str, Any],
        base: str | None = None,
    ) -> Generator[Any, Any, ActorRef[Any]]:
        if not callable(factory):
            raise SpecError(f"the factory must be a class or another callable, not {factory!r}")
        if name is not None:
            check_name(name)
        node = {
            "name": name,
            "base": name_of(factory) if base is None else plain(base),
            "under": -1,
            "kind": "worker",
            "policy": policy.to_wire(),
            "options": options,
        }
        answer = yield from self._request_steps(parent, [(node, factory, args)])
        return ActorRef(self.name, answer["name"], answer["uid"])

    def _start_steps(self, tree: Supervisor, parent: int = ROOT) -> Generator[Any, Any, Supervised]:
        from .supervised import Supervised, flatten

        if not isinstance(tree, Supervisor):
            raise SpecError(f"start takes a Supervisor, not {tree!r}; wrap it in Supervisor(…), or use spawn")
        answer = yield from self._request_steps(parent, flatten(tree))
        return Supervised(self._client, answer["name"], answer["uid"], self)

    def _request_steps(
        self, parent: int, nodes: list[tuple[dict[str, Any], Any, tuple[Any, ...]]]
    ) -> Generator[Any, Any, dict[str, Any]]:
        while True:
            sent = [node if factory is None else self._shipped(node, factory, args) for node, factory, args in nodes]
            try:
                answer: dict[str, Any] = yield self._client.request("spawn", parent=parent, nodes=sent)
                return answer
            except ModuleUnavailable as error:
                module = str(error)
                if not send_by_value(module):
                    raise SpawnError(
                        f"actor processes can't import module {module!r}; is it installed, or on sys.path?"
                    ) from None

    def _shipped(self, node: dict[str, Any], factory: Any, args: tuple[Any, ...]) -> dict[str, Any]:
        shipment = ship(factory, args)
        return {
            **node,
            "payload": shipment.payload,
            "modules": list(shipment.modules),
            "setting": surroundings.changes(self._setting),
        }

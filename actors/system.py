"""`ActorSystem`: where a program starts, reaches and stops its actors.

Rule: this class only composes: the guardian (a process of its own) decides and remembers, the client talks to it,
references carry the messages. Blocking and async methods are the same steps (`_steps`), driven by `.result()` or by
`await`.

Leaving `with` normally handles what was accepted; leaving it by an exception applies the shutdown times; Ctrl-C while
it closes goes one step further each time: drain, stop, kill.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, TypeVarTuple, Unpack, overload

from . import surroundings, transports, wire
from .address import check_name, check_system, parse_address
from .client import Client, clients
from .coordination.making import Coordinating
from .errors import ActorNotFound, ActorsError, ModuleUnavailable, SpawnError, SpecError
from .guardian.entry import socket_name
from .limits import Limits
from .log import LEVELS, emit
from .mailbox import MailboxOptions
from .message import ROOT, Kind
from .modules import send_by_value
from .options import SpawnOptions, actor_options, split_options
from .pool import BroadcastRef, PoolRef, Size, reference
from .pool import options as pool_options
from .reader import ProgramEndpoint, Reader
from .ref import ActorRef
from .reports import DeadLetter, Event, dead_letter_from_wire, event_from_wire
from .routing import Routing
from .shipping import ship
from .steps import drive, drive_async, one
from .stream import Stream
from .supervision import Backoff, Policy, Restart
from .supervision.spec import OnError, Supervisor, name_of, plain
from .transports._ring import Ring

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .actor import Actor
    from .box import Mailbox
    from .pipes.fifo import Fifo, Mode
    from .pipes.framing import Framing
    from .pipes.program import Program
    from .pipes.spawning import FifoOptions, ProgramOptions
    from .shared import Shared
    from .supervised import Supervised
    from .topic import Topic

A = TypeVar("A", bound="Actor")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

How = Literal["drain", "stop", "kill"]
NEXT: dict[How, How] = {"drain": "stop", "stop": "kill", "kill": "kill"}
GUARDIAN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from actors.guardian.entry import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_numbers = itertools.count(1)
_FORKS = ("sibling", "double")


class ActorSystem(Coordinating):
    """A system of actors: started when it is made, stopped by `close` or at the end of `with` (also `async with`).

    name: unique a user and machine; None gives one of its own.
    ask_timeout: seconds that an ask waits when it has no deadline of its own; None: as long as its callee lives.
    preload: modules that the process from which actors are forked imports at once.
    memory: bytes of large data (arrays, bytes, what is shared) that the system may hold at a time; None: half of what the
        machine or container has.
    log_level: which log lines of actors come through ("debug" … "critical").

    Raises `SpecError` for a bad option, `ActorsError` when a system of that name runs already.
    """

    _guest = False  # attached
    _left = False
    _kit: dict[str, Any] | None = None  # what the test kit tells guardian and actors

    def __init__(
        self,
        name: str | None = None,
        *,
        ask_timeout: float | None = None,
        preload: Iterable[str] = (),
        log_level: str = "info",
        memory: int | None = None,
    ) -> None:
        if memory is not None and not memory >= 1 << 20:
            raise SpecError(f"memory {memory!r}: give bytes, 1 MiB at least, or None")
        if log_level not in LEVELS:
            raise SpecError(f"log_level {log_level!r}: use one of {', '.join(LEVELS)}")
        if ask_timeout is not None and not ask_timeout > 0:
            raise SpecError(f"ask_timeout {ask_timeout!r}: give seconds, or None")
        self.name = check_system(name if name is not None else f"system-{os.getpid()}-{next(_numbers)}")
        mine, theirs = wire.pair()
        path = surroundings.import_path()
        code = [sys.executable, "-I", "-S", "-c", GUARDIAN, str(theirs.fileno()), str(os.getpid()), json.dumps(path)]
        with theirs:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                code, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )  # a session of its own from the first moment: Ctrl-C must not reach its imports
        fork = os.environ.get("ACTORS_FORK", _FORKS[0]) if transports.KIND == "c" else "double"
        config: dict[str, Any] = {
            "system": self.name,
            "path": path,
            "argv": sys.argv,
            "flags": surroundings.interpreter_flags(),
            "log_level": log_level,
            "ask_timeout": ask_timeout,
            "preload": list(preload),
            "memory": memory,
            "fork": fork if fork in _FORKS else _FORKS[0],
        }
        if self._kit is not None:
            config["kit"] = self._kit
        wire.send(mine, config)
        self._setting: dict[str, Any] | None = {"environ": dict(os.environ), "path": path}
        self._connect(mine, LEVELS[log_level], ask_timeout)
        atexit.register(_close_at_exit, weakref.ref(self))

    def _connect(self, sock: socket.socket, level: int, ask_timeout: float | None) -> None:
        welcome, fds = wire.recv(sock)
        if welcome is None or welcome["op"] != "welcome":
            sock.close()
            if self._process is not None:
                self._process.wait()
            self._explain(welcome)
        assert welcome is not None
        transports.announce()
        if welcome["transport"] != transports.KIND:
            for each in (sock.detach(), *fds):
                os.close(each)
            raise ActorsError(transports.differs(f"system {self.name!r}", welcome["transport"]))
        self._pid, self._level = os.getpid(), level
        replies, control, bell, door = fds
        endpoint = ProgramEndpoint(welcome["endpoint"], Ring(replies, -1), bell, Ring(control, -1), door)
        os.close(replies)
        os.close(control)
        stale = clients.get(self.name)
        if stale is not None and stale.forked:  # references that were inherited find the way again
            self._client = stale
            stale.rejoin(sock, endpoint)
        else:
            self._client = Client(self.name, sock, endpoint, self.name)
        self._client.ask_timeout = ask_timeout
        self._client.guardian_pid = int(welcome["pid"])
        self._client.handlers[int(Kind.LOG)] = lambda body, _sender, _corr: emit(body, self._level)
        self._client.reader = Reader(self._client, endpoint)
        self._client.reader.start()

    def _explain(self, answer: dict[str, Any] | None) -> NoReturn:
        """Why there was no welcome."""
        if answer is not None:
            whose = f" (program {answer['program']}, guardian {answer['pid']})" if answer.get("pid") else ""
            raise ActorsError(f"system {self.name!r} runs already{whose}; attach to it, or choose another name")
        if self._process is None:
            raise ActorNotFound(f"system {self.name!r} is ending")
        raise ActorsError(f"system {self.name!r}: its guardian did not start (see stderr)")

    @classmethod
    def attach(cls, name: str, *, ask_timeout: float | None = None) -> ActorSystem:
        """Join a running system of the same user from another program (`close` leaves it again).

        A process has one connection to a system: where there is one already, it is shared, with its `ask_timeout`.
        ActorNotFound: no system of that name runs.
        """
        self = cls.__new__(cls)
        self.name, self._process = check_system(name), None
        known = clients.get(name)
        if known is not None and known.gone is None:
            self._client, self._pid, self._setting, self._guest = known, os.getpid(), None, True
            known.users += 1
            return self
        self._guest = True
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(socket_name(name))
        except OSError as error:
            sock.close()
            raise ActorNotFound(f"no system {name!r} of this user runs on this machine ({error.strerror})") from None
        self._setting = None
        self._connect(sock, LEVELS["info"], ask_timeout)
        return self

    @classmethod
    def _inside(cls, client: Client) -> ActorSystem:
        """The system as its own actors see it."""
        self = cls.__new__(cls)
        self.name, self._process, self._client, self._pid = client.system, None, client, os.getpid()
        self._setting, self._guest = None, False
        return self

    def __repr__(self) -> str:
        return f"<ActorSystem {self.name!r}{' closed' if self._client.gone or self._left else ''}>"

    @property
    def guardian_pid(self) -> int:
        """The process that keeps the supervision tree (`ps`: "actors: NAME guardian")."""
        return self._client.guardian_pid

    # --- starting

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

    def _start_steps(self, tree: Supervisor) -> Generator[Any, Any, Supervised]:
        from .supervised import Supervised, flatten

        if not isinstance(tree, Supervisor):
            raise SpecError(f"start takes a Supervisor, not {tree!r}; wrap it in Supervisor(…), or use spawn")
        answer = yield from self._request_steps(ROOT, flatten(tree))
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

    # --- finding

    @overload
    def lookup(self, name: str, cls: Callable[..., A], /) -> ActorRef[A]: ...
    @overload
    def lookup(self, name: str, /) -> ActorRef[Any]: ...
    def lookup(self, name: str, cls: Any = None, /) -> ActorRef[Any]:
        """The reference of a running actor by name or address; `cls` gives it its type. ActorNotFound, naming those
        that run.
        """
        return drive(self._lookup_steps(name))

    async def lookup_async(self, name: str, cls: Callable[..., A] | None = None, /) -> ActorRef[A]:
        """`lookup` for coroutines."""
        return await drive_async(self._lookup_steps(name))

    def _lookup_steps(self, name: str) -> Generator[Any, Any, ActorRef[Any]]:
        node, bare = parse_address(name)
        if node not in (None, self.name):
            raise ActorNotFound(f"{name}: this is system {self.name!r}, which has no connection to node {node!r}")
        answer = yield self._client.request("lookup", name=bare)
        return reference(self.name, answer)

    def tree(self) -> dict[str, Any]:
        """The supervision tree as data: {system, pid, children: [{name, address, uid, kind, pid, status, incarnation,
        restarts, mailbox, …}]}.
        """
        return drive(one(self._client.request("tree")))

    async def tree_async(self) -> dict[str, Any]:
        """`tree` for coroutines."""
        return await drive_async(one(self._client.request("tree")))

    def ping(self, timeout: float | None = None) -> None:
        """Return when the guardian has answered: it lives and gets to its work. SystemDied: it is gone. TimeoutError: no
        answer within `timeout` seconds.
        """
        self._client.request("ping").result(timeout)

    async def ping_async(self) -> None:
        """`ping` for coroutines."""
        await self._client.request("ping")

    # --- sharing

    def share(self, value: T) -> Shared[T]:
        """Put an array, a buffer, or anything with large buffers into shared memory, once: whoever receives it (or a view
        of its `value`) reads it there, read-only, without a copy. Freed when the last one lets go, whoever dies.

        Raises `CodecError` when it can't be sent, `OutOfMemory` when the system's budget or the machine is full.
        """
        from .shared import share

        return share(self._client.arena, value)

    # --- indirect communication

    def mailbox(self, name: str, maxsize: int = 0, capacity: int = 16 << 20) -> Mailbox[Any]:
        """The named mailbox that every process of the system shares under this name, made by whoever names it first.

        maxsize: messages that may wait at a time (0: any number), as in `queue.Queue`. capacity: bytes that they may
        take (rounded up to a power of two); a ceiling: memory appears as it is used. Whoever comes later may leave both
        out. Annotate it to have it typed: `jobs: Mailbox[Job] = system.mailbox("jobs")`.

        SpecError: a bad name or number, or it was made with others.
        """
        from .box import mailbox

        return mailbox(self._client.system, name, maxsize, capacity)

    def topic(self, name: str) -> Topic[Any]:
        """The topic of this name: what is published in it goes to every actor that has subscribed.

        Annotate it to have it typed: `ticks: Topic[Tick] = system.topic("ticks")`. SpecError: a bad name.
        """
        from .topic import topic

        return topic(self._client.system, name)

    # --- hearing

    def events(self) -> Stream[Event]:
        """Everything that happens to actors from now on (started, crashed, restarted, stopped, failed, escalated), for
        `for` and `async for`.
        """
        return self._stream("events", Kind.EVENT, event_from_wire)

    def dead_letters(self) -> Stream[DeadLetter]:
        """Messages that nobody will handle, from now on, for `for` and `async for`."""
        return self._stream("dead_letters", Kind.DEAD, dead_letter_from_wire)

    def _stream(self, what: str, kind: Kind, read: Callable[[Client, Any], T]) -> Stream[T]:
        client = self._client
        streams = client.streams.setdefault(what, [])

        def end(closed: Stream[Any]) -> None:
            streams.remove(closed)
            if not streams and client.gone is None:
                client.send("subscribe", what=what, on=False)

        def hear(body: bytes, _sender: int, _corr: int) -> None:
            item = read(client, wire.loads(body))
            for each in list(streams):
                each.put(item)

        client.handlers[int(kind)] = hear
        stream: Stream[T] = Stream(end)
        streams.append(stream)
        try:
            client.request("subscribe", what=what, on=True).result()
        except BaseException:
            stream.close()
            raise
        return stream

    # --- leaving

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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close("drain" if kind is None else "stop")

    async def __aenter__(self) -> Self:
        return self

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


def _close_at_exit(reference: weakref.ref[ActorSystem]) -> None:
    system = reference()
    if system is not None and system._client.gone is None:
        system.close("stop")

"""`ActorSystem`: where a program starts, reaches and stops its actors.

Rule: this class only composes: the guardian (a process of its own) decides and remembers, the client talks to it,
references carry the messages. Blocking and async methods are the same steps (`_steps`), driven by `.result()` or by
`await`.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from . import surroundings, transports, wire
from .address import check_system, parse_address
from .client import Client, clients
from .closing import Closing
from .coordination.making import Coordinating
from .errors import ActorNotFound, ActorsError, SpecError
from .guardian.entry import socket_name
from .log import LEVELS, emit
from .message import Kind
from .pool import reference
from .reader import ProgramEndpoint, Reader
from .ref import ActorRef
from .reports import DeadLetter, Event, dead_letter_from_wire, event_from_wire
from .spawning import Spawning
from .steps import drive, drive_async, one
from .stream import Stream
from .transports._ring import Ring

if TYPE_CHECKING:
    from .actor import Actor
    from .box import Mailbox
    from .shared import Shared
    from .topic import Topic

A = TypeVar("A", bound="Actor")
T = TypeVar("T")

GUARDIAN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from actors.guardian.entry import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_numbers = itertools.count(1)
_FORKS = ("sibling", "double")


class ActorSystem(Spawning, Closing, Coordinating):
    """A system of actors: started when it is made, stopped by `close` or at the end of `with` (also `async with`).

    name: unique a user and machine; None gives one of its own.
    ask_timeout: seconds that an ask waits when it has no deadline of its own; None: as long as its callee lives.
    preload: modules that the process from which actors are forked imports at once.
    memory: bytes of large data (arrays, bytes, what is shared) that the system may hold at a time; None: half of what the
        machine or container has.
    log_level: which log lines of actors come through ("debug" … "critical").

    Raises `SpecError` for a bad option, `ActorsError` when a system of that name runs already.
    """

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
        if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 1 << 20):
            raise SpecError(f"memory {memory!r}: give bytes, 1 MiB at least, or None")
        if log_level not in LEVELS:
            raise SpecError(f"log_level {log_level!r}: use one of {', '.join(LEVELS)}")
        if ask_timeout is not None and (not isinstance(ask_timeout, int | float) or not ask_timeout > 0):
            raise SpecError(f"ask_timeout {ask_timeout!r}: give seconds, or None")
        self.name = check_system(name if name is not None else f"system-{os.getpid()}-{next(_numbers)}")
        mine, theirs = wire.pair()
        path = surroundings.import_path()
        code = [sys.executable, "-I", "-S", "-c", GUARDIAN, str(theirs.fileno()), str(os.getpid()), json.dumps(path)]
        with theirs:
            self._process = subprocess.Popen(
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
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended at once, as `_connect` will see
            wire.send(mine, config)
        self._setting = {"environ": dict(os.environ), "path": path}
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
        if not isinstance(name, str):
            raise SpecError(f"name {name!r}: give the name of an actor, or its address")
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
        stream: Stream[T] = Stream(end, client.reader.settle if client.reader is not None else lambda: None)
        streams.append(stream)
        try:
            client.request("subscribe", what=what, on=True).result()
        except BaseException:
            stream.close()
            raise
        return stream


def _close_at_exit(reference: weakref.ref[ActorSystem]) -> None:
    system = reference()
    if system is not None and system._client.gone is None:
        system.close("stop")

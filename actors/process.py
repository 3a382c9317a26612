"""One actor's process, from its birth to its exit.

Design: the zygote forks, the child calls `await_birth` and never returns. Its first acts make it mortal: it waits until
the guardian is its parent (a double fork's middle process may still live), arms PDEATHSIG and looks at its parent
again, since a guardian that died in between sends no signal. Then it rehearses what every actor does (a fork's first
touch of each page is a copy: 3 of the 4 ms of a birth) and waits for its birth message, which has often been sent
already. With it, it claims its attempt in the mailbox's header by compare-and-swap, says `hello`, builds the instance,
says `ready`.

It always leaves through `exit_now`, after telling the guardian why (`bye`); the exit status that the kernel reports is
what counts, the word explains it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import importlib
import inspect
import io
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import setproctitle

from . import context, wire
from .actor import Actor
from .client import Client
from .codec import decode_call, encode_call
from .endpoint import LoopEndpoint
from .errors import SpecError, SystemDied
from .exits import ExitReason
from .failures import describe, formatted
from .guardian.entry import MARK
from .guardian.ignition import THREADS
from .limits import apply as apply_limits
from .log import LEVELS, LazyLog, LogHandler
from .loop import Loop, exit_now, width
from .mailbox import SMALLEST
from .ref import ActorRef
from .shipping import unship
from .system import ActorSystem
from .transports._ring import Ring, create, prctl, stamp

if TYPE_CHECKING:
    from .snapshots import Snapshots

PR_SET_PDEATHSIG = 1
POLL = 0.00002  # seconds between looks at the parent; 0 or 1 look is what it takes


def await_birth(fd: int, guardian: int, middle: int, system: str) -> None:
    """The life of an actor, from the fork (or exec) on. Never returns."""
    try:
        _become_mortal(guardian, middle)
        _own_signals()
        setproctitle.setproctitle(f"actors: {system} spare")
        sock = socket.socket(fileno=fd)
        loop = rehearse()
        message, fds = wire.recv(sock)
        if message is None:  # not needed any more
            os._exit(0)
        setproctitle.setproctitle(f"actors: {message['system']}/{message['name']}")
        code = _Life(message, [sock.detach(), *fds], loop).run()
    except SystemDied:  # the guardian is gone, and its death signal on the way
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        exit_now(70)
    exit_now(code)


def _become_mortal(guardian: int, middle: int) -> None:
    while (parent := os.getppid()) != guardian:
        if parent != middle:  # neither of them: the guardian is dead already
            os._exit(1)
        time.sleep(POLL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:
        os._exit(1)
    os.setpgid(0, 0)  # its own children share this group, so that they can be ended with it


def rehearse() -> asyncio.AbstractEventLoop:
    """Do once what every actor will do; its event loop comes of it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(asyncio.sleep(0))
    decode_call(*encode_call("rehearse", (0, ""), {}))
    ring = create(SMALLEST, "actors:rehearsal")
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    LoopEndpoint(0, Ring(ring, -1), bell, Ring(ring, -1), Ring(ring, -1), bell).pump()
    os.close(ring)
    os.close(bell)
    return loop


def _own_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)


def show_stacks(fd: int, end: int) -> None:
    """From now on SIGUSR1 writes all threads' stacks to `fd` and a zero byte to `end`: by C code alone, so that a thread
    that never lets go of the GIL is seen, too. Registered by the zygote, for actors this only changes the descriptors.
    """
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)
    stamp(signal.SIGUSR1, end)


class _Life:
    """What `live` builds up, step by step."""

    def __init__(self, message: wire.Message, fds: list[int], loop: asyncio.AbstractEventLoop) -> None:
        self.events = loop
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(message["nofile"]))  # the guardian has raised its own
        sock, mail, replies, control, bell, door, stacks, *self.slots = fds
        self.message = message
        self.mail = Ring(mail, -1)
        endpoint = LoopEndpoint(message["endpoint"], Ring(replies, -1), bell, Ring(control, -1), self.mail, door)
        for fd in (mail, replies, control):
            os.close(fd)
        if not self.mail.claim(message["attempt"]):  # revoked: another newborn has this mailbox
            os._exit(0)
        self.client = Client(message["system"], socket.socket(fileno=sock), endpoint, message["system"])
        self.client.uid, self.client.guardian_pid = message["uid"], os.getppid()
        self.client.ask_timeout = message.get("ask_timeout")
        show_stacks(stacks, stacks)
        self.client.send("hello", pid=os.getpid(), attempt=message["attempt"])
        self.loop = _loop(message.get("kit"))(self.client, endpoint, self.mail, message["on_error"])
        ref: ActorRef[Any] = ActorRef(message["system"], message["name"], message["uid"])
        level = LEVELS[message["log_level"]]
        log = LazyLog(self.client, ref.address, level)
        logging.getLogger().addHandler(LogHandler(self.client, ref.address, max(level, logging.WARNING)))
        context.enter(context.Context(self.client, ActorSystem._inside(self.client), ref, self.loop, log))
        self.started = False

    def run(self) -> int:
        """Build, handle mail, leave: the exit code."""
        self.loop.attach(self.events)
        try:
            return self.events.run_until_complete(self._main())
        except SystemExit as error:
            return _exit_code(error)
        except BaseException as error:
            return self._crashed(error)

    async def _main(self) -> int:
        _settle(self.message.get("setting") or {})
        if self.message["limits"]:
            self._limit(self.message["limits"])
        factory, args = unship(self.message["payload"])
        instance = self._made(factory, args)
        if _keeps_state(instance):
            snapshots = self._snapshots(instance)
            if not await snapshots.restore(self.message["owed"]):
                instance = snapshots.instance = self._made(factory, args)
        await self.loop.hook(_hook(instance, "on_start"))
        self.started = True
        self.client.send("ready")
        leaving: BaseException | None = None
        try:
            await self.loop.run(instance)
        except (
            Exception,
            asyncio.CancelledError,
        ) as error:  # the latter raised by a handler whose failure nobody waits for
            leaving = error
        reason = (
            ExitReason("exception", error=describe(leaving)) if leaving else self.loop.reason or ExitReason("normal")
        )
        if hasattr(instance, "on_stop"):
            await self.loop.hook(instance.on_stop, reason)
        if leaving is not None:
            return self._crashed(leaving)
        self.client.send("bye", kind=reason.kind)
        return 0

    def _made(self, factory: Any, args: tuple[Any, ...]) -> Any:
        instance = self.loop.blocking(factory, *args)
        if instance is None or inspect.isawaitable(instance):
            raise TypeError(f"the factory {factory!r} made {instance!r}, not an actor")
        width(instance)  # checked while whoever spawns it still listens
        return instance

    def _snapshots(self, instance: Any) -> Snapshots:
        from .snapshots import Snapshots  # here: most actors keep no state

        address, redeliver = context.current().ref.address, self.message["redeliver"]
        self.loop.snapshots = Snapshots(instance, self.loop, address, self.slots, redeliver)
        return self.loop.snapshots

    def _limit(self, wire: dict[str, Any]) -> None:
        """Before any of the user's code."""
        apply_limits(wire)
        self.loop.most = wire.get("max_messages", 0)
        self.loop.watched = "progress_timeout" in wire

    def _crashed(self, error: BaseException) -> int:
        self.client.send(
            "bye", kind="exception", error=describe(error), traceback=formatted(error), started=self.started
        )
        return 1


STATE = ("snapshot", "restore")


def state_hooks(kind: type) -> list[str]:
    """Which of the hooks for state a class has."""
    return [name for name in STATE if getattr(kind, name, None) not in (None, getattr(Actor, name))]


def _keeps_state(instance: Any) -> bool:
    """Does its class have the hooks for it? SpecError: one of the two."""
    kind, found = type(instance), state_hooks(type(instance))
    if len(found) == 1:
        raise SpecError(f"{kind.__name__} has {found[0]}(), but no {STATE[found[0] == 'snapshot']}(): it needs both")
    return bool(found)


def _loop(kit: dict[str, Any] | None) -> Callable[..., Loop]:
    """The class of the actor's loop: in a system of the test kit the one that it names, made with the kit's settings."""
    if kit is None:
        return Loop
    module, _, name = kit["loop"].partition(":")
    return functools.partial(getattr(importlib.import_module(module), name), kit)


def _hook(instance: Any, name: str) -> Any:
    return getattr(instance, name, lambda: None)


def _exit_code(error: SystemExit) -> int:
    """What the interpreter would make of it."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _settle(setting: dict[str, Any]) -> None:
    """Make the process's surroundings those of the spawning program, and its random numbers its own."""
    if setting.get("cwd"):
        os.chdir(setting["cwd"])
    environ = setting.get("environ", {})
    if setting.get("whole"):
        environ = {**{name: None for name in os.environ if name not in THREADS}, **environ}
    for name, value in environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.putenv(MARK, f"{os.getppid()}/{os.getpid()}")  # for what it starts, not for its own code to see
    sys.argv[:] = setting.get("argv", sys.argv)
    for entry in setting.get("path", []):
        if entry not in sys.path:
            sys.path.append(entry)
    if "TZ" in environ:
        time.tzset()
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a SIGKILL must not take printed lines with it
    faulthandler.enable()

"""What `ActorSystem.spawn_program` and `fifo` make of their arguments: a factory, a name, options of `spawn`.

Rule: the object is made here once, in the caller's process, and thrown away: constructors do nothing but check, so a
mistake is raised where the caller's line is in the traceback.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..options import SpawnOptions
from ..ref import ActorRef
from .fifo import Fifo, Mode
from .framing import Framing
from .program import Program, Stdout

LONGEST = 48  # characters of a default name, before its number


class ProgramOptions(SpawnOptions, total=False):
    """The keyword arguments of `ActorSystem.spawn_program`: those of `Program` and of `spawn`."""

    stdout: Stdout
    encoding: str | None
    limit: int
    cwd: str | os.PathLike[str] | None
    env: Mapping[str, str | None] | None
    grace: float


class FifoOptions(SpawnOptions, total=False):
    """The keyword arguments of `ActorSystem.fifo`: those of `Fifo` and of `spawn`."""

    encoding: str | None
    limit: int


Receiver = ActorRef[Any] | str | None
Method = Callable[..., object] | str
Spawning = tuple[Callable[[], Any], str, SpawnOptions]  # factory, default name, options of spawn


def program(
    command: Sequence[str | os.PathLike[str]], framing: Framing, to: Receiver, method: Method, options: ProgramOptions
) -> Spawning:
    """SpecError: a senseless argument."""
    own, rest = _divided(options, ProgramOptions)
    own.setdefault("grace", rest.get("shutdown", 5.0) / 2)
    factory = functools.partial(Program, command, framing, to, _name(method), **own)
    factory()
    return factory, Path(os.fspath(command[0])).name[:LONGEST], rest


def fifo(
    path: str | os.PathLike[str], mode: Mode, to: Receiver, method: Method, framing: Framing, options: FifoOptions
) -> Spawning:
    """SpecError: a senseless argument."""
    own, rest = _divided(options, FifoOptions)
    factory = functools.partial(Fifo, Path(path).absolute(), mode, to, _name(method), framing, **own)
    factory()
    return factory, Path(path).name[:LONGEST], rest


def _divided(options: Any, kind: type) -> tuple[dict[str, Any], SpawnOptions]:
    """(what is for the actor, what is for `spawn`)."""
    mine = kind.__annotations__.keys() - SpawnOptions.__annotations__.keys()
    rest: Any = {name: value for name, value in options.items() if name not in mine}
    return {name: value for name, value in options.items() if name in mine}, rest


def _name(method: Method) -> str:
    """A method by its name: its class need not be known where the pipe is."""
    return method if isinstance(method, str) else getattr(method, "__name__", "")

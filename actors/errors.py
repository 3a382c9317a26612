"""What can go wrong, sorted by who must act.

Rule: every error of the library is an `ActorsError`; its text says what happened, to which actor, and what to do about
it. Errors that have a namesake in the standard library are that as well (`AskTimeout` is a `TimeoutError`, `SpecError`
a `ValueError`), so that ordinary `except` clauses work. Rejected: one class per place that raises, which tells a reader
nothing about what to do.

Those whose namesakes come with modules that few programs need are defined beside what raises them, and are found here
when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executor.errors import PoolBroken as PoolBroken
    from .executor.errors import WorkerDied as WorkerDied
    from .exits import ExitReason
    from .named_ring import MailboxClosed as MailboxClosed


def __getattr__(name: str) -> Any:
    if name in ("MailboxClosed", "PoolBroken", "WorkerDied"):
        return getattr(importlib.import_module(__name__.rpartition(".")[0]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ActorsError(Exception):
    """Root of every error of this library."""


class SpecError(ActorsError, ValueError):
    """A child, a supervisor or an option was described wrongly. Nothing was started; the text names the child and the
    field.
    """


class SpawnError(ActorsError):
    """The actor did not become ready: its constructor or `on_start` failed, its process ended, or its name is taken.

    The text ends with the child's own traceback. Nothing of the actor is left; mend the cause and spawn it again.
    """


class ActorNotFound(ActorsError):
    """No actor of that name or address exists in the system now."""


class ActorDied(ActorsError):
    """The call was not carried out because its actor died.

    Attributes:
        reason: how it died (`ExitReason`), None when the system no longer remembers.
        restarting: True when only the incarnation died and a new one follows: the call may be repeated; False when the
        actor ended.
    """

    def __init__(
        self, text: str = "the actor died", reason: ExitReason | None = None, restarting: bool = False
    ) -> None:
        super().__init__(text, reason, restarting)
        self.text = text
        self.reason = reason
        self.restarting = restarting

    def __str__(self) -> str:
        return self.text


class SystemDied(ActorDied):
    """The whole system is gone (its guardian ended or was killed); the program lives on. Start a new `ActorSystem`."""


class MailboxFull(ActorsError):
    """The target's mailbox has no room. Wait (`tell_async`, or `tell` outside a coroutine), slow the sender down, or
    give it more capacity.
    """


class OutOfMemory(ActorsError, MemoryError):
    """There is no room for large data: the system's budget (`ActorSystem(memory=…)`) is used up, or the machine is full.
    Nothing was sent.
    """


class MailboxCorrupt(ActorsError):
    """A mailbox's shared memory makes no sense: some process wrote over it. Nothing outside the mailbox was read."""


class CodecError(ActorsError, TypeError):
    """A message can't be sent. Raised in the sender's frame, before anything was sent; the text names the attribute."""


class FramingError(ActorsError, ValueError):
    """What a program or a named pipe gave is no message in the framing that was agreed (or longer than its limit)."""


class AskTimeout(ActorsError, TimeoutError):
    """The deadline passed before the answer came. The call may still be carried out unless it was cancelled."""


class Unreachable(ActorsError):
    """The actor's node can't be reached."""


class RemoteError(ActorsError):
    """Stands for an exception of another process that can't be sent itself; the text holds its type, its message and
    its traceback.
    """


class ModuleUnavailable(SpawnError):
    """The process that makes actors can't import a module that the actor needs; `spawn` then ships it by value. Seen
    only when that fails, too.
    """


class StageError(ActorsError):
    """A stage of a pipeline could not process an item. What came before the item, in order, has been handed out.

    Attributes:
        stage: the stage's name.
        item: what it was given; None where the failure has no item (the end of the input, a state that is lost).

    `__cause__` is the stage's own exception, with its traceback there, where there was one.
    """

    def __init__(self, text: str = "a stage failed", stage: str = "", item: object = None) -> None:
        super().__init__(text, stage, item)
        self.text = text
        self.stage = stage
        self.item = item

    def __str__(self) -> str:
        return self.text

"""The options of `spawn`, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypedDict, get_args

from .errors import SpecError
from .limits import Limits
from .mailbox import MailboxOptions
from .supervision import Backoff, OnError, Policy, Restart


class SpawnOptions(TypedDict, total=False):
    """The keyword arguments of `ActorSystem.spawn`, for the methods that pass them on."""

    name: str | None
    restart: Restart
    shutdown: float
    start_timeout: float
    max_restarts: int | None
    within: float
    backoff: Backoff | None
    on_error: OnError
    redeliver: int
    mailbox: MailboxOptions | None
    progress_timeout: float | None
    max_memory: int | None
    max_messages: int | None
    nice: int
    affinity: Iterable[int] | None
    rlimits: Mapping[str, int] | None


def actor_options(on_error: str, redeliver: int, mailbox: MailboxOptions | None, limits: Limits) -> dict[str, Any]:
    """What the guardian must know of an actor besides its policy. SpecError."""
    if on_error not in get_args(OnError):
        raise SpecError(f"on_error is {on_error!r}: use 'crash' or 'continue'")
    if not isinstance(redeliver, int) or isinstance(redeliver, bool) or redeliver < 0:
        raise SpecError(f"redeliver is {redeliver!r}: give a number of process deaths, 0 or more")
    if mailbox is not None and not isinstance(mailbox, MailboxOptions):
        raise SpecError(f"mailbox is {mailbox!r}: give MailboxOptions(…)")
    return {
        "on_error": on_error,
        "redeliver": redeliver,
        "mailbox": (mailbox or MailboxOptions()).to_wire(),
        "limits": limits.to_wire(),
    }


def split_options(options: SpawnOptions) -> tuple[str | None, Policy, dict[str, Any]]:
    """(name, policy, actor options) of spawn's keywords. TypeError for unknown ones."""
    unknown = [key for key in options if key not in SpawnOptions.__annotations__]
    if unknown:
        raise TypeError(
            f"spawn() got an unexpected keyword argument {unknown[0]!r}: keywords are options; functools.partial gives some to the factory"
        )
    values: dict[str, Any] = {"restart": "transient", **options}
    values["backoff"] = values.get("backoff") or Backoff()
    name = values.pop("name", None)
    limits = Limits(**{field.name: values.pop(field.name) for field in fields(Limits) if field.name in values})
    actor = actor_options(
        values.pop("on_error", "crash"), values.pop("redeliver", 0), values.pop("mailbox", None), limits
    )
    return name, Policy(**values), actor

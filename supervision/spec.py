"""What users write: children and supervisors, described but not started.

Rule: a specification is a value. All of it is checked when it is made, where the user's line is in the traceback;
nothing is imported, pickled or started. Positional arguments go to the factory, keyword arguments are options.
Rejected: OTP's maps and dicts of options, which no type checker sees through.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar, TypeVarTuple, get_args

from ..errors import SpecError
from ..limits import Limits
from .backoff import Backoff
from .policy import AutoShutdown, Policy, Restart
from .strategy import Strategy

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

OnError = Literal["crash", "continue"]

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Child(Generic[T_co]):
    """One actor of a supervisor, or `count` of them. SpecError, naming the child and the field, for senseless values.

    Options: `restart`, `shutdown`, `max_restarts`, `within`, `backoff`, `start_timeout`, `significant` as in `Policy`;
    name: unique among its siblings; the default comes from the factory (`LogParser` is `log_parser`, a second one
        `log_parser-2`).
    count: so many children of this kind, called name/1, name/2 and so on.
    max_restarts: a limit of its own besides the supervisor's; None (the default) leaves it to the supervisor.
    on_error: what an exception does that nobody waits for: "crash" the actor, or log it and "continue".
    redeliver: how many deaths of its process a message in hand survives.
    progress_timeout, max_memory, max_messages, nice, affinity, rlimits: as in `Limits`.
    mailbox: options of its mailbox; None takes the defaults.
    """

    __slots__ = (
        "args",
        "count",
        "factory",
        "limits",
        "mailbox",
        "name",
        "named",
        "on_error",
        "policy",
        "redeliver",
    )

    factory: Callable[..., T_co]
    args: tuple[Any, ...]
    name: str
    named: bool  # by the user; otherwise the name may be numbered to make it unique
    count: int
    policy: Policy
    on_error: OnError
    redeliver: int
    limits: Limits
    mailbox: Any

    def __new__(
        cls,
        factory: Callable[[*Ts], T],
        /,
        *args: *Ts,
        name: str | None = None,
        count: int = 1,
        restart: Restart = "permanent",
        shutdown: float = 5.0,
        max_restarts: int | None = None,
        within: float = 5.0,
        backoff: Backoff | None = None,
        start_timeout: float = 30.0,
        significant: bool = False,
        on_error: OnError = "crash",
        redeliver: int = 0,
        mailbox: object = None,
        progress_timeout: float | None = None,
        max_memory: int | None = None,
        max_messages: int | None = None,
        nice: int = 0,
        affinity: Iterable[int] | None = None,
        rlimits: Mapping[str, int] | None = None,
    ) -> Child[T]:
        if not callable(factory):
            raise SpecError(
                f"child {name or factory!r}: the factory must be a class or other callable, not {factory!r}"
            )
        self: Child[T] = object.__new__(Child)
        self.name, self.named = name_of(factory) if name is None else checked_name("child", name), name is not None
        self.factory, self.args = factory, args
        self.on_error, self.redeliver, self.mailbox = on_error, redeliver, mailbox
        self.count = count
        try:
            self.policy = Policy(restart, shutdown, max_restarts, within, backoff, start_timeout, significant)
            _whole("count", count, 1)
            _whole("redeliver", redeliver, 0)
            if on_error not in get_args(OnError):
                raise SpecError(f"on_error must be one of {', '.join(get_args(OnError))}, not {on_error!r}")
            if mailbox is not None and not hasattr(mailbox, "to_wire"):  # its class is none of this package's
                raise SpecError(f"mailbox must be None or MailboxOptions(…), not {mailbox!r}")
            self.limits = Limits(progress_timeout, max_memory, max_messages, nice, affinity, rlimits)
        except SpecError as error:
            raise SpecError(f"child {self.name!r}: {error}") from None
        return self

    def __repr__(self) -> str:
        return f"Child({self.name!r})" if self.count == 1 else f"Child({self.name!r}, count={self.count})"

    def renamed(self, name: str) -> Child[T_co]:
        """The same, for a single child of this name."""
        copy: Child[T_co] = object.__new__(Child)
        for slot in Child.__slots__:
            setattr(copy, slot, getattr(self, slot))
        copy.name, copy.named, copy.count = name, True, 1
        return copy


class Supervisor:
    """Children that are started in order, stopped in reverse, and restarted together or apart. Raises SpecError.

    strategy: who is restarted with a failed child: "one_for_one" (it alone), "one_for_all", "rest_for_one" (it and
        those after it).
    max_restarts: restarts of its children allowed in `within` seconds, beyond which it fails as a whole; None is any
        number. The default of 3 in 5 seconds is Elixir's. OTP's 1 is too strict here: the first restart is immediate,
        and a child that lost its race for a port or a file needs the second and third, which are delayed.
    backoff: delays between the restarts of its children that have none of their own.
    restart, shutdown, significant: as a child of the supervisor above; it has no limit to stop, since its children have
        theirs.
    auto_shutdown: "any_significant" or "all_significant" ends it, for the reason "shutdown", when one or the last of its
        `significant` children has ended by itself: a transient one normally, a temporary one in any way. The supervisor
        above takes that as a normal end, so give it restart="transient" or "temporary" there; a top one has ended.

    `children` holds one Child or Supervisor for each that will be started, with unique names.
    """

    __slots__ = ("children", "name", "named", "policy", "strategy")

    def __init__(
        self,
        *children: Child[Any] | Supervisor,
        name: str | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int | None = 3,
        within: float = 5.0,
        backoff: Backoff | None = None,
        restart: Restart = "permanent",
        shutdown: float = math.inf,
        significant: bool = False,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        self.name, self.named = "supervisor" if name is None else checked_name("supervisor", name), name is not None
        self.strategy: Strategy = strategy
        try:
            if strategy not in get_args(Strategy):
                raise SpecError(f"strategy must be one of {', '.join(get_args(Strategy))}, not {strategy!r}")
            self.policy = Policy(
                restart, shutdown, max_restarts, within, backoff or Backoff(), math.inf, significant, auto_shutdown
            )
            self.children = expand(children)
            for child in self.children:
                _fits(child, self.policy)
        except SpecError as error:
            raise SpecError(f"supervisor {self.name!r}: {error}") from None

    def __repr__(self) -> str:
        return f"Supervisor({', '.join([*map(repr, self.children), f'name={self.name!r}'])})"

    def renamed(self, name: str) -> Supervisor:
        """The same under this name."""
        copy = object.__new__(Supervisor)
        copy.name, copy.named = name, True
        copy.policy, copy.strategy, copy.children = self.policy, self.strategy, self.children
        return copy


def expand(
    children: Iterable[Child[Any] | Supervisor], taken: Iterable[str] = ()
) -> tuple[Child[Any] | Supervisor, ...]:
    """One specification for each node to start, with names that are unique among themselves and those `taken`.

    `count=3` makes parser/1 to parser/3. SpecError when the user gave a name twice; names that come from a factory are
    numbered instead (parser, parser-2).
    """
    flat: list[tuple[Child[Any] | Supervisor, str]] = []
    for child in children:
        match child:
            case Supervisor() | Child(count=1):
                flat.append((child, child.name))
            case Child():
                flat.extend((child, f"{child.name}/{number}") for number in range(1, child.count + 1))
            case _:
                raise SpecError(f"children must be Child or Supervisor, not {child!r}; wrap a class in Child(...)")
    used = set(taken)
    for child, name in flat:
        if child.named:
            if name in used:
                raise SpecError(f"two children are called {name!r}; give each its own name")
            used.add(name)
    expanded = []
    for child, name in flat:
        if not child.named:
            between = "/" if isinstance(child, Child) and child.count > 1 else "-"
            numbered = (f"{child.name}{between}{number}" for number in itertools.count(2))
            name = next(free for free in itertools.chain([name], numbered) if free not in used)
            used.add(name)
        expanded.append(child.renamed(name))
    return tuple(expanded)


def name_of(factory: Callable[..., object]) -> str:
    """The name that an actor of this factory gets by default: `log_parser` for a class LogParser."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return plain(_CAMEL.sub("_", getattr(factory, "__name__", type(factory).__name__)))


def plain(name: str) -> str:
    """What of any text can be part of a name."""
    return re.sub(r"[^a-z0-9_.-]+", "", name.lower()).strip("_.-") or "actor"


def checked_name(what: str, name: str) -> str:
    """`name`, if it can be one: parts of letters, digits and _ . - between slashes. SpecError otherwise."""
    parts = name.split("/") if isinstance(name, str) else [""]
    if not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise SpecError(
            f"{what} {name!r}: name must be made of letters, digits, '_', '.' and '-', and '/' between parts"
        )
    return name


def _fits(child: Child[Any] | Supervisor, above: Policy) -> None:
    try:
        child.policy.check_below(above)
    except SpecError as error:
        raise SpecError(f"child {child.name!r}: {error}") from None


def _whole(field: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SpecError(f"{field} must be a whole number from {least} on, not {value!r}")

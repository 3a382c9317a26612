"""`Stage`: one step of a pipeline, described but not started.

Rule: a stage is a value, checked when it is made, where the user's line is in the traceback. What it does is one of:
a function (sync, async, generator, async generator), called with each item (and `args` after it); a class with
`process(item)` and perhaps `finish()`, made once a process from `args`; a program, a list of strings, fed through its
stdin. Each returns an item, an iterator of items, or None for no item.
Rejected: decorators that turn functions into stages (the function is then not one any more, and can't be tested as one).
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import SpecError
from ..supervision import Backoff, checked_name, name_of
from .batch import RETRY_OR_SKIP

if TYPE_CHECKING:
    from ..pipes.framing import Framing

Policy = Literal["raise", "skip", "retry"]
LONGEST_BATCH = 100_000
LIMIT = 1 << 26  # bytes of a frame


class Stage:
    """One step. Raises SpecError, naming stage and field, for senseless values.

    work: a function, a class with `process(item)`, or a program with its arguments as a list of strings.
    args: for a function, passed after the item; for a class, to its constructor.
    workers: processes that work on it side by side.
    ordered: results leave in the order of the items that they come from; False: as soon as they are there.
    on_error: what an item does that can't be processed (an exception, a result that can't be sent, a process that dies
        under it again and again, a time that is over): "raise" a `StageError` after the results of the items before it;
        "skip" it with a log line, counted in `Run.skipped`; "retry" it up to `retries` times, with `backoff` between,
        then raise.
    timeout: seconds that one item may take; a worker that takes longer is killed (SIGALRM) and replaced. Time limits
        need the process's real interval timer, so code of the stage must not use it.
    batch: items a message; None: as many as take some milliseconds, measured all the time.
    max_memory: bytes of resident memory from which on a worker is replaced between two batches.
    shutdown: seconds that a worker has to end by itself when a run is given up.
    name: the default comes from the function, class or program.

    Of a program, as of an actor's (`Program`):
    framing: "lines" (an item is a line: str, without the newline), "netstring" (bytes), "msgpack" (plain data) or "raw"
        (bytes in, bytes out as they come).
    encoding: of lines; what is not of it comes through as `os.fsdecode` shows it. None: lines are bytes.
    limit: bytes that an item may have on its way out of the program.
    cwd, env: its working directory, and changes to its environment (None removes a variable).
    """

    __slots__ = (
        "args", "backoff", "batch", "cwd", "encoding", "env", "framing", "kind", "limit", "max_memory", "name", "named",
        "on_error", "ordered", "retries", "shutdown", "timeout", "work", "workers",
    )  # fmt: skip

    kind: Literal["function", "class", "program"]

    def __init__(
        self,
        work: Callable[..., Any] | Sequence[str | os.PathLike[str]],
        /,
        *args: Any,
        workers: int = 1,
        ordered: bool = True,
        on_error: Policy = "raise",
        retries: int = 3,
        backoff: Backoff | None = None,
        timeout: float | None = None,
        batch: int | None = None,
        max_memory: int | None = None,
        shutdown: float = 0.5,
        framing: Framing = "lines",
        encoding: str | None = "utf-8",
        limit: int = LIMIT,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        name: str | None = None,
    ) -> None:
        self.kind = _kind(work, name)
        base = name_of(work) if callable(work) else name_of(_named(str(work[0]).rpartition("/")[2]))
        self.name, self.named = base if name is None else checked_name("stage", name), name is not None
        self.work, self.args, self.workers, self.ordered = work, args, workers, ordered
        self.on_error, self.retries, self.backoff = on_error, retries, backoff if backoff is not None else Backoff()
        self.timeout, self.batch, self.max_memory, self.shutdown = timeout, batch, max_memory, shutdown
        self.framing, self.encoding, self.limit = framing, encoding, limit
        self.cwd, self.env = cwd, dict(env or {})
        try:
            self._check()
        except SpecError as error:
            raise SpecError(f"stage {self.name!r}: {error}") from None

    def __repr__(self) -> str:
        return f"Stage({self.name!r})" if self.workers == 1 else f"Stage({self.name!r}, workers={self.workers})"

    @property
    def finishes(self) -> bool:
        """Has it something to say at the end of the input? Then what it has seen is a state that a death takes away."""
        return self.kind == "program" or callable(getattr(_class(self.work), "finish", None))

    @property
    def keeps(self) -> bool:
        """Does its state survive a crash? (`snapshot` and `restore`, as an actor's)"""
        from ..process import state_hooks  # here: it needs half the library

        return self.kind == "class" and len(state_hooks(_class(self.work))) == 2

    def renamed(self, name: str) -> Stage:
        """The same under this name."""
        return self.changed(name=name, named=True)

    def changed(self, **values: Any) -> Stage:
        """The same with other values. SpecError for senseless ones."""
        copy: Stage = object.__new__(Stage)
        for slot in Stage.__slots__:
            setattr(copy, slot, values.get(slot, getattr(self, slot)))
        copy._check()
        return copy

    def leaving_out(self) -> Stage:
        """The same for a service: an item that can't be processed is left out in the end, and ends nothing. SpecError: what
        it makes of an item can't be followed.
        """
        if not self.ordered:
            raise SpecError(f"stage {self.name!r} must be ordered in a service: what is done is known by its place")
        if self.finishes:
            raise SpecError(f"stage {self.name!r} gathers for its finish(), and a service has no end")
        copy = self.renamed(self.name)
        copy.named = self.named
        copy.on_error = RETRY_OR_SKIP if self.on_error == "retry" else "skip"  # type: ignore[assignment]
        return copy

    def program(self) -> tuple[Any, ...]:
        """What the worker of a program is made from."""
        grace = self.shutdown / 2
        return (self.work, self.framing, self.encoding, self.limit, self.cwd, self.env, grace)

    def _check(self) -> None:
        _whole("workers", self.workers, 1)
        _whole("retries", self.retries, 0)
        if self.batch is not None:
            _whole("batch", self.batch, 1, LONGEST_BATCH)
        if self.max_memory is not None:
            _whole("max_memory", self.max_memory, 1)
        if self.on_error not in get_args(Policy):
            raise SpecError(f"on_error must be one of {', '.join(get_args(Policy))}, not {self.on_error!r}")
        if not isinstance(self.ordered, bool):
            raise SpecError(f"ordered must be True or False, not {self.ordered!r}")
        if not isinstance(self.backoff, Backoff):
            raise SpecError(f"backoff must be a Backoff, not {self.backoff!r}")
        if self.timeout is not None and not (_number(self.timeout) and 0 < self.timeout < math.inf):
            raise SpecError(f"timeout must be None or more than 0 seconds, not {self.timeout!r}")
        if not (_number(self.shutdown) and 0 <= self.shutdown < math.inf):
            raise SpecError(f"shutdown must be 0 or more seconds, not {self.shutdown!r}")
        self._check_program()
        if self.max_memory is not None and self.finishes and not self.keeps:
            raise SpecError(
                "max_memory replaces workers, and what one gathers for its finish() would be lost; "
                "give it snapshot() and restore()"
            )

    def _check_program(self) -> None:
        if self.kind != "program":
            if (self.framing, self.encoding, self.limit, self.cwd, self.env) != ("lines", "utf-8", LIMIT, None, {}):
                raise SpecError("framing, encoding, limit, cwd and env are for programs")
            return
        from ..pipes.framing import codec  # here: most pipelines run none

        codec(self.framing, self.limit, self.encoding)
        if self.args:
            raise SpecError(f"a program's arguments belong into its list, not behind it: {self.args!r}")
        if self.timeout is not None:
            raise SpecError("timeout is for items, and a program does not say when it has done one")


def _kind(work: Any, name: str | None) -> Literal["function", "class", "program"]:
    if isinstance(work, (list, tuple)):
        from ..pipes.launch import checked_command

        try:
            checked_command(work)
        except SpecError as error:
            raise SpecError(f"stage {name or work!r}: a program is a list of strings: {error}") from None
        return "program"
    if not callable(work):
        hint = "; give its class, each worker makes its own" if callable(getattr(work, "process", None)) else ""
        raise SpecError(
            f"stage {name or work!r}: give a function, a class with process(item) or a program as a list{hint}"
        )
    kind = _class(work)
    if kind is None:
        return "function"
    if callable(getattr(kind, "process", None)):
        return "class"
    from ..actor import Actor

    if issubclass(kind, Actor) or hasattr(kind, "finish"):
        raise SpecError(f"stage {name or name_of(work)!r}: {kind.__name__} has no method process(item)")
    return "function"  # int, Path, a dataclass: called with the item


def _class(work: Any) -> Any:
    """The class that a factory makes objects of, None for other callables."""
    while isinstance(work, functools.partial):
        work = work.func
    return work if inspect.isclass(work) else None


def _named(name: str) -> Callable[[], None]:
    def program() -> None: ...

    program.__name__ = name
    return program


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(field: str, value: object, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise SpecError(f"{field} must be a whole number {bounds}, not {value!r}")

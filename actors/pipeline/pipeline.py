"""`Pipeline`: stages in a row, described but not started."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..supervision import Child, Restart, checked_name
from .profile import Profile, profile
from .run import Run
from .stage import Policy, Stage

if TYPE_CHECKING:
    from ..ref import ActorRef
    from ..system import ActorSystem
    from .engine import Engine
    from .service import Service


class Pipeline:
    """Stages that items pass in this order; a bare callable (or a list of strings) is `Stage(it)`.

    A pipeline is a value: it can run many times, also at once. Raises SpecError, naming stage and field.

    ordered: False is for every stage; True leaves it to each.
    on_error: the policy of every stage that does not have one other than "raise".
    """

    def __init__(
        self,
        *stages: Stage | Callable[..., Any] | Sequence[str | os.PathLike[str]],
        name: str = "pipeline",
        ordered: bool = True,
        on_error: Policy = "raise",
    ) -> None:
        self.name = checked_name("pipeline", name)
        if not stages:
            raise SpecError(f"pipeline {name!r}: give it at least one stage")
        each = [stage if isinstance(stage, Stage) else Stage(stage) for stage in stages]
        try:
            each = [
                stage.changed(
                    ordered=stage.ordered if ordered is True else ordered,
                    on_error=on_error if stage.on_error == "raise" else stage.on_error,
                )
                for stage in each
            ]
        except SpecError as error:
            raise SpecError(f"pipeline {name!r}: {error}") from None
        self.stages = _named(each)
        self._engine: Engine | None = None  # of the last run

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(stage.name for stage in self.stages)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}  # a run stays where it is

    def run(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        *,
        progress: bool = False,
        system: ActorSystem | None = None,
        checkpoint: str | None = None,
    ) -> Run:
        """An iterator of what comes out of the last stage, for `for` and `async for`; it starts when it is first asked.

        source: items, in order; taken in the thread (or event loop) that iterates, as many as there is room for.
        progress: show a live line or bar while somebody looks (stderr is a terminal), and a table at the end.
        system: where the workers live; None makes one for this run.
        checkpoint: a file that keeps the position: a run that was killed goes on behind the last result that was asked
            to be followed by another. Stages must then be ordered, without `finish`, and make of the same item the same
            results; the source must give the same items again. The file is removed when the run has ended well.

        Raises, from the iteration: SpawnError when a worker can't be made, CodecError when an item can't be sent,
        StageError when one can't be processed, and whatever the source raises.
        """
        run = Run(self.stages, self.name, source, progress=progress, system=system, checkpoint=checkpoint)
        self._engine = run.engine
        return run

    def child(
        self,
        *,
        mailbox: str | None = None,
        fifo: str | os.PathLike[str] | None = None,
        source: Callable[[], Iterable[Any] | AsyncIterable[Any]] | None = None,
        to: ActorRef[Any] | str | None = None,
        method: Callable[..., object] | str = "receive",
        to_mailbox: str | None = None,
        to_topic: str | None = None,
        attempts: int = 5,
        name: str | None = None,
        restart: Restart = "transient",
        shutdown: float = 30.0,
    ) -> Child[Service]:
        """This pipeline as a long-lived part of a supervision tree: a `Child`, whose actor runs it, with the stages' workers
        as its children.

        Fed by one of: mailbox, the name of a named mailbox, whose items are taken out when all that came of them is
        where it should go; fifo, the path of a named pipe, a line an item; source, called in the child's process, an
        iterable or async iterable; or, without any, by those who `put` (its reference is an actor's, its method
        `Service.put`). Results go to one of: to, an actor (or its name), by its method; to_mailbox; to_topic; or nowhere.

        An item that can't be processed is logged and left out, after `retries` where a stage says "retry". From a mailbox
        nothing is lost over any death. What was in hand when this actor's own process died is done again, at most
        `attempts` times. It ends when its mailbox is closed and empty or its source at its end; asked to stop, it takes
        nothing new, and has `shutdown` seconds for what it has.

        SpecError: several feeds or several sinks; a stage that is not ordered, or has a `finish`.
        """
        from .service import Feed, Service, Sink

        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise SpecError(f"attempts must be a whole number from 1 on, not {attempts!r}")
        feed = Feed(mailbox, None if fifo is None else Path(fifo).absolute(), source)
        called = method if isinstance(method, str) else getattr(method, "__name__", "")
        stages = [stage.leaving_out() for stage in self.stages]
        return Child(
            Service, stages, "stages", feed, Sink(to, called, to_mailbox, to_topic), attempts,
            name=self.name if name is None else name, restart=restart, shutdown=shutdown,
        )  # fmt: skip

    def profile(self) -> Profile:
        """Where the time of the last run went. RuntimeError: there was none."""
        if self._engine is None:
            raise RuntimeError(f"{self!r} has not run yet")
        return profile(self._engine)


def _named(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """With unique names: those that come from functions are numbered."""
    used = {stage.name for stage in stages if stage.named}
    if len(used) < sum(stage.named for stage in stages):
        raise SpecError(f"two stages have the same name; there are {', '.join(stage.name for stage in stages)}")
    found = []
    for stage in stages:
        name, number = stage.name, 1
        while not stage.named and name in used:
            number += 1
            name = f"{stage.name}-{number}"
        used.add(name)
        found.append(stage.renamed(name))
    return tuple(found)

"""The processes of a run: one supervised actor for each worker of each stage.

Rule: what is asked of a worker is an ask; how it ends is told to `hear`, in whatever thread collects the answer.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ActorsError, SpawnError
from ..message import ROOT
from ..steps import drive, drive_async
from ..supervision import Backoff, Child, Supervisor
from ..system import ActorSystem
from .flow import More, Work
from .keeper import Keeper
from .stage import Stage
from .worker import Worker

if TYPE_CHECKING:
    from ..arena import Arena
    from ..monitor import Down, Monitor
    from ..ref import ActorRef
    from ..reply import Reply
    from ..supervised import Supervised

REDELIVER = 3
RESTARTS = Backoff(0.01, 1.0, stable=1.0)
TRIES = 3
KILLED = "did not start: killed by"  # somebody's signal says nothing of the stage: the start is tried again
PRELOAD = ("actors.pipeline.worker",)
_numbers = itertools.count(1)


def tree(stages: Sequence[Stage], name: str) -> Supervisor:
    """All workers under one supervisor, the last stage's first: they stop last."""
    return Supervisor(
        *(_child(stage, number) for stage in reversed(stages) for number in range(1, stage.workers + 1)),
        name=name,
        max_restarts=None,
        backoff=RESTARTS,
    )


def _child(stage: Stage, number: int) -> Child[Worker]:
    work: Any = stage.work
    args: tuple[Any, ...] = stage.args
    if not callable(work):
        from .program import Program

        work, args = Program, stage.program()
    keeps = stage.keeps
    return Child(
        Keeper if keeps else Worker, work, args, stage.kind, stage.on_error, stage.retries, stage.backoff,
        stage.timeout, stage.max_memory, stage.finishes and not keeps, name=_name(stage, number),
        shutdown=stage.shutdown, redeliver=REDELIVER if keeps else 0,
    )  # fmt: skip


def _name(stage: Stage, number: int) -> str:
    return stage.name if stage.workers == 1 else f"{stage.name}.{number}"


class Crew:
    """Started by `start` or `start_async`, ended by `stop`."""

    def __init__(
        self,
        stages: Sequence[Stage],
        name: str,
        system: ActorSystem | None,
        hear: Callable[[Work | More, Reply[Any]], None],
        fell: Callable[[int, int, Down], None],
        parent: int = ROOT,
    ) -> None:
        self.stages, self.hear, self.fell = stages, hear, fell
        self.name = f"{name}-{next(_numbers)}"
        self.system, self.owned, self.parent = system, system is None, parent
        self.supervised: Supervised | None = None
        self.refs: list[list[ActorRef[Worker]]] = []
        self.monitors: list[Monitor] = []

    def start(self) -> None:
        """Returns when every worker is ready. SpawnError: one could not be made."""
        if self.system is None:
            self.system = ActorSystem(preload=PRELOAD)
        for left in reversed(range(TRIES)):
            try:
                drive(self._steps(self.system))
                return
            except SpawnError as error:
                if not left or KILLED not in str(error):
                    raise

    async def start_async(self) -> None:
        """`start` for coroutines."""
        if self.system is None:
            self.system = ActorSystem(preload=PRELOAD)
        for left in reversed(range(TRIES)):
            try:
                await drive_async(self._steps(self.system))
                return
            except SpawnError as error:
                if not left or KILLED not in str(error):
                    raise

    def _steps(self, system: ActorSystem) -> Generator[Any, Any, None]:
        self.supervised = yield from system._start_steps(tree(self.stages, self.name), self.parent)
        found: dict[str, Any] = dict((yield from self.supervised._children_steps()))
        for index, stage in enumerate(self.stages):
            refs = [found[_name(stage, number)] for number in range(1, stage.workers + 1)]
            self.refs.append(refs)
            for worker, ref in enumerate(refs):
                fell = functools.partial(self.fell, index, worker)
                self.monitors.append(ref.monitor(fell, incarnations=True))

    @property
    def arena(self) -> Arena:
        """Where large data of this run's system goes."""
        assert self.system is not None
        return self.system._client.arena

    def collect(self) -> None:
        """Take what workers have answered, in this thread: whoever does not block keeps the one that would from it."""
        assert self.system is not None
        self.system._client.endpoint.pump()

    def work(self, action: Work, token: int, want: int) -> None:
        batch, ref = action.batch, self.refs[action.stage][action.worker]
        if batch.finish:
            reply: Reply[Any] = ref.ask(Worker.finish, batch.first, token, batch.partial, want)
        else:
            chunks = [list(chunk) for chunk in batch.chunks]
            reply = ref.ask(Worker.work, batch.first, action.after, token, chunks, batch.partial, want, batch.careful)
        reply.add_done_callback(functools.partial(self.hear, action))

    def more(self, action: More, want: int) -> None:
        reply = self.refs[action.stage][action.worker].ask(Worker.more, want)
        reply.add_done_callback(functools.partial(self.hear, action))

    def replace(self, stage: int, worker: int) -> None:
        self.refs[stage][worker].restart()

    def leave(self) -> list[Reply[Any]]:
        """Let the objects of classes end in their own time."""
        classes = [refs for stage, refs in zip(self.stages, self.refs, strict=True) if stage.kind != "function"]
        return [ref.ask(Worker.leave) for refs in classes for ref in refs]

    def stop(self) -> None:
        """End all of them; returns when nothing is left."""
        self._forget()
        if self.system is None:
            return
        if self.owned:
            self.system.close("stop")
        elif self.supervised is not None:
            self.supervised.stop()
            self.supervised.wait()

    async def stop_async(self) -> None:
        """`stop` for coroutines."""
        self._forget()
        if self.system is None:
            return
        if self.owned:
            await self.system.aclose("stop")
        elif self.supervised is not None:
            self.supervised.stop()
            await self.supervised.wait_async()

    def _forget(self) -> None:
        """All are asked to stop at once: a supervisor stops one after the other, and each may use up its `shutdown` time."""
        for monitor in self.monitors:
            monitor.cancel()
        self.monitors.clear()
        with contextlib.suppress(ActorsError):  # the system is gone, and they with it
            for ref in itertools.chain.from_iterable(self.refs):
                ref.stop()

"""`TestSystem`: an ActorSystem for tests.

Rule: it is an ordinary system that tells its guardian and its actors' processes to load the kit's additions (`_kit`):
virtual time, where asked for, and marked points. Whatever a test sees of it is what it would see of an ordinary one.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal as signals
import tempfile
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from ..closing import How
from ..errors import ActorsError, SpecError
from ..ref import ActorRef, message_name
from ..system import ActorSystem
from .clock import Clock
from .faults import Fault
from .points import Point, Points
from .probe import Probe
from .relay import Relay

if TYPE_CHECKING:
    from ..actor import Actor

A = TypeVar("A", bound="Actor")
LOOP = "actors.testing.inside:KitLoop"


class TestSystem(ActorSystem):
    """A system with probes, faults and, with `clock="fake"`, a clock that only the test moves.

    clock: "real" or "fake". The others as in `ActorSystem`. The fixture `system` is one.
    """

    __test__ = False  # not a class of tests
    _running: ClassVar[weakref.WeakValueDictionary[str, TestSystem]] = weakref.WeakValueDictionary()

    def __init__(
        self,
        name: str | None = None,
        *,
        clock: Literal["real", "fake"] = "real",
        ask_timeout: float | None = None,
        preload: Iterable[str] = (),
        log_level: str = "info",
    ) -> None:
        if clock not in ("real", "fake"):
            raise SpecError(f"clock is {clock!r}: use 'real' or 'fake'")
        self._points = Points(tempfile.mkdtemp(prefix="actors-test-"))
        self._kit = {"loop": LOOP, "clock": clock == "fake", "faults": self._points.folder}
        self._clock: Clock | None = None
        self._late: list[str] | None = None  # faults that had not happened at the end
        self._probes = itertools.count(1)
        try:
            super().__init__(name, ask_timeout=ask_timeout, preload=preload, log_level=log_level)
        except BaseException:
            shutil.rmtree(self._points.folder, ignore_errors=True)
            raise
        if clock == "fake":
            self._clock = Clock(self._client)
        self._running[self.name] = self

    @classmethod
    def of(cls, ref: ActorRef[Any]) -> TestSystem:
        """The system of this process that `ref` belongs to. ActorsError: it is not of the kit."""
        found = cls._running.get(ref._system)
        if found is None:
            raise ActorsError(
                f"{ref.address}: system {ref._system!r} was not made by this program's actors.testing; "
                "use TestSystem, or the fixture `system`"
            )
        return found

    @property
    def clock(self) -> Clock:
        """Its virtual time. ActorsError: it runs on real time."""
        if self._clock is None:
            raise ActorsError(
                f"system {self.name!r} runs on real time; make it with clock='fake' (the fixture `clock` does)"
            )
        return self._clock

    @overload
    def probe(self, cls: Callable[..., A], /, *, name: str | None = None) -> Probe[A]: ...
    @overload
    def probe(self, /, *, name: str | None = None) -> Probe[Any]: ...
    def probe(self, cls: Any = None, /, *, name: str | None = None) -> Probe[Any]:
        """An actor that the test plays. cls: whose messages it takes, for the type checker. SpawnError: the name is taken."""
        return Probe(self.spawn(Relay, name=name or f"probe-{next(self._probes)}", restart="temporary"))

    def kill_at(
        self,
        actor: ActorRef[Any] | str,
        point: Point,
        signal: int = signals.SIGKILL,
        *,
        method: Callable[..., Any] | str | None = None,
    ) -> Fault:
        """`actors.testing.kill_at`, also for an actor that is not started yet, by its name."""
        name = actor if isinstance(actor, str) else actor.name
        file = self._points.set(name, point, signal, None if method is None else message_name(method))
        return Fault(f"{point} of {self._client.address(name)}", file)

    def faults_left(self) -> list[str]:
        """What `kill_at` asked for and did not happen (until now, or until the end of the system), as sentences."""
        return self._points.left() if self._late is None else self._late

    def close(self, how: How = "drain") -> None:
        """As `ActorSystem.close`. A fake clock goes on by itself from here on, so that shutdown times hold."""
        super().close(how)
        if self._pid == os.getpid() and self._late is None:
            self._late = self._points.left()
            self._running.pop(self.name, None)
            shutil.rmtree(self._points.folder, ignore_errors=True)

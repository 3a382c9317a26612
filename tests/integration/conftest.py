"""Tests of the public surface share one system a module, actors that end with their test, and a guard against leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from actors import Actor, ActorRef, ActorSystem
from kit import LeakGuard, children, process, system_name, until
from kit.lines import Lines

Spawn = Callable[..., ActorRef[Any]]


@pytest.fixture(autouse=True)
def nothing_is_held(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """pytest keeps what fixtures gave until the next test, and log records with their tracebacks: the system of a module,
    too, whose guard would find it.
    """
    yield
    request.node.funcargs.clear()
    caplog.get_records("call").clear()


@pytest.fixture(scope="module")
def system(module_leak_guard: LeakGuard) -> Iterator[ActorSystem]:
    """The system that a module's tests share, with all its own processes: a test's guard would take a later one for a leak."""
    running = ActorSystem(system_name("api"))
    try:
        running.spawn(Actor).stop()
        until(lambda: {"zygote", "spare"} <= set(own_processes(running)), "its own processes are there")
        yield running
    finally:
        running.close("kill")


def own_processes(system: ActorSystem) -> list[str]:
    """By the last words of their titles."""
    found = (process(pid) for pid in children(system.guardian_pid))
    return [each.title.split()[-1] for each in found if each is not None and each.title]


@pytest.fixture
def spawn(system: ActorSystem) -> Iterator[Spawn]:
    """`system.spawn` for actors that end with the test."""
    refs: list[ActorRef[Any]] = []

    def spawned(factory: Any, *args: Any, **options: Any) -> ActorRef[Any]:
        refs.append(system.spawn(factory, *args, **options))
        return refs[-1]

    yield spawned
    for ref in refs:
        ref.kill()
    for ref in refs:
        ref.wait(10)


@pytest.fixture
def own(leak_guard: LeakGuard) -> Iterator[ActorSystem]:
    """A system of this test alone, for tests that end it, crash it or listen to all of it."""
    running = ActorSystem(system_name("own"))
    try:
        yield running
    finally:
        running.close("kill")


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The program has configured structlog, and gets its lines here."""
    lines = Lines()
    structlog.configure(processors=[lines])
    yield lines
    structlog.reset_defaults()

"""The pytest plugin, as a user's project sees it: whole runs of pytest on small test files."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest_plugins = ["pytester"]

USER = """
from typing import Any
from actors import Actor, ActorRef
class Counter(Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start
    def on_start(self) -> None:
        self.every(1.0, self.add, 1)
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value
    def report(self, to: ActorRef[Any]) -> None:
        to.tell("report", self.value)
    def say(self) -> None:
        self.log.debug("a quiet line")
"""


def run(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """One test file, in a pytest of its own, as strict as can be."""
    pytester.makepyfile(test_user=USER + text)
    strict = ("-W", "error", "--strict-markers", "--strict-config", "--import-mode=importlib", "-p", "no:cacheprovider")
    if "-o" not in options:
        strict += ("-p", "no:asyncio")  # where it is installed, it warns of not being configured
    return pytester.runpytest_subprocess(*strict, *options)


def test_the_fixtures_at_work(pytester: pytest.Pytester) -> None:
    """Without an import, a conftest or an option."""
    result = run(
        pytester,
        """
import pytest
def test_system(system):
    counter = system.spawn(Counter, 10)
    assert counter.ask(Counter.add, 5).result(5) == 15
def test_probe(system, probe):
    system.spawn(Counter, 3).tell(Counter.report, probe.ref)
    assert probe.expect(int) == 3
def test_clock(system, clock):
    counter = system.spawn(Counter)
    clock.advance(10)
    assert counter.ask(Counter.add, 0).result(5) == 10
@pytest.mark.actors(name="mine", log_level="debug", clock="fake", ask_timeout=3.0)
def test_marker(system, capfd):
    assert system.name == "mine"
    counter = system.spawn(Counter, name="counter")
    counter.ask(Counter.say).result()
    system.clock.advance(2)
    assert counter.ask(Counter.add, 0).result() == 2
    system.close()
    assert "a quiet line" in capfd.readouterr().err
@pytest.mark.actors(name="outer", log_level="error")
class TestInner:
    @pytest.mark.actors(name="inner")
    def test_the_nearest_marker_wins(self, system):
        assert system.name == "inner"
def test_ordinary_system(leak_guard):
    from actors import ActorSystem
    with ActorSystem() as own:
        own.spawn(Counter)
@pytest.fixture
def loop():
    import asyncio
    made = asyncio.new_event_loop()
    yield made
    made.close()
def test_a_loop_that_outlives_the_system(loop, system, clock):
    loop.run_until_complete(clock.advance_async(1))
def test_names():
    from actors.testing import TestSystem, Probe, Local, local
    assert local(Counter, 2).ask(Counter.add, 3) == 5
""",
    )
    result.assert_outcomes(passed=8)


def test_what_is_left_behind_is_an_error_that_names_it(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import os, pytest, subprocess
from actors.testing import leaks, kill_at
leaks.PATIENCE = 0.5
kept = []
def test_descriptor(system):
    kept.append(os.eventfd(0))
def test_process(leak_guard):
    kept.append(subprocess.Popen(["sleep", "60"]))
def test_of_the_first_two_nothing_is_said_again(system):
    pass
@pytest.mark.actors(leaks=False)
def test_not_looked_for(system):
    kept.append(os.eventfd(0))
def test_fault(system):
    kill_at(system.spawn(Counter, name="counter"), "in_handler")
def test_failing(system):
    counter, fd = system.spawn(Counter), os.eventfd(0)
    kept.append(fd)
    kill_at(counter, "in_handler")
    assert counter is fd
def test_last():
    kept[1].kill(); kept[1].wait()
""",
    )
    result.assert_outcomes(passed=6, failed=1, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_descriptor*",
            "*left behind:*",
            "*descriptor of anon_inode:?eventfd?*",
            "*ERROR at teardown of test_process*",
            "*process sleep 60*",
            "*ERROR at teardown of test_fault*",
            "kill_at was called for nothing: counter never came to 'in_handler'",
        ]
    )
    result.stdout.no_fnmatch_line("*ERROR at teardown of test_failing*")


def test_a_projects_own_fixtures_win_and_a_wrong_marker_is_refused(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest
class TestOwn:
    @pytest.fixture
    def system(self):
        return "mine"
    def test_it(self, system):
        assert system == "mine"
@pytest.mark.actors("name")
def test_positional(system): ...
@pytest.mark.actors(clok="fake")
def test_misspelt(system): ...
@pytest.mark.actors(clock="slow")
def test_wrong(system): ...
""",
    )
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines(
        ["*takes keywords only*", "*unexpected keyword argument 'clok'*", "*clock is 'slow': use 'real' or 'fake'*"]
    )


@pytest.mark.parametrize(
    ("plugin", "mark", "options"),
    [("anyio", "anyio", ()), ("pytest_asyncio", "asyncio", ("-o", "asyncio_default_fixture_loop_scope=function"))],
)
def test_in_coroutines(pytester: pytest.Pytester, plugin: str, mark: str, options: tuple[str, ...]) -> None:
    """With whichever plugin runs them; neither is needed."""
    if find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed")
    result = run(
        pytester,
        f"""
import pytest
@pytest.fixture
def anyio_backend():
    return "asyncio"
@pytest.mark.{mark}
async def test_it(system, probe, clock):
    counter = await system.spawn_async(Counter)
    await counter.ask(Counter.add, 1)
    await counter.tell_async(Counter.report, probe.ref)
    assert await probe.expect_async(int) == 1
    await clock.advance_async(5)
    assert await counter.ask(Counter.add, 0) == 6
    await probe.expect_nothing_async(0.01)
""",
        *options,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="xdist within xdist: its workers take each other for leaks"
)
def test_under_xdist_each_worker_has_its_systems(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    result = run(
        pytester,
        """
import pytest
@pytest.mark.parametrize("number", range(4))
def test_it(system, number):
    assert system.spawn(Counter, number).ask(Counter.add, 1).result(10) == number + 1
""",
        "-n",
        "2",
    )
    result.assert_outcomes(passed=4)


def python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_plugin_costs_nothing_until_a_fixture_is_used() -> None:
    """It is in every run of pytest on the machine."""
    loaded = python(
        "import sys, pytest; a = set(sys.modules); import actors.testing.plugin; print(*set(sys.modules) - a)"
    )
    assert sorted(loaded) == ["actors", "actors.testing", "actors.testing.plugin"]


def test_the_kit_works_without_pytest() -> None:
    code = """
import sys
sys.modules["pytest"] = None
import actors.testing as kit
for name in kit.__all__:
    getattr(kit, name)
from actors import Actor
class Echo(Actor):
    def echo(self, to): to.tell("echo", 5)
with kit.LeakGuard(), kit.TestSystem(clock="fake") as system:
    probe = system.probe()
    system.spawn(Echo).tell(Echo.echo, probe.ref)
    print(probe.expect(int))
    system.clock.advance(1)
    system.close()
    del system, probe
print("done")
"""
    assert python(code) == ["5", "done"]


def test_an_unknown_name_of_the_kit_is_an_attribute_error() -> None:
    from actors import testing

    with pytest.raises(AttributeError, match=r"actors\.testing.*'missing'"):
        assert testing.missing
    assert dir(testing) == testing.__all__

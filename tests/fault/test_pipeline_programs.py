"""Programs as stages that end early, are killed, do not listen, close their pipes and leave others behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import random
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import ActorSystem, ExitReason, FramingError
from actors.errors import StageError
from actors.pipeline import Pipeline, Stage
from kit import Resources, Script, alive, kill, until

MB = 1 << 20


def sh(text: str, *arguments: object, **options: Any) -> Stage:
    """With `$0`, `$1` … as arguments."""
    return Stage(["sh", "-c", text, *map(str, arguments)], name="sh", **options)


def python(text: str, **options: Any) -> Stage:
    return Stage([sys.executable, "-c", text], name="python", **options)


def pid_of(path: Path) -> int:
    """What a shell has written there."""
    return int(until(lambda: path.exists() and path.read_text().strip(), f"a pid in {path}"))


def numbers() -> Iterator[str]:
    return map(str, itertools.count())


# --- how it ends


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 0", "sh ended before its input did"),
        ("echo no luck >&2; exit 3", "sh exited with code 3: no luck"),
        ("head -n 1 >/dev/null; kill -SEGV $$", "sh was killed by SIGSEGV"),
        ("kill -40 $$", "sh was killed by signal 40"),
        ("exec <&-; exec sleep 1000", r"sh has closed its stdin and runs on \(process \d+\)"),
    ],
)
def test_a_program_that_does_not_take_its_input_is_an_error(text: str, said: str, system: ActorSystem) -> None:
    """However much there is, at once or for ever."""
    with pytest.raises(StageError, match=said):
        list(Pipeline(sh(text)).run(numbers(), system=system))


def test_what_it_said_before_it_was_killed_comes_out_first(system: ActorSystem, tmp_path: Path) -> None:
    """It is killed while it is fed: the results are the first ones, whole and in order, and the error says who did it."""
    run = Pipeline(sh('echo $$ > "$0"; exec cat', tmp_path / "pid")).run(numbers(), system=system)
    got = [next(run) for _ in range(1000)]
    kill(pid_of(tmp_path / "pid"))
    with pytest.raises(StageError, match="sh was killed by SIGKILL"):
        got.extend(run)
    assert got == [str(number) for number in range(len(got))]


@pytest.mark.parametrize("policy", ["skip", "retry"])
def test_one_that_dies_before_it_has_taken_anything_in_is_started_again(
    policy: Any, system: ActorSystem, tmp_path: Path
) -> None:
    """Nothing is lost: the second one gets all."""
    stage = sh(
        '[ -e "$0" ] && exec cat; echo $$ > "$0.tmp"; mv "$0.tmp" "$0"; kill -9 $$', tmp_path / "pid", on_error=policy
    )
    words = ["x" * 100_000 + str(number) for number in range(200)]

    def source() -> Iterator[str]:
        first = pid_of(tmp_path / "pid")
        until(lambda: not alive(first), "the first one is dead")
        yield from words

    assert list(Pipeline(stage).run(source(), system=system)) == words


def test_with_skip_what_a_dead_one_had_taken_in_is_skipped_and_the_next_one_goes_on(
    system: ActorSystem, tmp_path: Path
) -> None:
    """All that is skipped is counted."""
    stage = sh('echo $$ > "$0"; exec cat', tmp_path / "pid", on_error="skip")
    run = Pipeline(stage).run((f"{number} {'x' * 100}" for number in range(50_000)), system=system)
    got = [next(run) for _ in range(1000)]
    kill(pid_of(tmp_path / "pid"))
    got.extend(run)
    found = [int(line.split()[0]) for line in got]
    assert found == sorted(set(found))
    assert found[:1000] == list(range(1000))
    assert found[-1] == 49_999
    assert 0 < 50_000 - len(found) <= run.skipped


@pytest.mark.parametrize("policy", ["raise", "retry"])
def test_without_it_such_a_death_is_an_error(policy: Any, system: ActorSystem, tmp_path: Path) -> None:
    """What it had taken in is not known, so nobody can repeat it."""
    stage = sh('echo $$ > "$0"; exec cat', tmp_path / "pid", on_error=policy)
    run = Pipeline(stage).run(numbers(), system=system)
    for _ in range(1000):
        next(run)
    kill(pid_of(tmp_path / "pid"))
    with pytest.raises(StageError, match="sh was killed by SIGKILL"):
        list(run)


def test_a_failing_end_is_skipped_as_an_item_is(system: ActorSystem) -> None:
    """All results are there by then."""
    run = Pipeline(sh("cat; exit 3", on_error="skip")).run(["a", "b"], system=system)
    assert (list(run), run.skipped) == (["a", "b"], 1)


# --- how it is ended


def test_a_run_that_is_given_up_ends_its_program_by_sigterm(system: ActorSystem, tmp_path: Path) -> None:
    """Not by the end of its input, which it would take for the whole."""
    text = f"trap 'echo cut > {tmp_path / 'end'}; exit' TERM; echo ready; while read line; do :; done; echo whole > {tmp_path / 'end'}"
    with Pipeline(sh(text, shutdown=10.0)).run(numbers(), system=system) as run:
        assert next(run) == "ready"
    assert (tmp_path / "end").read_text() == "cut\n"


@pytest.mark.parametrize("reads", [True, False])
def test_one_that_ignores_sigterm_is_killed_with_its_children(reads: bool, system: ActorSystem, tmp_path: Path) -> None:
    """All within `shutdown`, also while the worker waits for it to read."""
    text = f"""
        trap '' TERM; sleep 1000 & echo $! > "$0.child"; echo $$ > "$0.tmp"; mv "$0.tmp" "$0"
        while {"read line" if reads else "sleep 0.05"}; do echo tick; done
    """
    events = system.events()
    with Pipeline(sh(text, tmp_path / "pid", shutdown=5.0)).run(
        ("x" * 1000 for _ in itertools.count()), system=system
    ) as run:
        assert next(run) == "tick"
        pid, child = pid_of(tmp_path / "pid"), pid_of(tmp_path / "pid.child")
    until(lambda: not alive(pid) and not alive(child), "both are gone", seconds=1.0)
    assert reason_of_worker(events) == ExitReason("shutdown")  # it has done it, and was in nobody's way


def reason_of_worker(events: Any) -> ExitReason | None:
    with contextlib.closing(events):
        return next(event.reason for event in events if event.kind == "stopped" and event.ref.name.endswith("/sh"))


def test_one_that_neither_reads_nor_writes_is_nothing_to_wait_for(system: ActorSystem, tmp_path: Path) -> None:
    """The worker hears of the stop although it has an item in hand that nobody takes."""
    events = system.events()
    stage = sh('echo $$ > "$0"; exec sleep 1000', tmp_path / "pid", shutdown=8.0)
    end = 0.0

    async def main() -> None:
        nonlocal end
        waiting = asyncio.ensure_future(anext(Pipeline(stage).run(itertools.repeat("x" * 1000), system=system)))
        pid = await asyncio.to_thread(pid_of, tmp_path / "pid")
        await asyncio.to_thread(until, lambda: is_full(Path(f"/proc/{pid}/fd/0")), "its stdin is full")
        waiting.cancel()
        end = time.monotonic() + 8.0
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert time.monotonic() < end
    assert reason_of_worker(events) == ExitReason("shutdown")


def is_full(pipe: Path) -> bool:
    with pipe.open("rb", buffering=0) as file:
        waiting = int.from_bytes(fcntl.ioctl(file, termios.FIONREAD, bytes(4)), sys.byteorder)
        return waiting > 0.9 * fcntl.fcntl(file, fcntl.F_GETPIPE_SZ)


@pytest.mark.parametrize("who", ["worker", "guardian", "script"])
def test_a_program_is_gone_with_what_is_above_it(who: str, tmp_path: Path) -> None:
    """It hears of it from the kernel: it neither reads nor writes."""
    text = 'echo $PPID > "$0.worker"; echo $$ > "$0.tmp"; mv "$0.tmp" "$0"; exec sleep 1000'
    code = f"""
        from actors import ActorSystem
        from actors.pipeline import Pipeline, Stage
        system = ActorSystem()
        print("guardian", system.guardian_pid)
        stage = Stage(["sh", "-c", {text!r}, {str(tmp_path / "pid")!r}])
        list(Pipeline(stage).run(["a"], system=system))
    """
    with Script(code) as script:
        guardian = int(script.expect("guardian"))
        pid = pid_of(tmp_path / "pid")
        kill({"worker": pid_of(tmp_path / "pid.worker"), "guardian": guardian, "script": script.pid}[who])
        until(lambda: not alive(pid), "the program is gone", seconds=1.0)
        if who == "worker":  # the next one has a program of its own
            kill(script.pid)
        script.drain()


# --- pipes that misbehave


def test_one_that_writes_without_reading_is_held_up(system: ActorSystem, tmp_path: Path) -> None:
    """Results come for as long as they are asked for; memory does not grow."""
    stage = sh('echo $PPID > "$0"; exec yes', tmp_path / "worker")
    with Pipeline(stage).run(("x" * 1000 for _ in itertools.count()), system=system) as run:
        assert next(run) == "y"
        pid = pid_of(tmp_path / "worker")
        resident = Resources.of(pid).resident
        assert all(line == "y" for line in itertools.islice(run, 1_000_000))
        assert Resources.of(pid).resident < resident + 32 * MB


def test_one_that_closes_its_stdout_goes_on(system: ActorSystem, tmp_path: Path) -> None:
    """It takes all there is, and the run ends when it does."""
    stage = sh('exec >&-; cat > "$0"', tmp_path / "out")
    assert list(Pipeline(stage).run(map(str, range(150_000)), system=system)) == []
    assert (tmp_path / "out").read_text().split() == [str(number) for number in range(150_000)]


def test_one_that_leaves_a_child_with_its_pipes(
    system: ActorSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends soon after the program; the child ends with it, and a line in the log says so."""
    stage = sh('cat; sleep 1000 & echo $! > "$0"', tmp_path / "pid")
    assert list(Pipeline(stage).run(["a", "b"], system=system)) == ["a", "b"]
    pid = pid_of(tmp_path / "pid")
    until(lambda: not alive(pid), "the child is gone")
    said: list[str] = []
    until(
        lambda: said.append(capsys.readouterr().err) or "still there, ends with the run" in "".join(said), "it is told"
    )


def test_what_a_child_says_after_the_program_is_not_lost(system: ActorSystem) -> None:
    """While it says something."""
    text = "cat >/dev/null; (for n in 1 2 3 4 5 6; do sleep 0.25; echo $n; done) & exit 0"
    assert list(Pipeline(sh(text)).run(["a"], system=system)) == ["1", "2", "3", "4", "5", "6"]


def test_one_whose_child_reads_on_when_it_has_ended(system: ActorSystem) -> None:
    """The pipe does not break, and still the program has ended."""
    text = "import os, time; os.fork() or (os.close(1), os.close(2), time.sleep(1000))"
    with pytest.raises(StageError, match="python ended before its input did"):
        list(Pipeline(python(text)).run(("x" * 1000 for _ in itertools.count()), system=system))


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (sh("cat >/dev/null; printf '5:hello,3:ab'", framing="netstring"), "sh: the stream ended inside a netstring"),
        (sh("echo hello; exec sleep 1000", framing="netstring"), "here stands b'hello"),
        (sh("exec cat /dev/zero", limit=MB), "sh: a line that begins with .* is longer than limit=1048576"),
        (sh("printf '5:hello,3:ab'; kill -SEGV $$", framing="netstring"), "sh was killed by SIGSEGV"),
    ],
)
def test_output_that_is_no_frame_is_an_error(stage: Stage, said: str, system: ActorSystem) -> None:
    """Frames before it come out, half a one never; a crash matters more."""
    run = Pipeline(stage).run([b"a"] * 10, system=system)
    with pytest.raises(StageError, match=said) as failed:
        for frame in run:
            assert frame == b"hello"
    assert isinstance(failed.value.__cause__, FramingError) == ("SEGV" not in said)


def test_a_flood_on_stderr_stops_nothing(system: ActorSystem) -> None:
    """Its end is in the error."""
    run = Pipeline(sh("yes | head -100000 >&2; cat; echo the end >&2; exit 3")).run(["a"], system=system)
    assert next(run) == "a"
    with pytest.raises(StageError, match=r"sh exited with code 3: (y\s)+the end$"):
        next(run)


# --- much


def test_what_goes_through_is_the_same_however_it_is_cut(system: ActorSystem, rng: random.Random) -> None:
    """Far more than pipes hold, both ways at once; lines keep their order where some fit the pipe and some do not."""
    sizes = [rng.choice((0, 1, 50, 5000, 300_000, 2 * MB)) for _ in range(80)]
    words = [f"{number}:" + chr(97 + number % 26) * size for number, size in enumerate(sizes)]
    assert list(Pipeline(["cat"], ["cat"]).run(words, system=system)) == words
    data = [word.encode() for word in words]
    packed = Stage(["gzip", "-1"], framing="raw"), Stage(["gzip", "-d"], framing="raw")
    assert b"".join(Pipeline(*packed).run(data, system=system)) == b"".join(data)


def test_what_comes_before_a_pause_of_the_source_reaches_the_program(system: ActorSystem, tmp_path: Path) -> None:
    """Writes are gathered, but none waits for the next item."""
    (out := tmp_path / "out").touch()
    lines = 0

    async def source() -> AsyncIterator[str]:
        nonlocal lines
        for count in range(1, 30):
            for number in range(count):
                yield str(number)
            lines += count
            await asyncio.to_thread(until, lambda: out.read_text().count("\n") == lines, f"{lines} lines are there")  # noqa: B023

    async def main() -> list[str]:
        return [line async for line in Pipeline(sh('exec >"$0"; exec cat', out)).run(source(), system=system)]

    assert asyncio.run(main()) == []
    assert lines == 29 * 30 // 2


def test_memory_stays_flat_however_much_goes_through(system: ActorSystem, tmp_path: Path) -> None:
    """A source without end, and a program that says all of it again."""
    stage, count = sh('echo $PPID > "$0"; exec cat', tmp_path / "worker", framing="raw"), 0
    sizes: list[int] = []
    with Pipeline(stage).run(itertools.repeat(bytes(MB)), system=system) as run:
        for data in run:
            count += len(data)
            sizes.append(Resources.of(pid_of(tmp_path / "worker")).resident)
            if count > 128 * MB:
                break
    assert max(sizes) < min(sizes) + 32 * MB

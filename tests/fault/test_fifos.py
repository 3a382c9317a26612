"""Named pipes between actors and shell tools that come, go, and are killed."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shlex
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, ExitReason, Fifo, MailboxOptions, SpawnError
from actors.supervision import Backoff
from kit import Gate, Script, kill, until

AT_ONCE = Backoff(0.0, 0.0)


class Taker(Actor):
    """Takes lines."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate, self.lines = gate, list[Any]()

    def receive(self, line: Any) -> None:
        if self.gate is not None:
            self.gate.wait()
            self.gate = None
        self.lines.append(line)

    def taken(self) -> list[Any]:
        return self.lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pipe"


def shell(text: str, seconds: float = 60.0) -> str:
    """What it printed; it must succeed."""
    return subprocess.run(["bash", "-c", text], check=True, capture_output=True, text=True, timeout=seconds).stdout


def lines(taker: ActorRef[Taker], count: int) -> list[Any]:
    """What it has taken when these are so many (or more)."""
    return until(
        lambda: found if len(found := taker.ask(Taker.taken).result(20)) >= count else None,
        f"{count} lines arrived",
        60,
    )


def held(pid: int) -> list[str]:
    """What a process holds open."""
    found = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return found


# --- reading


def test_what_a_shell_writes_arrives_line_by_line_in_order(system: ActorSystem, path: Path) -> None:
    """printf, cat, and a line without an end."""
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker)
    shell(f"printf 'one\\ntwo\\n' > {path}")
    shell(f"seq 20000 | cat > {path}")
    shell(f"printf 'the last' > {path}")
    assert lines(taker, 20003) == ["one", "two", *map(str, range(1, 20001)), "the last"]
    fifo.stop()
    assert fifo.wait(20) == ExitReason("shutdown")
    assert list(path.parent.iterdir()) == []


def test_a_hundred_writers_come_and_go_and_the_pipe_is_still_there(system: ActorSystem, path: Path) -> None:
    """Some only open and close it; each line arrives, whole, in order."""
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker)
    shell(f"for n in $(seq 100); do echo line $n > {path}; : > {path}; done")
    assert lines(taker, 100) == [f"line {number}" for number in range(1, 101)]
    assert (fifo.info()["restarts"], fifo.info()["incarnation"]) == (0, 1)


def test_an_unended_line_is_ended_by_the_end_of_its_writer(system: ActorSystem, path: Path) -> None:
    """And is not glued to the next one's."""
    taker = system.spawn(Taker)
    system.fifo(path, to=taker)
    for number in range(1, 21):
        shell(f"printf %s {number} > {path}")
        assert lines(taker, number)[-1] == str(number)


def test_the_lines_of_several_writers_are_never_mixed(system: ActorSystem, path: Path) -> None:
    """Up to PIPE_BUF a line is written in one piece; here they are of 1 to 4096 bytes, from four shells at once."""
    taker = system.spawn(Taker)
    system.fifo(path, to=taker)
    sizes = (1, 100, 1000, select.PIPE_BUF - 1)
    one = 'line=$(printf "%*s" $2 "" | tr " " $1); for n in $(seq 300); do echo "$line"; done > $0'
    text = "".join(
        f"bash -c {shlex.quote(one)} {path} {letter} {size} & " for letter, size in zip("abcd", sizes, strict=True)
    )
    shell(f"exec 9> {path}; {text} wait")
    arrived = lines(taker, 1200)
    assert sorted(set(arrived)) == [letter * size for letter, size in zip("abcd", sizes, strict=True)]
    assert all(arrived.count(each) == 300 for each in set(arrived))


def test_a_slow_receiver_makes_the_writers_wait(system: ActorSystem, path: Path, tmp_path: Path) -> None:
    """The shell blocks in its pipe; then all of it comes."""
    gate = Gate(tmp_path / "gate")
    taker = system.spawn(Taker, gate, mailbox=MailboxOptions(capacity=4096))
    system.fifo(path, to=taker)
    writer = subprocess.Popen(["bash", "-c", f"seq 100000 > {path}"])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.5)
        gate.open()
        assert writer.wait(60) == 0
        assert lines(taker, 100_000) == list(map(str, range(1, 100_001)))
    finally:
        writer.kill()
        writer.wait()


def test_lines_can_be_asked_for(system: ActorSystem, path: Path) -> None:
    """One at a time; more than are there wait, and a stop ends those that do."""
    fifo = system.fifo(path)
    waiting = [fifo.ask(Fifo.read) for _ in range(4)]
    shell(f"printf 'a\\nb\\nc\\n' > {path}")
    assert [reply.result(20) for reply in waiting[:3]] == ["a", "b", "c"]
    fifo.stop()
    assert fifo.wait(3).kind == "shutdown"
    assert isinstance(waiting[3].exception(20), ActorDied)


def test_a_killed_writers_half_frame_is_dropped_and_the_next_ones_are_read(
    system: ActorSystem, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad writer is not the others' end; the log says what was dropped."""
    said: list[str] = []
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker, framing="netstring")
    shell(f"printf '5:hello,9:half' > {path}")
    assert lines(taker, 1) == [b"hello"]
    until(lambda: said.append(capsys.readouterr().err) or "left half a frame" in "".join(said), "it was dropped")
    shell(f"printf '5:again,' > {path}")
    assert lines(taker, 2) == [b"hello", b"again"]
    assert fifo.info()["restarts"] == 0


def test_garbage_crashes_the_actor_and_the_next_incarnation_reads_on(system: ActorSystem, path: Path) -> None:
    """With a clear reason; the pipe stays."""
    events = system.events()
    taker = system.spawn(Taker)
    system.fifo(path, to=taker, framing="netstring", backoff=AT_ONCE)
    shell(f"echo garbage > {path}")
    crash = next(event for event in events if event.kind == "crashed")
    assert "here stands b'garbage" in str(crash.reason)
    next(event for event in events if event.kind == "restarted")
    events.close()
    shell(f"printf '5:again,' > {path}")
    assert lines(taker, 1) == [b"again"]


def test_kills_of_the_reader_lose_no_line_that_is_written_later(
    system: ActorSystem, path: Path, rng: random.Random
) -> None:
    """Ten SIGKILLs between writers: the pipe is taken over each time, and removed at the end."""
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker, backoff=AT_ONCE)
    for number in range(10):
        shell(f"for n in 1 2 3; do echo {number} $n > {path}; done")
        assert lines(taker, 3 * number + 3)[-3:] == [f"{number} 1", f"{number} 2", f"{number} 3"]
        before = fifo.info()["incarnation"]
        kill(fifo.info()["pid"], rng.choice([signal.SIGKILL, signal.SIGSEGV]))
        until(lambda: fifo.info()["incarnation"] > before and fifo.info()["status"] == "running", "it is back")  # noqa: B023
    fifo.stop()
    fifo.wait(20)
    assert not path.exists()


# --- the file


def test_it_is_made_for_this_user_alone(system: ActorSystem, path: Path) -> None:
    """Mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        system.fifo(path)
    finally:
        os.umask(before)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["a file", "a directory", "a symbolic link"])
def test_what_is_no_fifo_is_refused_and_left_alone(what: str, system: ActorSystem, path: Path) -> None:
    """The error says what it is."""
    if what == "a file":
        path.write_text("precious")
    elif what == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    for mode in ("r", "w"):
        with pytest.raises(SpawnError, match=f"is {what}, not a named pipe"):
            system.fifo(path, mode)  # type: ignore[arg-type]
    assert [each.name for each in path.parent.iterdir()] == ["pipe"]


def test_a_folder_that_is_missing_is_named(system: ActorSystem, path: Path) -> None:
    """The usual error."""
    with pytest.raises(SpawnError, match="No such file or directory"):
        system.fifo(path / "below")


def test_a_pipe_that_was_there_stays(system: ActorSystem, path: Path) -> None:
    """It is somebody else's."""
    os.mkfifo(path, 0o644)
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker)
    shell(f"echo hello > {path}")
    assert lines(taker, 1) == ["hello"]
    fifo.stop()
    fifo.wait(20)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_two_readers_of_one_pipe_are_one_too_many(system: ActorSystem, path: Path) -> None:
    """They would share the lines by chance."""
    system.fifo(path)
    with pytest.raises(SpawnError, match="another actor reads from"):
        system.fifo(path)
    assert path.exists()


def test_the_pipe_of_a_killed_run_is_taken_over_and_removed(system: ActorSystem, path: Path) -> None:
    """Program, warden and guardian of the earlier run are killed; nobody had time to clean up."""
    with Script(f"""
        from actors import ActorSystem
        system = ActorSystem()
        system.fifo({str(path)!r})
        print("guardian", system.guardian_pid)
        system.lookup("pipe-1").wait()
    """) as script:
        kill(int(script.expect("guardian")))
        script.kill()
        script.drain()
    assert path.exists()
    taker = system.spawn(Taker)
    fifo = system.fifo(path, to=taker)
    shell(f"echo hello > {path}")
    assert lines(taker, 1) == ["hello"]
    fifo.stop()
    fifo.wait(20)
    assert list(path.parent.iterdir()) == []


# --- writing


def test_messages_wait_for_a_reader_and_come_in_order(system: ActorSystem, path: Path) -> None:
    """None is written before somebody reads; an ask ends when it is."""
    fifo = system.fifo(path, "w")
    replies = [fifo.ask(Fifo.write, str(number)) for number in range(100)]
    assert not any(reply.done() for reply in replies)
    assert shell(f"head -n 100 {path}") == "".join(f"{number}\n" for number in range(100))
    for reply in replies:
        reply.result(20)


def test_a_reader_that_comes_when_the_last_one_is_gone_begins_with_a_whole_line(
    system: ActorSystem, path: Path
) -> None:
    """The first leaves in the middle of a long flood."""
    fifo = system.fifo(path, "w", mailbox=MailboxOptions(capacity=1 << 22))
    for number in range(2000):
        fifo.tell(Fifo.write, f"{number} {'x' * 200}")
    first = shell(f"head -c 1000 {path}")
    assert first.startswith("0 x")
    pid = fifo.info()["pid"]
    until(lambda: str(path) not in held(pid), "the actor knows that its reader is gone")
    rest = shell(f"timeout 3 head -n 1000 {path}").splitlines()
    numbers = [int(line.split()[0]) for line in rest]
    assert all(line == f"{number} {'x' * 200}" for number, line in zip(numbers, rest, strict=True))
    assert numbers == list(range(numbers[0], numbers[0] + 1000))
    fifo.kill()


def test_a_stop_ends_the_readers_file_and_removes_the_pipe(system: ActorSystem, path: Path) -> None:
    """`cat` has all that was accepted, and its end."""
    fifo = system.fifo(path, "w")
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, text=True) as reader:
        for number in range(5000):
            fifo.tell(Fifo.write, str(number))
        fifo.stop()
        assert fifo.wait(20) == ExitReason("shutdown")
        assert reader.stdout is not None
        assert reader.stdout.read() == "".join(f"{number}\n" for number in range(5000))
    assert list(path.parent.iterdir()) == []


def test_messages_that_no_reader_came_for_are_reported_and_the_pipe_is_removed(system: ActorSystem, path: Path) -> None:
    """The time to stop is over: an ask ends with ActorDied, a tell is a dead letter."""
    letters = system.dead_letters()
    fifo = system.fifo(path, "w", shutdown=0.3)
    reply = fifo.ask(Fifo.write, "first")
    fifo.tell(Fifo.write, "second")
    fifo.stop()
    assert fifo.wait(20) == ExitReason("signal", signal=signal.SIGTERM)
    assert isinstance(reply.exception(20), ActorDied)
    assert next(iter(letters)).target == fifo
    letters.close()
    assert list(path.parent.iterdir()) == []


def test_two_actors_talk_through_a_pipe(system: ActorSystem, path: Path) -> None:
    """One writes, one reads; frames are msgpack, so values keep their types."""
    os.mkfifo(path)
    taker = system.spawn(Taker)
    system.fifo(path, to=taker, framing="msgpack", name="out")
    into = system.fifo(path, "w", framing="msgpack", name="in")
    sent: list[Any] = [1, "two", b"three", [4.5, None], {"six": True}]
    for value in sent:
        into.tell(Fifo.write, value)
    assert lines(taker, 5) == sent

"""External programs and named pipes as the public surface has them: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, AskTimeout, ExitReason, Fifo, Program, SpawnError, SpecError
from actors.application import load
from actors.supervision import Child, Supervisor
from kit import until

from .conftest import Spawn


class Taker(Actor):
    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.senders: set[Any] = set()

    def receive(self, frame: Any) -> None:
        self.frames.append(frame)
        self.senders.add(self.sender)

    def line(self, frame: str) -> None:
        self.frames.append(["line", frame])

    def taken(self) -> tuple[list[Any], list[Any]]:
        return self.frames, list(self.senders)


class Owner(Actor):
    """Has a program of its own."""

    def on_start(self) -> None:
        self.program = self.spawn(Program, ["cat"], "lines", self.ref, "line", name="cat")
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.program.tell(Program.write, line)

    def line(self, line: str) -> None:
        self.lines.append(line)

    def heard(self) -> list[str]:
        return self.lines


@pytest.fixture
def run(spawn: Spawn) -> Any:
    """`spawn(Program, …)`, which is what spawn_program does."""

    def started(command: list[str], *args: Any, **own: Any) -> ActorRef[Program]:
        return spawn(functools.partial(Program, command, *args, **own), restart="temporary")

    return started


def frames(taker: ActorRef[Taker], count: int) -> list[Any]:
    return until(
        lambda: found if len(found := taker.ask(Taker.taken).result(20)[0]) >= count else None, f"{count} frames", 20
    )


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ("lines", ["one", "", "zwölf"]),
        ("netstring", [b"one", b"", b"two\nlines\0"]),
        ("msgpack", [1, "two", b"three", [None, 4.5], {"six": True}]),
    ],
)
def test_what_cat_is_given_comes_back(framing: Any, sent: list[Any], spawn: Spawn, system: ActorSystem) -> None:
    """To an actor, in order, from the program's reference; and to whoever asks."""
    taker = spawn(Taker)
    cat = system.spawn_program(["cat"], framing=framing, to=taker, restart="temporary")
    for value in sent:
        cat.tell(Program.write, value)
    assert frames(taker, len(sent)) == sent
    assert taker.ask(Taker.taken).result(5)[1] == [cat]
    cat.kill()
    asked = system.spawn_program(["cat"], framing=framing, restart="temporary")
    assert [asked.ask(Program.request, value).result(20) for value in sent] == sent
    asked.kill()


def test_raw_frames_are_the_bytes_that_were_written(run: Any) -> None:
    """However they are divided."""
    program = run(["cat"], "raw")
    program.tell(Program.write, b"a" * 100_000)
    program.tell(Program.close_stdin)
    got = b""
    while len(got) < 100_000:
        got += program.ask(Program.read).result(20)
    assert got == b"a" * 100_000


def test_frames_go_to_the_method_that_is_named(system: ActorSystem, spawn: Spawn) -> None:
    """As a function or by name; the receiver by reference or by name."""
    taker = spawn(Taker, name="taker")
    for to, method in ((taker, Taker.line), ("taker", "line"), (taker.address, Taker.line)):
        program = system.spawn_program(["echo", "hello"], to=to, method=method)
        assert program.wait(20) == ExitReason("exit", code=0)
    assert frames(taker, 3) == [["line", "hello"]] * 3


def test_requests_of_several_callers_get_their_own_answers(run: Any) -> None:
    """All at once, from one program that answers in order."""
    program = run(["sh", "-c", 'while read n; do echo "answer $n"; done'])
    replies = {number: program.ask(Program.request, str(number)) for number in range(50)}
    assert {number: reply.result(20) for number, reply in replies.items()} == {
        number: f"answer {number}" for number in range(50)
    }


def test_the_answer_to_a_request_that_was_given_up_is_nobody_elses(run: Any, tmp_path: Path) -> None:
    """The program answers late; the next request gets the next answer."""
    os.mkfifo(tmp_path / "gate")
    program = run(
        ["sh", "-c", f'while read n; do [ $n = slow ] && read x < {tmp_path / "gate"}; echo "answer $n"; done']
    )
    slow = program.ask(Program.request, "slow")
    fast = program.ask(Program.request, "fast")
    until(lambda: program.info()["busy_since"], "it is in hand")
    slow.cancel()
    (tmp_path / "gate").write_text("open\n")
    assert fast.result(20) == "answer fast"
    with pytest.raises(AskTimeout):
        program.using(timeout=0.2).ask(Program.read).result()


def test_more_readers_than_there_can_be_are_told(run: Any) -> None:
    """Those who wait must not keep writers out."""
    program = run(["cat"])
    waiting = [program.ask(Program.read) for _ in range(13)]
    with pytest.raises(Exception, match="reads wait for a frame already"):
        waiting[12].result(20)
    for number in range(12):
        program.ask(Program.write, str(number)).result(20)
    assert [reply.result(20) for reply in waiting[:12]] == [str(number) for number in range(12)]


def test_a_programs_output_has_one_taker(system: ActorSystem, spawn: Spawn) -> None:
    """What goes to an actor, or to the log, can't be read."""
    pushed = system.spawn_program(["cat"], to=spawn(Taker), restart="temporary")
    logged = system.spawn_program(["cat"], stdout="log", restart="temporary")
    for program in (pushed, logged):
        with pytest.raises(Exception, match="its output goes to"):
            program.ask(Program.read).result(20)
        program.kill()


def test_signals_reach_the_program(run: Any, tmp_path: Path) -> None:
    """A number or a Signals; what is none is refused."""
    program = run(["sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done"])
    assert program.ask(Program.read).result(20) == "ready"
    program.ask(Program.signal, signal.SIGUSR1).result(20)
    assert program.ask(Program.read).result(20) == "usr1"
    with pytest.raises(ValueError, match="no signal"):
        program.ask(Program.signal, 1000).result(20)
    program.tell(Program.signal, 15)
    assert program.wait(20) == ExitReason("signal", signal=signal.SIGTERM)


def test_nothing_can_be_written_after_the_end(run: Any) -> None:
    """`close_stdin` is a message like the others: what was sent before is written."""
    program = run(["sh", "-c", "cat; sleep 1000"])
    program.tell(Program.write, "last")
    program.tell(Program.close_stdin)
    program.tell(Program.close_stdin)
    with pytest.raises(ValueError, match="its input is closed"):
        program.ask(Program.write, "too late").result(20)
    assert program.ask(Program.read).result(20) == "last"


def test_environment_and_directory_are_the_actors_with_changes(run: Any, tmp_path: Path) -> None:
    """None takes a variable away."""
    os.environ["PROGRAMS_TEST"] = "gone"
    try:
        program = run(
            ["sh", "-c", 'pwd; echo "$ADDED"; echo "${PROGRAMS_TEST-none}"; echo "$HOME"; read x'],
            cwd=tmp_path,
            env={"ADDED": "yes", "PROGRAMS_TEST": None},
        )
    finally:
        del os.environ["PROGRAMS_TEST"]
    said = [program.ask(Program.read).result(20) for _ in range(4)]
    assert said == [str(tmp_path), "yes", "none", os.environ.get("HOME", "")]


def test_no_shell_reads_the_command(run: Any) -> None:
    """Arguments arrive as they are."""
    program = run(["printf", "%s\\n", "$HOME; `date` * |", "two words"])
    assert [program.ask(Program.read).result(20) for _ in range(2)] == ["$HOME; `date` * |", "two words"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: ["no-such-command"], "command not found: 'no-such-command'"),
        (lambda folder: [folder / "missing"], "missing does not exist"),
        (lambda folder: [_file(folder, "echo", 0o644)], "is not executable"),
        (lambda folder: [folder], "is not executable (a directory)"),
        (lambda folder: [_file(folder, "#!/no/such/interpreter\n", 0o755)], "interpreter that does not exist"),
        (lambda folder: [_file(folder, "\0\1\2", 0o755)], "is not executable: no binary"),
    ],
)
def test_a_command_that_cannot_run_is_a_spawn_error_that_says_why(
    make: Any, text: str, system: ActorSystem, tmp_path: Path
) -> None:
    """Nothing is left of it, and its name is free."""
    with pytest.raises(SpawnError) as failed:
        system.spawn_program(make(tmp_path), name="unlucky")
    assert text in str(failed.value).splitlines()[0]
    system.spawn_program(["true"], name="unlucky").wait(20)


def _file(folder: Path, text: str, mode: int) -> Path:
    path = folder / "file"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_directory_that_is_missing_is_named(system: ActorSystem, tmp_path: Path) -> None:
    """And not taken for the command."""
    with pytest.raises(SpawnError, match=r"the working directory '.*/missing' does not exist"):
        system.spawn_program(["cat"], cwd=tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ("cat -n", {}, "give a list"),
        ([], {}, "give a program"),
        ([""], {}, "give a program"),
        (["a\0b"], {}, "without NUL"),
        ([1], {}, "command is"),
        (["cat"], {"framing": "words"}, "framing is 'words'"),
        (["cat"], {"limit": 0}, "limit is 0"),
        (["cat"], {"to": 7}, "to is 7"),
        (["cat"], {"method": "_private"}, "method is '_private'"),
        (["cat"], {"stdout": "null"}, "stdout is 'null'"),
        (["cat"], {"grace": -1}, "grace is -1"),
        (["cat"], {"restart": "sometimes"}, "restart must be"),
        (["cat"], {"encoding": "utf-16"}, "encoding is 'utf-16'"),
    ],
)
def test_a_senseless_program_is_refused_before_anything_starts(
    arguments: Any, options: dict[str, Any], text: str, system: ActorSystem
) -> None:
    """In the caller's frame."""
    with pytest.raises(SpecError, match=text):
        system.spawn_program(arguments, **options)
    with pytest.raises(TypeError, match="unexpected keyword"):
        system.spawn_program(["cat"], colour="red")  # type: ignore[call-arg]


def test_a_senseless_fifo_is_refused_before_anything_starts(system: ActorSystem, spawn: Spawn, tmp_path: Path) -> None:
    """Nothing is made."""
    with pytest.raises(SpecError, match="mode is 'a'"):
        system.fifo(tmp_path / "pipe", "a")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="none come out"):
        system.fifo(tmp_path / "pipe", "w", to=spawn(Taker))
    assert not (tmp_path / "pipe").exists()


def test_a_fifo_is_used_in_its_own_direction(system: ActorSystem, tmp_path: Path) -> None:
    """The other one is an error that says so."""
    into, out = system.fifo(tmp_path / "in", "w"), system.fifo(tmp_path / "out")
    with pytest.raises(Exception, match="it is written to"):
        into.ask(Fifo.read).result(20)
    with pytest.raises(Exception, match="is read from; to write, use mode='w'"):
        out.ask(Fifo.write, "x").result(20)
    for fifo in (into, out):
        fifo.stop()
        fifo.wait(20)


def test_names_come_from_the_command_and_the_path(system: ActorSystem, tmp_path: Path) -> None:
    """So `ps` and the log say what runs."""
    program, fifo = system.spawn_program(["/bin/cat"]), system.fifo(tmp_path / "Some Pipe.lines")
    assert (program.name.rstrip("0123456789"), fifo.name) == ("cat-", "somepipe.lines-1")
    program.kill()
    fifo.stop()
    fifo.wait(20)


def test_programs_and_pipes_stand_in_trees(own: ActorSystem, tmp_path: Path) -> None:
    """A Child as any other: keywords by functools.partial, the receiver by its name."""
    tree = Supervisor(
        Child(Taker, name="taker"),
        Child(functools.partial(Program, ["sed", "-u", "s/^/> /"], to="tree/taker"), name="sed"),
        Child(functools.partial(Fifo, tmp_path / "pipe", to="tree/taker", method=Taker.line), name="pipe"),
        name="tree",
    )
    own.start(tree)
    own.lookup("tree/sed", Program).tell(Program.write, "hello")
    taker = own.lookup("tree/taker", Taker)
    assert frames(taker, 1) == ["> hello"]
    subprocess.run(["sh", "-c", f"echo there > {tmp_path / 'pipe'}"], check=True, timeout=20)
    assert frames(taker, 2) == ["> hello", ["line", "there"]]


def test_a_receiver_that_is_not_there_is_a_failed_start(own: ActorSystem) -> None:
    """Named in the error."""
    tree = Supervisor(Child(Program, ["cat"], "lines", "tree/nobody"), name="tree")
    with pytest.raises(SpawnError, match="tree/nobody does not exist"):
        own.start(tree)


def test_a_program_stands_in_a_toml_file(own: ActorSystem, tmp_path: Path) -> None:
    """By its class and positional arguments."""
    (tmp_path / "app.toml").write_text(
        'name = "app"\n[[child]]\nfactory = "actors:Program"\nargs = [["cat", "-n"], "lines"]\nname = "numbers"\n'
    )
    tree = own.start(load(str(tmp_path / "app.toml")))
    assert tree["numbers"].ask(Program.request, "hello").result(20).split() == ["1", "hello"]


def test_a_program_of_an_actor_ends_with_it(spawn: Spawn) -> None:
    """It is a child."""
    owner = spawn(Owner)
    owner.tell(Owner.write, "hello")
    until(lambda: owner.ask(Owner.heard).result(20) == ["hello"], "the line came back")
    [child] = owner.info()["children"]
    assert child["name"] == f"{owner.name}/cat"
    owner.kill()
    owner.wait(20)
    until(lambda: not os.path.exists(f"/proc/{child['pid']}"), "the program's actor is gone")  # noqa: PTH110


def test_coroutines_use_programs(own: ActorSystem) -> None:
    """Spawned, asked and waited for without blocking the loop."""

    async def main() -> list[str]:
        program = await own.spawn_async(Program, ["tr", "a-z", "A-Z"])
        await program.tell_async(Program.write, "hello")
        await program.ask(Program.close_stdin)
        line = await program.ask(Program.read)
        return [line, str(await program.wait_async())]

    assert asyncio.run(main()) == ["HELLO", "exited with code 0"]


def test_stderr_and_what_is_logged_of_stdout_come_out_with_the_address(
    own: ActorSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line, carriage returns too; long lines are cut, bytes shown, floods counted."""
    text = r"""
        printf 'one\ntwo\r\nthree\rfour\377\n' >&2; echo said; head -c 20000 /dev/zero | tr '\0' x >&2; echo >&2
        yes flood | head -n 5000 >&2; echo end >&2; printf 'unended' >&2
    """
    program = own.spawn_program(["sh", "-c", text], name="talker", stdout="log", restart="temporary")
    assert program.wait(20) == ExitReason("exit", code=0)
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or "left out" in "".join(said), "all of it is in the log")
    log = "".join(said)
    rows = [line for line in log.splitlines() if program.address in line]
    for word in ("one", "two", "three", r"four\xff", "said"):
        assert len([row for row in rows if f" {word} " in row]) == 1, word
    assert sum("x" * 1000 in row for row in rows) == 3
    assert 900 <= sum(" flood " in row for row in rows) <= 2000
    assert any("more lines within a second are left out" in row and "warning" in row for row in rows)


def test_the_end_of_a_program_in_use_is_an_actor_died_for_those_who_use_it(run: Any) -> None:
    """A write too: what matters is why it ended, not that a pipe broke."""
    program = run(["sh", "-c", "read line; exit 5"])
    program.tell(Program.write, "go")
    with pytest.raises(ActorDied) as died:
        for _ in range(1000):
            program.ask(Program.write, "x" * 1000).result(20)
    assert died.value.reason == ExitReason("exit", code=5)

"""External programs that crash, flood, hang, close their pipes and have children, and owners that die."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorDied, ActorRef, ActorSystem, ExitReason, MailboxOptions, Program
from actors.supervision import Backoff, Child, Supervisor
from kit import Gate, Journal, Resources, Script, alive, children, family, kill, until

AT_ONCE = Backoff(0.0, 0.0)
MB = 1 << 20


class Taker(Actor):
    """Takes frames, counts and sums them up."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate, self.frames, self.bytes = gate, 0, 0
        self.sum = hashlib.sha256()
        self.last: Any = None

    def receive(self, frame: Any) -> None:
        if self.gate is not None:
            self.gate.wait()
            self.gate = None
        data = frame if isinstance(frame, bytes) else str(frame).encode()
        self.frames, self.bytes, self.last = self.frames + 1, self.bytes + len(data), frame
        self.sum.update(data)

    def taken(self) -> tuple[int, int, str]:
        return self.frames, self.bytes, self.sum.hexdigest()

    def latest(self) -> Any:
        return self.last


class Writer(Actor):
    """Writes what a receiver can check."""

    def flood(self, program: ActorRef[Program], pieces: int, size: int) -> str:
        total = hashlib.sha256()
        for number in range(pieces):
            piece = number.to_bytes(8, "little") * (size // 8)
            total.update(piece)
            program.tell(Program.write, piece)
        program.tell(Program.close_stdin)
        return total.hexdigest()


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


def pid_of(path: Path) -> int:
    """What a shell has written there."""
    return int(until(lambda: path.exists() and path.read_text().strip(), f"a pid in {path}"))


# --- how it ends


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 0", ExitReason("exit", code=0)),
        ("exit 3", ExitReason("exit", code=3)),
        ("exit 139", ExitReason("exit", code=139)),
        ("kill -SEGV $$", ExitReason("signal", signal=signal.SIGSEGV)),
        ("kill -KILL $$", ExitReason("signal", signal=signal.SIGKILL)),
        ("kill -TERM $$", ExitReason("signal", signal=signal.SIGTERM)),
        ("kill -40 $$", ExitReason("signal", code=40)),
    ],
)
def test_the_end_of_a_program_is_the_actors_end_exactly(command: str, reason: ExitReason, system: ActorSystem) -> None:
    """`wait`, a monitor, an ask in hand and the next one all say the code or the signal."""
    program = system.spawn_program(sh(f"read line; {command}"), restart="temporary")
    downs: list[Any] = []
    program.monitor(downs.append)
    waiting = program.ask(Program.read)
    program.tell(Program.write, "go")
    assert program.wait(20) == reason
    for reply in (waiting, program.ask(Program.read)):
        with pytest.raises(ActorDied) as died:
            reply.result(20)
        assert died.value.reason == reason
    until(lambda: downs, "the monitor heard of it")
    assert [down.reason for down in downs] == [reason]


def test_a_crashing_program_is_started_again_as_any_actor_and_gets_what_waits(
    system: ActorSystem, journal: Journal
) -> None:
    """It dies of every third line; the supervisor restarts it, and the lines behind are for the next one."""
    text = f"while read line; do echo $line >> {journal.path}; case $line in *3) kill -SEGV $$;; esac; done"
    tree = Supervisor(Child(Program, sh(text), name="program", backoff=AT_ONCE), name="tree", max_restarts=1000)
    program = system.start(tree)["program"]
    first = program.ask(Program.pid).result(20)
    for number in range(1, 31):
        program.ask(Program.write, str(number)).exception(20)  # one at a time: what a pipe took dies with its reader
        journal.until(number) if number % 10 != 3 else until(lambda: _is_new(program, first), "the next one is there")  # noqa: B023
        first = program.ask(Program.pid).result(20)
    assert journal.lines() == [str(number) for number in range(1, 31)]
    assert program.info()["restarts"] == 3


def _is_new(program: ActorRef[Program], before: int) -> bool:
    try:
        return program.ask(Program.pid).result(20) != before
    except ActorDied:
        return False


def test_a_normal_end_is_no_crash(system: ActorSystem) -> None:
    """Transient: exit 0 ends it, exit 1 restarts it; permanent: it comes back from either."""
    transient = system.spawn_program(sh("read line; exit $line"), restart="transient", backoff=AT_ONCE)
    before = transient.ask(Program.pid).result(20)
    transient.tell(Program.write, "1")
    until(lambda: _is_new(transient, before), "it is back")
    transient.tell(Program.write, "0")
    assert transient.wait(20) == ExitReason("exit", code=0)
    permanent = system.spawn_program(sh("read line; exit 0"), restart="permanent", backoff=AT_ONCE)
    before = permanent.ask(Program.pid).result(20)
    permanent.tell(Program.write, "go")
    until(lambda: _is_new(permanent, before), "it is back")


# --- how its owner ends

FAMILY = 'sleep 1000 & echo $! > "$0.child"; echo $$ > "$0.tmp"; mv "$0.tmp" "$0"; exec sleep 1000'


@pytest.mark.parametrize("round_", range(10))
def test_a_program_is_gone_within_a_second_of_the_actors_sigkill(
    round_: int, system: ActorSystem, tmp_path: Path
) -> None:
    """And so is what it has started, in its process group."""
    program = system.spawn_program([*sh(FAMILY), str(tmp_path / "pid")], restart="temporary")
    pid, child = pid_of(tmp_path / "pid"), pid_of(tmp_path / "pid.child")
    kill(program.info()["pid"])
    until(lambda: not alive(pid), "the program is gone", seconds=1.0)
    until(lambda: not alive(child), "its child is gone", seconds=1.0)
    assert program.wait(20) == ExitReason("signal", signal=signal.SIGKILL)


@pytest.mark.parametrize("who", ["guardian", "warden", "script"])
def test_a_program_is_gone_within_a_second_of_the_end_of_all_above_it(who: str, tmp_path: Path) -> None:
    """SIGKILL of the guardian, the warden, or the program that has the system."""
    code = f"""
        from actors import ActorSystem
        system = ActorSystem()
        program = system.spawn_program(["sh", "-c", {FAMILY!r}, {str(tmp_path / "pid")!r}])
        print("guardian", system.guardian_pid)
        program.wait()
    """
    with Script(code) as script:
        guardian = int(script.expect("guardian"))
        pid, child = pid_of(tmp_path / "pid"), pid_of(tmp_path / "pid.child")
        kill({"guardian": guardian, "warden": family(guardian).warden, "script": script.pid}[who])
        until(lambda: not alive(pid), "the program is gone", seconds=1.0)
        until(lambda: not alive(child), "its child is gone")
        script.drain()


def test_a_stop_is_the_end_of_its_input_and_what_it_says_then_arrives(system: ActorSystem) -> None:
    """`sort` says nothing before."""
    taker = system.spawn(Taker)
    program = system.spawn_program(["sort", "-n"], to=taker)
    for number in reversed(range(1000)):
        program.tell(Program.write, str(number))
    program.stop()
    assert program.wait(20) == ExitReason("shutdown")
    expected = hashlib.sha256("".join(map(str, range(1000))).encode()).hexdigest()
    assert taker.ask(Taker.taken).result(20) == (1000, 2890, expected)


@pytest.mark.parametrize("heeds", [True, False])
def test_a_program_that_does_not_end_with_its_input_gets_sigterm_then_sigkill(
    heeds: bool, system: ActorSystem, tmp_path: Path
) -> None:
    """Its children, too; all within `shutdown`."""
    trap = f"echo term > {tmp_path / 'heard'}" + ("; exit 0" if heeds else "")
    text = f"trap {shlex.quote(trap)} TERM; echo $$ > {tmp_path / 'pid'}; while :; do sleep 0.05; done"
    program = system.spawn_program(sh(text), shutdown=20.0, grace=0.2)
    pid = pid_of(tmp_path / "pid")
    program.stop()
    assert program.wait(15) == ExitReason("shutdown")
    assert (tmp_path / "heard").read_text() == "term\n"
    assert not alive(pid)


def test_past_its_shutdown_time_the_program_gets_the_sigterm_of_its_actor(system: ActorSystem, tmp_path: Path) -> None:
    """It reads nothing, so what was accepted is never written, and only the guardian's clock ends it."""
    text = f"trap 'echo term > {tmp_path / 'heard'}; exit 7' TERM; echo $$ > {tmp_path / 'pid'}; while :; do sleep 0.05; done"
    program = system.spawn_program(sh(text), framing="raw", shutdown=0.5)
    pid = pid_of(tmp_path / "pid")
    replies = [program.ask(Program.write, bytes(MB // 2)) for _ in range(6)]
    letters = system.dead_letters()
    program.tell(Program.write, b"the last")
    program.stop()
    assert program.wait(20) in (ExitReason("exit", code=7), ExitReason("signal", signal=signal.SIGKILL))
    assert (tmp_path / "heard").read_text() == "term\n"
    assert not alive(pid)
    outcomes = [reply.exception(20) for reply in replies]
    assert isinstance(outcomes[-1], ActorDied)
    assert next(iter(letters)).target == program
    letters.close()


def test_a_killed_program_actor_leaves_nothing_of_a_pipeline(system: ActorSystem, tmp_path: Path) -> None:
    """`sh -c 'yes | cat'`: three processes, one group."""
    program = system.spawn_program(sh(f"echo $$ > {tmp_path / 'pid'}; yes | cat"), framing="raw", restart="temporary")
    shell = pid_of(tmp_path / "pid")
    rest = until(lambda: children(shell) if len(children(shell)) == 2 else None, "both sides of the pipe run")
    program.kill()
    program.wait(20)
    until(lambda: not any(map(alive, [shell, *rest])), "all are gone")


# --- pipes that misbehave


def test_a_flood_waits_for_its_receiver(system: ActorSystem, tmp_path: Path) -> None:
    """A gigabyte a second would come; what comes is what fits into pipes and mailbox."""
    gate = Gate(tmp_path / "gate")
    taker = system.spawn(Taker, gate, mailbox=MailboxOptions(capacity=64 << 10))
    text = 'n=0; while :; do n=$((n+1)); echo $n; [ $((n % 100)) = 0 ] && echo $n > "$0.tmp" && mv "$0.tmp" "$0"; done'
    program = system.spawn_program([*sh(text), str(tmp_path / "count")], to=taker)
    resident = Resources.of(program.info()["pid"]).resident
    said = tmp_path / "count"
    until(lambda: said.exists() and _rests(said), "it is stopped by its full pipe", seconds=60)
    assert Resources.of(program.info()["pid"]).resident < resident + 16 * MB
    before = int(said.read_text())
    gate.open()
    until(lambda: int(said.read_text()) > before, "it runs on")
    program.kill()
    program.wait(20)
    frames, _, _ = taker.ask(Taker.taken).result(60)
    assert taker.ask(Taker.latest).result(20) == str(frames)  # none is lost, doubled or out of order


def _rests(path: Path) -> bool:
    """Nothing was written for a while; what is waited for is that nothing happens."""
    before = path.read_text()
    time.sleep(0.3)
    return path.read_text() == before


def test_a_flood_without_line_ends_is_an_error_and_not_memory(system: ActorSystem) -> None:
    """The frame is given up at its limit."""
    program = system.spawn_program(["cat", "/dev/zero"], limit=MB, restart="temporary")
    reason = program.wait(20)
    assert (reason.kind, "limit=1048576" in str(reason.error)) == ("exception", True)


def test_a_flood_on_stderr_is_cut_and_counted_and_stops_nothing(system: ActorSystem) -> None:
    """A hundred thousand lines end; a program that waits for its log to be written would not."""
    program = system.spawn_program(sh("yes | head -100000 >&2; echo done"), restart="temporary")
    assert program.ask(Program.read).result(60) == "done"


def test_a_program_that_never_reads_makes_its_senders_wait(system: ActorSystem) -> None:
    """Memory is bounded by the pipe and the mailbox; other actors go on, and a kill frees the sender."""
    program = system.spawn_program(["sleep", "1000"], framing="raw", mailbox=MailboxOptions(capacity=64 << 10))
    piece = bytes(8 << 10)
    sent = 0
    while True:
        reply = program.using(timeout=1.0).ask(Program.write, piece)
        try:
            reply.result()
            sent += 1
        except TimeoutError:
            break
    assert sent * len(piece) <= 2 * MB
    writer = system.spawn(Writer)
    flooding = writer.ask(Writer.flood, program, 1000, 8 << 10)
    assert system.spawn(Taker).ask(Taker.taken).result(20)[0] == 0
    program.kill()
    assert isinstance(flooding.exception(20), ActorDied)


def test_a_program_that_closes_its_stdout_goes_on(system: ActorSystem, tmp_path: Path) -> None:
    """Readers hear of it; writers are served."""
    program = system.spawn_program(sh(f"exec >&-; cat > {tmp_path / 'out'}"), restart="temporary")
    with pytest.raises(EOFError, match="has closed its stdout and runs on"):
        program.ask(Program.read).result(20)
    program.ask(Program.write, "still there").result(20)
    program.tell(Program.close_stdin)
    assert program.wait(20) == ExitReason("exit", code=0)
    assert (tmp_path / "out").read_text() == "still there\n"


def test_a_program_that_closes_its_stdin_breaks_the_pipe_of_writers_only(system: ActorSystem) -> None:
    """An ask raises BrokenPipeError; what it says can be read."""
    program = system.spawn_program(sh("exec <&-; echo closed; exec sleep 1000"))
    assert program.ask(Program.read).result(20) == "closed"
    with pytest.raises(BrokenPipeError, match="has closed its stdin"):
        program.ask(Program.write, "x").result(20)
    assert program.info()["restarts"] == 0


def test_a_grandchild_that_keeps_the_pipe_does_not_keep_the_actor(system: ActorSystem, tmp_path: Path) -> None:
    """The program's exit is reported at once; the grandchild is ended with the group; what was said before is read."""
    program = system.spawn_program(sh("sleep 1000 & echo $!; exit 3"), restart="temporary")
    grandchild = int(program.ask(Program.read).result(20))
    assert program.wait(20) == ExitReason("exit", code=3)
    until(lambda: not alive(grandchild), "the grandchild is gone")


@pytest.mark.parametrize(
    ("end", "reason"),
    [("kill -SEGV $$", ExitReason("signal", signal=signal.SIGSEGV)), ("exit 3", ExitReason("exit", code=3))],
)
def test_half_a_frame_and_a_crash_is_reported_as_the_crash(end: str, reason: ExitReason, system: ActorSystem) -> None:
    """Frames before are given, the half is not; why the program died matters more."""
    taker = system.spawn(Taker)
    program = system.spawn_program(
        sh(f"printf '5:hello,3:ab'; {end}"), framing="netstring", to=taker, restart="temporary"
    )
    assert program.wait(20) == reason
    assert taker.ask(Taker.taken).result(20)[:2] == (1, 5)


def test_half_a_frame_and_a_normal_exit_is_an_error(system: ActorSystem) -> None:
    """Nobody shall take that output for whole."""
    taker = system.spawn(Taker)
    program = system.spawn_program(sh("printf '5:hello,3:ab'"), framing="netstring", to=taker, restart="temporary")
    reason = program.wait(20)
    assert (reason.kind, "after 4 of 6 bytes" in str(reason.error)) == ("exception", True)


def test_output_in_another_framing_is_an_error_that_shows_it(system: ActorSystem, tmp_path: Path) -> None:
    """The program runs on, so it is ended."""
    text = f"echo $$ > {tmp_path / 'pid'}; echo hello; exec sleep 1000"
    program = system.spawn_program(sh(text), framing="netstring", restart="temporary")
    reason = program.wait(20)
    assert (reason.kind, "here stands b'hello" in str(reason.error)) == ("exception", True)
    pid = pid_of(tmp_path / "pid")
    until(lambda: not alive(pid), "the program is gone")


def test_the_end_of_the_receiver_is_the_end_of_the_program(system: ActorSystem, tmp_path: Path) -> None:
    """A port closes with its owner: normally, if that ended so; else as a crash."""
    for ends, kind in ((lambda ref: ref.stop(), "normal"), (lambda ref: ref.kill(), "exception")):
        taker = system.spawn(Taker, restart="temporary")
        program = system.spawn_program(sh("echo $$; exec sleep 1000"), to=taker, restart="temporary", grace=0.2)
        pid = int(until(lambda: taker.ask(Taker.latest).result(20), "the program's pid"))  # noqa: B023
        ends(taker)
        assert program.wait(20).kind == kind
        until(lambda: not alive(pid), "the program is gone")  # noqa: B023


def test_what_was_said_before_the_end_is_kept_for_a_reader(system: ActorSystem) -> None:
    """The program is gone long before all is read; the end comes after the last line."""
    program = system.spawn_program(sh("seq 20000; exit 3"), restart="temporary")
    assert program.ask(Program.read).result(20) == "1"
    lines = [program.ask(Program.read).result(20) for _ in range(9999)]
    lines += [program.ask(Program.read).result(20) for _ in range(10000)]
    assert lines == [str(number) for number in range(2, 20001)]
    with pytest.raises(ActorDied) as died:
        program.ask(Program.read).result(20)
    assert died.value.reason == ExitReason("exit", code=3)


# --- much


def through_cat(system: ActorSystem, total: int) -> None:
    """Every byte arrives, in order, and no process on the way grows by more than some megabytes."""
    taker, writer = system.spawn(Taker), system.spawn(Writer)
    cat = system.spawn_program(["cat"], framing="raw", to=taker)
    pids = [cat.info()["pid"], taker.info()["pid"]]
    before = [Resources.of(pid).resident for pid in pids]
    flooding = writer.ask(Writer.flood, cat, total // (128 << 10), 128 << 10)
    most = list(before)
    while not flooding.done():
        for i, pid in enumerate(pids):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends as soon as all is through
                most[i] = max(most[i], Resources.of(pid).resident)
        time.sleep(0.01)
    assert cat.wait(60) == ExitReason("exit", code=0)
    _, count, digest = taker.ask(Taker.taken).result(60)
    assert (count, digest) == (total, flooding.result(1))
    assert max(after - first for first, after in zip(before, most, strict=True)) < 24 * MB


def test_64_megabytes_through_cat_arrive_in_bounded_memory(system: ActorSystem) -> None:
    """By their checksum."""
    through_cat(system, 64 * MB)


@pytest.mark.nightly
def test_a_gigabyte_through_cat_arrives_in_bounded_memory(system: ActorSystem) -> None:
    """By its checksum."""
    through_cat(system, 1024 * MB)


def lines_through_killed_cats(system: ActorSystem, rng: random.Random, lines: int, kills: int) -> None:
    """`cat` is killed under load, or its actor is: what arrives is whole, in order, once; what was in the pipes is lost."""
    taker = system.spawn(Lines)
    cat = system.spawn_program(["cat"], to=taker, backoff=AT_ONCE)
    victims: list[Callable[[], int]] = [lambda: cat.info()["pid"], lambda: cat.ask(Program.pid).result(20)]
    places = set(rng.sample(range(1, lines), kills))
    for number in range(lines):
        if number in places:
            try:
                victim = rng.choice(victims)()
            except ActorDied:
                continue
            if victim:
                kill(victim)
        cat.tell(Program.write, f"{number} {'x' * (number % 200)}")
    until(lambda: taker.ask(Lines.verdict).result(60)[1], "the next one, if it still starts, says the last lines")
    cat.stop()
    cat.wait(60)
    assert taker.ask(Lines.verdict).result(60)[0] == []


class Lines(Actor):
    """Looks at each line."""

    def __init__(self) -> None:
        self.last, self.wrong, self.count = -1, list[str](), 0

    def receive(self, line: str) -> None:
        number, _, rest = line.partition(" ")
        if not number.isdigit() or int(number) <= self.last or rest != "x" * (int(number) % 200):
            self.wrong.append(line)
        else:
            self.last, self.count = int(number), self.count + 1

    def verdict(self) -> tuple[list[str], int]:
        return self.wrong[:10], self.count


def test_lines_through_programs_that_are_killed_arrive_whole_and_in_order(
    system: ActorSystem, rng: random.Random
) -> None:
    """Ten kills."""
    lines_through_killed_cats(system, rng, 3000, 10)


@pytest.mark.nightly
def test_lines_through_many_killed_programs_arrive_whole_and_in_order(system: ActorSystem, rng: random.Random) -> None:
    """Two hundred kills."""
    lines_through_killed_cats(system, rng, 60_000, 200)


def test_a_program_inherits_its_three_pipes_and_nothing_else(system: ActorSystem) -> None:
    """No descriptor of the actor's: a mailbox that a program holds would never be given back."""
    program = system.spawn_program(["cat"])
    assert program.ask(Program.request, "up").result(20) == "up"
    pid = program.ask(Program.pid).result(20)
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]

"""The identifiers that Python's own standard library uses most, counted by supervised actors, each in a process of its
own.

    Reader ── number, source ──▶ Tokenizer 1 … n ── number, counts ──▶ Tally

The reader tells each file to the tokenizers in turn and waits where a mailbox is full, so memory stays flat. On the way
one tokenizer is killed by SIGKILL. Its mail waits in its mailbox, its supervisor starts it again, and with `redeliver`
it gets the file that it had in hand once more. Had it told its counts before it died, they come twice: the tally counts
every file number once, so at least once becomes exactly once. In the end a plain loop counts the same files, and the
two results must be equal.

    python examples/identifiers.py [FOLDER] [--tokenizers 4] [--spare]      # meanwhile: actors top identifiers
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import keyword
import os
import signal
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

from actors import Actor, ActorRef, ActorSystem, MailboxOptions
from actors.supervision import Child, Supervisor

Counts = dict[str, int]
STEPS = 50  # of the progress bar
MAIL = MailboxOptions(capacity=4 << 20)  # room for the largest file
PATIENCE = 0.3  # seconds: after Ctrl-C nobody waits for files that lie in a mailbox


def identifiers(source: bytes) -> Counts | None:
    """How often each identifier occurs; None when this can't be read as Python (test data, wrong encodings)."""
    try:
        tokens = tokenize.tokenize(io.BytesIO(source).readline)
        return dict(Counter(t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string)))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None


# --- the actors


class Tally(Actor):
    """Adds up what the tokenizers found; counts each file once, however often it comes."""

    concurrency = 2  # `counted` waits while `add` goes on

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.files: set[int] = set()
        self.skipped = 0
        self.grown = asyncio.Event()

    def add(self, number: int, found: Counts | None) -> None:
        if number in self.files:
            return
        self.files.add(number)
        if found is None:
            self.skipped += 1
        else:
            self.counts.update(found)
        self.grown.set()

    async def counted(self, files: int) -> int:
        """Answers when so many files are counted, with how many are."""
        while len(self.files) < files:
            self.grown.clear()
            await self.grown.wait()
        return len(self.files)

    def result(self) -> tuple[Counts, int]:
        return dict(self.counts), self.skipped


class Tokenizer(Actor):
    """Turns sources into counts."""

    def on_start(self) -> None:
        self.tally = self.system.lookup("count/tally", Tally)

    def tokenize(self, number: int, source: bytes) -> None:
        self.tally.tell(Tally.add, number, identifiers(source))


class Reader(Actor):
    """Reads the files and deals them out."""

    def __init__(self, tokenizers: int) -> None:
        self.names = names(tokenizers)

    def read(self, paths: list[str]) -> None:
        tokenizers = [self.system.lookup(f"count/{name}", Tokenizer) for name in self.names]
        for number, (path, tokenizer) in enumerate(zip(paths, itertools.cycle(tokenizers), strict=False)):
            tokenizer.tell(Tokenizer.tokenize, number, Path(path).read_bytes())


# --- the program


def tree(tokenizers: int) -> Supervisor:
    """Consumers first: they start before, and stop after, those who tell them."""
    return Supervisor(
        Child(Tally, name="tally", mailbox=MAIL, shutdown=PATIENCE),
        *(Child(Tokenizer, name=name, redeliver=3, mailbox=MAIL, shutdown=PATIENCE) for name in names(tokenizers)),
        Child(Reader, tokenizers, name="reader", shutdown=PATIENCE),
        name="count",
    )


def names(tokenizers: int) -> list[str]:
    return [f"tokenizer-{number}" for number in range(1, tokenizers + 1)]


def sequential(paths: list[Path]) -> tuple[Counts, int]:
    """The same in a plain loop: what the actors' result must equal."""
    tally = Tally()
    for number, path in enumerate(paths):
        tally.add(number, identifiers(path.read_bytes()))
    return tally.result()


def concurrent(system_name: str, paths: list[Path], tokenizers: int, spare: bool) -> tuple[Counts, int]:
    with ActorSystem(system_name) as system, progress(len(paths)) as show:
        system.start(tree(tokenizers))
        tally = system.lookup("count/tally", Tally)
        system.lookup("count/reader", Reader).tell(Reader.read, [str(path) for path in paths])
        for step in range(1, STEPS + 1):
            show(tally.ask(Tally.counted, len(paths) * step // STEPS).result(timeout=300))
            if step == STEPS // 3 and not spare:
                kill_one(system, [system.lookup(f"count/{name}", Tokenizer) for name in names(tokenizers)])
        return tally.ask(Tally.result).result()


def kill_one(system: ActorSystem, tokenizers: list[ActorRef[Tokenizer]]) -> None:
    """SIGKILL for one that has a file in hand, as the kernel's out-of-memory killer does it, and wait for the next."""
    victim = next((tokenizer for tokenizer in tokenizers if tokenizer.info()["busy_since"]), tokenizers[0])
    events = system.events()
    begin = time.perf_counter()
    os.kill(victim.info()["pid"], signal.SIGKILL)
    mine = (event for event in events if event.ref == victim)
    reason = next(event.reason for event in mine if event.kind == "crashed")
    next(event for event in mine if event.kind == "restarted")
    print(f"{victim.address} was {reason} and restarted after {(time.perf_counter() - begin) * 1e3:.1f} ms")
    events.close()


# --- how it is shown


def progress(total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Told how many are done: a bar where rich is installed and somebody looks, else a line every tenth."""
    return bar(total) if sys.stdout.isatty() and find_spec("rich") else lines(total)


@contextmanager
def bar(total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    begin = time.monotonic()
    rate = TextColumn("{task.fields[rate]:.0f} files/s")
    with Progress(BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn()) as shown:
        task = shown.add_task("", total=total, rate=0.0)
        yield lambda done: shown.update(task, completed=done, rate=done / (time.monotonic() - begin))


@contextmanager
def lines(total: int) -> Iterator[Callable[[int], None]]:
    begin, shown = time.monotonic(), 0

    def line(done: int) -> None:
        nonlocal shown
        if done * 10 // total > shown:
            shown = done * 10 // total
            print(f"{done:>6} of {total} files, {done / (time.monotonic() - begin):.0f} files/s", flush=True)

    yield line


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--tokenizers", type=int, default=4, metavar="N")
    parser.add_argument("--spare", action="store_true", help="kill nobody on the way")
    parser.add_argument("--name", default="identifiers", help="the system's name")
    options = parser.parse_args()

    paths = [path for path in sorted(options.folder.rglob("*.py")) if "site-packages" not in path.parts]
    size = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{len(paths):,} files, {size:.1f} MB below {options.folder}; {options.tokenizers} tokenizers")

    begin = time.monotonic()
    counts, skipped = concurrent(options.name, paths, options.tokenizers, options.spare)
    middle = time.monotonic()
    print("the same in a plain loop ...", flush=True)
    expected = sequential(paths)
    end = time.monotonic()

    print(f"\n{sum(counts.values()):,} uses of {len(counts):,} identifiers; {skipped} files skipped as unreadable")
    for name, count in Counter(counts).most_common(10):
        print(f"{count:>10,}  {name}")
    print(f"\nactors {size / (middle - begin):.1f} MB/s, a plain loop {size / (end - middle):.1f} MB/s,", end=" ")
    equal = (counts, skipped) == expected
    print("equal results" if equal else "DIFFERENT results")
    return 0 if equal else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # leaving `with` has stopped the actors
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)

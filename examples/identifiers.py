"""The identifiers that Python's own standard library uses most, counted by a pipeline whose workers are supervised actors,
each in a process of its own.

    paths ──▶ tokenize, in n workers ──▶ tally, which keeps its state over a crash ──▶ the counts

The paths are taken as there is room, so memory stays flat. On the way one worker is killed by SIGKILL: its supervisor
starts it again, and the files that it had in hand go to whoever is free, so none is lost and none is counted twice. In
the end a plain loop counts the same files, and the two results must be equal.

    python examples/identifiers.py [FOLDER] [--tokenizers 4] [--spare]      # meanwhile: actors top identifiers
"""

from __future__ import annotations

import argparse
import io
import keyword
import os
import signal
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from actors import ActorSystem
from actors.pipeline import Pipeline, Stage

Counts = dict[str, int]


def identifiers(source: bytes) -> Counts | None:
    """How often each identifier occurs; None when this can't be read as Python (test data, wrong encodings)."""
    try:
        tokens = tokenize.tokenize(io.BytesIO(source).readline)
        return dict(Counter(t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string)))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None


# --- the stages


def read_and_count(path: str) -> tuple[Counts | None]:
    return (identifiers(Path(path).read_bytes()),)


class Tally:
    """Adds up what was found, and says it at the end; `snapshot` and `restore` carry it over a crash."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped = 0

    def process(self, found: tuple[Counts | None]) -> None:
        (counts,) = found
        if counts is None:
            self.skipped += 1
        else:
            self.counts.update(counts)

    def finish(self) -> tuple[Counts, int]:
        return dict(self.counts), self.skipped

    def snapshot(self) -> tuple[Counts, int]:
        return self.finish()

    def restore(self, state: tuple[Counts, int]) -> None:
        self.counts, self.skipped = Counter(state[0]), state[1]


# --- the program


def sequential(paths: list[str]) -> tuple[Counts, int]:
    """The same in a plain loop: what the pipeline's result must equal."""
    tally = Tally()
    for path in paths:
        tally.process(read_and_count(path))
    return tally.finish()


def concurrent(system_name: str, paths: list[str], tokenizers: int, spare: bool) -> tuple[Counts, int]:
    pipeline = Pipeline(Stage(read_and_count, workers=tokenizers, name="tokenizer"), Tally, name="count")
    with ActorSystem(system_name) as system:
        run = pipeline.run(watched(paths, system, spare), system=system, progress=True)
        [(counts, skipped)] = run
        print(run.profile())
    return counts, skipped


def watched(paths: list[str], system: ActorSystem, spare: bool) -> Iterator[str]:
    """The paths; with a line every tenth of them, and a kill after the third part."""
    begin = time.monotonic()
    for number, path in enumerate(paths, 1):
        yield path
        if number * 10 // len(paths) > (number - 1) * 10 // len(paths):
            print(f"{number:>6} of {len(paths)} files, {number / (time.monotonic() - begin):.0f} files/s", flush=True)
        if number == len(paths) // 3 and not spare:
            kill_one(system)


def kill_one(system: ActorSystem) -> None:
    """SIGKILL for a tokenizer, as the kernel's out-of-memory killer does it, and wait for the next."""
    [crew] = system.tree()["children"]
    victim = next(worker for worker in crew["children"] if "tokenizer" in worker["name"])
    begin = time.perf_counter()
    events = system.events()
    os.kill(victim["pid"], signal.SIGKILL)
    mine = (event for event in events if event.ref.name == victim["name"])
    reason = next(event.reason for event in mine if event.kind == "crashed")
    next(event for event in mine if event.kind == "restarted")
    events.close()
    print(f"{victim['address']} was {reason} and restarted after {(time.perf_counter() - begin) * 1e3:.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--tokenizers", type=int, default=4, metavar="N")
    parser.add_argument("--spare", action="store_true", help="kill nobody on the way")
    parser.add_argument("--name", default="identifiers", help="the system's name")
    options = parser.parse_args()

    found = [path for path in sorted(options.folder.rglob("*.py")) if "site-packages" not in path.parts]
    size = sum(path.stat().st_size for path in found) / 1e6
    paths = [str(path) for path in found]
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

"""How fast the examples are: as pipelines, as plain loops (the shell, for `words`) and with multiprocessing.Pool, in turns.

What is measured is the whole job, processes' starts and ends included; the table has medians, and the least and the most.
Another process at work on the machine makes the figures worthless: look first (`top`).

    python examples/measure.py identifiers|flights|photographs|words [--workers 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import flights
import identifiers
import words

Job = Callable[[], object]
Ways = tuple[int, str, dict[str, Job]]  # items, what they are, the job in several ways
join: flights.Join  # in a process of the Pool


def of_identifiers(workers: int) -> Ways:
    paths = [
        str(path)
        for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
        if "site-packages" not in path.parts
    ]

    def actors() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return identifiers.concurrent("measured", paths, workers, True)

    def pool() -> object:
        tally = identifiers.Tally()
        with multiprocessing.Pool(workers) as processes:
            for found in processes.imap_unordered(identifiers.read_and_count, paths):
                tally.process(found)
        return tally.finish()

    return len(paths), "files", {"actors": actors, "loop": partial(identifiers.sequential, paths), "Pool": pool}


def of_flights(workers: int) -> Ways:
    table, weather = flights.packaged("flights.csv.zip"), flights.packaged("weather.csv")

    def pool() -> object:
        with multiprocessing.Pool(workers, prepare, (weather, flights.columns(table))) as processes:
            return flights.total(processes.imap_unordered(joined, flights.blocks(table)))

    return (
        sum(count for count, _, _ in flights.sequential(table, weather).values()),
        "flights",
        {
            "actors": lambda: flights.concurrent(table, weather, workers)[0],
            "loop": partial(flights.sequential, table, weather),
            "Pool": pool,
        },
    )


def prepare(weather: Path, columns: list[str]) -> None:
    global join
    join = flights.Join(weather, columns)


def joined(block: bytes) -> flights.Sums:
    return join.process(block)


def of_photographs(workers: int) -> Ways:
    import photographs  # here: it needs NumPy and Pillow

    paths, size = photographs.packaged(), 384

    def pool() -> object:
        with multiprocessing.Pool(workers) as processes:
            return list(
                processes.imap(photographs.denoise, processes.imap(partial(photographs.read, size=size), paths))
            )

    return (
        len(paths),
        "photographs",
        {
            "actors": lambda: photographs.concurrent(paths, size, workers)[0],
            "loop": partial(photographs.sequential, paths, size),
            "Pool": pool,
        },
    )


def of_words(workers: int) -> Ways:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "sources.gz"
    words.sources(path)

    def actors() -> object:
        assert folder  # as long as it is needed
        return words.concurrent(path, workers)[0]

    count = sum(int(line.split()[0]) for line in words.shell(path).splitlines())
    return count, "words", {"actors": actors, "shell": partial(words.shell, path)}


EXAMPLES = {"identifiers": of_identifiers, "flights": of_flights, "photographs": of_photographs, "words": of_words}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    count, noun, ways = EXAMPLES[options.example](options.workers)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, job in ways.items():
            begin = time.perf_counter()
            job()
            seconds[way].append(time.perf_counter() - begin)
    print(f"{options.example}: {count:,} {noun}, {options.workers} workers, medians of {options.rounds}")
    ours = statistics.median(seconds["actors"])
    for way, each in seconds.items():
        middle = statistics.median(each)
        rate = f"{count / middle:,.0f}" if count > 100 else f"{count / middle:.2f}"
        print(
            f"{way:<8}{middle:>7.2f} s ({min(each):.2f} to {max(each):.2f}){rate:>12} {noun}/s   {middle / ours:.2f} x"
        )


if __name__ == "__main__":
    main()

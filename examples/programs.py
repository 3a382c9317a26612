"""`sort` and `gzip` as actors: words go into one program, its sorted lines into the other, what that says into a file.

Each program is supervised, gets messages on stdin and gives messages on stdout; a slow one makes those before it wait, so
that memory stays bounded however much goes through.

    python examples/programs.py TEXT OUT.gz
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from actors import Actor, ActorRef, ActorSystem, Program


class Feeder(Actor):
    """Takes the lines of one program and feeds them to another."""

    def __init__(self, gzip: ActorRef[Program]) -> None:
        self.gzip = gzip

    def line(self, line: str) -> None:
        self.gzip.tell(Program.write, line.encode() + b"\n")


class File(Actor):
    """Keeps what it receives."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def receive(self, data: bytes) -> None:
        self.file.write(data)

    def close(self) -> None:
        self.file.close()


def main(text: Path, out: Path) -> None:
    with ActorSystem() as system:
        file = system.spawn(File, out)
        compress = system.spawn_program(["gzip", "-c"], framing="raw", to=file, name="gzip")
        feeder = system.spawn(Feeder, compress)
        sort = system.spawn_program(["sort", "-u"], to=feeder, method=Feeder.line, env={"LC_ALL": "C"}, name="sort")
        for word in text.read_text().split():
            sort.tell(Program.write, word)
        sort.tell(Program.close_stdin)
        print(f"sort {sort.wait()}")
        feeder.stop()  # it hands on what it has, then ends
        feeder.wait()
        compress.tell(Program.close_stdin)
        print(f"gzip {compress.wait()}")
        file.ask(File.close).result()
    words = gzip.decompress(out.read_bytes()).decode().splitlines()
    assert words == sorted(set(text.read_text().split()), key=str.encode)
    print(f"{len(words)} different words, sorted, in {out.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

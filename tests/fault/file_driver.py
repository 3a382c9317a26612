"""What the fault tests of files run in processes that die: `file_driver.py <path> <what> …`.

step K CALL     make the call, and die at the K-th thing that it has the kernel do (a write is half done then)
writer NAME ACKS SEED   append numbered records until killed; what was acknowledged is written into the file ACKS
replacer SEED   replace the whole, again and again, until killed
"""

import json
import os
import random
import signal
import sys
import zlib
from collections.abc import Callable
from typing import Any

from actors.coordination import File

CALLS: dict[str, Callable[[File], object]] = {
    "append": lambda file: file.append("first of two", "second of two"),
    "again": lambda file: [file.append("first of two"), file.append("second of two")],
    "replace": lambda file: file.replace("new\n" * 5000),
}
STEPS = ("write", "pwrite", "fsync", "rename", "open", "close", "unlink", "ftruncate")


def die_at(step: int) -> None:
    """Have the step-th call of one of STEPS be the last; a write writes half."""
    left = step

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))


def step(path: str, number: str, call: str) -> None:
    die_at(int(number))
    with File(path) as file:
        CALLS[call](file)


def record(name: str, number: int, body: str) -> str:
    return f"{name} {number} {zlib.crc32(body.encode())} {body}"


def writer(path: str, name: str, acks: str, seed: str) -> None:
    rng, number = random.Random(seed), 0
    acknowledged = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    file = File(path)
    while True:
        with file:
            for _ in range(rng.choice((1, 1, 3))):
                body = "x" * rng.choice((5, 100, 5000, 300_000))
                file.append(record(name, number, body))
                os.write(acknowledged, f"{name} {number}\n".encode())
                number += 1


def replacer(path: str, seed: str) -> None:
    rng = random.Random(seed)
    while True:
        with File(path) as file:
            file.replace(json.dumps([rng.randrange(100)] * rng.choice((1, 1000, 100_000))))


if __name__ == "__main__":
    globals()[sys.argv[2]](sys.argv[1], *sys.argv[3:])

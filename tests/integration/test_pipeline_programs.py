"""Programs as stages of a pipeline."""

from __future__ import annotations

import gzip
import random

import pytest

from actors import ActorSystem, SpawnError
from actors.errors import StageError
from actors.pipeline import Pipeline, Stage


def test_lines_go_through_programs(system: ActorSystem, rng: random.Random) -> None:
    """`sort` says nothing before the end; far more than pipes hold goes through."""
    words = [f"{rng.getrandbits(64):020d}" for _ in range(20_000)]
    assert list(Pipeline(["sort"], str.upper, ["uniq"]).run(words, system=system)) == sorted(set(words))


def test_bytes_go_through_programs(system: ActorSystem, rng: random.Random) -> None:
    data = [rng.randbytes(100_000) for _ in range(20)]
    packed = b"".join(Pipeline(Stage(["gzip", "-1"], framing="raw")).run(data, system=system))
    assert gzip.decompress(packed) == b"".join(data)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["false"], "false exited with code 1"),
        (["sh", "-c", "cat >/dev/null; echo no luck >&2; exit 3"], "sh exited with code 3: no luck"),
        (["sh", "-c", "kill -9 $$"], "sh was killed by SIGKILL"),
        (["head", "-n", "1"], "head ended before its input did"),
    ],
)
def test_a_program_that_fails_is_an_error(command: list[str], text: str, system: ActorSystem) -> None:
    """With what it said."""
    with pytest.raises(StageError, match=text):
        list(Pipeline(command).run((str(number) * 50 for number in range(50_000)), system=system))


def test_an_item_that_a_program_cannot_take(system: ActorSystem) -> None:
    with pytest.raises(StageError, match="cat takes lines, not int"):
        list(Pipeline(["cat"]).run([1], system=system))


def test_a_program_that_is_not_there(system: ActorSystem) -> None:
    with pytest.raises(SpawnError, match="no-such-program"):
        list(Pipeline(["no-such-program"]).run(["a"], system=system))

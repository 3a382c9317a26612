"""Programs as stages of a pipeline."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import ActorSystem, SpawnError, SpecError
from actors.errors import StageError
from actors.pipeline import Pipeline, Stage
from kit import until


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


@pytest.mark.parametrize(
    ("item", "text"),
    [(1, "cat: framing='lines' carries bytes or str, not int"), ("a\nb", "cat: a line can't contain a newline")],
)
def test_an_item_that_a_program_cannot_take(item: Any, text: str, system: ActorSystem) -> None:
    """It is not given any of it, and goes on if it shall."""
    with pytest.raises(StageError, match=text):
        list(Pipeline(["cat"]).run([item], system=system))
    run = Pipeline(["cat"], on_error="skip").run(["a", item, "b"], system=system)
    assert (list(run), run.skipped) == (["a", "b"], 1)


def test_a_program_that_is_not_there(system: ActorSystem) -> None:
    with pytest.raises(SpawnError, match="no-such-program"):
        list(Pipeline(["no-such-program"]).run(["a"], system=system))


# --- what it is given


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({}, ["one", "", "zwölf", "not \udce9 UTF-8"]),
        ({"encoding": "latin-1"}, ["one", "zwölf"]),
        ({"encoding": None}, [b"one", b"", b"z\xf6lf\0"]),
        ({"framing": "netstring"}, [b"one", b"", b"two\nlines\0", b"x" * 300_000]),
        ({"framing": "msgpack"}, [1, "two", b"three", [None, 4.5], {"six": True}, None]),
    ],
)
def test_what_cat_is_given_comes_back(options: dict[str, Any], items: list[Any], system: ActorSystem) -> None:
    """In each framing that an actor's program has; nothing is taken for the end."""
    assert list(Pipeline(Stage(["cat"], **options)).run(items, system=system)) == items


def test_environment_and_directory_are_the_programs_with_changes(
    system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None takes a variable away; a path is as good as a string."""
    monkeypatch.setenv("STAGES_TEST", "gone")
    text = 'pwd; echo "$ADDED"; echo "${STAGES_TEST-none}"; cat'
    (tmp_path / "tool").write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "tool").chmod(0o755)
    stage = Stage([tmp_path / "tool"], cwd=tmp_path, env={"ADDED": "yes", "STAGES_TEST": None})
    assert stage.name == "tool"
    assert list(Pipeline(stage).run(["last"], system=system)) == [str(tmp_path), "yes", "none", "last"]
    with pytest.raises(SpawnError, match=r"the working directory '.*/missing' does not exist"):
        list(Pipeline(Stage(["cat"], cwd=tmp_path / "missing")).run([], system=system))


def test_what_it_says_on_stderr_is_in_the_log(system: ActorSystem, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, with the worker's address."""
    assert list(Pipeline(["sh", "-c", "echo well >&2; echo then >&2; cat"]).run(["a"], system=system)) == ["a"]
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or " then " in "".join(said), "it is in the log")
    assert any("/sh" in line and " well " in line for line in "".join(said).splitlines())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Stage(["cat"], framing="words"), "stage 'cat': framing is 'words'"),  # type: ignore[arg-type]
        (lambda: Stage(["cat"], limit=0), "stage 'cat': limit is 0"),
        (lambda: Stage(["cat"], encoding="utf-16"), "stage 'cat': encoding is 'utf-16'"),
        (lambda: Stage(["cat", 1]), "a program is a list of strings"),  # type: ignore[list-item]
        (lambda: Stage(["a\0b"]), "without NUL"),
        (lambda: Stage(["cat"], "-n"), "arguments belong into its list"),
        (lambda: Stage(["cat"], timeout=1.0), "timeout is for items"),
        (lambda: Stage(len, framing="raw"), "stage 'len': framing, encoding, limit, cwd and env are for programs"),
        (lambda: Stage(len, env={"A": "b"}), "are for programs"),
    ],
)
def test_a_senseless_program_is_refused_before_anything_starts(make: Callable[[], object], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        make()

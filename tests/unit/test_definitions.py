"""A class that others can't import has one definition, and stays what it is where it is."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from actors import codec, definitions
from actors.codec import PICKLED
from actors.errors import CodecError


class Library:
    """Stands for the system: it keeps definitions."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, key: str) -> bytes:
        self.asked.append(key)
        raise LookupError("nobody has it")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    library = Library()
    monkeypatch.setattr(definitions, "source", library)
    before = dict(definitions.made)
    yield library
    for key in definitions.made.keys() - before.keys():
        del definitions.made[key]


def make() -> Any:
    @dataclasses.dataclass
    class Local:
        number: int
        uses = 0

    return Local


def test_an_instance_goes_by_key_and_fields(library: Library) -> None:
    kind = make()
    body, flags = codec.encode([kind(1), kind(2)])
    key = definitions.key(kind)
    assert flags == 0 and key is not None and body.count(key.encode()) == 2 and len(body) < 200
    assert codec.decode(body, flags) == [kind(1), kind(2)]
    assert library.asked == []


def test_what_has_no_fields_goes_by_pickle_with_the_key(library: Library) -> None:
    kind = type("Local", (), {})
    body, flags = codec.encode(kind())
    assert flags == PICKLED and len(body) < 200
    assert type(codec.decode(body, flags)) is kind


def test_without_a_system_it_goes_with_its_code() -> None:
    body, flags = codec.encode(make()(1))
    assert flags == PICKLED and len(body) > 500


def test_no_more_definitions_than_are_kept(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "MOST", len(definitions.made) + 1)
    first, second = make(), make()
    assert codec.encode(first(1))[1] == 0
    assert codec.encode(second(1))[1] == PICKLED
    assert codec.encode(first(2))[1] == 0
    assert codec.decode(*codec.encode([first(1), second(1)])) == [first(1), second(1)]


def test_a_key_that_nobody_knows_is_an_error_of_the_message(library: Library) -> None:
    body, flags = codec.encode(make()(1))
    key = next(reversed(definitions.made))
    unknown = body.replace(key.encode(), b"0" * len(key))
    with pytest.raises(CodecError, match="nobody has it"):
        codec.decode(unknown, flags)
    assert library.asked == ["0" * len(key)]


def test_a_class_that_is_here_is_left_alone() -> None:
    """Whatever a copy of it says, with its code, after the class has changed here."""
    kind = make()
    body, flags = codec.encode(kind(1))
    kind.uses, kind.added = 5, True
    before = dict(vars(kind))
    assert type(codec.decode(body, flags)) is kind
    assert dict(vars(kind)) == before


FOREIGN = """
import json, sys
from actors import codec, definitions
body, known = json.loads(sys.stdin.read())
asked = []
definitions.source = lambda key: (asked.append(key), bytes.fromhex(known[key]))[1]
values = [codec.decode(bytes.fromhex(body), 0) for _ in range(2)]
assert values[0] == values[1] and type(values[0][0]) is type(values[1][0]) and values[0][1] is values[1][1]
back, flags = codec.encode(values[0])
print(json.dumps([asked, values[0][0].total(), values[0][1].name, flags, back.hex()]))
"""


def test_a_process_that_does_not_know_it_asks_once(library: Library) -> None:
    """And sends it on by the same key, so that it comes home as what it was."""

    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass(frozen=True, slots=True)
    class Local:
        numbers: list[int]

        def total(self) -> int:
            return sum(self.numbers)

    value = [Local([1, 2]), Colour.RED]
    body, flags = codec.encode(value)
    keys = [definitions.key(Local), definitions.key(Colour)]
    known = {key: definitions.made[key].hex() for key in keys if key is not None}
    ran = subprocess.run(
        [sys.executable, "-c", FOREIGN], input=json.dumps([body.hex(), known]), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    asked, total, name, back_flags, back = json.loads(ran.stdout)
    assert (asked, total, name, flags, back_flags) == (keys, 3, "RED", 0, 0)
    received = codec.decode(bytes.fromhex(back), 0)
    assert received == value and type(received[0]) is Local and received[1] is Colour.RED

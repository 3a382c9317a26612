"""Limits of an actor: what is refused, and with which words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from actors import Child, SpecError
from actors.application import load
from actors.limits import Limits
from actors.options import split_options

WRONG: list[tuple[str, Any]] = [
    ("progress_timeout", 0),
    ("progress_timeout", -1.0),
    ("progress_timeout", math.nan),
    ("progress_timeout", True),
    ("progress_timeout", "30"),
    ("max_memory", 0),
    ("max_memory", 1.5),
    ("max_memory", True),
    ("max_messages", 0),
    ("max_messages", "10"),
    ("nice", 20),
    ("nice", -21),
    ("nice", None),
    ("affinity", []),
    ("affinity", [-1]),
    ("affinity", ["0"]),
    ("affinity", "01"),
    ("affinity", 0),
    ("rlimits", [("NOFILE", 1)]),
    ("rlimits", {"FILES": 1}),
    ("rlimits", {"NOFILE": -2}),
    ("rlimits", {"NOFILE": 1.0}),
    ("rlimits", {"CPU": 1 << 64}),
]


class Worker:
    """Made by nobody."""


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda each: repr(each))
def test_a_senseless_limit_is_refused_by_its_name_and_its_childs(field: str, value: Any) -> None:
    """Wherever limits are written: as a value, in spawn's options, in a Child."""
    with pytest.raises(SpecError, match=f"^{field}"):
        Limits(**{field: value})
    with pytest.raises(SpecError, match=f"^{field}"):
        split_options({field: value})  # type: ignore[misc]
    with pytest.raises(SpecError, match=f"^child 'heavy': {field}"):
        Child(Worker, name="heavy", **{field: value})


def test_an_unknown_resource_is_answered_with_those_that_there_are() -> None:
    """Names are those of the module `resource`, without RLIMIT_."""
    with pytest.raises(SpecError, match="'FILES' is no resource; there are AS, CORE, CPU"):
        Limits(rlimits={"FILES": 1})


def test_what_limits_nothing_does_not_travel() -> None:
    """So that an actor without limits costs nothing."""
    assert Limits().to_wire() == {}
    assert Limits(progress_timeout=math.inf, nice=0, rlimits={}).to_wire() == {}
    given = Limits(2.5, 1 << 30, 100, 5, (each for each in (1, 0, 1)), {"NOFILE": 64})
    assert given.to_wire() == {
        "progress_timeout": 2.5,
        "max_memory": 1 << 30,
        "max_messages": 100,
        "nice": 5,
        "affinity": (0, 1),
        "rlimits": {"NOFILE": 64},
    }


def test_a_file_says_them_as_python_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of `[[child]]`; a mistake names file, child and field."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "limited_workers.py").write_text("class Worker: pass\n")
    file = tmp_path / "app.toml"
    child = '[[child]]\nfactory = "limited_workers:Worker"\nname = "heavy"\nmax_messages = 10\n'
    file.write_text(f"{child}affinity = [0]\nrlimits = {{ NOFILE = 64 }}\n")
    [loaded] = load(str(file)).children
    assert isinstance(loaded, Child)
    assert loaded.limits == Limits(max_messages=10, affinity=(0,), rlimits={"NOFILE": 64})
    file.write_text(f"{child}rlimits = {{ FILES = 64 }}\n")
    with pytest.raises(SpecError, match=r"app\.toml: child 'heavy': rlimits: 'FILES'"):
        load(str(file))

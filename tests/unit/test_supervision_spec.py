"""Specifications are checked when they are made, and name what they describe."""

import functools
import math
from typing import Any

import pytest

from actors.errors import ActorsError, SpecError
from actors.supervision import Backoff, Child, Policy, Supervisor, expand, name_of


class LogParser:
    """Any class is a factory."""

    def __init__(self, path: str = "") -> None:
        self.path = path


class HTTPServer2(LogParser):
    """A name that is no plain CamelCase."""


def names(*children: Child[Any] | Supervisor) -> list[str]:
    return [child.name for child in Supervisor(*children).children]


def test_a_child_holds_its_factory_arguments_and_options() -> None:
    """Positional arguments are the factory's, the rest is policy."""
    child = Child(LogParser, "a.log", name="parser", restart="transient", shutdown=10, max_restarts=2, within=3.0)
    assert (child.factory, child.args, child.name) == (LogParser, ("a.log",), "parser")
    assert child.policy == Policy("transient", 10, 2, 3.0)


def test_defaults_are_those_of_the_contract() -> None:
    """A child is permanent and has 5 s to stop; a supervisor allows 3 restarts in 5 s and stops without limit."""
    assert Child(LogParser).policy == Policy("permanent", 5.0, None, 5.0, None, 30.0)
    top = Supervisor()
    assert (top.strategy, top.name) == ("one_for_one", "supervisor")
    assert top.policy == Policy("permanent", math.inf, 3, 5.0, Backoff(), math.inf)


def test_count_makes_numbered_children() -> None:
    """count=1 is the name itself."""
    assert names(Child(LogParser, name="parser", count=3), Child(LogParser, name="one")) == [
        "parser/1",
        "parser/2",
        "parser/3",
        "one",
    ]
    assert [child.args for child in expand([Child(LogParser, "x", count=2)]) if isinstance(child, Child)] == [
        ("x",)
    ] * 2


def test_a_child_without_name_takes_its_factorys_and_is_numbered_if_taken() -> None:
    """By the user's choice first, whatever the order; nested supervisors alike."""
    assert names(Child(LogParser), Child(LogParser), Child(LogParser, name="log_parser-2")) == [
        "log_parser",
        "log_parser-3",
        "log_parser-2",
    ]
    assert names(Supervisor(), Supervisor()) == ["supervisor", "supervisor-2"]
    assert names(Child(LogParser, name="log_parser/1"), Child(LogParser, count=2)) == [
        "log_parser/1",
        "log_parser/2",
        "log_parser/3",
    ]
    assert [child.name for child in expand([Child(LogParser)], taken=["log_parser"])] == ["log_parser-2"]


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (LogParser, "log_parser"),
        (HTTPServer2, "http_server2"),
        (functools.partial(functools.partial(LogParser, path=""), ""), "log_parser"),
        (test_count_makes_numbered_children, "test_count_makes_numbered_children"),
        (lambda: None, "lambda"),
    ],
)
def test_names_of_factories(factory: Any, name: str) -> None:
    """In lower case, words apart, through partials."""
    assert name_of(factory) == name


@pytest.mark.parametrize("name", ["", "a b", "ü", "a//b", "/a", "..", "a/../b", "a\n", 7])
def test_names_that_can_not_be_addresses_are_refused(name: Any) -> None:
    """Nor file names: a name is a path's part in many places."""
    for make in (lambda: Child(LogParser, name=name), lambda: Supervisor(name=name)):
        with pytest.raises(SpecError, match="name must be made of"):
            make()


@pytest.mark.parametrize("name", ["a", "etl/parser/2", "a.b_c-D9"])
def test_names_may_be_paths(name: str) -> None:
    """Parts between slashes."""
    assert Child(LogParser, name=name).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 0),
        ("count", True),
        ("redeliver", -1),
        ("on_error", "ignore"),
        ("progress_timeout", 0),
        ("restart", "always"),
        ("shutdown", -1),
        ("within", 0),
        ("max_restarts", -1),
    ],
)
def test_a_mistake_names_the_child_and_the_field(field: str, value: object) -> None:
    """Before anything is started; SpecError is a ValueError, too."""
    options: dict[str, Any] = {field: value}
    with pytest.raises(SpecError, match=rf"child 'parser': {field} must be .*{value!r}") as caught:
        Child(LogParser, name="parser", **options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ActorsError)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Supervisor(strategy="all", name="s"), "supervisor 's': strategy must be one of"),  # type: ignore[arg-type]
        (lambda: Supervisor(max_restarts=-1, name="s"), "supervisor 's': max_restarts"),
        (lambda: Supervisor(LogParser, name="s"), "supervisor 's': children must be .* wrap a class in Child"),  # type: ignore[arg-type]
        (lambda: Supervisor(Child(LogParser, name="a"), Supervisor(name="a"), name="s"), "supervisor 's': two .* 'a'"),
        (lambda: Child("LogParser", name="p"), "child 'p': the factory must be"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_names_the_supervisor_and_the_field(make: Any, text: str) -> None:
    """And what to do about it."""
    with pytest.raises(SpecError, match=text):
        make()

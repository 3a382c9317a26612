"""Names of messages: what a method is called, and what is none."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from actors import Actor
from actors.ref import RESERVED, message_name


class Some(Actor):
    def work(self) -> None: ...

    async def work_later(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    def _hidden(self) -> None: ...


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Some.work, "work"),
        (Some.work_later, "work_later"),
        (Some.static, "static"),
        (Some.of_class, "of_class"),
        ("by_name", "by_name"),
    ],
)
def test_a_method_is_called_by_its_name(method: Any, name: str) -> None:
    assert message_name(method) == name
    assert message_name(method) == name  # remembered


@pytest.mark.parametrize("method", [Some._hidden, "_hidden", "__init__", Some.__init__])
def test_private_methods_are_refused(method: Any) -> None:
    with pytest.raises(AttributeError, match="is private and can't be called from outside"):
        message_name(method)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_actors_own_names_are_refused(name: str) -> None:
    with pytest.raises(AttributeError, match="is one of Actor itself and can't be called from outside"):
        message_name(name)


def test_all_public_names_of_actor_are_its_own() -> None:
    assert {name for name in vars(Actor) if not name.startswith("_")} == RESERVED


@pytest.mark.parametrize("method", [5, None, [], functools.partial(Some.work)])
def test_what_has_no_name_is_no_method(method: Any) -> None:
    with pytest.raises(TypeError, match="is no method: use tell"):
        message_name(method)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "1a", "a-b"])
def test_what_is_no_identifier_is_no_method_name(name: str) -> None:
    with pytest.raises(AttributeError):
        message_name(name)

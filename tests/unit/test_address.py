"""Names and addresses: what is one, what is none, and back and forth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import SpecError
from actors.address import check_name, check_system, format_address, join, parse_address

PARTS = st.text("abcXYZ019_.-", min_size=1, max_size=20)
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(NAMES)
def test_a_legal_name_is_given_back(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "a b", "a\n", "ä", "a:b", "x" * 256, "x" * 65, None, 5, b"a"]
)
def test_anything_else_is_refused_with_the_rule(name: Any) -> None:
    with pytest.raises(SpecError, match=r"use 1 to 255 letters, digits, '_', '-', '.', in parts divided by '/'"):
        check_name(name)


@given(PARTS)
def test_a_system_is_named_by_one_part(name: str) -> None:
    assert check_system(name) == name
    with pytest.raises(SpecError):
        check_system(f"{name}/{name}")


@given(PARTS, NAMES)
def test_an_address_is_taken_apart_as_it_was_put_together(node: str, name: str) -> None:
    assert parse_address(format_address(node, name)) == (node, name)
    assert parse_address(name) == (None, name)


@pytest.mark.parametrize("text", ["actor://", "actor://node", "actor://node/", "actor:///name", "actor://node/a b"])
def test_half_an_address_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_address(text)


def test_children_are_named_below_their_parent() -> None:
    assert join("", "a") == "a"
    assert join("a/b", "c") == "a/b/c"

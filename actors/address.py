"""Names and addresses of actors: `actor://node/name`, where a name is path-like (`etl/parser/2`).

Rule: pure text, no I/O. A name's parts are letters, digits, `_`, `-` and `.`, so that it can stand in a URL, a process
title and a log line unquoted. Rejected: arbitrary text with escaping, which makes every log and every `ps` ambiguous.
"""

from __future__ import annotations

import re

from .errors import SpecError

PART = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
SCHEME = "actor://"
LONGEST = 255


def check_name(name: object, what: str = "name") -> str:
    """The name itself when it is a legal path-like name, else `SpecError`."""
    if not isinstance(name, str) or len(name) > LONGEST or not all(PART.match(part) for part in name.split("/")):
        raise SpecError(f"{what} {name!r}: use 1 to {LONGEST} letters, digits, '_', '-', '.', in parts divided by '/'")
    return name


def check_system(name: object) -> str:
    """The name itself when it can name a system (one part, no '/'), else `SpecError`."""
    if not isinstance(name, str) or not PART.match(name):
        raise SpecError(f"system name {name!r}: use 1 to 64 letters, digits, '_', '-' or '.'")
    return name


def join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def format_address(node: str, name: str) -> str:
    return f"{SCHEME}{node}/{name}"


def parse_address(text: str) -> tuple[str | None, str]:
    """(node, name) of an address or a bare name (node None). SpecError: it is neither."""
    if not text.startswith(SCHEME):
        return None, check_name(text)
    node, slash, name = text[len(SCHEME) :].partition("/")
    if not slash or not node:
        raise SpecError(f"address {text!r}: expected {SCHEME}node/name")
    return node, check_name(name)

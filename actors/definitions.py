"""Classes that other processes can't import: each has a definition, which travels once.

Rule: a class of `__main__`, of a function, of a notebook or of a module that only this program can import has a key,
the same in every process that has the class. In a message stands the key. The definition, a pickle of the class with
its code, is handed to the system before the first message that needs it, and fetched by whoever meets a key that it
does not know. So an instance of such a class costs what any other costs, not a class a message (a hundred times as
much), and comes back to the program as the program's own class.

A class that is here already is left alone, whatever arrives: cloudpickle would set all of its attributes again, to
those of the copy, and methods of the program would from then on work on the copy's globals. It also means that what
is changed in a class after its definition was made stays in this process.

Where there is no system (`source` is None) or a program makes classes without end (MOST), they go by value in each
message.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable
from typing import Any, Final

MOST: Final = 1000  # definitions a process makes; they are kept as long as the system

Reduced = tuple[Any, ...]  # cloudpickle's of a class: maker, its arguments with the key, state, None, None, setter

source: Callable[[str], bytes] | None = None
"""Asks the system for a definition. LookupError: it has none."""

made: Final[dict[str, bytes]] = {}  # key -> definition: all that were made here or fetched

_keys: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_unfinished: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()  # their pickle is still being read


def key(kind: type) -> str | None:
    """The key of a class that has a definition, else None."""
    found = _keys.get(kind)
    return found if found in made else None


def define(kind: type, dump: Callable[[type], bytes]) -> str | None:
    """Give a class a definition: its key, or None where there is no use or no room for one.

    dump: pickles the class with its code. Raises what that raises.
    """
    if source is None or len(made) >= MOST:
        return None
    body = dump(kind)
    found = _keys.get(kind)  # `whole` has noted it, unless the class turned out to be importable
    if found is not None:
        made[found] = body
    return found


def known(name: str) -> type:
    """The class of a key. LookupError: nobody knows it. What a pickled reference to such a class calls."""
    kind = _classes.get(name)
    if kind is None:
        body = made.get(name)
        if body is None:
            if source is None:
                raise LookupError("a class of another program, and no system to ask for it")
            body = made[name] = source(name)
        kind = pickle.loads(body)
        assert isinstance(kind, type)
    return kind


def whole(kind: type, reduced: Reduced) -> Reduced:
    """A class with its code, as cloudpickle reduces it, but so that a receiver that has the class keeps its own."""
    make, args, state, _, _, set_state = reduced
    _learn(kind, args[-2])
    return _begin, (make, args), (set_state, state), None, None, _finish


def _learn(kind: type, name: str) -> None:
    _keys[kind] = name
    _classes[name] = kind


def _begin(make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """The class without its content (which may refer to it), or the one that is here."""
    name = args[-2]
    kind = _classes.get(name)
    if kind is None:
        kind = make(*args)
        _unfinished[kind] = name
    return kind


def _finish(kind: type, content: tuple[Callable[[type, Any], object], Any]) -> None:
    name = _unfinished.pop(kind, None)
    if name is not None:
        set_state, state = content
        set_state(kind, state)
        _learn(kind, name)

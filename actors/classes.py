"""Classes of the program inside messages: dataclasses, named tuples and enums, by reference and fields.

Rule: an instance goes by fields only if those are all there is to it, because it is rebuilt without running
`__init__`, `__new__` or `__post_init__`: the class must leave pickling alone, inherit from no builtin, and hold no
attribute that is not a field. Anything else goes by pickle. Its class goes as "module:qualname" if others find it
there; else (`__main__`, functions, modules that others can't import) as "=key" of its definition (definitions.py); and
where there is no system to keep that, the instance goes by pickle, with the code of its class.

Fields travel with their names: a receiver with one field more or less than the sender, on another node during an
upgrade, says so instead of shifting values. Rejected: calling the constructor, which repeats its side effects and
can't set `init=False` fields.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import importlib
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from . import definitions, extensions, modules
from .extensions import ByPickle, Extension, Restore
from .modules import by_value
from .pickling import key_of

DATACLASS: Final = 20
NAMED_TUPLE: Final = 21
ENUM: Final = 22

Take = Callable[[Any], Any]  # an instance's state
Give = Callable[[Any], Any]  # the instance of a state

_MISSING: Final = object()


class _Way(NamedTuple):
    """How the instances of one class go. `keyed`: their class by the key of its definition."""

    extension: Extension
    give: Give
    keyed: bool


_ways: dict[type, _Way] = {}
_by_name: dict[str, _Way] = {}


def find(kind: type) -> Extension | None:
    """The extension of a class of the program, or None if its instances go by pickle."""
    way = _ways.get(kind)
    if way is None or (definitions.source is None if way.keyed else by_value(kind.__module__)):
        way = _describe(kind)
    return None if way is None else way.extension


def _describe(kind: type) -> _Way | None:
    way = _way(kind, "")
    name = None if way is None else _name(kind)
    if name is None:
        return None
    way = _way(kind, name)
    if way is not None:
        _ways[kind] = way
    return way


def _way(kind: type, name: str) -> _Way | None:
    for code, describe in ((ENUM, _enum), (NAMED_TUPLE, _named_tuple), (DATACLASS, _dataclass)):
        if (found := describe(kind)) is not None:
            take, give = found
            return _Way(Extension(code, functools.partial(_out, name, take), False), give, name.startswith("="))
    return None


def _name(kind: type) -> str | None:
    if definitions.source is not None:
        modules.judge(kind.__module__)
    name = modules.reference(kind)
    if name is not None:
        return name
    try:
        key = key_of(kind)
    except Exception as error:  # the class can't be sent: pickling the value will say why
        raise ByPickle from error
    return None if key is None else f"={key}"


def _out(name: str, take: Take, value: Any) -> list[Any]:
    return [name, take(value)]


def _restore(code: int, packed: Any) -> Any:
    name, state = packed
    way = _by_name.get(name) or _load(name)
    if way.extension.code != code:
        raise ValueError(f"{name} is not what the message says it is")
    return way.give(state)


def _load(name: str) -> _Way:
    kind = definitions.known(name[1:]) if name.startswith("=") else _import(name)
    way = _way(kind, name) if isinstance(kind, type) else None
    if way is None:
        raise ValueError(f"{name} is no dataclass, named tuple or enum")
    _by_name[name] = way
    return way


def _import(name: str) -> Any:
    module, _, qualname = name.partition(":")
    if module == "__main__":
        raise ValueError(f"{name}: a program's own classes can't be named")
    try:
        return modules.resolve(importlib.import_module(module), qualname)
    except SystemExit as error:  # a script that was named as if it were a module
        raise ImportError(f"{module} is a script") from error


# --- the three kinds


def _enum(kind: type) -> tuple[Take, Give] | None:
    """Members by name; those that have none of their own (combinations of flags) by value."""
    if not issubclass(kind, enum.Enum):
        return None

    def take(member: enum.Enum) -> Any:
        if kind.__members__.get(member.name) is member:
            return member.name
        if type(member.value) is not int:
            raise ByPickle
        return member.value

    return take, lambda state: kind[state] if type(state) is str else kind(state)


def _named_tuple(kind: type) -> tuple[Take, Give] | None:
    fields = kind.__dict__.get("_fields")
    bare = kind.__dictoffset__ == 0 or kind.__dict__.get("__slots__") == ()  # one that came by value has a `__dict__`
    plain = issubclass(kind, tuple) and kind.__bases__[0] is tuple and bare
    if not plain or not isinstance(fields, tuple) or not _pickles_by_default(kind):
        return None
    count = len(fields)

    def take(value: Any) -> list[Any]:
        if vars(value):
            raise ByPickle
        return list(value)

    def give(state: Any) -> Any:
        if type(state) is not list or len(state) != count:
            raise ValueError(f"{kind.__qualname__} has other fields here: {', '.join(fields)}")
        return tuple.__new__(kind, state)

    return take if kind.__dictoffset__ else list, give


def _dataclass(kind: type) -> tuple[Take, Give] | None:
    if "__dataclass_fields__" not in kind.__dict__ or not _pickles_by_default(kind):
        return None
    if not all(
        _inherits(kind, name) for name in ("__new__", "__getattribute__", "__getnewargs__", "__getnewargs_ex__")
    ):
        return None
    names = frozenset(field.name for field in dataclasses.fields(kind))
    slots = _slots(kind)
    if kind.__dictoffset__ and not slots:
        return _with_dict(kind, names)
    if not kind.__dictoffset__ and slots == names and not hasattr(kind, "__getattr__"):
        return _with_slots(kind, names)
    return None


def _with_dict(kind: type, names: frozenset[str]) -> tuple[Take, Give]:
    def take(value: Any) -> dict[str, Any]:
        state: dict[str, Any] = value.__dict__
        if not state.keys() <= names:
            raise ByPickle
        return state

    def give(state: Any) -> Any:
        _check(kind, state, names)
        value: Any = object.__new__(kind)
        value.__dict__.update(state)
        return value

    return take, give


def _with_slots(kind: type, names: frozenset[str]) -> tuple[Take, Give]:
    def take(value: Any) -> dict[str, Any]:
        pairs = ((name, getattr(value, name, _MISSING)) for name in names)
        return {name: part for name, part in pairs if part is not _MISSING}

    def give(state: Any) -> Any:
        _check(kind, state, names)
        value: Any = object.__new__(kind)
        for name, part in state.items():
            object.__setattr__(value, name, part)  # frozen ones, too
        return value

    return take, give


def _check(kind: type, state: Any, names: frozenset[str]) -> None:
    if type(state) is not dict or not state.keys() <= names:
        raise ValueError(f"{kind.__qualname__} has other fields here: {', '.join(sorted(names))}")


def _slots(kind: type) -> frozenset[str]:
    """Attributes that really are slots: a class that came by value says so in `__slots__`, but has a `__dict__`."""
    members = (vars(base).items() for base in kind.__mro__)
    return frozenset(name for items in members for name, part in items if isinstance(part, types.MemberDescriptorType))


def _pickles_by_default(kind: type) -> bool:
    hooks = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return kind not in copyreg.dispatch_table and all(_inherits(kind, name) for name in hooks)


def _inherits(kind: type, name: str) -> bool:
    """Whether the method is object's, or none, or what @dataclass(slots=True, frozen=True) adds."""
    method = getattr(kind, name, None)
    return method is getattr(object, name, None) or getattr(method, "__module__", None) == "dataclasses"


for _code in (DATACLASS, NAMED_TUPLE, ENUM):
    extensions.BY_CODE[_code] = Restore(functools.partial(_restore, _code), False)
extensions.FINDERS.append(find)

"""Functions on their way to workers: by name if the worker can import them, else with their code.

Rule: a function of `__main__`, a notebook or a file loaded by its path goes with its code, and those of one module share
one namespace in a worker, as they do in the program, so that what an initializer sets is seen by the tasks. There, a
variable is the program's or the worker's:

* functions, classes and objects are the program's: as they are when the task is submitted;
* a variable that code assigns in the worker (`global x`) is the worker's from then on;
* plain data (numbers, strings, lists, dicts …) is the worker's, which may change it, until the program changes it.

A worker keeps what a name or a pickle stands for, so that neither is looked up or unpickled twice.

Rejected: cloudpickle alone, where each function brings a namespace of its own, and an initializer's work is lost; the
worker's for ever once it is there, as in a forked process, where a changed parameter is silently ignored.
"""

from __future__ import annotations

import dis
import importlib
import io
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

from cloudpickle.cloudpickle import _function_setstate  # type: ignore[import-untyped]

from .. import modules
from ..codec import decode, encode
from ..pickling import Pickler, unsendable
from ..transports._ring import is_plain

KEPT = 256  # functions whose names, or pickles, are remembered

_names: dict[Any, str] = {}  # the program's
_functions: dict[str | bytes, Callable[..., Any]] = {}  # the worker's


# --- in the program


def packed(function: Callable[..., Any]) -> str | bytes:
    """What stands for it in a message. CodecError: it can't be sent."""
    try:
        known = _names.get(function)
    except TypeError:  # not hashable
        known = None
    if known is not None:
        return known
    if type(function) in (types.FunctionType, types.BuiltinFunctionType, type) and (name := _reference(function)):
        if len(_names) >= KEPT:
            _names.clear()
        _names[function] = name
        return name
    return dumps(function, "the function")


def dumps(value: Any, what: str) -> bytes:
    """A function, or what holds some, as a pickle. CodecError names `what`."""
    try:
        with io.BytesIO() as file:
            _Pickler(file, protocol=5).dump(value)
            return file.getvalue()
    except Exception as error:
        raise unsendable(what, [("it", value)], error) from error


def _reference(function: Any) -> str | None:
    """ "module:qualname", if that leads to it in other processes as well."""
    module, name = function.__module__, function.__qualname__
    if module is None or "<" in name or module == "__main__":
        return None
    modules.judge(module)
    if modules.by_value(module):
        return None
    try:
        held = modules.resolve(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if held is function else None


class _Pickler(Pickler):
    """The library's, whose functions that go with their code share their module's namespace."""

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if type(obj) is not types.FunctionType or type(reduced) is not tuple or len(reduced) != 6:
            return reduced
        make, (code, base, *rest), (attributes, slots), *_ = reduced
        space = _Namespace({**base, "__name__": obj.__globals__.get("__name__", "__main__")})
        slots["__globals__"] = {
            name: _Data(encode(value)[0]) if is_plain(value) else value for name, value in slots["__globals__"].items()
        }
        return make, (code, space, *rest), (attributes, slots), None, None, _set_state


class _Namespace:
    """Stands for a module's namespace in the worker."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def __reduce__(self) -> Any:
        return _namespace, (self.names,)


class _Data:
    """Stands for a variable of plain data."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __reduce__(self) -> Any:
        return _Data, (self.body,)


# --- in the worker


def unpacked(function: str | bytes) -> Callable[..., Any]:
    """What `packed` was given. Raises what importing or unpickling it raises."""
    known = _functions.get(function)
    if known is None:
        if isinstance(function, str):
            module, _, name = function.partition(":")
            known = modules.resolve(importlib.import_module(module), name)
        else:
            known = pickle.loads(function)
        if len(_functions) >= KEPT:
            del _functions[next(iter(_functions))]
        _functions[function] = known
    return known


class _Space:
    """A module's namespace in this worker."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.came: dict[str, bytes] = {}  # plain data, as the program last had it
        self.own: set[str] = set()  # assigned by code that runs here


_spaces: dict[str, _Space] = {}


def _namespace(names: dict[str, Any]) -> dict[str, Any]:
    variables = _spaces.setdefault(names["__name__"], _Space()).variables
    variables.update(names)
    return variables


def _set_state(function: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    attributes, slots = state
    space = _spaces[function.__globals__["__name__"]]
    space.own.update(_assigned(function.__code__))
    for name, value in slots["__globals__"].items():
        there = name in space.variables
        if isinstance(value, _Data):
            if there and space.came.get(name) == value.body:
                continue
            space.came[name] = value.body
            value = decode(value.body, 0)
        elif there and name in space.own:
            continue
        space.variables[name] = value
    slots["__globals__"] = {}
    _function_setstate(function, (attributes, slots))


def _assigned(code: types.CodeType) -> Iterator[str]:
    """Global variables that this code, or code in it, assigns."""
    if any(dis.opname[each] == "STORE_GLOBAL" for each in set(code.co_code[::2])):
        yield from (each.argval for each in dis.get_instructions(code) if each.opname == "STORE_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _assigned(constant)

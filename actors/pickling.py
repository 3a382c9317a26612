"""Pickle for what msgpack can't carry, and the name of what nothing can.

Rule: what pickle accepts arrives as what it was, or is refused here, in the sender's frame. Protocol 5 by
cloudpickle's Pickler, never by plain pickle, which writes a class of `__main__` as a reference that no other process
can follow. Two of cloudpickle's conveniences are taken back: open files (it sends a StringIO) and memoryviews (it
sends bytes) would arrive as something else.

When pickling fails, `unsendable` names the culprit by walking down from the arguments, as the pickler went, into
whatever fails by itself. The walk is bounded, for it pickles what it looks at. Rejected: parsing the pickler's
message, which names a type but no place.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import cloudpickle  # type: ignore[import-untyped]

from . import arrays, definitions, modules
from .errors import CodecError

_TRIES: Final = 300  # values pickled in search of a culprit
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_SEEN_WHOLE: Final = frozenset(
    {dict, list, tuple, set, frozenset, types.MethodType, types.FunctionType, type, functools.partial}
)

Step = tuple[str, Any]  # how the path goes on, and what is there


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, true to type. `whole`: classes that go by value go with their code, not as keys of definitions."""

    whole = False

    def reducer_override(self, obj: Any) -> Any:
        if (reduced := arrays.reduce(obj)) is not None:
            return reduced
        if type(obj) is io.TextIOWrapper and obj is not sys.stdout and obj is not sys.stderr:
            raise TypeError(f"cannot pickle {type(obj).__name__!r} object")
        if isinstance(obj, (type, types.FunctionType)):
            if definitions.source is not None:
                modules.judge(obj.__module__)
            if isinstance(obj, type):
                return self._class(obj)
        if type(obj) is functools.cached_property:  # up to 3.11 it has a lock, which a class by value can't take along
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname}
        return super().reducer_override(obj)

    def _class(self, kind: type) -> Any:
        if not self.whole and (key := key_of(kind)) is not None:
            return definitions.known, (key,)
        reduced = super().reducer_override(kind)
        by_value = type(reduced) is tuple and len(reduced) == 6
        return definitions.whole(kind, reduced) if by_value else reduced


class WholePickler(Pickler):
    """For what must be readable by a process that knows nothing yet."""

    whole = True


def key_of(kind: type) -> str | None:
    """The key that stands for this class in messages; None: it goes by reference, or with its code."""
    if definitions.source is None or modules.reference(kind) is not None:
        return None
    return definitions.key(kind) or definitions.define(kind, _dumps_whole)


def dumps(value: Any, beside: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """The value as a pickle. Raises whatever pickling it raises. beside: whether a buffer stays in the pickle (PEP 574)."""
    with io.BytesIO() as file:
        Pickler(file, protocol=5, buffer_callback=beside).dump(value)
        return file.getvalue()


def _dumps_whole(value: Any) -> bytes:
    with io.BytesIO() as file:
        WholePickler(file, protocol=5).dump(value)
        return file.getvalue()


loads = pickle.loads


# --- who is to blame


def unsendable(subject: str, values: Iterable[Step], error: Exception) -> CodecError:
    """The error for the sender: which of the labelled values can't be pickled, and what in it.

    subject: what could not be sent, as the text begins. values: labels as they are to be read ("argument 2"), with
    what they name.
    """
    budget = iter(range(_TRIES))
    found = _first_failing(values, budget)
    if found is None:
        return CodecError(f"{subject} can't be sent: {_text(error)}")
    label, value, reason = found
    path = ""
    while not _too_deep(reason) and (deeper := _first_failing(_parts(value), budget)) is not None:
        step, value, reason = deeper
        path += step
    where = f"{label} ({path.removeprefix(', ')})" if path else label
    what = f"{where} is {_described(value)}: {_text(reason)}"
    return CodecError(f"{subject} can't be sent: {what}. Send what it is made from, and make it in the actor.")


def _first_failing(values: Iterable[Step], budget: Iterator[int]) -> tuple[str, Any, Exception] | None:
    for step, value in values:
        if type(value) in _ATOMS:
            continue
        if next(budget, None) is None:
            return None
        try:
            dumps(value)
        except Exception as error:
            return step, value, error
    return None


def _parts(value: Any) -> Iterator[Step]:
    """What pickling this value leads to. Whatever goes wrong in here ends the walk: then the value itself is named."""
    try:
        yield from islice(_steps(value), _TRIES)
    except Exception:
        return


def _steps(value: Any) -> Iterator[Step]:
    if isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r:.40}]", part
            yield f", key {key!r:.40}", key
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((", an element", part) for part in value)
    elif isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type):
        yield from ((f".{name}", getattr(part, "__func__", part)) for name, part in vars(value).items())
    if type(value) not in _SEEN_WHOLE:
        yield from _of_state(value)


def _of_function(function: types.FunctionType) -> Iterator[Step]:
    names = inspect.getclosurevars(function)
    for name, part in {**names.globals, **names.nonlocals}.items():
        yield f", variable {name!r}", part
    yield from ((f", default [{index}]", part) for index, part in enumerate(function.__defaults__ or ()))
    yield from ((f", default {name!r}", part) for name, part in (function.__kwdefaults__ or {}).items())


def _of_state(value: Any) -> Iterator[Step]:
    """What the value itself gives to pickle: with a `__getstate__` that is not all of its attributes."""
    reduced = value.__reduce_ex__(5)
    if isinstance(reduced, str):
        return
    args, state, items = (*reduced[1:4], (), ())[:3]
    parts: tuple[Any, ...] = state if isinstance(state, tuple) else (state,)
    for part in parts:
        if isinstance(part, dict):
            yield from ((f".{name}", each) for name, each in part.items())
        else:
            yield ", its state", part
    yield from ((f", constructor's argument {index}", part) for index, part in enumerate(args, 1))
    yield from ((f"[{index}]", part) for index, part in enumerate(items or ()))


def _described(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _text(error: Exception) -> str:
    return "it is nested too deeply" if _too_deep(error) else str(error) or type(error).__name__


def _too_deep(error: Exception) -> bool:
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)

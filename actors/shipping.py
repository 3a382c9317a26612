"""What a new process is to run: a factory and its arguments, as bytes, and the modules to import beforehand.

Rule: by reference whatever the new process can import, by value the rest. It never imports the program itself again,
so what is of `__main__`, of a function, of a notebook or of a bare exec goes with its code; so does what is of
`by_value`, the modules that the receiving side said it can't import. Everything goes by pickle: it stays on this
machine, once a spawn, and arguments may refer to code.

The pickler notes which modules the pickle refers to, in the order in which unpickling needs them. A process that has
imported them already and forks gives the new one its classes in 50 us instead of an import. Rejected: scanning the
pickle's opcodes afterwards, which needs the pickle machine again to follow memoised strings.
"""

from __future__ import annotations

import io
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NamedTuple

import cloudpickle  # type: ignore[import-untyped]

from . import definitions
from .modules import by_value as goes_by_value
from .modules import reference
from .pickling import Step, WholePickler, loads, unsendable

_ALWAYS_THERE: Final = frozenset(
    {"__main__", "builtins", "cloudpickle", "collections", "copyreg", "functools", "types", "typing"}
    | {"_frozen_importlib", "_frozen_importlib_external"}
)

_registering = threading.RLock()  # cloudpickle's registry is the whole process's


class Shipment(NamedTuple):
    """A factory on its way.

    Attributes:
        payload: for `unship`.
        modules: what the payload refers to by name, in the order of need; the process that forks imports them before.
    """

    payload: bytes
    modules: tuple[str, ...]


def ship(factory: Callable[..., Any], args: tuple[Any, ...], *, by_value: frozenset[str] = frozenset()) -> Shipment:
    """Pack a factory (with `functools.partial` for keyword arguments) and its arguments for another process.

    by_value: modules that the other side can't import; what is theirs, or of modules below them, goes with its code.
    Raises CodecError, naming the argument and the attribute, if something can't be sent.
    """
    with _by_value(by_value), io.BytesIO() as file:
        try:
            pickler = _NotingPickler(file, protocol=5)
            pickler.dump((factory, args))
            return Shipment(file.getvalue(), tuple(pickler.noted))
        except Exception as error:
            labelled: list[Step] = [("the factory", factory)]
            labelled += ((f"argument {index}", value) for index, value in enumerate(args, 1))
            raise unsendable(_name(factory), labelled, error) from error


def unship(payload: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The factory and its arguments. Raises what unpickling raises: ImportError, or what the program's classes do."""
    factory, args = loads(payload)
    return factory, args


class _NotingPickler(WholePickler):
    """Notes the module of everything that it writes by reference."""

    def __init__(self, file: IO[bytes], protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.noted: dict[str, None] = {}  # a set that keeps its order

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented:  # else it goes by value, and its parts come by here
            module = _module(obj)
            there = module == definitions.__name__ or module.partition(".")[0] in _ALWAYS_THERE
            if module in sys.modules and not there and not goes_by_value(module):
                self.noted[module] = None
        return reduced


def _module(obj: Any) -> Any:
    """The module that unpickling a reference to this object imports, or ""."""
    kind = type(obj)
    if issubclass(kind, types.ModuleType):
        return obj.__name__
    if issubclass(kind, (type, types.FunctionType, types.BuiltinFunctionType)):
        return obj.__module__ or ""  # None: a method of a builtin
    # an instance: its class, which comes by here as well, unless it is one that pickles as a bare name (NumPy's ufuncs)
    return kind.__module__ if reference(kind) else ""


@contextmanager
def _by_value(names: frozenset[str]) -> Iterator[None]:
    """Let cloudpickle send what is of these modules by value meanwhile; what is not imported has nothing to send."""
    if not names:
        yield
        return
    with _registering:
        fresh = [sys.modules[name] for name in names if name in sys.modules and not goes_by_value(name)]
        for module in fresh:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in fresh:
                cloudpickle.unregister_pickle_by_value(module)


def _name(factory: Any) -> str:
    return getattr(factory, "__qualname__", None) or type(factory).__qualname__

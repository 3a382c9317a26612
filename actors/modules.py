"""Which modules other processes can import, and what they find there; the rest goes by value.

Rule: one truth, cloudpickle's registry of modules to be pickled by value, so that whatever pickles here agrees. A
module gets there in three ways: the user registers it; the process that makes actors says that it can't import it; or
`judge` finds that no import statement would find it (a file loaded by its path, as pytest does it, or a module made by
hand).

Judging errs on the side of importable: it is for modules of Python code only, since compiled ones may have submodules
that no finder finds, and a code object can be sent where a compiled one can't.
"""

from __future__ import annotations

import functools
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from cloudpickle.cloudpickle import list_registry_pickle_by_value  # type: ignore[import-untyped]

_judged: set[str] = {"__main__"}


def reference(kind: type) -> str | None:
    """ "module:qualname" if other processes find the class there; None: it goes by value."""
    module = kind.__module__
    if module == "__main__" or by_value(module):
        return None
    try:
        held = resolve(sys.modules[module], kind.__qualname__)
    except (KeyError, AttributeError):
        return None
    return f"{module}:{kind.__qualname__}" if held is kind else None


def resolve(module: Any, qualname: str) -> Any:
    """What a module has under a dotted name. AttributeError: nothing."""
    return functools.reduce(getattr, qualname.split("."), module)


def by_value(name: str) -> bool:
    """Whether the module, or a package above it, goes by value: receivers can't import it."""
    registered = list_registry_pickle_by_value()
    return bool(registered) and any(name == each or name.startswith(each + ".") for each in registered)


def send_by_value(name: str) -> bool:
    """From now on what is of this module goes by value. False: it can't, or it does already."""
    module = sys.modules.get(name)
    if module is None or module.__name__ not in sys.modules or by_value(name):
        return False
    cloudpickle.register_pickle_by_value(module)
    return True


def judge(name: str) -> bool:
    """Look, once a module, whether others can import it; if not, send it by value. True: that is news."""
    if name in _judged:
        return False
    _judged.add(name)
    module = sys.modules.get(name)
    return module is not None and not _importable(name, module) and send_by_value(name)


def _importable(name: str, module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:  # compiled into the interpreter or by another module, a namespace, or made by hand
        return getattr(module, "__spec__", None) is not None or "." in name or _found(name) is not None
    if not isinstance(file, str) or not file.endswith(".py"):
        return True
    spec = _found(name)
    return spec is not None and (not spec.has_location or spec.origin == file)


def _found(name: str) -> ModuleSpec | None:
    """What `import name` would load in a fresh process; None: it would find nothing. Imports nothing."""
    above = name.rpartition(".")[0]
    path = getattr(sys.modules.get(above), "__path__", None) if above else None
    if above and path is None:
        return None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a user's finder
            continue
        if spec is not None:
            return spec
    return None

"""An application: what `actors run` starts, described by a TOML file or by a Python object.

Rule: a table has the fields of the class that it stands for, under the same names, with the same meaning, defaults and
checks; this file only finds factories and refuses what is unknown. The top table is the top `Supervisor` (it may also
stand in a table `tree`, beside tables of other tools); `[[child]]` is a `Child`, `[[supervisor]]` a `Supervisor` inside
it, and either can be repeated.

    name = "etl"
    strategy = "rest_for_one"

    [[child]]
    factory = "workers:Store"         # module:class; modules are looked for beside this file first
    args = ["out.db"]
    mailbox = { capacity = 4194304 }

Children start in the order of the file. TOML keeps all tables of one name together, so a supervisor's `[[child]]`
tables start before or after its `[[supervisor]]` tables, whichever name comes first; where they must alternate, a
`[[supervisor]]` around some of them says so.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import tomllib
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from .errors import SpecError
from .mailbox import MailboxOptions
from .supervision import Backoff, Child, Supervisor

Table = dict[str, Any]
T = TypeVar("T")
NESTED: dict[str, Callable[..., object]] = {"backoff": Backoff, "mailbox": MailboxOptions}


def load(target: str) -> Supervisor:
    """The tree that `target` names: a path that ends in `.toml`, or `module:tree` with the module looked for in the
    current directory first.

    Raises: SpecError, whose text names the file, the child and the field.
    """
    if not target.endswith(".toml"):
        sys.path.insert(0, "")
        return _tree(target)
    path = Path(target)
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{target}: {error}") from error
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return _supervisor(document.get("tree", document), f"supervisor {path.stem!r}", {"name": path.stem})
    except SpecError as error:
        raise SpecError(f"{target}: {error}") from error


def _tree(target: str) -> Supervisor:
    tree = _find(target, "the tree")
    if callable(tree):
        tree = tree()
    if not isinstance(tree, Supervisor):
        raise SpecError(
            f"{target} is of type {type(tree).__name__}; actors run needs a Supervisor, or a function that returns one"
        )
    return tree


def _supervisor(table: Table, where: str, defaults: Table) -> Supervisor:
    nodes: list[Child[Any] | Supervisor] = []
    options = dict(defaults)
    for field, value in table.items():
        if field == "child":
            nodes += [_child(child, _label("child", child, number)) for number, child in _tables(value, where, field)]
        elif field == "supervisor":
            nodes += [
                _supervisor(inner, _label(field, inner, number), {}) for number, inner in _tables(value, where, field)
            ]
        else:
            options[field] = value
    return _made(Supervisor, nodes, options, where, known=["child", "supervisor"])


def _child(table: Table, where: str) -> Child[Any]:
    options = dict(table)
    args = options.pop("args", [])
    if not isinstance(args, list):
        raise SpecError(f"{where}: args must be a list, not {args!r}")
    if "factory" not in options:
        raise SpecError(f"{where}: field 'factory' is missing; it says \"module:Class\"")
    return _made(
        Child, [_find(options.pop("factory"), f"{where}: factory"), *args], options, where, known=["factory", "args"]
    )


def _made(kind: Callable[..., T], positional: list[Any], options: Table, where: str, known: list[str]) -> T:
    """`kind(*positional, **options)`, with every field checked by name first and nested tables made into what they
    stand for.
    """
    fields = _fields(kind)
    for field in options:
        if field not in fields:
            guess = difflib.get_close_matches(field, [*fields, *known], 1)
            hint = f"did you mean {guess[0]!r}?" if guess else f"there are {', '.join([*known, *fields])}"
            raise SpecError(f"{where}: unknown field {field!r}; {hint}")
    for field, inner in NESTED.items():
        if isinstance(options.get(field), dict):
            options[field] = _made(inner, [], options[field], f"{where}: {field}", known=[])
    try:
        return kind(*positional, **options)
    except (SpecError, TypeError, ValueError) as error:
        said = str(error)  # specifications name themselves, what is nested in them does not
        raise SpecError(said if said.startswith(("child ", "supervisor ")) else f"{where}: {said}") from error


def _fields(kind: Callable[..., object]) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def _tables(value: Any, where: str, field: str) -> list[tuple[int, Table]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SpecError(f"{where}: {field} must be an array of tables, [[{field}]]")
    return list(enumerate(value, 1))


def _label(kind: str, table: Table, number: int) -> str:
    """How errors name an entry: by its name, else by its factory, else by its place."""
    return f"{kind} {table.get('name', table.get('factory', number))!r}"


def _find(target: Any, what: str) -> Any:
    """The object that "module:name" names."""
    module, colon, name = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not (module and colon and name):
        raise SpecError(f'{what}: {target!r} does not say "module:name"')
    try:
        return attrgetter(name)(importlib.import_module(module))
    except AttributeError as error:
        raise SpecError(f"{what} {target!r}: {error}") from error
    except ImportError as error:
        raise SpecError(f"{what} {target!r}: the module can't be imported: {error}") from error

"""A factory reaches a new process by reference if possible, with its code if not, and with the list of its modules."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import functools
import importlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest
from cloudpickle.cloudpickle import list_registry_pickle_by_value

from actors.errors import CodecError
from actors.shipping import ship, unship


class Counter:
    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.start, self.step = start, step


@dataclasses.dataclass
class Config:
    limit: decimal.Decimal


def made(factory: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What the new process would construct."""
    shipped, arguments = unship(ship(factory, args, **options).payload)
    return shipped(*arguments)


def test_an_importable_class_goes_by_reference() -> None:
    shipment = ship(Counter, (3,))
    assert unship(shipment.payload) == (Counter, (3,))
    assert shipment.modules == (__name__,)
    assert len(shipment.payload) < 200


def test_partial_carries_keyword_arguments() -> None:
    counter = made(functools.partial(Counter, step=2), 5)
    assert (type(counter), counter.start, counter.step) == (Counter, 5, 2)


def test_the_modules_of_arguments_and_of_values_inside_are_listed_too() -> None:
    shipment = ship(Counter, ({"config": [Config(decimal.Decimal(1))]}, json.loads, np.add, np, np.zeros(2)))
    assert {__name__, "decimal", "json", "numpy"} <= set(shipment.modules)


def test_the_module_of_what_pickles_as_a_bare_name_is_listed() -> None:
    assert ship(list, ([np.add],)).modules == ("numpy",)


def test_modules_that_every_process_has_are_not_listed() -> None:
    shipment = ship(functools.partial(dict, a=len), (collections.OrderedDict(), int, [].append, object()))
    assert shipment.modules == ()


def test_local_classes_functions_and_lambdas_go_with_their_code() -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    assert made(Local, 3).value == 3
    assert made(functools.partial(lambda a, b: a - b, 5), 3) == 2


def test_a_cached_property_goes_with_its_code() -> None:
    """It is computed once, and kept under its name, in a class that is made from its parts, as there."""

    class Local:
        @functools.cached_property
        def number(self) -> object:
            return object()

    _, (sent,) = unship(ship(object, (vars(Local)["number"],)).payload)
    assert sent is not vars(Local)["number"]

    class There:
        pass

    There.number = sent  # type: ignore[attr-defined]  # no __set_name__ comes this way
    made = There()
    assert made.number is made.number is vars(made)["number"]  # type: ignore[attr-defined]


def test_what_goes_with_its_code_does_not_need_its_own_module_but_those_it_uses() -> None:
    """Importing the module of a local class would run a program that the new process may not even find."""

    def factory() -> Any:
        return json.dumps([1])

    shipment = ship(factory, ())
    assert shipment.modules == ("json",)
    assert unship(shipment.payload)[0]() == "[1]"


@pytest.mark.parametrize("namespace", [{}, {"__name__": "builtins"}, {"__name__": "__main__"}, {"__name__": "gone"}])
def test_classes_made_by_exec_go_with_their_code(namespace: dict[str, Any]) -> None:
    """As a notebook or a template makes them; their module says nothing."""
    exec("class Made:\n    def __init__(self, x): self.x = x\n", namespace)
    shipment = ship(namespace["Made"], (1,))
    assert shipment.modules == ()
    program = (
        "import sys; from actors.shipping import unship; f, a = unship(sys.stdin.buffer.read()); assert f(*a).x == 1"
    )
    subprocess.run([sys.executable, "-c", program], input=shipment.payload, check=True)


MAIN = """
import sys
from actors.shipping import ship

SCALE = 10

def helper(n): return n * SCALE

class Worker:
    def __init__(self, n): self.n = n
    def work(self): return helper(self.n)
    def twin(self): return Worker(self.n)

shipment = ship(Worker, (4,))
assert shipment.modules == (), shipment.modules
sys.stdout.buffer.write(shipment.payload)
"""

WORKER = """
import sys
from actors.shipping import unship
factory, args = unship(sys.stdin.buffer.read())
worker = factory(*args)
assert worker.work() == worker.twin().work() == 40
"""


def test_a_class_of_main_works_in_another_process(tmp_path: pathlib.Path) -> None:
    """With the functions and globals that it uses, and without running the program again."""
    script = tmp_path / "program.py"
    script.write_text(MAIN)
    payload = subprocess.run([sys.executable, script], capture_output=True, check=True).stdout
    subprocess.run([sys.executable, "-c", WORKER], input=payload, check=True)


# --- modules that the other side can't import


@pytest.fixture
def package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A package that is on the sender's path only."""
    (tmp_path / "onlyhere").mkdir()
    (tmp_path / "onlyhere" / "__init__.py").write_text("")
    (tmp_path / "onlyhere" / "work.py").write_text(
        "RATE = 3\ndef rated(n): return n * RATE\nclass Worker:\n    def __init__(self, n): self.n = rated(n)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("onlyhere.work")
    for name in ("onlyhere", "onlyhere.work"):
        sys.modules.pop(name, None)


PROGRAM = "import sys; from actors.shipping import unship; f, a = unship(sys.stdin.buffer.read()); assert f(*a).n == 6"


def test_modules_that_the_other_side_lacks_go_by_value(package: types.ModuleType) -> None:
    """First by reference, which fails there; then again, told what it could not import."""
    first = ship(package.Worker, (2,))
    assert first.modules == ("onlyhere.work",)
    failed = subprocess.run([sys.executable, "-c", PROGRAM], input=first.payload, capture_output=True)
    assert b"No module named 'onlyhere'" in failed.stderr
    second = ship(package.Worker, (2,), by_value=frozenset({"onlyhere.work"}))
    assert second.modules == ()
    subprocess.run([sys.executable, "-c", PROGRAM], input=second.payload, check=True)


def test_a_package_named_by_value_includes_its_modules(package: types.ModuleType) -> None:
    shipment = ship(package.Worker, (2,), by_value=frozenset({"onlyhere", "never.imported"}))
    subprocess.run([sys.executable, "-c", PROGRAM], input=shipment.payload, check=True)


def test_a_module_object_named_by_value_goes_with_its_content(package: types.ModuleType) -> None:
    shipment = ship(list, ([package],), by_value=frozenset({"onlyhere"}))
    assert shipment.modules == ()
    assert unship(shipment.payload)[1][0][0].RATE == 3


def test_by_value_is_for_this_shipment_only(package: types.ModuleType) -> None:
    before = list_registry_pickle_by_value()
    ship(package.Worker, (2,), by_value=frozenset({"onlyhere.work"}))
    with pytest.raises(CodecError):
        ship(package.Worker, (threading.Lock(),), by_value=frozenset({"onlyhere.work"}))
    assert list_registry_pickle_by_value() == before


def test_a_module_that_the_program_registered_itself_stays_registered(package: types.ModuleType) -> None:
    cloudpickle.register_pickle_by_value(package)
    try:
        assert ship(package.Worker, (2,), by_value=frozenset({"onlyhere.work"})).modules == ()
        assert "onlyhere.work" in list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(package)


# --- what can't be shipped


@pytest.fixture
def unsendable() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def refusal(factory: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(CodecError) as caught:
        ship(factory, args)
    return str(caught.value)


def test_the_refusal_names_factory_and_argument(unsendable: socket.socket) -> None:
    text = refusal(Counter, 1, {"conn": [unsendable]})
    assert text.startswith("Counter can't be sent: argument 2 (['conn'][0]) is a socket.socket: cannot pickle 'socket'")


def test_the_refusal_names_a_keyword_of_a_partial(unsendable: socket.socket) -> None:
    assert "the factory (.keywords['step']) is a socket.socket" in refusal(functools.partial(Counter, step=unsendable))


def test_the_refusal_names_what_a_local_class_refers_to(unsendable: socket.socket) -> None:
    class Local:
        def work(self) -> Any:
            return unsendable

    assert "the factory (.work, variable 'unsendable') is a socket.socket" in refusal(Local)

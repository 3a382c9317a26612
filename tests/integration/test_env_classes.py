"""Actors and messages of any class: of the script itself, of a notebook, a function, a template, a plugin's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.program import Program

pytestmark = pytest.mark.usefixtures("leak_guard")

DEFINITIONS = """
import collections, dataclasses, enum, functools, typing
from actors import Actor, ActorSystem

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

class Access(enum.Flag):
    READ = 1
    WRITE = 2

@dataclasses.dataclass
class Order:
    number: int
    colour: Colour
    access: Access = Access.READ | Access.WRITE
    uses = 0

    def use(self):
        global used
        used += 1
        Order.uses += 1
        return used

used = 0

@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0

class Pair(typing.NamedTuple):
    left: Order
    right: Point

Couple = collections.namedtuple("Couple", "left right")

class Plain:
    def __init__(self, content):
        self.content = content
    def __eq__(self, other):
        return type(other) is type(self) and other.content == self.content
    __hash__ = None

class Refused(Exception):
    def __init__(self, order, why):
        super().__init__(order, why)
        self.order = order

class Clerk(Actor):
    def __init__(self, start=0, *, step=1):
        self.value, self.step = start, step
    def add(self, amount):
        self.value += amount * self.step
        return self.value
    def echo(self, value):
        return value
    def relay(self, other, value):
        return other.ask(Clerk.echo, value).result(10)
    def make(self, number):
        return Pair(Order(number, Colour.BLUE), Point(number))
    def refuse(self, order):
        raise Refused(order, "no")
    def helper(self):
        return self.spawn(Clerk, 5).ask(Clerk.add, 1).result(10)
"""

USE = """
def check(system):
    clerk = system.spawn(Clerk, 10)
    other = system.spawn(functools.partial(Clerk, step=3), 1)
    assert (clerk.ask(Clerk.add, 1).result(10), other.ask(Clerk.add, 1).result(10)) == (11, 4)
    order = Order(1, Colour.RED)
    values = [order, Point(2), Pair(order, Point(3)), Couple(order, 4), Plain([order]), Order, [Colour, {Point(1): Plain}]]
    values += [Colour.RED, Access.READ, Access.READ | Access.WRITE]
    for value in values:
        for answer in (clerk.ask(Clerk.echo, value).result(10), clerk.ask(Clerk.relay, other, value).result(10)):
            assert answer == value and type(answer) is type(value), (answer, value)
    assert clerk.ask(Clerk.echo, Colour.RED).result(10) is Colour.RED
    made = clerk.ask(Clerk.make, 7).result(10)
    assert made == Pair(Order(7, Colour.BLUE), Point(7)) and type(made.left) is Order
    try:
        clerk.ask(Clerk.refuse, order).result(10)
    except Refused as refused:
        assert refused.order == order and type(refused.order) is Order
    else:
        raise AssertionError("not refused")
    assert clerk.ask(Clerk.helper).result(10) == 6
    return made.left
"""

RUN = """
with ActorSystem() as system:
    order = check(system)
    assert (order.use(), Order(2, Colour.RED).use(), used, Order.uses) == (1, 2, 2, 2), "a class was replaced"
print("all", "right")
"""


def test_of_a_script(tmp_path: Path) -> None:
    """No `if __name__ == "__main__"` guard is needed; what comes back is of the script's classes, with its globals."""
    program = Program(tmp_path, script=DEFINITIONS + USE + RUN)
    assert program.run("script.py") == ["all right"]


def test_the_program_is_never_imported_again(tmp_path: Path) -> None:
    """Each line at the top of a script runs once."""
    program = Program(tmp_path, script="print('top')\n" + DEFINITIONS + USE + RUN)
    assert program.run("script.py") == ["top", "all right"]


@pytest.mark.parametrize("namespace", ['{"__name__": "__main__"}', "{}", '{"__name__": "notebook"}'])
def test_of_an_exec(tmp_path: Path, namespace: str) -> None:
    """As a notebook's kernel makes them, cell by cell; a template may have no name, or one that nothing has."""
    script = f"""
namespace = {namespace}
for cell in ({DEFINITIONS!r}, {USE!r}, {RUN!r}):
    exec(compile(cell, "<cell>", "exec"), namespace)
"""
    assert Program(tmp_path, script=script).run("script.py") == ["all right"]


def test_of_a_notebook_that_defines_a_class_again(tmp_path: Path) -> None:
    """A cell that is run twice makes two classes; actors and messages are of the one that they were made of."""
    cell = """
from dataclasses import dataclass
@dataclass
class Note:
    text: str
    version = {version}
class Reader(Actor):
    def version(self, note):
        return {version}, note.version
    def echo(self, note):
        return note
"""
    script = f"""
from actors import Actor, ActorSystem
with ActorSystem() as system:
    exec({cell.format(version=1)!r})
    first, old, OldNote = system.spawn(Reader), Note("a"), Note
    print(first.ask("version", old).result(10), type(first.ask("echo", old).result(10)) is OldNote)
    exec({cell.format(version=2)!r})
    second, new = system.spawn(Reader), Note("b")
    print(*(each.ask("version", note).result(10) for each, note in ((first, new), (second, new), (second, old))))
    print(type(first.ask("echo", new).result(10)) is Note, type(second.ask("echo", old).result(10)) is OldNote)
"""
    assert Program(tmp_path, script=script).run("script.py") == [
        "(1, 1) True",
        "(1, 2) (2, 2) (2, 1)",
        "True True",
    ]


def test_of_a_function(tmp_path: Path) -> None:
    """Closures go with them."""
    inside = (DEFINITIONS + USE).replace("global used", "nonlocal used")
    lines = "".join(f"    {line}\n" for line in inside.splitlines())
    script = f"""
def main(unit):
{lines}
    class Labelled(Clerk):
        def label(self):
            return f"{{self.value}} {{unit}}"
    with ActorSystem() as system:
        check(system)
        assert system.spawn(Labelled, 3).ask(Labelled.label).result(10) == "3 apples"
main("apples")
print("all right")
"""
    assert Program(tmp_path, script=script).run("script.py") == ["all right"]


def test_of_an_importable_module(tmp_path: Path) -> None:
    """By reference: actor processes have imported it, so class attributes are the module's."""
    program = Program(tmp_path, office=DEFINITIONS + USE, script="from office import *\n" + RUN.replace("used,", "2,"))
    assert program.run("script.py") == ["all right"]


def test_of_a_file_that_has_no_place_on_the_path(tmp_path: Path) -> None:
    """Loaded by its path, as plugins and tests are: others can't import it, and need not."""
    program = Program(tmp_path)
    program.write("plugins/office.py", DEFINITIONS + USE)
    program.write(
        "script.py",
        """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("office", "plugins/office.py")
        office = sys.modules["office"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(office)
        with office.ActorSystem() as system:
            order = office.check(system)
            assert order.use() == 1 and office.used == 1 and office.Order.uses == 1
        print("all right")
        """,
    )
    assert program.run("script.py") == ["all right"]


def test_messages_of_a_file_whose_actors_are_elsewhere(tmp_path: Path) -> None:
    """The first instance goes out in a message: no spawn has told before whether others can import its class."""
    program = Program(tmp_path, office=DEFINITIONS)
    program.write("plugins/forms.py", "import dataclasses\n@dataclasses.dataclass\nclass Form:\n    title: str\n")
    program.write(
        "script.py",
        """
        import importlib.util, sys
        from office import *
        spec = importlib.util.spec_from_file_location("forms", "plugins/forms.py")
        forms = sys.modules["forms"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(forms)
        with ActorSystem() as system:
            clerks = [system.spawn(Clerk) for _ in range(2)]
            form = forms.Form("x")
            assert clerks[0].ask(Clerk.echo, form).result(10) == form
            assert clerks[0].ask(Clerk.relay, clerks[1], [form]).result(10) == [form]
        print("all right")
        """,
    )
    assert program.run("script.py") == ["all right"]


def test_of_a_module_that_was_made_by_hand(tmp_path: Path) -> None:
    script = f"""
import sys, types
office = sys.modules["office"] = types.ModuleType("office")
exec({DEFINITIONS + USE!r}, vars(office))
with office.ActorSystem() as system:
    assert office.check(system).use() == office.used == 1
print("all right")
"""
    assert Program(tmp_path, script=script).run("script.py") == ["all right"]


def test_a_class_travels_once_however_many_instances_do(tmp_path: Path) -> None:
    """Its definition is asked for by the first process that meets it, and never again."""
    script = (
        DEFINITIONS
        + """
from actors import definitions
class Quiet(Actor):
    def echo(self, value):
        return value
    def known(self):
        return len(definitions.made)
@dataclasses.dataclass
class Late:
    number: int
with ActorSystem() as system:
    quiet = system.spawn(Quiet)
    before = quiet.ask(Quiet.known).result(10)
    for number in range(50):
        assert quiet.ask(Quiet.echo, Late(number)).result(10) == Late(number)
    print(before, quiet.ask(Quiet.known).result(10), len(definitions.made))
"""
    )
    assert Program(tmp_path, script=script).run("script.py") == ["0 1 1"]


def test_a_program_that_makes_classes_without_end(tmp_path: Path) -> None:
    """Definitions are bounded; past that, classes go with each message."""
    script = """
import dataclasses
from actors import Actor, ActorSystem, definitions
definitions.MOST = 20
class Quiet(Actor):
    def name(self, value):
        return type(value).__name__, value.number
    def echo(self, value):
        return value
with ActorSystem() as system:
    quiet = system.spawn(Quiet)
    for number in range(definitions.MOST + 3):
        value = dataclasses.make_dataclass(f"Made{number}", ["number"])(number)
        assert quiet.ask(Quiet.name, value).result(10) == (f"Made{number}", number)
    assert quiet.ask(Quiet.echo, value).result(10) == value
    print(len(definitions.made) - definitions.MOST)
"""
    assert Program(tmp_path, script=script).run("script.py") == ["0"]


def test_a_class_that_cannot_be_sent_is_an_error_of_the_sender(tmp_path: Path) -> None:
    script = """
import dataclasses, threading
from actors import Actor, ActorSystem, CodecError
lock = threading.Lock()
@dataclasses.dataclass
class Guarded:
    number: int
    def get(self):
        with lock:
            return self.number
class Quiet(Actor):
    def echo(self, value):
        return value
with ActorSystem() as system:
    quiet = system.spawn(Quiet)
    try:
        quiet.ask(Quiet.echo, Guarded(1))
    except CodecError as error:
        print(error)
    print(quiet.ask(Quiet.echo, 2).result(10))
"""
    refused, after = Program(tmp_path, script=script).run("script.py")
    assert "the call echo() can't be sent: argument 1" in refused and "lock" in refused
    assert after == "2"

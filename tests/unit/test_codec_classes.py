"""Dataclasses, named tuples and enums go by fields exactly when fields are all there is to them; else by pickle."""

from __future__ import annotations

import abc
import collections
import copyreg
import dataclasses
import enum
import functools
import importlib.util
import pathlib
import sys
import types
from typing import Any, Generic, NamedTuple, TypeVar

import cloudpickle
import pytest
from msgpack import ExtType, packb

from actors import codec
from actors.codec import PICKLED
from actors.errors import CodecError

T = TypeVar("T")
built: list[str] = []


@dataclasses.dataclass
class Job:
    name: str
    size: int = 0
    seen: list[int] = dataclasses.field(default_factory=list, init=False)
    hidden: dataclasses.InitVar[int] = 0

    def __post_init__(self, hidden: int) -> None:
        built.append(self.name)

    @functools.cached_property
    def twice(self) -> str:
        return self.name * 2


@dataclasses.dataclass(frozen=True)
class Frozen:
    part: object


@dataclasses.dataclass(slots=True)
class Slotted:
    part: object
    more: object = dataclasses.field(default=None, init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    part: object


@dataclasses.dataclass
class Box(Generic[T]):
    part: T


@dataclasses.dataclass
class Child(Job):
    extra: int = 1


class Undecorated(Frozen):
    """A plain subclass of a dataclass may hold anything."""


@dataclasses.dataclass
class Base(abc.ABC):
    part: int


@dataclasses.dataclass
class Concrete(Base):
    class Nested(NamedTuple):
        x: int

    class Mode(enum.Enum):
        ON = 1


class Pair(NamedTuple):
    x: object
    y: object = 2


Old = collections.namedtuple("Old", "a b")


class Shape(enum.Enum):
    ROUND = (1, 2)
    CIRCLE = (1, 2)  # noqa: PIE796 - an alias

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers


class Mask(enum.Flag):
    A = 1
    B = 2


class Perm(enum.IntFlag, boundary=enum.KEEP):
    R = 4


class Word(enum.StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    "value",
    [
        Frozen([1, (2,)]),
        Slotted({"k": {1}}),
        FrozenSlotted(Frozen(None)),
        Child("c", extra=2),
        Concrete(1),
        Box([Pair(1, Slotted(2))]),
        Pair((1,), {2}),
        Old(1, b"2"),
        Concrete.Nested(1),
        {Frozen((1,)): Pair(1), Word.YES: Shape.ROUND},
        [Shape.CIRCLE, Word.YES, Concrete.Mode.ON, Mask.A],
        [Mask.A | Mask.B, Mask(0), Perm(0), Perm.R | 64, Perm.R],
    ],
    ids=repr,
)
def test_classes_of_importable_modules_go_by_fields(value: Any) -> None:
    body, flags = codec.encode(value)
    received = codec.decode(body, flags)
    assert flags == 0
    assert type(received) is type(value)
    assert received == value


def test_enum_members_arrive_as_the_members_themselves() -> None:
    assert codec.decode(*codec.encode(Shape.CIRCLE)) is Shape.ROUND


def test_a_dataclass_is_rebuilt_without_running_its_constructor() -> None:
    """What init=False fields hold arrives, and `__post_init__` has no second effect."""
    job = Job("j", 3)
    job.seen.append(7)
    built.clear()
    received = codec.decode(*codec.encode(job))
    assert (received, received.seen, built) == (job, [7], [])


def test_an_unset_slot_stays_unset() -> None:
    value = Slotted(1)
    del value.more
    body, flags = codec.encode(value)
    assert flags == 0
    assert not hasattr(codec.decode(body, flags), "more")


def test_two_equal_looking_keys_that_are_different_objects_stay_two() -> None:
    """Keys compared by identity must not be merged on the way."""

    received = codec.decode(*codec.encode({Identity(1): "a", Identity(1): "b"}))
    assert list(received.values()) == ["a", "b"]


@dataclasses.dataclass(eq=False)
class Identity:
    part: int


# --- what is more than its fields


class Reduced:
    def __reduce__(self) -> Any:
        return Frozen, ("reduced",)


@dataclasses.dataclass
class OwnReduce:
    part: int

    def __reduce__(self) -> Any:
        return OwnReduce, (self.part + 1,)


@dataclasses.dataclass
class OwnState:
    part: int

    def __getstate__(self) -> dict[str, int]:
        return {"part": self.part + 1}


@dataclasses.dataclass
class OwnNew:
    part: int

    def __new__(cls, part: int = 0) -> OwnNew:
        built.append("new")
        return super().__new__(cls)


@dataclasses.dataclass
class OfDict(dict[str, int]):
    part: int


@dataclasses.dataclass
class Registered:
    part: int


class Extended(Old):
    """A named tuple whose instances have attributes."""


class ByHand(tuple[int, ...]):
    """Looks like a named tuple."""

    _fields = ("x",)


class Open(enum.Enum):
    """Takes any value."""

    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        member = object.__new__(cls)
        member._name_, member._value_ = "unlisted", value
        return member


def with_attribute(value: Any) -> Any:
    value.extra = "x"
    return value


def cached(job: Job) -> Job:
    assert job.twice
    return job


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnReduce(1),
        lambda: OwnState(1),
        lambda: OwnNew(1),
        lambda: OfDict(1),
        lambda: with_attribute(Box(1)),
        lambda: Box[int](1),
        lambda: cached(Job("j")),
        lambda: Undecorated(1),
        lambda: with_attribute(Extended(1, 2)),
        lambda: with_attribute(ByHand((1,))),
        lambda: Open("other"),
    ],
)
def test_what_is_more_than_its_fields_goes_by_pickle(make: Any) -> None:
    """Their own pickling, an attribute of the instance, or a builtin's content would be lost."""
    assert codec.encode(make())[1] == PICKLED


def test_their_own_pickling_is_respected() -> None:
    assert codec.decode(*codec.encode([OwnReduce(1), OwnState(1)])) == [OwnReduce(2), OwnState(2)]


def test_an_attribute_beside_the_fields_arrives() -> None:
    received = codec.decode(*codec.encode([with_attribute(Box(1)), with_attribute(Extended(1, 2))]))
    assert [value.extra for value in received] == ["x", "x"]


def test_a_class_registered_with_copyreg_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda value: (Registered, (value.part * 10,)))
    assert codec.decode(*codec.encode(Registered(1))) == Registered(10)


# --- where the class is


def test_a_local_dataclass_goes_by_pickle_and_keeps_its_type() -> None:
    @dataclasses.dataclass
    class Local:
        part: int

    body, flags = codec.encode((Local(1),))
    assert flags == PICKLED
    assert codec.decode(body, flags) == (Local(1),)


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the sender that others may lack."""
    path = tmp_path / "only_here.py"
    path.write_text("import dataclasses\n@dataclasses.dataclass\nclass Note:\n    text: str\n")
    spec = importlib.util.spec_from_file_location("only_here", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "only_here", made)
    spec.loader.exec_module(made)
    return made


def test_a_class_of_a_module_registered_by_value_goes_with_its_code(module: types.ModuleType) -> None:
    """The receivers said that they can't import it; the registration counts also for classes that were sent before."""
    assert codec.encode(module.Note("n"))[1] == 0
    cloudpickle.register_pickle_by_value(module)
    try:
        body, flags = codec.encode(module.Note("n"))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    del sys.modules["only_here"]
    assert flags == PICKLED
    assert codec.decode(body, flags).text == "n"


def test_a_class_that_its_module_no_longer_holds_goes_by_pickle(module: types.ModuleType) -> None:
    """By reference, the receiver would find another class of that name."""
    note = module.Note("n")
    module.Note = Frozen
    assert codec.encode(note)[1] == PICKLED


# --- foreign states


def named(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


@pytest.mark.parametrize(
    ("code", "packed"),
    [
        (20, [named(Frozen), {"part": 1, "other": 2}]),
        (20, [named(Frozen), [1]]),
        (20, [named(Slotted), {"other": 2}]),
        (20, [named(Pair), {"x": 1}]),
        (20, [named(Reduced), {}]),
        (20, [f"{__name__}:built", {}]),
        (20, [f"{__name__}", {}]),
        (20, [1, {}]),
        (20, []),
        (20, [named(Pair), [1, 2]]),
        (22, [named(Frozen), {"part": 1}]),
        (21, [named(Pair), [1]]),
        (21, [named(Pair), {"x": 1}]),
        (21, [named(tuple), []]),
        (22, [named(Shape), "SQUARE"]),
        (22, [named(Shape), 5]),
        (22, [named(Frozen), "part"]),
    ],
)
def test_a_state_that_does_not_fit_the_class_is_a_codec_error(code: int, packed: Any) -> None:
    """From a peer with another version of the class, or from nobody in his right mind."""
    with pytest.raises(CodecError):
        codec.decode(packb(ExtType(code, packb(packed))), 0)


def test_naming_a_module_that_leaves_the_program_is_a_codec_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_script.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CodecError, match="a_script"):
        codec.decode(packb(ExtType(20, packb(["a_script:C", {}]))), 0)

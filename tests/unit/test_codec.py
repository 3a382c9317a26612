"""The codec's rules, one by one: which way a value takes, and what each trap of msgpack would lose."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from msgpack import ExtType, Timestamp, packb

from actors import codec, extensions
from actors.codec import KEYWORDS, PICKLED
from actors.errors import CodecError


def arrived(value: Any) -> Any:
    return codec.decode(*codec.encode(value))


class Token:
    """A type that registers itself, as a reference does."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def token_code() -> Iterator[int]:
    """An extension code that is free again afterwards."""
    code = 99
    yield code
    extensions.BY_TYPE.pop(Token, None)
    extensions.BY_CODE.pop(code, None)


# --- types that msgpack alone would change


@pytest.mark.parametrize(
    "value",
    [
        (1, (2, [3, (4,)])),
        bytearray(b"x"),
        [bytearray(b"x"), {"k": bytearray(b"y")}, (bytearray(b"z"),)],
        {1, (2, 3)},
        frozenset({frozenset({1})}),
        {True: 1, 2: "two", None: 3, 1.5: 4, b"b": 5, (6, 7): 8},
        2**64,
        -(2**63) - 1,
        10**400,
        {2**70: [2**70]},
        -0.0,
        float("inf"),
        range(10, 0, -3),
        complex(-0.0, float("inf")),
        decimal.Decimal("1.10"),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(1, 1, 1),
        datetime.datetime.max.replace(tzinfo=datetime.UTC),
        datetime.time(23, 59, fold=1, tzinfo=datetime.timezone(datetime.timedelta(minutes=-90), "odd")),
        datetime.date.max,
        datetime.timedelta.min,
        uuid.UUID(int=0),
        pathlib.Path("/tmp/\udcff"),
        pathlib.PureWindowsPath("c:\\x"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_msgpack_would_change_or_refuse_arrives_unchanged_and_without_pickle(value: Any) -> None:
    body, flags = codec.encode(value)
    received = codec.decode(body, flags)
    assert flags == 0
    assert type(received) is type(value)
    assert repr(received) == repr(value)


def test_folds_and_zones_survive() -> None:
    """fold counts for nothing in equality, and zoneinfo's zones are equal by identity."""
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    received = arrived([datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=berlin), datetime.time(1, fold=1)])
    assert [moment.fold for moment in received] == [1, 1]
    assert received[0].tzinfo is berlin


def test_a_zone_that_is_no_cached_one_goes_by_pickle() -> None:
    """`no_cache` zones are equal to nothing but themselves: looking the name up would give the cached one."""
    value = datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Berlin"))
    body, flags = codec.encode(value)
    assert flags == PICKLED
    assert codec.decode(body, flags).tzinfo is not zoneinfo.ZoneInfo("Europe/Berlin")


def test_a_uuid_keeps_what_it_knows_of_its_safety() -> None:
    value = uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe)
    assert arrived(value).is_safe is uuid.SafeUUID.safe


def test_nan_stays_nan_as_key_and_value() -> None:
    ((key, value),) = arrived({float("nan"): float("nan")}).items()
    assert key != key
    assert value != value


def test_lone_surrogates_go_by_pickle() -> None:
    assert codec.encode("\ud800")[1] == PICKLED
    assert arrived({"\ud800": ["\udfff"]}) == {"\ud800": ["\udfff"]}


class Name(str):
    pass


@pytest.mark.parametrize(
    "value", [OrderedDict(a=1), defaultdict(list, a=[1]), Name("x"), {Name("k"): 1}, ExtType(1, b"x"), Timestamp(1, 2)]
)
def test_subclasses_and_msgpacks_own_types_arrive_as_themselves(value: Any) -> None:
    """msgpack has its own use for the last two, and a code of ours would read them as something else."""
    body, flags = codec.encode([value])
    (received,) = codec.decode(body, flags)
    assert flags == PICKLED
    assert type(received) is type(value)
    assert received == value


def test_a_subclass_of_str_is_still_one_as_a_key() -> None:
    ((key, _),) = arrived({Name("k"): 1}).items()
    assert type(key) is Name


def test_long_containers_pass_msgpacks_default_limits() -> None:
    """The limits that msgpack sets for streams (131,072 items, 1 MiB) are no limits of a message."""
    value = [list(range(140_000)), {n: n for n in range(40_000)}, "x" * (2 << 20), (b"y" * (2 << 20),)]
    assert arrived(value) == value


def test_cycles_go_by_pickle() -> None:
    value: list[Any] = []
    value.append((value,))
    received = arrived(value)
    assert received[0][0] is received


def test_deep_nesting_beyond_msgpack_goes_by_pickle_or_is_refused() -> None:
    """200 levels are fine, and 100,000 are an error that says so, not a crash."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert arrived(deep) == deep
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(CodecError, match="it is a tuple: it is nested too deeply"):
        codec.encode(deep)


def test_the_value_may_change_after_encoding() -> None:
    value = {"parts": [1, bytearray(b"2")]}
    body, flags = codec.encode(value)
    value["parts"].clear()
    assert codec.decode(body, flags) == {"parts": [1, bytearray(b"2")]}


# --- calls


def test_a_call_is_its_name_and_its_arguments() -> None:
    body, flags = codec.encode_call("add", (1, (2,)), {})
    assert (codec.decode_call(body, flags), flags) == (["add", 1, (2,)], 0)


def test_a_call_with_keywords_says_so() -> None:
    body, flags = codec.encode_call("add", (1,), {"by": 2})
    assert (codec.decode_call(body, flags), flags) == (["add", {"by": 2}, 1], KEYWORDS)


def test_a_pickled_call_keeps_its_keywords_flag() -> None:
    body, flags = codec.encode_call("add", (), {"by": OrderedDict(a=1)})
    assert (codec.decode_call(body, flags), flags) == (["add", {"by": OrderedDict(a=1)}], KEYWORDS | PICKLED)


@pytest.mark.parametrize("body", [packb(1), packb({}), packb([])])
def test_what_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode_call(body, 0)


# --- extensions of other modules


def test_a_registered_type_goes_as_an_extension(token_code: int) -> None:
    """unpack gets what pack returned, type and all."""
    codec.register(
        Token, token_code, lambda token: (token.name, b"raw"), lambda parts: Token("+".join(map(str, parts)))
    )
    body, flags = codec.encode({"k": [Token("a")]})
    assert flags == 0
    assert codec.decode(body, flags)["k"][0].name == "a+b'raw'"


@pytest.mark.parametrize("code", [1, 39, 128])
def test_the_codecs_own_codes_can_not_be_taken(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        codec.register(Token, code, vars, vars)


def test_a_code_belongs_to_one_type(token_code: int) -> None:
    codec.register(Token, token_code, vars, vars)
    codec.register(Token, token_code, vars, vars)
    with pytest.raises(ValueError, match="taken"):
        codec.register(Name, token_code, vars, vars)


def test_encoding_inside_encoding_mixes_nothing(token_code: int) -> None:
    """An extension's own code may send messages itself."""
    codec.register(Token, token_code, lambda token: codec.encode([token.name, (1,)])[0], Token)
    body, flags = codec.encode(["before", Token("inner"), "after"])
    before, token, after = codec.decode(body, flags)
    assert (before, codec.decode(token.name, 0), after) == ("before", ["inner", (1,)], "after")


def test_threads_that_encode_at_once_mix_nothing(token_code: int) -> None:
    """One thread is held in the middle of a message while the other encodes a whole one."""
    inside, go_on = threading.Event(), threading.Event()

    def pack(token: Token) -> str:
        inside.set()
        assert go_on.wait(20)
        return token.name

    codec.register(Token, token_code, pack, Token)
    bodies: list[tuple[bytes, int]] = []
    thread = threading.Thread(target=lambda: bodies.append(codec.encode(["first", Token("t"), "last"])))
    thread.start()
    assert inside.wait(20)
    assert arrived(["other", (1,)]) == ["other", (1,)]
    go_on.set()
    thread.join(20)
    first, token, last = codec.decode(*bodies[0])
    assert (first, token.name, last) == ("first", "t", "last")


def test_a_huge_message_does_not_stay_in_memory() -> None:
    """A packer keeps its largest buffer, so such a one is not used again."""
    codec.PACKERS.clear()
    codec.encode("x" * (2 << 20))
    assert codec.PACKERS == []
    codec.encode(b"x")
    assert len(codec.PACKERS) == 1


# --- across processes

MAIN = """
import dataclasses, enum, sys
from actors import codec

@dataclasses.dataclass
class Job:
    name: str

class Kind(enum.Enum):
    FAST = 1

class Plain:
    def __init__(self, x): self.x = x
    def double(self): return 2 * helper(self.x)

def helper(x): return x

if sys.argv[1] == "send":
    body, flags = codec.encode([Job("n"), Kind.FAST, Plain(21)])
    sys.stdout.buffer.write(bytes([flags]) + body)
else:
    data = sys.stdin.buffer.read()
    job, kind, plain = codec.decode(data[1:], data[0])
    assert (type(job), type(kind), type(plain)) == (Job, Kind, Plain)
"""

STRANGER = """
import sys
from actors import codec
data = sys.stdin.buffer.read()
job, kind, plain = values = codec.decode(data[1:], data[0])
assert (job.name, kind.name, plain.double()) == ("n", "FAST", 42), values
body, flags = codec.encode(values)
sys.stdout.buffer.write(bytes([flags]) + body)
"""


def test_classes_of_main_reach_another_program_with_their_code(tmp_path: pathlib.Path) -> None:
    """A plain pickle would name `__main__`, another module there. The stranger can use them and send them on."""
    script = tmp_path / "program.py"
    script.write_text(MAIN)
    sent = subprocess.run([sys.executable, script, "send"], capture_output=True, check=True).stdout
    assert sent[0] == PICKLED
    back = subprocess.run([sys.executable, "-c", STRANGER], input=sent, capture_output=True, check=True).stdout
    assert back[0] == PICKLED


def test_an_instance_that_went_out_and_came_back_is_of_the_original_class() -> None:
    """A class that is sent by value is known again by its sender."""

    class Local:
        pass

    assert type(arrived(Local())) is Local


def test_the_codec_does_not_import_numpy() -> None:
    program = (
        "import sys; from actors import codec; codec.decode(*codec.encode((1, 2))); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

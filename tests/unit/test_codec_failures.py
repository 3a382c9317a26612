"""Exceptions arrive as their own type if they can, as a RemoteError if not, and always with the traceback."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
import traceback
import types
from typing import Any

import pytest

from actors import codec
from actors.codec import PICKLED
from actors.errors import ActorDied, CodecError, RemoteError
from actors.failures import RemoteTraceback, decode_error, encode_error


def raised(error: BaseException) -> BaseException:
    """The exception as a handler's loop would catch it, with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def arrived(error: BaseException) -> BaseException:
    return decode_error(*encode_error(raised(error)))


class Custom(Exception):
    pass


class Needy(Exception):
    """Pickles, but can't be unpickled: its constructor wants more than `args`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Holding(Exception):
    def __init__(self) -> None:
        super().__init__("holding")
        self.lock = threading.Lock()


class EvilReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit("from __reduce__")


class EvilText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class EvilRebuild(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Disguised(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("not me",)


class Nothing(Exception):
    def __reduce__(self) -> Any:
        return str, ("no exception at all",)


class EvilMeta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")


class OfEvilMeta(Exception, metaclass=EvilMeta):
    pass


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Refuses every attribute, even `__cause__`."""


@dataclasses.dataclass(frozen=True)
class FrozenCode(Exception):
    """Refuses the attribute that unpickling sets."""

    code: int


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        KeyError("k"),
        Custom("c"),
        Custom(),
        ActorDied("gone", None, True),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        StopIteration(5),
        FrozenError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
    ids=repr,
)
def test_an_exception_arrives_as_its_own_type_with_the_traceback_as_cause(error: BaseException) -> None:
    body, flags = encode_error(raised(error))
    received = decode_error(body, flags)
    assert flags == PICKLED
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert isinstance(received.__cause__, RemoteTraceback)
    assert "in raised" in str(received.__cause__)
    assert type(error).__name__ in str(received.__cause__)


def test_what_an_exception_carries_arrives() -> None:
    error = OSError(2, "No such file", "/x")
    error.add_note("while opening")
    received = arrived(error)
    assert isinstance(received, OSError)
    assert (received.errno, received.filename, received.__notes__) == (2, "/x", ["while opening"])
    assert "while opening" in str(received.__cause__)


def test_a_group_arrives_with_its_members() -> None:
    received = arrived(ExceptionGroup("several", [ValueError(1), Custom(2)]))
    assert isinstance(received, ExceptionGroup)
    assert [type(part) for part in received.exceptions] == [ValueError, Custom]


def test_the_causes_of_the_exception_are_in_the_text() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise Custom("second") from first
    except Custom as caught:
        text = str(decode_error(*encode_error(caught)).__cause__)
    assert "KeyError: 'first'" in text
    assert "direct cause" in text


def test_an_uncaught_error_prints_both_tracebacks() -> None:
    printed = "".join(traceback.format_exception(raised(arrived(Custom("c")))))
    assert "RemoteTraceback" in printed
    assert printed.count("in raised") == 2


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (Needy(5, "text"), "Needy", "5: text"),
        (Holding(), "Holding", "holding"),
        (EvilReduce("e"), "EvilReduce", "e"),
        (EvilRebuild("e"), "EvilRebuild", "e"),
        (Disguised("d"), "Disguised", "d"),
        (Nothing("n"), "Nothing", "n"),
        (FrozenCode(3), "FrozenCode", "3"),
        (OfEvilMeta("m"), "an exception", "m"),
        (Custom(lambda: threading.Lock(), threading.Lock()), "Custom", "lock"),
    ],
)
def test_what_would_not_survive_arrives_as_a_remote_error(error: Exception, name: str, message: str) -> None:
    """With its type's name, its message and its traceback in the text, and the traceback as cause as well."""
    body, flags = encode_error(raised(error))
    received = decode_error(body, flags)
    assert flags == 0
    assert type(received) is RemoteError
    assert name in str(received)
    assert message in str(received)
    assert "in raised" in str(received)
    assert "in raised" in str(received.__cause__)


def test_an_exception_that_can_not_be_shown_still_arrives() -> None:
    received = arrived(EvilText())
    assert type(received) is EvilText
    assert "in raised" in str(received.__cause__)


def test_an_exception_that_was_never_raised_arrives() -> None:
    received = decode_error(*encode_error(Custom("fresh")))
    assert type(received) is Custom
    assert "Custom: fresh" in str(received.__cause__)


def test_lone_surrogates_and_long_texts_do_no_harm() -> None:
    received = arrived(Needy(1, "\ud800" + "x" * 1_000_000 + "the end"))
    text = str(received)
    assert "\\ud800" in text
    assert "characters left out" in text
    assert "the end" in text
    assert len(text) < 300_000


def test_an_exception_whose_class_only_the_sender_has_becomes_a_remote_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender can't know what the receiver can import."""
    module = types.ModuleType("only_at_the_sender")
    exec("class Secret(Exception): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    body, flags = encode_error(module.Secret("s"))
    assert flags == PICKLED
    monkeypatch.delitem(sys.modules, module.__name__)
    received = decode_error(body, flags)
    assert type(received) is RemoteError
    assert "only_at_the_sender.Secret: s" in str(received)


def test_without_the_flag_nothing_is_unpickled() -> None:
    """For links that must not trust their peer."""
    body, _ = encode_error(raised(Custom("c")))
    received = decode_error(body, 0)
    assert type(received) is RemoteError
    assert "Custom: c" in str(received)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x94\xa0\xa0\xa0\x01", b"\x01"])
def test_a_body_that_is_no_error_is_a_codec_error(body: bytes) -> None:
    with pytest.raises(CodecError):
        decode_error(body, PICKLED)


def test_a_pickle_of_something_else_is_not_raised() -> None:
    body, _ = codec.encode(["Custom", "text", "trace", pickle.dumps("no exception")])
    assert type(decode_error(body, PICKLED)) is RemoteError


def test_exceptions_of_main_reach_another_program(tmp_path: Any) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\nfrom actors.failures import encode_error\nclass Mine(Exception): pass\n"
        "sys.stdout.buffer.write(encode_error(Mine('m'))[0])"
    )
    body = subprocess.run([sys.executable, script], capture_output=True, check=True).stdout
    received = decode_error(body, PICKLED)
    assert (type(received).__name__, str(received)) == ("Mine", "m")

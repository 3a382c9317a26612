"""What can't be sent is refused in the sender's frame, by name and place; what can't be read is a CodecError."""

from __future__ import annotations

import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgpack import ExtType, packb

from actors import codec
from actors.codec import PICKLED
from actors.errors import CodecError


def arrived(value: Any) -> Any:
    return codec.decode(*codec.encode(value))


class Holder:
    """An ordinary class: its instances go by pickle."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


# --- what can't be sent


@pytest.fixture
def unsendable() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(CodecError) as caught:
        codec.encode_call("Store.add", args, kwargs)
    return str(caught.value)


def test_the_refusal_names_argument_path_and_type(unsendable: socket.socket) -> None:
    text = refusal(1, Holder(conn=Holder(sock=unsendable)))
    assert "the call Store.add() can't be sent" in text
    assert "argument 2 (.conn.sock) is a socket.socket: cannot pickle 'socket' object" in text


def test_the_refusal_names_items_of_containers(unsendable: socket.socket) -> None:
    assert "argument 'rows' ([1]['a'][0]) is a socket.socket" in refusal(rows=[0, {"a": (unsendable,)}])


def test_the_refusal_names_an_argument_that_is_itself_the_culprit() -> None:
    assert "argument 1 is a generator: cannot pickle 'generator' object" in refusal(n for n in ())


def test_the_refusal_names_the_variable_that_a_function_holds(unsendable: socket.socket) -> None:
    text = refusal(lambda: unsendable)
    assert "argument 1 (variable 'unsendable') is a socket.socket" in text


class Careful(Holder):
    """Leaves its socket behind."""

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "sock"}


def test_an_attribute_that_the_object_leaves_out_is_not_blamed(unsendable: socket.socket) -> None:
    """The walk looks at what the object gives to pickle, not at what it has."""
    text = refusal(Careful(sock=unsendable, lock=threading.Lock()))
    assert "argument 1 (.lock) is a _thread.lock" in text
    assert arrived(Careful(sock=unsendable, n=1)).n == 1


class Endless:
    """Its state leads to another one for ever."""

    def __getstate__(self) -> dict[str, Any]:
        return {"next": Endless()}


def test_what_has_no_end_is_refused() -> None:
    assert f"argument 1 is a {__name__}.Endless: it is nested too deeply" in refusal(Endless())


def test_the_search_for_the_culprit_is_bounded() -> None:
    """It pickles whatever it looks at: past some hundred values it names the place that it has come to."""
    value: list[Any] = [threading.Lock()]
    for _ in range(200):
        value = [Holder(), value]
    assert 100 < refusal(value).count("[1]") < 200


def test_an_open_file_is_refused_though_cloudpickle_would_send_a_copy(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_text("line")
    with path.open() as file:
        assert "argument 1 is a _io.TextIOWrapper" in refusal(file)


def test_a_refused_value_leaves_the_codec_in_order(unsendable: socket.socket) -> None:
    """A packer that failed in the middle must not give its bytes to the next message."""
    for _ in range(3):
        refusal("x" * 100, (1, unsendable))
        assert arrived([1, (2,)]) == [1, (2,)]


# --- what can't be read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        packb([1]) + b"x",
        packb({}) * 2,
        packb("x")[:-1],
        b"\x81\x90\x01",  # a list as a key
        packb(ExtType(127, b"")),
        packb(ExtType(2, packb([[]]))),  # a set of lists
        packb(ExtType(12, bytes(3))),  # the date before the first
        packb(ExtType(20, packb(["__main__:Holder", {}]))),
        packb(ExtType(20, packb(["no.such.module:C", {}]))),
        packb(ExtType(20, packb(["socket:socket", {}]))),
        packb(ExtType(23, bytes(8) + b"|O" + (1).to_bytes(8, "little") + bytes((0, 1, 2, 0)))),
        b"\x91" * 5000 + b"\xc0",
    ],
)
def test_malformed_bytes_are_a_codec_error(body: bytes) -> None:
    with pytest.raises(CodecError, match="can't be read"):
        codec.decode(body, 0)


def test_a_pickle_that_can_not_be_read_is_a_codec_error() -> None:
    """The usual case: a module that the receiver doesn't have."""
    with pytest.raises(CodecError, match="ModuleNotFoundError"):
        codec.decode(b"cno_such_module\nname\n.", PICKLED)

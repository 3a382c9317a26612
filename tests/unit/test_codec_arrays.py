"""NumPy arrays, scalars and memoryviews arrive as themselves, and arrays read-only, whichever way they take."""

from __future__ import annotations

import array
import ctypes
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from actors import codec, shipping
from actors.codec import PICKLED
from actors.errors import CodecError


def arrived(value: Any) -> Any:
    return codec.decode(*codec.encode(value))


ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "reversed": np.arange(5)[::-1],
    "broadcast": np.broadcast_to(np.int8(7), (2, 2)),
    "empty": np.zeros((0, 3)),
    "no dimensions": np.array(5),
    "swapped": np.array([1, 2], ">i4"),
    "booleans": np.array([True, False]),
    "texts": np.array(["a", "bcd"]),
    "empty texts": np.array(["", ""]),
    "bytes": np.array([b"a\0", b"bcd"]),
    "times": np.array(["2024-01-01", "NaT"], "M8[D]"),
    "spans": np.array([1, 2], "m8[25s]"),
    "records": np.array([(1, (2.5, 3.5))], [("a", "u1"), ("b", ">f8", (2,))]),
    "raw": np.array([b"12345678"], "V8"),
    "long long": np.array([1], np.longlong),
    "half": np.array([1, -0.0], np.float16),
    "complex": np.array([1j], np.complex64),
    "large": np.zeros(200_000),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_arrive_equal_aligned_read_only_and_without_pickle(name: str) -> None:
    sent = ARRAYS[name]
    body, flags = codec.encode({"a": [sent]})
    received = codec.decode(body, flags)["a"][0]
    assert flags & ~codec.HANDLE == 0
    assert type(received) is np.ndarray
    assert (received.dtype, received.dtype.num, received.shape) == (sent.dtype, sent.dtype.num, sent.shape)
    assert received.tobytes() == sent.tobytes()
    assert received.flags.aligned
    assert not received.flags.writeable


def test_the_memory_order_is_kept() -> None:
    """Fortran's order matters to whoever hands the array to LAPACK."""
    assert arrived(ARRAYS["fortran"]).flags.fnc
    assert arrived(ARRAYS["matrix"]).flags.c_contiguous


def test_a_read_only_array_can_not_be_made_writable() -> None:
    """Its memory may be shared."""
    with pytest.raises(ValueError, match="WRITEABLE"):
        arrived(np.zeros(3)).flags.writeable = True


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_inside_a_pickled_message_are_read_only_as_well(name: str) -> None:
    """Which way a message takes must not decide whether a program works."""
    body, flags = codec.encode(OrderedDict(a=ARRAYS[name]))
    received = codec.decode(body, flags)["a"]
    assert flags & ~codec.HANDLE == PICKLED
    assert received.tobytes() == ARRAYS[name].tobytes()
    assert not received.flags.writeable


@pytest.mark.parametrize(
    "sent",
    [np.array([{"a": 1}, (2,)], object), np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True))],
    ids=["objects", "padded records"],
)
def test_arrays_that_bytes_can_not_describe_go_by_pickle_and_arrive_read_only(sent: np.ndarray[Any, Any]) -> None:
    body, flags = codec.encode(sent)
    received = codec.decode(body, flags)
    assert flags == PICKLED
    assert received.dtype == sent.dtype
    assert received.tolist() == sent.tolist()
    assert not received.flags.writeable


class Samples(np.ndarray[Any, Any]):
    pass


def test_subclasses_of_arrays_arrive_as_themselves() -> None:
    assert type(arrived(np.zeros(2).view(Samples))) is Samples
    masked = np.ma.array([1, 2], mask=[False, True])
    assert arrived(masked).mask.tolist() == [False, True]


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.float32("nan"),
        np.longdouble(1) / 3,
        np.int8(-1),
        np.longlong(5),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex128(1j),
        np.datetime64("2024-01-01T00:00", "m"),
        np.datetime64("NaT", "s"),
        np.timedelta64(3, "h"),
    ],
    ids=repr,
)
def test_scalars_arrive_as_scalars_without_pickle(scalar: Any) -> None:
    """float64 is a subclass of float, and must not become one."""
    body, flags = codec.encode({"s": scalar})
    received = codec.decode(body, flags)["s"]
    assert flags == 0
    assert type(received) is type(scalar)
    assert repr(received) == repr(scalar)


class Metre(np.float64):
    def __reduce__(self) -> Any:  # NumPy's own gives a float64
        return Metre, (float(self),)


def test_subclasses_of_scalars_are_left_to_their_own_pickling() -> None:
    assert type(arrived(Metre(2))) is Metre


@pytest.mark.parametrize("scalar", [np.str_("ab"), np.bytes_(b"ab"), np.void(b"ab")], ids=repr)
def test_texts_of_numpy_go_by_pickle(scalar: Any) -> None:
    received = arrived(scalar)
    assert (type(received), received) == (type(scalar), scalar)


def test_dtypes_that_are_equal_but_of_other_scalars_are_not_mixed_up() -> None:
    """longlong and int64 are equal and hash alike; a cache of dtypes must not take one for the other."""
    for kind in (np.int64, np.longlong, np.int64):
        assert type(arrived(kind(1))) is kind


def test_numpys_own_functions_arrive_as_themselves() -> None:
    assert arrived([np.add, np.mean]) == [np.add, np.mean]


# --- memoryviews


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(bytearray(b"abc")),
        memoryview(b""),
        memoryview(array.array("d", [1.5, 2.5])),
        memoryview(array.array("d")),
        memoryview(b"abcdef")[::2],
        memoryview(bytes(24)).cast("i", (2, 3)),
        memoryview(np.arange(6).reshape(2, 3).T),
    ],
    ids=lambda view: f"{view.format}{view.shape}",
)
@pytest.mark.parametrize("wrap", [list, OrderedDict.fromkeys], ids=["msgpack", "pickle"])
def test_memoryviews_arrive_as_read_only_memoryviews(view: memoryview, wrap: Any) -> None:
    sent = [view] if wrap is list else OrderedDict(v=view)
    body, flags = codec.encode(sent)
    received = codec.decode(body, flags)
    received = received[0] if wrap is list else received["v"]
    assert flags == (0 if wrap is list else PICKLED)
    assert type(received) is memoryview
    assert (received.format, received.shape, received.tobytes()) == (view.format, view.shape, view.tobytes())
    assert received.readonly


@pytest.mark.parametrize(
    "view", [memoryview(np.zeros((0, 2))), memoryview(np.array(1)), memoryview((ctypes.c_int * 2)())]
)
def test_memoryviews_without_a_plain_form_are_refused(view: memoryview) -> None:
    with pytest.raises(CodecError, match="argument 1 is a memoryview: cannot send a memoryview of format"):
        codec.encode_call("use", (view,), {})


def test_shipped_arrays_are_read_only() -> None:
    """An actor's start arguments are no exception."""
    _, (received,) = shipping.unship(shipping.ship(list, (np.zeros(3),)).payload)
    assert not received.flags.writeable

"""Arrays inside messages: NumPy arrays and scalars, and memoryviews.

Rule: they arrive read-only at every size, because large ones are shared, and a program must not break when its data
grows. NumPy is never imported by us unless the program has done so or such a value arrives.

The bytes come first and the header (dtype, shape, order) last, so that the array, a view of the received bytes, is
aligned without a copy. Exact `ndarray`s only; dtypes that hold objects, or that their own description does not
rebuild, go by pickle, read-only as well. Rejected: the .npy format, whose header costs a parse of Python text for
each array (ours is cached by dtype).
"""

from __future__ import annotations

import ast
import functools
import struct
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Final

from . import extensions, parcels
from .extensions import ByPickle, Extension, Restore

if TYPE_CHECKING:
    import numpy as np

NDARRAY: Final = 23
SCALAR: Final = 24
MEMORYVIEW: Final = 8

_BESIDE: Final = 2  # in the byte of the order: the bytes are not here, but a number is, of a part of the message
_AWAY: Final = 128  # the same in a memoryview's byte of the dimensions
_TAIL: Final = struct.Struct("<BBH")  # order, number of dimensions, length of the dtype's text
_DTYPES: Final = 256  # cached; a program with more different dtypes pays 10 us for each array
writable = False  # set while the state of an actor is read, which is nobody else's
_FORMATS: Final = frozenset("cbB?hHiIlLqQnNfd")  # what memoryview.cast takes; e is new in 3.12


def find(kind: type) -> Extension | None:
    """The extension of NumPy's own array and scalar types, or None."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "generic"):  # half imported
        return None
    if kind is numpy.ndarray:
        found = Extension(NDARRAY, _array_out, True)
    elif issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
        found = Extension(SCALAR, _scalar_out, True)
    else:
        return None
    extensions.BY_TYPE[kind] = found
    return found


def reduce(value: Any) -> tuple[Any, ...] | None:
    """What a pickle writes for an array or a memoryview, so that it arrives as itself, read-only; or None.

    Raises TypeError for a memoryview that has no plain form.
    """
    if type(value) is memoryview:
        try:
            if value.nbytes >= parcels.LARGE and value.c_contiguous:
                return _view_in, (_view_tail(value), PickleBuffer(value))
            return _view_in, (_view_out(value),)
        except ByPickle:
            raise TypeError(f"cannot send a memoryview of format {value.format!r} and shape {value.shape}") from None
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is getattr(numpy, "ndarray", None):
        return _reduce_array(value)
    return None


def _reduce_array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    try:
        if array.nbytes >= parcels.LARGE:
            return _array_in, (_tail(array), PickleBuffer(_flat(array).data))
        return _array_in, (_array_out(array),)
    except ByPickle:
        return _rebuild, (array.__reduce__()[2],)


def _rebuild(state: Any) -> np.ndarray[Any, Any]:
    import numpy

    array: np.ndarray[Any, Any] = numpy.ndarray((0,), "b")
    array.__setstate__(state)
    array.flags.writeable = writable
    return array


def _array_out(array: np.ndarray[Any, Any]) -> bytes:
    if array.nbytes >= parcels.LARGE:
        tail, flat = _tail(array, _BESIDE), _flat(array)
        number = parcels.place(flat, parcels.holder(flat.data))
        if number >= 0:
            return number.to_bytes(2, "little") + tail
    tail = _tail(array)
    return b"".join((_flat(array).data, tail)) if array.nbytes else tail


def _flat(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Its bytes: no copy if it is contiguous, in either order."""
    return array.ravel("A").view("u1")


def _tail(array: np.ndarray[Any, Any], place: int = 0) -> bytes:
    """What it is: dtype, shape, order; and whether its bytes lie beside the message."""
    text = _text(array.dtype.num, array.dtype)
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    return b"".join((text, shape, _TAIL.pack(array.flags.fnc | place, array.ndim, len(text))))


def _array_in(data: bytes, memory: Any = None) -> np.ndarray[Any, Any]:
    """The array that the end of `data` describes; its bytes are the beginning of it, or lie elsewhere."""
    import numpy

    order, dimensions, length = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    at = len(data) - _TAIL.size - 8 * dimensions
    shape = struct.unpack_from(f"<{dimensions}q", data, at)
    dtype = _dtype(data[at - length : at])
    if order & _BESIDE:
        memory = parcels.arrived(int.from_bytes(data[:2], "little"))
    source = data if memory is None else memory
    array: np.ndarray[Any, Any] = numpy.ndarray(
        shape, dtype, bytearray(source) if writable else source, order="F" if order & 1 else "C"
    )
    array.flags.writeable = writable  # the buffer of a pickle comes back as it was
    return array


def _scalar_out(scalar: np.generic) -> bytes:
    dtype = scalar.dtype
    if dtype.kind not in "biufcmM":  # a text's trailing zeros and a record's fields are more than its bytes
        raise ByPickle
    text = _text(dtype.num, dtype)
    return scalar.tobytes() + text + bytes((len(text),))


def _scalar_in(data: bytes) -> Any:
    import numpy

    dtype = _dtype(data[-1 - data[-1] : -1])
    return numpy.ndarray((), dtype, data)[()]


@functools.lru_cache(_DTYPES)
def _text(number: int, dtype: np.dtype[Any]) -> bytes:
    """The dtype as text that rebuilds it. `number` tells apart equal ones of different scalars (longlong and int64)."""
    if dtype.hasobject:
        raise ByPickle
    for text in (repr(dtype.descr),) if dtype.names else (dtype.str, f"={dtype.char}"):
        data = text.encode()
        try:
            rebuilt = _dtype(data)
        except (TypeError, ValueError):
            continue
        if rebuilt == dtype and rebuilt.num == number and len(data) < 1 << 16:
            return data
    raise ByPickle


@functools.lru_cache(_DTYPES)
def _dtype(text: bytes) -> np.dtype[Any]:
    import numpy

    described = text.decode()
    dtype = numpy.dtype(ast.literal_eval(described) if described.startswith("[") else described)
    if dtype.hasobject:
        raise ValueError("an array of objects can't come as bytes")
    return dtype


# --- memoryviews


def _view_out(view: memoryview) -> bytes:
    if view.nbytes >= parcels.LARGE and view.c_contiguous:
        tail = _view_tail(view, _AWAY)
        number = parcels.place(view, parcels.holder(view))
        if number >= 0:
            return number.to_bytes(2, "little") + tail
    tail = _view_tail(view)
    return view.tobytes() + tail


def _view_tail(view: memoryview, place: int = 0) -> bytes:
    shape = view.shape or ()
    if view.format not in _FORMATS or not shape or (len(shape) > 1 and 0 in shape) or len(shape) >= _AWAY:
        raise ByPickle  # where it is refused: see reduce
    return struct.pack(f"<{len(shape)}qBc", *shape, len(shape) | place, view.format.encode())


def _view_in(data: bytes, memory: Any = None) -> memoryview:
    dimensions, format = struct.unpack_from("<Bc", data, len(data) - 2)
    if dimensions & _AWAY:
        memory = parcels.arrived(int.from_bytes(data[:2], "little"))
        dimensions &= ~_AWAY
    at = len(data) - 2 - 8 * dimensions
    shape = struct.unpack_from(f"<{dimensions}q", data, at)
    raw: Any = memoryview(data)[:at] if memory is None else memoryview(memory).toreadonly()  # format: known at run time
    form = (format.decode(),) if dimensions == 1 else (format.decode(), shape)  # cast wants a shape without zeros
    view: memoryview = raw.cast(*form)
    return view


extensions.register(memoryview, MEMORYVIEW, _view_out, _view_in, leaf=True)
extensions.BY_CODE[NDARRAY] = Restore(_array_in, True)
extensions.BY_CODE[SCALAR] = Restore(_scalar_in, True)
extensions.FINDERS.append(find)

"""`Shared`: large data that is put into shared memory once and read by everybody whom it is sent to.

Rule: it is a value like any other, read-only, and its memory is freed when the last process that looks at it lets go or
dies. What is in it lies in segments (arena.py): the value is encoded, its large buffers are copied there, and what is
decoded from that is a value on that memory. So anything with large buffers can be shared: arrays, tables of arrays, what
pickles its buffers out of band (PEP 574).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import codec

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .arena import Arena

T_co = TypeVar("T_co", covariant=True)
_CODE = 41  # msgpack extension type
_GONE: Any = object()


class Shared(Generic[T_co]):
    """A value in shared memory; made by `ActorSystem.share`. Send it, or any view of `value`: nothing is copied.

    value: the array (or table, …), read-only; of bytes and other buffers a memoryview. ValueError after `close`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T_co) -> None:
        self._value = value

    @property
    def value(self) -> T_co:
        if self._value is _GONE:
            raise ValueError("this shared value was closed")
        return self._value

    def close(self) -> None:
        """Let go of it here; views that were taken of `value` stay valid, and so does what others hold."""
        self._value = _GONE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Shared {'closed' if self._value is _GONE else type(self._value).__name__}>"


def share(arena: Arena, value: Any) -> Shared[Any]:
    """Put a value's large buffers into shared memory. CodecError, OutOfMemory."""
    if isinstance(value, bytes | bytearray):
        value = memoryview(value)
    body, flags = codec.encode(value)
    return Shared(codec.decode(arena.keep(body), flags))


codec.register(Shared, _CODE, lambda shared: shared.value, Shared)

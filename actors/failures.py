"""Exceptions that cross to another process: the caller sees the original type, if that is possible, and always the
traceback.

Rule: an exception object goes only if it survives the journey here, at the sender: pickled, unpickled and of the same
type. Many don't (a constructor with required arguments, an attribute that holds a socket), and the receiver is too
late to find out. What always goes are the type's name, the message and the formatted traceback, from which the
receiver makes a `RemoteError`; the same if only the receiver can't rebuild the object. Whatever an exception's own
methods raise while it is looked at counts as "does not survive", even SystemExit.

The traceback arrives as `__cause__`, as concurrent.futures does it, so that an uncaught error prints both. Rejected:
pickling traceback objects, which need the frames' locals or a library that fakes them; rebuilding without `__init__`,
which gives the class half an object.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

from . import codec
from .codec import PICKLED
from .errors import CodecError, RemoteError
from .pickling import dumps, loads

_LONGEST: Final = 1 << 16  # characters of message or traceback; the middle of longer ones is left out
_LONGEST_REASON: Final = 1 << 12  # it is repeated in every event, monitor's call and ActorDied


class RemoteTraceback(Exception):
    """The cause of an exception from another process; its text is the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def encode_error(error: BaseException) -> tuple[bytes, int]:
    """The exception as (body, flags). Never raises. The body is msgpack; PICKLED: it holds the object's pickle."""
    name, pickled = _name(type(error)), _surviving(error)
    body, _ = codec.encode_whole([name, _message(error), _traceback(error, name), pickled])
    return body, 0 if pickled is None else PICKLED


def decode_error(body: bytes, flags: int) -> BaseException:
    """The original exception, or a `RemoteError`, caused by a `RemoteTraceback`.

    Without PICKLED in the flags nothing is unpickled. Raises CodecError if the body makes no sense.
    """
    match codec.decode(body, 0):
        case [str(name), str(message), str(trace), (None | bytes()) as pickled]:
            pass
        case _:
            raise CodecError("an error can't be read: it is none")
    error = _rebuilt(pickled) if flags & PICKLED and pickled is not None else None
    if error is None:
        error = RemoteError(f"{name}: {message}\n\n{trace}")
    object.__setattr__(error, "__cause__", RemoteTraceback(trace))  # even if it is a frozen dataclass
    return error


def describe(error: BaseException) -> str:
    """`ValueError: text`, for exit reasons. Never raises."""
    return _clean(f"{type(error).__name__}: {_message(error)}", _LONGEST_REASON)


def formatted(error: BaseException) -> str:
    """Its traceback, as the interpreter would show it. Never raises."""
    return _traceback(error, _name(type(error)))


def _surviving(error: BaseException) -> bytes | None:
    """The object's pickle, if it comes back from it as what it was."""
    try:
        pickled = dumps(error)
        return pickled if type(loads(pickled)) is type(error) else None
    except BaseException:
        return None


def _rebuilt(pickled: bytes) -> BaseException | None:
    try:
        found: Any = loads(pickled)
    except Exception:
        return None
    return found if isinstance(found, BaseException) else None


def _name(kind: type) -> str:
    try:
        return _clean(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
    except BaseException:
        return "an exception"


def _message(error: BaseException) -> str:
    try:
        return _clean(str(error))
    except BaseException as failure:
        return f"<its message can't be shown: {type(failure).__name__}>"


def _traceback(error: BaseException, name: str) -> str:
    try:
        return _clean("".join(traceback.format_exception(error)))
    except BaseException as failure:  # the exception's own doing: show at least where it was raised
        where = "".join(traceback.format_tb(error.__traceback__))
        return _clean(f"{where}{name}: <it can't be shown: {type(failure).__name__}>\n")


def _clean(text: str, longest: int = _LONGEST) -> str:
    """Of bearable length, and without lone surrogates, which msgpack refuses."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}\n... {len(text) - longest} characters left out ...\n{text[-longest // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()

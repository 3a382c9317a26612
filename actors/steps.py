"""Steps: what takes several answers of the guardian, written once for blocking and for async code.

Rule: a generator yields replies and gets their answers (or the exceptions that they end with); whoever drives it decides how to wait.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def drive(steps: Generator[Any, Any, T]) -> T:
    """Run steps that yield replies, blocking for each."""
    try:
        reply = next(steps)
        while True:
            try:
                answer = reply.result()
            except Exception as error:
                reply = steps.throw(error)
            except BaseException:  # Ctrl-C: what was asked for is not wanted any more
                reply.cancel()
                raise
            else:
                reply = steps.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(steps: Generator[Any, Any, T]) -> T:
    """Run steps that yield replies, awaiting each."""
    try:
        reply = next(steps)
        while True:
            try:
                answer = await reply
            except Exception as error:
                reply = steps.throw(error)
            else:
                reply = steps.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value


def one(reply: Any) -> Generator[Any, Any, Any]:
    """The steps of a single answer."""
    return (yield reply)

"""Steps: what takes several answers of the guardian, written once for blocking and for async code.

Rule: a generator yields replies and gets their answers (or the exceptions that they end with); whoever drives it decides how to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
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


def drive_later(steps: Generator[Any, Any, T], done: Callable[[T | BaseException], object]) -> None:
    """Run steps that yield replies, waiting for none: whoever collects an answer takes the next step, or leaves it to
    a thread in which no signal handler raises. `done` gets what they return, or the exception that they end with.
    """

    def go(step: Callable[[], Any]) -> None:
        try:
            reply = step()
        except StopIteration as end:
            done(end.value)
        except Exception as error:
            done(error)
        else:
            reply._call(collected, None, True, False)

    def collected(reply: Any) -> None:
        if not reply.client.endpoint.elsewhere(lambda: answered(reply)):
            answered(reply)

    def answered(reply: Any) -> None:
        try:
            answer = reply.result(0)
        except Exception as error:
            failure = error
            go(lambda: steps.throw(failure))
        else:
            go(lambda: steps.send(answer))

    go(lambda: next(steps))


def one(reply: Any) -> Generator[Any, Any, Any]:
    """The steps of a single answer."""
    return (yield reply)

"""What can go wrong with a pool of workers.

Rule: each is an `ActorsError` and what `concurrent.futures` would raise, so that `except BrokenProcessPool` works as it
does for the standard executor. Apart from `actors.errors`, since that namesake comes with multiprocessing.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from ..errors import ActorDied, ActorsError


class WorkerDied(ActorDied, BrokenProcessPool):
    """The process that ran this task died (`.reason`). Only this task is concerned: the pool lives on, and the task may
    be submitted again, if its half-done work does no harm. `retries=N` does that by itself.
    """


class PoolBroken(ActorsError, BrokenProcessPool):
    """The whole executor is of no use any more: its initializer fails, no worker can be started, or its system is gone.
    What was open ended with this error; the text says why.
    """


class InitializerFailed(ActorsError):
    """What a worker answers every task with when its initializer raised. Users see `PoolBroken`."""

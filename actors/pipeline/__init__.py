"""Pipelines: items flow through stages, each a function or a class, each in processes of its own.

    stage       Stage: one step, described and checked
    pipeline    Pipeline: the stages in a row
    chunk       items on their way: encoded once, passed on without a look
    batch       what one worker has in hand, and what came of it
    station     one stage's bookkeeping: what waits, who works, what may be let go
    flow        the whole line: events in, actions out
    engine      what carries the actions out; crew: the processes that it does so with
    run         the iterator that users hold
    worker      the actor in each process
    service     the actor that runs a pipeline in a supervision tree
    held        a batch in its hands, and the answer in the making
    keeper      the same for classes that keep their state over a crash
    program     an external program as a stage
    source      where items come from
    profile, picture, drawing, progress, checkpoint     what a run shows, and where it goes on

Rule: `flow`, `station` and `batch` decide and do nothing else; `engine` does and decides nothing.
"""

from ..errors import StageError
from .pipeline import Pipeline
from .profile import Profile
from .run import Run
from .stage import Stage

__all__ = ["Pipeline", "Profile", "Run", "Stage", "StageError"]

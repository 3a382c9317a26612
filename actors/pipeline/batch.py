"""What one worker has in hand, what it said of it, and what could not be done.

Rule: a batch is a run of a stage's inputs, known by the number of the first. It only ever shrinks: what is done is cut
off its front, and the rest goes on under the number of its own first input, so an input has one owner at any time.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from .chunk import Chunk, part

DONE, REFUSED, LOST = 0, 1, 2  # how a worker answers
RETRY_OR_SKIP = "retry, skip"  # what "retry" is where there is nobody to raise to
SKIPS, RETRIES = ("skip", RETRY_OR_SKIP), ("retry", RETRY_OR_SKIP)
Trouble = Literal["raised", "died", "late", "lost"]


class Spent(Exception):
    """Raised by what a worker has made for its stage: it is of no more use. `args[0]`: the error that says why."""


class Answer(NamedTuple):
    """A worker's answer.

    parts: results, as (body, flags, count). done: inputs that were processed to the end. partial: results that the
    input after these has had so far. open: it goes on with these inputs when it is asked for more. seconds: of work.
    skipped: (input's place, what it was, why). failed: (what the input was, encoded error, its flags), of the input
    after those done. token: which incarnation it is. full: it has grown too large.
    """

    status: int
    parts: list[tuple[bytes, int, int]]
    done: int
    partial: int
    open: bool
    seconds: float
    skipped: list[tuple[int, str, str]]
    failed: tuple[str, bytes, int] | None
    token: int
    full: bool


class Failure(NamedTuple):
    """An item that could not be processed; `chunk` holds it alone, `error` is the encoded exception."""

    stage: int
    trouble: Trouble
    text: str
    chunk: Chunk | None = None
    error: tuple[bytes, int] | None = None


class Batch:
    """Inputs `first` to `first + count`, with what has come of them and was not let go yet."""

    __slots__ = (
        "careful", "chunks", "count", "done", "failure", "first", "hits", "open", "outputs", "over", "owner", "partial",
        "seconds", "streams",
    )  # fmt: skip

    def __init__(self, first: int, chunks: list[Chunk], count: int, *, owner: int = -1) -> None:
        self.first, self.chunks, self.count = first, chunks, count
        self.owner = owner  # whose `finish` it stands for; -1: anybody's, inputs
        self.done = self.partial = self.hits = 0
        self.seconds = 0.0  # of work on the input in hand
        self.careful = False  # one input at a time: a process died, and it must be found under which
        self.open = False  # its worker waits to be asked for more
        self.streams = False  # it did so once
        self.over = False  # nothing more will come of it
        self.outputs: list[Chunk] = []
        self.failure: Failure | None = None

    def __repr__(self) -> str:
        return f"<Batch {self.first}+{self.count}, {self.done} done>"

    @property
    def finish(self) -> bool:
        return self.owner >= 0

    def take(self, answer: Answer) -> int:
        """Note what its worker has made: bytes of it."""
        made = [Chunk(body, flags, 0, count, count) for body, flags, count in answer.parts if count]
        self.outputs += made
        self.done += answer.done
        self.partial = answer.partial
        self.open = answer.open
        self.streams = self.streams or answer.open
        if answer.done:
            self.hits = 0
        return sum(chunk.size for chunk in made)

    def item(self) -> Chunk | None:
        """The input that was in hand, alone."""
        found = part(self.chunks, self.done, self.done + 1)
        return found[0] if found else None

    def cut(self, without: int = 0) -> Batch | None:
        """End it after what is done and `without` inputs more: the rest, if there is one."""
        kept = self.done + without
        self.over, self.open = True, False
        if kept >= self.count:
            return None
        rest = Batch(self.first + kept, part(self.chunks, kept, self.count), self.count - kept)
        rest.careful = self.careful
        rest.partial = 0 if without else self.partial
        self.count, self.chunks = kept, []
        return rest


def answer(raw: list[Any]) -> Answer:
    """From the message."""
    return Answer(*raw)

"""The loop of one actor: mail, timers and hooks, one at a time, on asyncio.

Design: plain calls, which is most of them, are decoded, called and finished by the inbox itself (`Inbox.run`, decision
0028); what follows is for all others, and for actors whose loop has more to do between two messages.

`concurrency` persistent worker tasks share the mailbox. A worker takes the next record in one C call, which
finishes the one before; sync methods are called directly, async ones are awaited directly, so a handler that never
suspends costs no task and no turn of the event loop, and one that does suspends the worker with it. A worker with
nothing to do spins for 20 us at most, by the inbox's rule, arms the bell and waits for the door to ring. After every
BATCH messages the event loop gets a turn, for timers and the user's own tasks.

The order at the end of a message is: answer, then commit. A death in between leaves an answered record that the
guardian reports; the asker keeps the first answer. Of an actor that keeps state a snapshot comes before the commit
(snapshots.py): its workers pause after every message.

Rejected: a task for each message (five times the cost); stepping coroutines by hand (no `current_task`, so
`asyncio.timeout` fails in them).
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from msgpack import unpackb

from . import wire
from .calls import Call, LocalCalls
from .client import Client
from .codec import UNPACKING, decode_call, encode, unpack
from .context import current
from .endpoint import SPIN, LoopEndpoint
from .errors import CodecError, SpecError
from .exits import ExitReason
from .failures import describe, encode_error, formatted
from .message import HANDLE, KEYWORDS, Kind
from .ref import RESERVED
from .transports._ring import Record, Ring

if TYPE_CHECKING:
    from .snapshots import Snapshots

BATCH = 128
ASK = int(Kind.ASK)
VALUE, ERROR, CANCELLED, EXPIRED = int(Kind.VALUE), int(Kind.ERROR), int(Kind.CANCELLED), int(Kind.EXPIRED)
NOTHING, _ = encode(None)
PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple, set})

_sender: contextvars.ContextVar[int] = contextvars.ContextVar(
    "sender", default=0
)  # where handlers overlap: each one's, and its tasks'


class Worker:
    """One message at a time; `caller` and `call` name the one in hand; `suspended` while its handler waits for
    something.
    """

    __slots__ = ("call", "caller", "given_up", "suspended", "task")

    def __init__(self) -> None:
        self.caller = self.call = 0
        self.given_up = self.suspended = False
        self.task: asyncio.Task[None] | None = None


class Loop(LocalCalls):
    """Runs one actor until it leaves; `reason` then says why."""

    def __init__(self, client: Client, endpoint: LoopEndpoint, mail: Ring, on_error: str) -> None:
        super().__init__(client, endpoint, mail)
        self.crash_on_error = on_error != "continue"
        self.instance: Any = None
        self.methods: dict[str, Callable[..., Any]] = {}
        self.workers: list[Worker] = []
        self.most = self.taken = 0  # messages that this process may take (0: any number), and has taken
        self.leaving = False  # no further message
        self.draining = False  # until the mailbox, closed by the guardian, is empty
        self.last_look = False
        self.reason: ExitReason | None = None
        self.failure: BaseException | None = None
        self.snapshots: Snapshots | None = None  # of an actor that keeps state
        self.answer: Callable[[int, int, int, bytes, int], None] = client.answer
        self.release: Callable[[bytes], None] = client.release
        handlers = client.handlers
        handlers[int(Kind.STOP)] = self._on_stop
        handlers[int(Kind.CANCEL)] = self._on_cancel

    # --- life

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the event loop listen to both bells."""
        self.endpoint.loop = loop
        self.endpoint.dispatch = self.client.dispatch
        loop.add_reader(self.endpoint.bell, self.endpoint.pump, 0.0, None, True)
        loop.add_reader(self.endpoint.door, self._on_door)

    async def run(self, instance: Any) -> None:
        """Handle mail until the actor leaves; then `on_stop`."""
        self.instance, count = instance, width(instance)
        self.workers = [Worker() for _ in range(count)]
        for worker in self.workers:
            worker.task = asyncio.current_task() if count == 1 else asyncio.create_task(self._work(worker, shared=True))
        if count == 1:
            self.endpoint.handler = asyncio.current_task()
            one = self.workers[0]
            self.direct = type(self) is Loop and not self.snapshots and not self.most
            await (self._work_directly(one) if self.direct else self._work(one, shared=False))
        else:
            await self._all_workers()
        if self.failure is not None:
            raise self.failure
        if self.snapshots is not None:
            await self.snapshots.last()

    async def _all_workers(self) -> None:
        tasks = [worker.task for worker in self.workers if worker.task is not None]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in rest:
            task.cancel()
        for task in done:
            task.result()

    # --- mail

    async def _work(self, worker: Worker, shared: bool) -> None:
        take = self._counted if self.most else self.endpoint.main.next
        hold, endpoint, local = self.endpoint.main.hold, self.endpoint, self.local
        news, begin, snapshots = endpoint.news, self._begin_shared if shared else self._begin, self.snapshots
        batch = BATCH if snapshots is None or shared else 1
        left, held, turn = batch, -1, True  # timers and mail take turns, so that neither starves
        if snapshots is not None:
            await snapshots.settled()
        while not self.leaving:
            if local:
                if turn:
                    if not shared:
                        endpoint.main.finish()
                    turn = False
                    await self._run_local(worker, local.popleft())
                    if snapshots is not None:
                        left = await snapshots.after(-1)
                    continue
                turn = True
                record = take(0.0)
            else:
                record = take(0.0 if shared and self._others_busy(worker) else SPIN)
            if type(record) is tuple:
                if shared:
                    held = hold()
                value = begin(worker, record)
                if value is not None:
                    await self._finish(worker, record, value)
                if held >= 0:
                    worker.caller = worker.call = 0
                    if snapshots is None or await snapshots.after(held) > 0:
                        self.mail.done(held)
                if news:
                    self.client.dispatch()
                left -= 1
                if left <= 0:
                    left = await self._pause(record[6])
            elif record is None:
                if local and not self.draining:
                    continue
                await (self._drained() if self.draining else self._sleep())
                if snapshots is not None:
                    await snapshots.settled()
                left = batch
            else:
                endpoint.pump()
                self.client.dispatch()
        if not shared and left > 0:
            endpoint.main.finish()  # answered, so nobody needs to hear of the end of this process
        if shared and self.failure is not None:
            raise self.failure  # the handlers of the other workers end with it

    async def _work_directly(self, worker: Worker) -> None:
        """The same where one message at a time is handled, none of them counted or kept: `Inbox.run` calls what is known."""
        endpoint, local, inbox = self.endpoint, self.local, self.endpoint.main
        run, means = inbox.run, (unpackb, UNPACKING, self.methods, endpoint.news)
        turn, inbox.left = True, BATCH
        while not self.leaving:
            if local:
                if turn:
                    inbox.finish()
                    turn = False
                    await self._run_local(worker, local.popleft())
                    continue
                inbox.left = 1
            turn = endpoint.in_sync = True
            try:
                got = run(0.0 if local else SPIN, *means)
            except Exception as error:
                endpoint.in_sync = False
                if (record := inbox.current()) is None:
                    raise
                self._raised(error, record)
                continue
            finally:
                endpoint.in_sync = False
            if type(got) is tuple:
                record, value = got if len(got) == 2 else (got, self._begin(worker, got))
                if record is got or hasattr(value, "__await__"):
                    if value is not None:
                        await self._finish(worker, record, value)
                elif record[0] == ASK:
                    self._answer_value(record[2], record[3], value)
            elif got is None:
                if local and not self.draining:
                    continue
                await (self._drained() if self.draining else self._sleep())
                inbox.left = BATCH
            elif got:
                endpoint.pump()
                self.client.dispatch()
            elif not self.leaving:
                await asyncio.sleep(0)
                inbox.left = BATCH
        inbox.finish()  # answered, so nobody needs to hear of the end of this process

    def _begin_shared(self, worker: Worker, record: Record) -> Any:
        _sender.set(record[2])
        return self._begin(worker, record)

    async def _pause(self, position: int) -> int:
        """Between two messages. Messages until the next pause; -1: the one at this position must stay in hand."""
        if self.snapshots is not None and len(self.workers) == 1:
            return await self.snapshots.after(position)
        await asyncio.sleep(0)
        if self.snapshots is not None:
            await self.snapshots.settled()
        return BATCH

    def suspended(self) -> bool:
        """Does any handler, or timer's call, wait for something?"""
        return any(worker.suspended for worker in self.workers)

    def _counted(self, spin: float) -> Record | int | None:
        """The next record, as long as this process may take one (`max_messages`); then it leaves, and another comes."""
        if self.taken < self.most:
            record = self.endpoint.main.next(spin)
            self.taken += isinstance(record, tuple)
            return record
        self.endpoint.main.finish()
        stats, shared = self.mail.stats(), len(self.workers) > 1
        in_hand = sum(1 for worker in self.workers if worker.caller) if shared else 0
        if not self.draining or stats["accepted"] - stats["handled"] > in_hand:
            self.client.send("recycle", why=f"max_messages={self.most}: it has handled as many")
            self.draining = False  # the next process goes on with it
            self._leave(ExitReason("shutdown"))
            return 1  # no wait
        return None

    def _begin(self, worker: Worker, record: Record) -> Any:
        """Call the handler of a record. None: that was all; else what it returned, to be awaited."""
        kind, flags, sender, corr, deadline, _, _, body = record
        worker.caller, worker.call = sender, corr
        endpoint = self.endpoint
        try:
            if flags or deadline:
                if deadline and time.monotonic_ns() >= deadline:
                    self.answer(sender, corr, EXPIRED, b"", 0)
                    return None
                call = decode_call(self.client.body_of(record), flags)
                arguments, keywords = (call[2:], call[1]) if flags & KEYWORDS else (call[1:], {})
                method = self.methods.get(call[0]) or self._method(call[0])
                endpoint.in_sync = True
                value = method(*arguments, **keywords)
            else:  # most messages: each call and each list less is some 5 % of what one costs
                call = unpack(body)
                method = self.methods.get(call[0]) or self._method(call[0])
                endpoint.in_sync = True
                value = method(call[1]) if len(call) == 2 else method(*call[1:])
            endpoint.in_sync = False
            if value is None:
                if kind == ASK:
                    self.answer(sender, corr, VALUE, NOTHING, 0)
            elif value.__class__ not in PLAIN and hasattr(value, "__await__"):
                return value
            elif kind == ASK:
                self._answer_value(sender, corr, value)
        except Exception as error:
            endpoint.in_sync = False
            self._raised(error, record)
        if flags & HANDLE:
            self.release(record[7])
        return None

    async def _finish(self, worker: Worker, record: Record, pending: Any) -> None:
        """Await what a handler returned."""
        kind, flags, sender, corr = record[:4]
        worker.caller, worker.call = sender, corr
        self.endpoint.pump()  # armed: the door must ring while the handler is suspended
        self._wake()  # another worker: what came before is not rung for again
        worker.suspended = True
        try:
            value = await pending
            if kind == ASK:
                self._answer_value(sender, corr, value)
        except asyncio.CancelledError as error:
            if worker.task is not None and worker.task.cancelling() > worker.given_up:
                raise  # this worker itself is to end
            if (
                kind == ASK
            ):  # given up by its asker, or the handler's own doing: a cancelled call, as a cancelled task is
                self.answer(sender, corr, CANCELLED, b"", 0)
            else:
                self.failed(error, record)
        except Exception as error:
            self._raised(error, record)
        finally:
            worker.suspended = False
            if worker.given_up and worker.task is not None:
                worker.given_up = False
                worker.task.uncancel()
        if flags & HANDLE:
            self.release(record[7])

    def _raised(self, error: Exception, record: Record) -> None:
        if record[0] == ASK:
            self.answer(record[2], record[3], ERROR, *encode_error(error))
        else:
            self.failed(error, record)

    def _answer_value(self, sender: int, corr: int, value: Any) -> None:
        if value is None:
            self.answer(sender, corr, VALUE, NOTHING, 0)
            return
        try:
            body, flags = encode(value)
        except CodecError as error:
            unsent = CodecError(f"{current().ref.address}: the result: {error}")
            self.answer(sender, corr, ERROR, *encode_error(unsent.with_traceback(error.__traceback__)))
        else:
            self.answer(sender, corr, VALUE, body, flags)

    def _method(self, name: object) -> Callable[..., Any]:
        """The handler of a message name; only public methods of the actor's own class count, not what an instance or a
        property holds.
        """
        method = None
        if isinstance(name, str) and not name.startswith("_") and name not in RESERVED:
            found = inspect.getattr_static(type(self.instance), name, None)
            if found is not None and not isinstance(found, type | property):
                method = getattr(self.instance, name)
        if not callable(method):
            raise AttributeError(f"{type(self.instance).__name__} has no public method {name!r}")
        self.methods[str(name)] = method
        return method  # type: ignore[no-any-return]

    def failed(self, error: BaseException, record: Record | None) -> None:
        """A tell, timer or hook raised and nobody waits for it."""
        if self.crash_on_error:
            self.failure = error
            self.leaving = True
            self._wake_all()
        else:
            self.client.send(
                "failure",
                error=describe(error),
                traceback=formatted(error),
                record=[*record[:2], record[7]] if record else None,
            )

    # --- sleeping and waking

    async def _sleep(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self.idle.append(future)
        try:
            await future
        finally:
            if future in self.idle:
                self.idle.remove(future)

    async def _drained(self) -> None:
        """The mailbox is closed and looked empty: leave when it looks so again after no sender can publish any more."""
        if self.last_look:
            self._leave(ExitReason("shutdown"))
        elif self.mail.quiet():
            self.last_look = True
        else:
            await asyncio.sleep(0.001)

    def _on_door(self) -> None:
        """The door rang: mail, or the guardian's news."""
        self.endpoint.pump(0.0, None, True)
        self.client.dispatch()
        self._wake()

    def _wake_all(self) -> None:
        while self.idle:
            self._wake()

    def _others_busy(self, worker: Worker) -> bool:
        return any(other.call or other.caller for other in self.workers if other is not worker)

    async def _run_local(self, worker: Worker, call: Call) -> None:
        method, args, kwargs = call
        worker.caller = worker.call = 0
        if self.direct:
            self.endpoint.main.caller = 0
        _sender.set(0)
        begun = self._begins() if self.watched else None
        try:
            value = self.blocking(method, *args, **kwargs)
            if inspect.isawaitable(value):
                self.endpoint.pump()
                self._wake()
                worker.suspended = True
                await value
        except asyncio.CancelledError as error:
            if worker.task is not None and worker.task.cancelling():
                raise
            self.failed(error, None)
        except Exception as error:
            self.failed(error, None)
        finally:
            worker.suspended = False
            if begun is not None:
                self._ends(begun)

    # --- leaving

    def _leave(self, reason: ExitReason) -> None:
        self.reason = self.reason or reason
        self.leaving = True
        self.pause()
        self._wake_all()

    def leave(self) -> None:
        """`self.stop()`."""
        self._leave(ExitReason("normal"))

    def _on_stop(self, body: bytes, sender: int, corr: int) -> None:
        if wire.loads(body)["final"]:
            self.draining = not self.leaving  # one that is to be replaced has said so: the next process drains
        else:
            self._leave(ExitReason("shutdown"))
        self._wake_all()

    def _on_cancel(self, body: bytes, sender: int, corr: int) -> None:
        for worker in self.workers:
            if (
                worker.suspended
                and (worker.caller, worker.call) == (sender, corr)
                and worker.task is not None
                and not worker.given_up
            ):
                worker.given_up = True
                worker.task.cancel()

    def caller(self) -> int:
        """Endpoint id of who sent the message in hand; 0: nobody."""
        if self.direct:
            return self.endpoint.main.caller
        if len(self.workers) == 1:
            return self.workers[0].caller
        return _sender.get()


def width(instance: Any) -> int:
    """How many of its handlers may overlap. SpecError."""
    count = getattr(instance, "concurrency", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SpecError(f"{type(instance).__name__}.concurrency must be a whole number from 1 on, not {count!r}")
    return count


def exit_now(code: int) -> NoReturn:
    """End this process without running the zygote's exit handlers a second time."""
    import sys

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue
    os._exit(code)

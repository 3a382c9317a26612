"""The future of one task: whoever waits for it waits for the worker's answer itself.

Rule: `result()` collects, as a `Reply` does, and the outcome is decoded in its frame; there is no thread that hands
results over. A `Condition`, which `wait`, `as_completed`, callbacks and asyncio use, is made when one of them asks for
it: from then on the reader tells it, since signal handlers that raise never run there, and a Condition that is
interrupted in the wrong moment stays locked.

States are those of `concurrent.futures`, but exact: a task that waits in a worker's mailbox is pending, and `cancel`
takes it back from there.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, TypeVar

from ..endpoint import SPIN
from ..failures import decode_error
from ..reply import Reply
from .worker import Carried

if TYPE_CHECKING:
    from .crew import Member
    from .dispatcher import Dispatcher

T = TypeVar("T")
ENDED = (CANCELLED_AND_NOTIFIED, FINISHED)


class TaskFuture(Future[T]):
    """Made by `ActorPoolExecutor.submit`. Everything but the scheduling state is as in `concurrent.futures.Future`."""

    _condition: threading.Condition  # made by __getattr__

    def __init__(self, dispatcher: Dispatcher, method: str, body: bytes, flags: int) -> None:
        self._state = PENDING  # what Future.__init__ does, but for the Condition
        self._result, self._exception = None, None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.dispatcher = dispatcher
        self.method, self.body, self.flags = method, body, flags
        self.deaths = 0  # of workers that had begun it
        self.worker: Member | None = None
        self.reply: Reply[Any] | None = None  # of the worker that has it
        self.pushed: list[int] = []  # its position in the mailbox there, once it is there
        self.failure: BaseException | None = None  # that it ends with, where no reply says so
        self.is_over = False  # set once, when the outcome is certain
        self.rings: list[int] = []  # eventfds of threads that wait for it
        self.decoding = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        if name != "_condition":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self.decoding:
            if name not in self.__dict__:
                self.__dict__[name] = threading.Condition()
        self.dispatcher.attend(self)  # somebody will be told: see that somebody tells
        if self.is_over:
            self.settle()
        return self.__dict__[name]

    # --- looking

    def done(self) -> bool:
        if not self.is_over and self.reply is not None:
            self.dispatcher.client.endpoint.pump()
        return self.is_over

    def cancelled(self) -> bool:
        return self.is_over and isinstance(self.failure, CancelledError)

    def running(self) -> bool:
        """True when a worker has it as its first task; from then on it can't be cancelled."""
        if not self.done() and self._state == PENDING and self.dispatcher.is_first(self):
            self._state = RUNNING
        return not self.is_over and self._state == RUNNING

    def result(self, timeout: float | None = None) -> T:
        if not self.is_over:
            self._wait(timeout)
        value, error = self._outcome()
        if error is not None:
            try:
                raise error
            finally:  # no cycle of the exception's traceback with this frame
                del self, error
        return value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self.is_over:
            self._wait(timeout)
        _, error = self._outcome()
        if isinstance(error, CancelledError) and isinstance(self.failure, CancelledError):
            raise error
        return error

    # --- acting

    def cancel(self) -> bool:
        """Take it back, if no worker has begun it. True: it is cancelled, and will not run."""
        if not self.is_over and self._state != RUNNING:
            self.dispatcher.cancel(self)
        return self.cancelled()

    def set_running_or_notify_cancel(self) -> bool:
        raise RuntimeError("only its executor changes the state of this future")

    # --- inside

    def _wait(self, timeout: float | None) -> None:
        """Collect until it is over. TimeoutError."""
        endpoint = self.dispatcher.client.endpoint
        self.dispatcher.check_process()
        if (reply := self.reply) is not None:
            endpoint.pump_for(reply, SPIN)
        if self.is_over:
            return
        end = None if timeout is None else time.monotonic() + timeout
        if not endpoint.block(lambda: self.is_over, self.rings, self.decoding, end, lambda: self.reply is None):
            raise TimeoutError

    def ended(self, reply: Reply[Any]) -> None:
        """Called by whoever collects: its worker has answered, or has died."""
        self.dispatcher.ended(self, reply)

    def finish(self, failure: BaseException | None = None) -> None:
        """The outcome is certain: `failure`, or what the reply says. By the dispatcher only, once."""
        self.failure, self.body = failure, b""
        self.is_over = True  # then look who waits; they publish themselves, then look at this
        with self.decoding:
            for fd in self.rings:
                os.eventfd_write(fd, 1)

    def tell(self) -> None:
        """Tell those who use the Condition, if there are any, in a thread where no signal handler raises."""
        if "_condition" in self.__dict__ and not self.dispatcher.client.endpoint.elsewhere(self.settle):
            self.settle()

    def settle(self) -> None:
        """Make the Condition's state the true one, and call back. Calling it again is harmless."""
        value, error = self._outcome()
        with self._condition:
            if self._state in ENDED:
                return
            if self.cancelled():
                self._state = CANCELLED_AND_NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
            else:
                self._result, self._exception, self._state = value, error, FINISHED
                for waiter in self._waiters:
                    waiter.add_exception(self) if error is not None else waiter.add_result(self)
            self._condition.notify_all()
        self._invoke_callbacks()

    def _outcome(self) -> tuple[Any, BaseException | None]:
        """Result and exception, decoded once."""
        if self._state == FINISHED:
            return self._result, self._exception
        with self.decoding:
            if self._state in ENDED:
                return self._result, self._exception or self.failure
            if (value_error := self.__dict__.get("decoded")) is None:
                self.decoded = value_error = self._decode()
                self.reply = None
            value, error = value_error
            if "_condition" not in self.__dict__ and not self.cancelled():
                self._result, self._exception, self._state = value, error, FINISHED
        return value_error

    def _decode(self) -> tuple[Any, BaseException | None]:
        if self.failure is not None or self.reply is None:
            return None, self.failure
        try:
            return self.reply.result(0), None
        except Carried as carried:
            return None, decode_error(carried.body, carried.flags)
        except BaseException as error:
            return None, error.with_traceback(None)

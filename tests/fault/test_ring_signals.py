"""A signal handler may raise at any moment inside or after a call of the inbox: no answer and no mail is lost by it."""

import os
import select
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from actors.transports import _ring
from actors.transports._ring import Inbox, News, ReplyBase, Ring

INTERRUPTIONS = 1000


class Interrupted(Exception):
    """Raised by the signal handler, while it is armed, once."""


class Storm:
    """A timer signal every 100 us; its handler raises when `armed`, and disarms."""

    def __init__(self) -> None:
        self.armed = False
        self.raised = 0

    def handler(self, _signal: int, _frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Interrupted


@pytest.fixture
def storm() -> Iterator[Storm]:
    storm = Storm()
    before = signal.signal(signal.SIGALRM, storm.handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    yield storm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def make(bell: int) -> Ring:
    fd = _ring.create(1 << 16)
    try:
        return Ring(fd, bell)
    finally:
        os.close(fd)


def test_no_answer_is_lost_when_a_handler_raises_in_collect(storm: Storm, bell: int) -> None:
    replies, control, asks = make(bell), make(bell), make(-1)
    inbox = Inbox(bell, replies, control)
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        while True:
            record = asks.take()
            if record is None:
                os.sched_yield()
            elif record[0] == 9:
                os._exit(0)
            else:
                replies.answer(b"%d" % record[3], 1, 0, 0, record[3])
                asks.done(record[6])
    table: dict[int, ReplyBase] = {}
    fire: list[ReplyBase] = []
    news: list[News] = []
    corr = 0
    while storm.raised < INTERRUPTIONS:
        corr += 1
        reply = table[corr] = ReplyBase()
        asks.push(b"", 1, 0, 0, corr, 0, -1)
        clear = False
        while reply.kind < 0:
            try:
                storm.armed = True
                inbox.collect(table, fire, news, 20, reply, clear)
                clear = bool(reply.kind < 0 and select.select([bell], [], []))
                storm.armed = False
            except Interrupted:
                clear = True
        assert reply.body == b"%d" % corr
    storm.armed = False
    assert (table, fire, news) == ({}, [], [])
    asks.push(b"", 9, 0, 0, 0, 0, -1)
    os.waitpid(pid, 0)


def test_mail_is_handed_out_or_in_hand_when_a_handler_raises_in_next(storm: Storm, bell: int) -> None:
    mail = make(bell)
    inbox = Inbox(bell, None, None, mail)
    sent: list[int] = []
    got: list[int] = []
    while storm.raised < INTERRUPTIONS:
        sent.append(mail.push(b"", 1, 0, 0, 0, 0, 0))
        try:
            storm.armed = True
            record = inbox.next(0)
            storm.armed = False
            assert isinstance(record, tuple)
            got.append(record[6])
        except Interrupted:
            got.append(inbox.hold())  # it never reached the caller, and is known
            mail.done(got[-1])
    assert got == sent

"""`Inbox.run` calls the handlers of plain messages itself, and hands everything else back with the record in hand."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgpack import packb, unpackb

from actors.transports import _ring
from actors.transports._ring import Inbox, Record, Ring

TELL, ASK, ITEM = 1, 2, 3


class Side:
    """An inbox with mail and a control lane, and handlers that note what they got."""

    def __init__(self) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.mail, self.control = self._ring(), self._ring()
        self.inbox = Inbox(self.bell, None, self.control, self.mail)
        self.inbox.left = 1 << 30
        self.got: list[Any] = []
        self.news: list[Any] = []
        self.methods: dict[str, Callable[..., Any]] = {
            "note": lambda *args: self.got.append(args),
            "give": lambda value: value,
            "fail": self.fail,
            "await": lambda: self.later(),
        }

    def _ring(self) -> Ring:
        fd = _ring.create(1 << 16)
        try:
            return Ring(fd, self.bell)
        finally:
            os.close(fd)

    def fail(self) -> None:
        raise ValueError("no")

    async def later(self) -> None: ...

    def send(
        self, call: Any, kind: int = TELL, flags: int = 0, corr: int = 0, deadline: int = 0, sender: int = 7
    ) -> None:
        assert self.mail.push(packb(call), kind, flags, sender, corr, deadline, 0.0) >= 0

    def run(self) -> Any:
        return self.inbox.run(0.0, unpackb, {"strict_map_key": False}, self.methods, self.news)

    @property
    def handled(self) -> int:
        return self.mail.stats()["handled"]


@pytest.fixture
def side() -> Iterator[Side]:
    side = Side()
    yield side
    os.close(side.bell)


def in_hand(side: Side) -> Record:
    record = side.inbox.current()
    assert record is not None
    return record


def test_plain_messages_are_called_in_order_and_finished(side: Side) -> None:
    for number in range(10):
        side.send(["note", number, "x"])
    assert side.run() is None
    assert side.got == [(number, "x") for number in range(10)]
    assert side.handled == 10 and side.inbox.current() is None


def test_it_stops_when_none_are_left_to_count(side: Side) -> None:
    for number in range(5):
        side.send(["note", number])
    side.inbox.left = 3
    assert side.run() == 0 and side.got == [(0,), (1,), (2,)] and side.handled == 3
    assert side.run() == 0
    side.inbox.left = 3
    assert side.run() is None and side.inbox.left == 1


def test_a_handler_that_sets_left_has_the_last_word(side: Side) -> None:
    side.methods["stop"] = lambda: setattr(side.inbox, "left", 0)
    side.send(["stop"])
    side.send(["note"])
    assert side.run() == 0 and side.got == [] and side.handled == 1


def test_what_an_ask_returned_comes_back_with_its_record_in_hand(side: Side) -> None:
    side.send(["give", {"a": 1}], ASK, corr=9)
    record, value = side.run()
    assert value == {"a": 1} and record[:4] == (ASK, 0, 7, 9) and side.handled == 0
    assert side.inbox.current() == record
    assert side.run() is None and side.handled == 1


def test_what_may_be_awaited_comes_back(side: Side) -> None:
    side.send(["await"])
    record, value = side.run()
    assert record[0] == TELL and hasattr(value, "__await__")
    value.close()


@pytest.mark.parametrize(
    "how",
    [{"flags": 2}, {"flags": 1}, {"deadline": 1}, {"kind": ITEM}, {"call": ["unknown"]}, {"call": []}, {"call": 3}],
)
def test_what_is_not_plain_comes_back_untouched(side: Side, how: dict[str, Any]) -> None:
    call = how.pop("call", ["note"])
    side.send(call, **how)
    record = side.run()
    assert len(record) == 8 and unpackb(record[7]) == call and side.got == [] and side.handled == 0
    assert side.inbox.current() == record


def test_what_a_handler_raised_comes_out_with_its_record_in_hand(side: Side) -> None:
    side.send(["fail"], ASK, corr=3)
    side.send(["note", 1])
    with pytest.raises(ValueError, match="no"):
        side.run()
    assert in_hand(side)[3] == 3 and side.handled == 0
    assert side.run() is None and side.got == [(1,)] and side.handled == 2


def test_a_body_that_is_none_comes_out_as_what_the_decoder_raised(side: Side) -> None:
    assert side.mail.push(b"\xc1", TELL, 0, 7, 0, 0, 0.0) >= 0
    with pytest.raises(Exception):  # noqa: B017 - msgpack's own
        side.run()
    assert in_hand(side)[7] == b"\xc1"


def test_news_and_lanes_come_first(side: Side) -> None:
    side.send(["note"])
    side.news.append(object())
    assert side.run() == 1 and side.got == []
    side.news.clear()
    assert side.control.answer(b"", 20, 0, 1, 0) >= 0
    assert side.run() == 1 and side.got == []


def test_the_caller_is_known_while_its_message_is_handled(side: Side) -> None:
    side.methods["who"] = lambda: side.got.append(side.inbox.caller)
    for sender in (5, 1 << 40, 6):
        side.send(["who"], sender=sender)
    assert side.run() is None and side.got == [5, 1 << 40, 6]


def test_any_mixture_is_handled_once_and_in_order(side: Side, rng: random.Random) -> None:
    expected, seen = [], []
    for number in range(500):
        how = rng.choice(["note", "ask", "flag", "fail"])
        expected.append(number)
        side.methods["fail"] = lambda number: (seen.append(number), 1 / 0)
        side.methods["note"] = seen.append
        side.methods["give"] = lambda number: (seen.append(number), number)[1]
        match how:
            case "note":
                side.send(["note", number])
            case "ask":
                side.send(["give", number], ASK, corr=number + 1)
            case "flag":
                side.send(["note", {}, number], flags=2)
            case "fail":
                side.send(["fail", number])
        if rng.random() < 0.3:
            while True:
                side.inbox.left = rng.randrange(1, 9)
                try:
                    got = side.run()
                except ZeroDivisionError:
                    continue
                if got is None:
                    break
                if isinstance(got, tuple) and len(got) == 8:
                    seen.append(unpackb(got[7])[2])
                elif isinstance(got, tuple):
                    assert got[1] == unpackb(got[0][7])[1]
    while (got := _ignoring(side)) is not None:
        if isinstance(got, tuple) and len(got) == 8:
            seen.append(unpackb(got[7])[2])
    assert seen == expected and side.handled == 500


def _ignoring(side: Side) -> Any:
    side.inbox.left = 1 << 30
    try:
        return side.run()
    except ZeroDivisionError:
        return 0


def test_means_of_the_wrong_kind_are_refused(side: Side) -> None:
    with pytest.raises(TypeError):
        side.inbox.run(None, unpackb, {}, {}, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        side.inbox.run(0.0, unpackb, {}, None, [])  # type: ignore[arg-type]
